"""Which threads teams have, and that no test leaves one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastfnn_kernels import _config, team

needs_jit = pytest.mark.skipif(not _config.JIT, reason="without the JIT there is one thread and no barrier")


def threads_of_teams() -> list[Any]:
    return [*team._alive]


@pytest.fixture(autouse=True)
def no_idle_threads() -> Iterator[None]:
    """Every test begins without threads that wait for a team, and leaves none that a team has lost."""
    end_idle_threads()
    yield
    end_idle_threads()
    assert not threads_of_teams()


def end_idle_threads() -> None:
    while team._idle:
        worker = team._idle.pop()
        worker.stop()
        worker.join()
