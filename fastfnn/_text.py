"""Names of classes and files are other people's: what of them can be shown."""

import re
from collections.abc import Sequence

# Control characters but line breaks, what turns the direction of writing round, and halves of UTF-16's pairs, as which
# Python has the bytes of file names that are no UTF-8.
_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """`text` with escapes in place of what would steer a terminal or cannot be written."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def few(names: Sequence[str]) -> str:
    """The first names, for a message: a file may have thousands."""
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(text: str, most: int) -> str:
    """`text` in at most so many letters: its beginning and its end."""
    if len(text) <= most:
        return text
    head = (2 * (most - 1) + 2) // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
