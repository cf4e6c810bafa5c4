"""How threads wait for each other in compiled code, without Python's lock: for a number to change, and for orders.

A worker waits at a box of its own. An order is a compiled function's address and what to call it with, or the word that
Python has something to do. Whoever waits polls for some tens of microseconds, and then sleeps in the system's kernel.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels._config import driver, helper
from fastfnn_kernels.simd import (
    CORE_WORDS,
    array_at,
    atomic_add,
    atomic_load,
    atomic_store,
    call_launched,
    current_core,
    get_cores,
    monotonic_nanoseconds,
    pause,
    set_cores,
    sleep_while,
    wake_all,
)

#: After how many polls a thread looks at the clock.
POLLS = 64
#: How long a thread polls before it sleeps: for others in the middle of a step, and for an order or its end. Longer,
#: and a thread that waits for one that has no core keeps its own from it; shorter, and each step, or each of several
#: calls in a row, would pay for waking up.
POLLING_NANOSECONDS, ORDER_NANOSECONDS = 50_000, 50_000
#: A worker sleeps at once where it has waited longer than this the last time.
SOON_NANOSECONDS = 2 * ORDER_NANOSECONDS
#: After so long a sleeping thread looks for itself; and a caller, whether somebody has interrupted it.
LOOK_NANOSECONDS, INTERRUPT_NANOSECONDS = 50_000_000, 5_000_000
#: Bytes of a pair of cache lines, which processors fetch together: what one thread writes and another polls is on its
#: own pair.
PAIR = 128

# Where a box has its numbers. How many orders were given, and the last of them; the address of another worker's box,
# where the next number of a team finds its orders; the system's number for the worker's thread. How many orders have
# ended. Whether the worker sleeps, and whether who gave the order does. How many have reached for the last order: it is
# the first one's. For the worker alone: whether the last order came soon. For who gave the last order alone: whether he
# has done it himself, and two sets of cores.
POSTED, FUNCTION, ARGUMENT, TID, SIZE, NEXT, THREAD = range(7)
ENDED, ASLEEP, CALLER_ASLEEP, CLAIMS, CAME_SOON, RELIEVED, CORES = 16, 32, 48, 64, 80, 96, 112
CORES_NOW = CORES + CORE_WORDS
BOX_WORDS = CORES_NOW + CORE_WORDS


def new_box() -> NDArray[np.int64]:
    """Without orders."""
    memory = np.zeros(BOX_WORDS + PAIR // 8, np.int64)
    first = -memory.ctypes.data % PAIR // 8
    return memory[first : first + BOX_WORDS]


@helper
def polled(state: NDArray[np.int64], index: int, number: int, nanoseconds: int) -> bool:
    """Poll for a while; whether ``state[index]`` became another number."""
    began = np.int64(0)
    while True:
        for _ in range(POLLS):
            if atomic_load(state, index) != number:
                return True
            pause()
        now = monotonic_nanoseconds()
        began = now if began == 0 else began
        if now - began >= nanoseconds or now == 0:
            return False


@driver
def launch(function: int, argument: int, first: int, size: int, relieves: int) -> None:
    """Give an order to the workers of a team, and do the caller's part of it.

    The compiled ``function(argument, tid, size)`` at an address is called with 0 here, and with the numbers from 1 on
    by the workers from the box `first` on. Where the address is 0 as many workers as `size` have to do with Python.
    With `relieves` the caller goes on with the parts that no worker has begun, and nobody waits for these workers: no
    part may then wait for another.
    """
    address, core = first, current_core()
    for tid in range(min(function, 1), size):
        box = array_at(address, (BOX_WORDS,), np.int64)
        box[FUNCTION], box[ARGUMENT], box[TID], box[SIZE] = function, argument, tid, size
        box[RELIEVED] = 0
        # A worker that was relieved of the order before may come so late that it finds this one.
        atomic_store(box, CLAIMS, 0)
        is_barred = function != 0 and atomic_load(box, ASLEEP) != 0 and _bar_from_core(box, core)
        # Indivisible, as is the next line: it sees a worker that goes to sleep, or that sees the order.
        atomic_add(box, POSTED, 1)
        if atomic_add(box, ASLEEP, 0) != 0:
            wake_all(box, POSTED)
        if is_barred:
            _let_have_core(box, core)
        address = box[NEXT]
    if function != 0:
        call_launched(function, argument, 0, size)
        address = first
        for tid in range(1, size if relieves != 0 else 1):
            box = array_at(address, (BOX_WORDS,), np.int64)
            if atomic_add(box, CLAIMS, 1) == 0:
                box[RELIEVED] = 1
                call_launched(function, argument, tid, size)
            address = box[NEXT]


@helper
def _bar_from_core(box: NDArray[np.int64], core: int) -> bool:
    """Keep a worker from its caller's core while it is woken up; whether that was done.

    A virtual machine's idle cores do not look idle to some systems, which then wake a thread where its waker runs: the
    two would take turns.
    """
    if core < 0 or core >= 64 * CORE_WORDS or not get_cores(box[THREAD], box, CORES):
        return False
    word, bit = CORES + (core >> 6), np.int64(1) << np.int64(core & 63)
    if box[word] & bit == 0:
        return False
    box[word] ^= bit
    return set_cores(box[THREAD], box, CORES)  # an empty set is refused


@helper
def _let_have_core(box: NDArray[np.int64], core: int) -> None:
    """The end of that, at once; unless somebody has given the worker's thread other cores meanwhile."""
    if not get_cores(box[THREAD], box, CORES_NOW):
        return
    for i in range(CORE_WORDS):
        if box[CORES_NOW + i] != box[CORES + i]:
            return
    box[CORES + (core >> 6)] ^= np.int64(1) << np.int64(core & 63)
    set_cores(box[THREAD], box, CORES)


