"""Graphs whose branches meet again, as chains within chains: behind what reads ONNX files and PyTorch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastfnn.errors import InvalidValueError
from fastfnn.layers import Layer, Parallel, Residual
from fastfnn.layers.containers import is_nothing

#: Branches within branches that are read.
DEEPEST = 50


@dataclass
class Made:
    """What makes a value: an item of the caller's, of these inputs; or, with several, a `join` of them."""

    item: Any
    inputs: list[str]
    join: str | None = None


@dataclass
class Join:
    """Branches from one value, each a chain, that meet: ``"add"`` or ``"concat"``."""

    item: Any
    join: str
    branches: list[list[Any]]


def chain_between(start: str, end: str, made: Mapping[str, Made], shown: Callable[[Any], str]) -> list[Any]:
    """The items, and `Join`s of them, that make `end` of `start`.

    Branches that meet are taken back to where all of them come from: the last value that every path to the meeting
    point goes through, its immediate dominator.

    Parameters
    ----------
    start, end : str
    made : dict of str to Made
        By the value that it makes; a value comes after those that it is made of.
    shown : callable
        What errors call an item.

    Raises
    ------
    InvalidValueError
        A value is part of two branches which it does not begin: such a graph is no chain of chains.
    """
    before: dict[str, str] = {}
    depth = {start: 0}
    for value, entry in made.items():
        if all(name in depth for name in entry.inputs):
            before[value] = _common(entry.inputs, before, depth)
            depth[value] = depth[before[value]] + 1
    used: set[str] = set()

    def chain(first: str, last: str, level: int) -> list[Any]:
        if level > DEEPEST:
            raise InvalidValueError(f"there are more than {DEEPEST} branches within each other")
        items: list[Any] = []
        while last != first:
            entry = made[last]
            if last in used:
                raise InvalidValueError(
                    f"{shown(entry.item)} is in two branches that begin before it; expected branches that meet without "
                    "crossing others"
                )
            used.add(last)
            if entry.join is None:
                items.append(entry.item)
            else:
                branches = [chain(before[last], name, level + 1) for name in entry.inputs]
                items.append(Join(entry.item, entry.join, branches))
            last = before[last]
        return items[::-1]

    if end not in depth:
        raise InvalidValueError(f"{end!r} is not made of {start!r} alone")
    return chain(start, end, 0)


def _common(values: list[str], before: Mapping[str, str], depth: Mapping[str, int]) -> str:
    """The last value that every path to any of `values` goes through."""
    common = values[0]
    for value in values[1:]:
        while common != value:
            if depth[common] >= depth[value]:
                common = before[common]
            else:
                value = before[value]
    return common


def joined(branches: list[list[Layer]], join: str) -> Layer:
    """The layer of branches that meet: of two that are added, a `Residual`."""
    made = Parallel(*branches, join=join)
    if join == "add" and len(branches) == 2 and not all(map(is_nothing, made.branches)):
        layers, shortcut = sorted(branches, key=lambda branch: not branch)
        return Residual(*layers, shortcut=shortcut or None)
    return made
