"""What `one_hot` and `batches` give, and what they refuse."""

import numpy as np
import pytest

from fastfnn.data.batching import batches, one_hot
from fastfnn.errors import InvalidTypeError, InvalidValueError


def test_one_hot_rows():
    rows = one_hot([2, 0, 1, 2], 4)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("labels, columns", [([0], 1), ([3], 4), ([1, 5, 0], 6)])
def test_one_hot_counts_the_classes_itself(labels, columns):
    rows = one_hot(labels)
    assert rows.shape == (len(labels), columns)
    assert rows.argmax(axis=1).tolist() == labels
    assert (rows.sum(axis=1) == 1).all()


@pytest.mark.parametrize("label_dtype", ["uint8", "int8", "int64", "uint64"])
@pytest.mark.parametrize("dtype", ["float64", np.float16, np.int32, bool, "uint8"])
def test_one_hot_dtypes(label_dtype, dtype):
    rows = one_hot(np.array([1, 0], label_dtype), 2, dtype)
    assert rows.dtype == np.dtype(dtype)
    assert rows.tolist() == [[0, 1], [1, 0]]


def test_one_hot_without_labels():
    assert one_hot(np.zeros(0, int), 3).shape == (0, 3)
    with pytest.raises(InvalidValueError, match="num_classes must be given when labels is empty"):
        one_hot(np.zeros(0, int))


@pytest.mark.parametrize(
    "labels, num_classes, message",
    [
        ([0, 3], 3, "labels must be from 0 to 2, got 3 at index 1"),
        ([0, 1, -1], 3, "labels must be from 0 to 2, got -1 at index 2"),
        ([-1, 5], None, "labels must be from 0 to 5, got -1 at index 0"),
        ([[0, 1]], 2, r"labels must be 1-D, got shape \(1, 2\)"),
        (1, 2, r"labels must be 1-D, got shape \(\)"),
        ([0], 0, "num_classes must be at least 1, got 0"),
        ([0], -2, "num_classes must be at least 1, got -2"),
    ],
)
def test_one_hot_refuses_values(labels, num_classes, message):
    with pytest.raises(InvalidValueError, match=message):
        one_hot(labels, num_classes)


@pytest.mark.parametrize(
    "labels, num_classes, dtype, message",
    [
        ([0.0, 1.0], 2, "float32", "labels must be integers, got dtype float64"),
        ([True, False], 2, "float32", "labels must be integers, got dtype bool"),
        (["0", "1"], 2, "float32", "labels must be integers, got dtype <U1"),
        ([0, 1], 2.0, "float32", "num_classes must be an integer or None, got float 2.0"),
        ([0, 1], True, "float32", "num_classes must be an integer or None, got bool True"),
        ([0, 1], 2, "U1", "dtype must be a bool, integer or float dtype, got <U1"),
        ([0, 1], 2, complex, "dtype must be a bool, integer or float dtype, got complex128"),
        ([0, 1], 2, "no-such", "dtype must be a bool, integer or float dtype, got 'no-such'"),
    ],
)
def test_one_hot_refuses_types(labels, num_classes, dtype, message):
    with pytest.raises(InvalidTypeError, match=message):
        one_hot(labels, num_classes, dtype)