@driver
def all_ended(first: int, count: int, patient: int) -> bool:
    """Wait for the ends of all orders given to `count` workers; unless `patient`, for a few milliseconds at most."""
    address = first
    for _ in range(count):
        box = array_at(address, (BOX_WORDS,), np.int64)
        posted = atomic_load(box, POSTED)
        ended = atomic_load(box, ENDED)
        while ended != posted and box[RELIEVED] == 0:
            if not polled(box, ENDED, ended, ORDER_NANOSECONDS):
                atomic_add(box, CALLER_ASLEEP, 1)
                sleep_while(box, ENDED, ended, INTERRUPT_NANOSECONDS)
                atomic_add(box, CALLER_ASLEEP, -1)
                if atomic_load(box, ENDED) == ended and patient == 0:
                    return False
            ended = atomic_load(box, ENDED)
        address = box[NEXT]
    return True


@driver
def attend(address: int, ends: int, idle: int) -> bool:
    """Do orders at the box at `address` until one is for Python, or until none has come for `idle` nanoseconds.

    Returns whether there is one for Python; `ends` says that the last such has ended.
    """
    box = array_at(address, (BOX_WORDS,), np.int64)
    if ends != 0:
        _end_order(box)
    while _has_order(box, idle):
        if atomic_add(box, CLAIMS, 1) == 0:
            if box[FUNCTION] == 0:
                return True
            call_launched(box[FUNCTION], box[ARGUMENT], box[TID], box[SIZE])
        _end_order(box)
    return False


@helper
def _end_order(box: NDArray[np.int64]) -> None:
    """From here on what the order was about is the caller's alone."""
    atomic_add(box, ENDED, 1)
    if atomic_add(box, CALLER_ASLEEP, 0) != 0:
        box[CAME_SOON] = 0  # nor poll where the caller may have been woken
        wake_all(box, ENDED)


@helper
def _has_order(box: NDArray[np.int64], idle: int) -> bool:
    """Wait for an order, at most so long."""
    ended, began = atomic_load(box, ENDED), monotonic_nanoseconds()
    # A worker that must not sleep here polls in any case.
    if (box[CAME_SOON] != 0 or idle == 0) and polled(box, POSTED, ended, ORDER_NANOSECONDS):
        return True
    atomic_add(box, ASLEEP, 1)
    while atomic_load(box, POSTED) == ended and monotonic_nanoseconds() - began < idle:
        sleep_while(box, POSTED, ended, LOOK_NANOSECONDS)
    atomic_add(box, ASLEEP, -1)
    box[CAME_SOON] = monotonic_nanoseconds() - began < SOON_NANOSECONDS
    return atomic_load(box, POSTED) != ended


@functools.cache
def load() -> None:
    """Compile what is here, or load it from the cache, by a call that does nothing."""
    box = new_box()
    address = box.ctypes.data
    launch(0, 0, address, 1, 0)
    attend(address, 0, 0)
    attend(address, 1, 0)
    all_ended(address, 1, 1)
