"""Random changes of images (rows, planes, height, width), and noise: functions of seed, step and the row's place.

The same come from any number of threads and from any chunking of a batch. Each thread does its share of the rows, noise
a contiguous slice of the elements. Loop order: rows, planes, lines, columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastfnn_kernels import reference, vecmath
from fastfnn_kernels._config import helper, kernel
from fastfnn_kernels._hashes import key_of, random_bits
from fastfnn_kernels.reference.augmentation import CENTRE, DRAWS, TAIL
from fastfnn_kernels.team import share

GRAIN = 64


@helper
def _below(bits: Any, count: int) -> Any:
    """Of 32 bits a number from 0 to count - 1."""
    return np.int64((np.uint64(bits) * np.uint64(count)) >> np.uint64(32))


@kernel(reference.flip_images)
def flip_images(
    out: NDArray[Any],
    x: NDArray[Any],
    horizontal: bool,
    vertical: bool,
    seed: int,
    step: int,
    first_row: int,
    tid: int,
    n_threads: int,
) -> None:
    """Each row from right to left with probability 1/2 where `horizontal`, and upside down where `vertical`."""
    high, low = key_of(seed, step)
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, x = out[start:stop], x[start:stop]
    rows, planes, height, width = x.shape
    half = np.uint32(1 << 31)
    for i in range(rows):
        place = (first_row + start + i) * DRAWS
        mirrored = horizontal and random_bits(place, high, low) < half
        turned = vertical and random_bits(place + 1, high, low) < half
        for plane in range(planes):
            for line in range(height):
                source = height - 1 - line if turned else line
                if mirrored:
                    for column in range(width):
                        out[i, plane, line, column] = x[i, plane, source, width - 1 - column]
                else:
                    for column in range(width):
                        out[i, plane, line, column] = x[i, plane, source, column]


@kernel(reference.shift_images)
def shift_images(
    out: NDArray[Any],
    x: NDArray[Any],
    down: int,
    across: int,
    sign: int,
    seed: int,
    step: int,
    first_row: int,
    tid: int,
    n_threads: int,
) -> None:
    """Each row moved by up to so many pixels, `sign` times what was drawn; zeros come in."""
    high, low = key_of(seed, step)
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, x = out[start:stop], x[start:stop]
    rows, planes, height, width = x.shape
    zero = x.dtype.type(0)
    for i in range(rows):
        place = (first_row + start + i) * DRAWS
        dy = sign * (_below(random_bits(place, high, low), 2 * down + 1) - down)
        dx = sign * (_below(random_bits(place + 1, high, low), 2 * across + 1) - across)
        begin, end = min(width, max(0, dx)), max(0, min(width, width + dx))
        for plane in range(planes):
            for line in range(height):
                if dy <= line < height + dy and begin < end:
                    for column in range(begin):
                        out[i, plane, line, column] = zero
                    for column in range(end - begin):
                        out[i, plane, line, begin + column] = x[i, plane, line - dy, begin - dx + column]
                    for column in range(width - end):
                        out[i, plane, line, end + column] = zero
                else:
                    for column in range(width):
                        out[i, plane, line, column] = zero


@kernel(reference.erase_images)
def erase_images(
    out: NDArray[Any],
    x: NDArray[Any],
    tall: int,
    wide: int,
    p: float,
    seed: int,
    step: int,
    first_row: int,
    tid: int,
    n_threads: int,
) -> None:
    """Zeros in a rectangle of each row, with probability p; its centre is anywhere, so parts of it may lie outside."""
    high, low = key_of(seed, step)
    threshold = np.int64(min(p * 4294967296.0, 4294967296.0))
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, x = out[start:stop], x[start:stop]
    rows, planes, height, width = x.shape
    zero = x.dtype.type(0)
    for i in range(rows):
        place = (first_row + start + i) * DRAWS
        erased = np.int64(random_bits(place, high, low)) < threshold
        top = _below(random_bits(place + 1, high, low), height) - tall // 2
        left = _below(random_bits(place + 2, high, low), width) - wide // 2
        begin, end = max(0, left), min(width, left + wide)
        for plane in range(planes):
            for line in range(height):
                for column in range(width):
                    out[i, plane, line, column] = x[i, plane, line, column]
                if erased and top <= line < top + tall:
                    for column in range(begin, end):
                        out[i, plane, line, column] = zero


@helper
def _rotation(place: int, radians: float, high: Any, low: Any) -> Any:
    """Cosine and sine of what a row is turned by."""
    angle = (2.0 * (np.float64(random_bits(place, high, low)) / 4294967296.0) - 1.0) * radians
    return math.cos(angle), math.sin(angle)


@helper
def _source(line: int, column: int, height: int, width: int, cosine: float, sine: float) -> Any:
    """Where a pixel comes from: the upper left of four, and how far below and beside it."""
    cy, cx = (height - 1) * 0.5, (width - 1) * 0.5
    down = cosine * (line - cy) + sine * (column - cx) + cy
    across = cosine * (column - cx) - sine * (line - cy) + cx
    top, left = math.floor(down), math.floor(across)
    return int(top), int(left), down - top, across - left


@kernel(reference.rotate_images)
def rotate_images(
    out: NDArray[Any],
    x: NDArray[Any],
    radians: float,
    seed: int,
    step: int,
    first_row: int,
    tid: int,
    n_threads: int,
) -> None:
    """Each row turned about its centre by up to `radians` to either side; bilinear, and zeros come in."""
    high, low = key_of(seed, step)
    real = x.dtype.type
    start, stop = share(x.shape[0], tid, n_threads, 1)
    out, x = out[start:stop], x[start:stop]
    rows, planes, height, width = x.shape
    for i in range(rows):
        cosine, sine = _rotation((first_row + start + i) * DRAWS, radians, high, low)
        for line in range(height):
            for column in range(width):
                top, left, below, beside = _source(line, column, height, width, cosine, sine)
                for plane in range(planes):
                    total = real(0)
                    for y in range(2):
                        for z in range(2):
                            if 0 <= top + y < height and 0 <= left + z < width:
                                part = (below if y else 1.0 - below) * (beside if z else 1.0 - beside)
                                total += real(part) * x[i, plane, top + y, left + z]
                    out[i, plane, line, column] = total


@kernel(reference.rotate_images_backward)
def rotate_images_backward(
    grad_x: NDArray[Any],
    grad_out: NDArray[Any],
    radians: float,
    seed: int,
    step: int,
    first_row: int,
    tid: int,
    n_threads: int,
) -> None:
    """The transpose: what each pixel was made of gets its share of the gradient."""
    high, low = key_of(seed, step)
    real = grad_x.dtype.type
    start, stop = share(grad_x.shape[0], tid, n_threads, 1)
    grad_x, grad_out = grad_x[start:stop], grad_out[start:stop]
    rows, planes, height, width = grad_x.shape
    for i in range(rows):
        for plane in range(planes):
            for line in range(height):
                for column in range(width):
                    grad_x[i, plane, line, column] = real(0)
        cosine, sine = _rotation((first_row + start + i) * DRAWS, radians, high, low)
        for line in range(height):
            for column in range(width):
                top, left, below, beside = _source(line, column, height, width, cosine, sine)
                for plane in range(planes):
                    for y in range(2):
                        for z in range(2):
                            if 0 <= top + y < height and 0 <= left + z < width:
                                part = (below if y else 1.0 - below) * (beside if z else 1.0 - beside)
                                grad_x[i, plane, top + y, left + z] += real(part) * grad_out[i, plane, line, column]


@kernel(reference.noise_elements)
def noise_elements(
    out: NDArray[Any],
    x: NDArray[Any],
    std: float,
    seed: int,
    step: int,
    first_element: int,
    tid: int,
    n_threads: int,
) -> None:
    """x with normally distributed noise of this standard deviation, see the twin.

    `first_element` is the place of ``x[0]`` within the batch. Places count modulo 2**32.
    """
    high, low = key_of(seed, step)
    real = x.dtype.type
    scale, one, two, unit = real(std * math.sqrt(2.0)), real(1), real(2), real(1.0 / 2147483648.0)
    half, five, shift, three = real(0.5), real(5), real(2.5), real(3)
    start, stop = share(x.size, tid, n_threads, GRAIN)
    out, x = out[start:stop], x[start:stop]
    element = np.uint32(first_element + start)
    for i in range(out.size):
        bits = random_bits(element, high, low)
        element = np.uint32(element + np.uint32(1))
        outside = (real(np.int32(bits & np.uint32(0x7FFFFFFF))) + half) * unit
        w = -vecmath.log(outside * (two - outside))
        root = np.sqrt(max(w, five)) - three
        z = w - shift
        # fmt: off
        centre = real(CENTRE[0]) + z * (real(CENTRE[1]) + z * (real(CENTRE[2]) + z * (real(CENTRE[3]) + z * (
            real(CENTRE[4]) + z * (real(CENTRE[5]) + z * (real(CENTRE[6]) + z * (
                real(CENTRE[7]) + z * real(CENTRE[8]))))))))
        tail = real(TAIL[0]) + root * (real(TAIL[1]) + root * (real(TAIL[2]) + root * (real(TAIL[3]) + root * (
            real(TAIL[4]) + root * (real(TAIL[5]) + root * (real(TAIL[6]) + root * (
                real(TAIL[7]) + root * real(TAIL[8]))))))))
        # fmt: on
        quantile = (one - outside) * (centre if w < five else tail)
        out[i] = x[i] + (-scale if bits >> np.uint32(31) else scale) * quantile
