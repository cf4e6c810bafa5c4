"""What the commands share: how they print, and the types of their arguments."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys

from fastfnn._text import harmless

# Printing


def say(text: str, *, exact: bool = False) -> None:
    """Print, with backslash escapes for what stdout cannot encode, and for what would steer a terminal.

    With `exact` what does not go to a terminal is printed as it is.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if not (exact and sys.stdout is not None and not sys.stdout.isatty()):
        text = harmless(text)
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def note(text: str) -> None:
    """Say on stderr what is to be known, and is no error."""
    print("fastfnn: note:", harmless(" ".join(text.split())), file=sys.stderr, flush=True)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


# Arguments


def positive_int(text: str) -> int:
    return integer(text, 1)


def seed(text: str) -> int:
    return integer(text, 0)


def integer(text: str, least: int, otherwise: str = "") -> int:
    with contextlib.suppress(ValueError):
        if (number := int(text)) >= least:
            return number
    raise argparse.ArgumentTypeError(f"got {text!r}; expected an integer of at least {least}{otherwise}")


def batch_size(text: str) -> int | str:
    return text if text == "full" else integer(text, 1, " or full")


def rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"got {text!r}; expected a finite number above 0")


def share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < 1:
            return number
    raise argparse.ArgumentTypeError(f"got {text!r}; expected a number from 0 to below 1")