def rows_and_targets(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Give data in which row i of x belongs to y[i] == i."""
    y = np.arange(n)
    return np.repeat(y[:, None], 3, axis=1), y


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    "n, batch_size, sizes",
    [
        (6, 3, [3, 3]),
        (7, 3, [3, 3, 1]),
        (2, 3, [2]),
        (1, 1, [1]),
        (3, 1, [1, 1, 1]),
        (5, None, [5]),
        (5, 10**30, [5]),
        (5, np.int64(2), [2, 2, 1]),
        (0, 4, []),
        (0, None, []),
    ],
)
def test_every_row_comes_once_beside_its_target(shuffle, n, batch_size, sizes):
    x, y = rows_and_targets(n)
    parts = list(batches(x, y, batch_size, shuffle, rng=0))
    assert [len(y_batch) for _, y_batch in parts] == sizes
    for x_batch, y_batch in parts:
        assert x_batch.shape == (len(y_batch), 3)
        assert (x_batch == y_batch[:, None]).all()
    seen = [int(row) for _, y_batch in parts for row in y_batch]
    assert (sorted(seen) if shuffle else seen) == list(range(n))


def test_without_shuffle_batches_are_views():
    x, y = rows_and_targets(7)
    for x_batch, y_batch in batches(x, y, 3, shuffle=False):
        assert np.shares_memory(x_batch, x) and np.shares_memory(y_batch, y)


def test_with_shuffle_batches_are_copies():
    x, y = rows_and_targets(7)
    for x_batch, y_batch in batches(x, y, 3, rng=0):
        assert not np.shares_memory(x_batch, x) and not np.shares_memory(y_batch, y)


def order(rng, n: int = 50) -> list[int]:
    x, y = rows_and_targets(n)
    return np.concatenate([y_batch for _, y_batch in batches(x, y, 8, rng=rng)]).tolist()


def test_shuffle_is_the_default_and_really_shuffles():
    assert order(0) != list(range(50))


def test_a_seed_fixes_the_order_and_another_changes_it():
    assert order(3) == order(3) == order(np.int32(3)) == order(np.random.default_rng(3))
    assert order(3) != order(4)


def test_a_generator_goes_on_from_epoch_to_epoch():
    generator = np.random.default_rng(3)
    assert order(generator) != order(generator)


def test_no_seed_gives_a_new_order_each_time():
    assert order(None) != order(None)  # equal once in 50! runs


def test_the_order_does_not_touch_numpys_global_state():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # pyright: ignore
    order(3)
    order(None)
    assert (np.random.get_state()[1] == before).all()  # pyright: ignore


def test_lists_and_single_columns_are_accepted():
    parts = list(batches([[1, 2], [3, 4], [5, 6]], [0, 1, 2], 2, shuffle=False))
    assert [(x.tolist(), y.tolist()) for x, y in parts] == [([[1, 2], [3, 4]], [0, 1]), ([[5, 6]], [2])]


def test_memory_mapped_rows_are_not_read_whole(tmp_path):
    x = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(10, 4))
    x[:] = np.arange(10)[:, None]
    first, _ = next(batches(x, np.arange(10), 4, shuffle=False))
    assert np.shares_memory(first, x)


@pytest.mark.parametrize(
    "x, y, batch_size, rng, message",
    [
        (np.zeros((3, 2)), np.zeros(4), 2, None, "x and y must have the same number of rows, got 3 and 4"),
        (np.zeros((0, 2)), np.zeros(1), 2, None, "x and y must have the same number of rows, got 0 and 1"),
        (np.float64(1), np.zeros(1), 2, None, "x must have rows, got a scalar"),
        (np.zeros(1), 5, 2, None, "y must have rows, got a scalar"),
        (np.zeros(3), np.zeros(3), 0, None, "batch_size must be at least 1, got 0"),
        (np.zeros(3), np.zeros(3), -1, None, "batch_size must be at least 1, got -1"),
        (np.zeros(3), np.zeros(3), 2, -1, "rng must be a seed of 0 or more, got -1"),
    ],
)
def test_batches_refuses_values_at_once(x, y, batch_size, rng, message):
    with pytest.raises(InvalidValueError, match=message):
        batches(x, y, batch_size, rng=rng)  # not consumed: the call itself must complain


@pytest.mark.parametrize(
    "batch_size, rng, message",
    [
        (2.0, None, "batch_size must be an integer or None, got float 2.0"),
        ("2", None, "batch_size must be an integer or None, got str '2'"),
        (True, None, "batch_size must be an integer or None, got bool True"),
        (2, 1.5, "rng must be an integer seed, a numpy.random.Generator or None, got 1.5"),
        (2, True, "rng must be an integer seed, a numpy.random.Generator or None, got True"),
        (2, np.random.RandomState(0), "rng must be an integer seed, a numpy.random.Generator or None"),
    ],
)
def test_batches_refuses_types_at_once(batch_size, rng, message):
    with pytest.raises(InvalidTypeError, match=message):
        batches(np.zeros(3), np.zeros(3), batch_size, rng=rng)
