"""A model to be deployed: frozen, made ready once, and called in microseconds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastfnn import _checks as check
from fastfnn._paths import StrPath, as_path
from fastfnn.engine import lowering, program
from fastfnn.engine.context import Context
from fastfnn.engine.folding import folded
from fastfnn.engine.task import Pass, Task
from fastfnn.errors import FOREIGN, InvalidTypeError, InvalidValueError, ModelFileError
from fastfnn.functional._run import team_size
from fastfnn.interchange import safetensors
from fastfnn.layers import Layer, Normalize
from fastfnn.model import Sequential, as_sequential
from fastfnn.training.arguments import WORK_WORTH_CALL, as_inputs
from fastfnn.training.inference import predictions_of, probabilities_of, write_outputs
from fastfnn_kernels._files import write_in_one_step

Array = NDArray[Any]
#: Nanoseconds of work from which on a call returns to Python now and then, so that an interrupt is heard, and the most
#: rows that go through the network together until then.
LONG_CALL, CHUNK_ROWS = 1e7, 256
#: An entry of a file's metadata.
ENTRY = "fastfnn.predictor"


class Predictor:
    """A copy of a model for inference alone, which no longer follows the model.

    Whatever depends on parameters alone is done when it is made: dropout and augmentation are left out, batch
    normalisation and scaling become part of the weights beside them (`folded` models differ by rounding), and buffers
    and tables are written. A call with few rows costs little more than its arithmetic; larger ones go on several
    threads where that is faster. It may be called from several threads at once.

    Parameters
    ----------
    model : Sequential
    input_shape : tuple of int, optional
        Of a sample. By default what the model's first layers say: ``(in_features,)`` of a `Linear`.
    input_dtype : dtype
        What samples usually come as; others are converted. By default the model's.
    n_threads : int, optional
        As in `predict`.

    Attributes
    ----------
    model : Sequential
        The copy; it must not be changed.

    Examples
    --------
    >>> predictor = ff.Predictor(model, input_shape=(784,))
    >>> logits, labels = predictor(x), predictor.predict(x)
    """

    def __init__(
        self,
        model: Sequential,
        input_shape: tuple[int, ...] | None = None,
        input_dtype: Any = None,
        n_threads: int | None = None,
    ) -> None:
        as_sequential(model)
        shape = _sample_shape(model, input_shape)
        dtype = model.dtype if input_dtype is None else np.dtype(input_dtype)
        if dtype.kind not in "fiub":
            raise InvalidTypeError(f"input_dtype is {dtype}; expected one of numbers")
        if n_threads is not None:
            check.n_threads(n_threads, automatic=1)
        try:
            model.output_shape(shape)
        except InvalidValueError as error:
            raise InvalidValueError(f"input_shape is {shape}: {error}") from None
        model.gather_parameters()
        self._begin(folded(model, shape, dtype), shape, dtype, n_threads)

    def _begin(self, model: Sequential, shape: tuple[int, ...], dtype: np.dtype[Any], n_threads: int | None) -> None:
        self.model, self.input_shape, self.input_dtype, self.n_threads = model, shape, dtype, n_threads
        self._output_shape = model.output_shape(shape)
        self._task, self._few = Task(model, packed={}), 0
        #: Contexts that nobody uses, for few rows and for more: taking one and giving it back are indivisible.
        self._contexts: list[Context] = []
        self._team_contexts: list[Context] = []
        self._most = 0
        if program.is_compiled(self._task):
            worth = LONG_CALL if n_threads == 1 else WORK_WORTH_CALL
            row_nanoseconds = max(lowering.row_nanoseconds(model, shape), 1.0)
            self._few = max(1, int(worth / row_nanoseconds))
            self._size = team_size(n_threads, automatic_many=True)
            self._most = (
                self._few if self._size == 1 else max(self._few, min(int(LONG_CALL / row_nanoseconds), CHUNK_ROWS))
            )
            self._contexts.append(self._new_context(1))

    def _new_context(self, n_threads: int) -> Context:
        rows = self._few if n_threads == 1 else self._most
        return Context(self._task, self.input_shape, self.input_dtype, min(rows, CHUNK_ROWS), n_threads)

    def _context_for(self, rows: int) -> tuple[list[Context], Context]:
        """A context that nobody uses, and where it goes afterwards."""
        contexts, size = (self._contexts, 1) if rows <= self._few else (self._team_contexts, self._size)
        try:
            return contexts, contexts.pop()
        except IndexError:
            return contexts, self._new_context(size)

    def __call__(self, x: ArrayLike, out: Array | None = None) -> Array:
        """The model's outputs (n, …) for samples (n, *input_shape).

        Parameters
        ----------
        x : array
        out : array, optional
            Of the outputs' shape and dtype: they are written there, and it is returned.
        """
        # Few rows of what was announced, seen at a glance. All else goes the long way, which has the errors.
        if type(x) is np.ndarray and x.dtype is self.input_dtype and x.shape[1:] == self.input_shape:
            rows = x.shape[0]
            if 0 < rows <= self._most and x.flags.c_contiguous and x.flags.aligned:
                if out is not None:
                    _check_out(out, (rows, *self._output_shape), self.model.dtype)
                contexts, context = self._context_for(rows)
                made = context(x, rows, out)
                contexts.append(context)
                if made is not None:
                    return made
        inputs, _ = as_inputs(self.model, self._samples(x))
        made = np.empty((len(inputs), *self._output_shape), self.model.dtype)
        if out is not None:
            _check_out(out, made.shape, made.dtype)
        if len(inputs):
            write_outputs(self._task, Pass(inputs, out=made), self.n_threads)
        if out is None:
            return made
        out[...] = made
        return out

    def predict(self, x: ArrayLike, *, multilabel: bool = False, task: str | None = None) -> Array:
        """Labels, 0 and 1, or numbers, as `fastfnn.predict` has them."""
        return predictions_of(self.model, self(x), multilabel, task)

    def predict_proba(self, x: ArrayLike, *, multilabel: bool = False, task: str | None = None) -> Array:
        """Class probabilities, as `fastfnn.predict_proba` has them."""
        return probabilities_of(self.model, self(x), multilabel, task)

    def _samples(self, x: ArrayLike) -> Array:
        array = check.as_array("x", x)
        if array.shape[1:] != self.input_shape:
            hint = "; x[None] is a batch of one" if array.shape == self.input_shape else ""
            expected = ", ".join(["n", *map(str, self.input_shape)])
            raise InvalidValueError(f"x has shape {array.shape}; expected ({expected}){hint}")
        return array

    # Files and pickles

    def save(self, path: StrPath) -> None:
        """Write it to a file, which `Predictor.load` reads; `fastfnn.load` reads its model."""
        entry = {"input_shape": self.input_shape, "input_dtype": self.input_dtype.name, "n_threads": self.n_threads}
        payload = safetensors.to_bytes(self.model, entries={ENTRY: json.dumps(entry)})
        write_in_one_step(as_path(path, "path"), payload)

    @classmethod
    def load(cls, path: StrPath) -> Predictor:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ModelFileError
            The file is truncated, foreign, or holds a model and no predictor.
        """
        contents = safetensors.read(path)
        if ENTRY not in contents.metadata:
            raise ModelFileError(f"{path} holds a model; expected what Predictor.save wrote (fastfnn.load reads this)")
        try:
            entry = json.loads(contents.metadata[ENTRY])
            shape, threads = tuple(entry["input_shape"]), entry["n_threads"]
            return cls(contents.model, shape, entry["input_dtype"], threads)
        except FOREIGN as error:
            raise ModelFileError(f"{path} holds no predictor that fits this version of fastfnn: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "shape": self.input_shape, "dtype": self.input_dtype, "n_threads": self.n_threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(**state)

    def __repr__(self) -> str:
        return f"Predictor({self.model!r}, input_shape={self.input_shape}, input_dtype={self.input_dtype.name!r})"


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        came = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise InvalidValueError(f"out is {came}; expected {dtype} {shape}")
    if not out.flags.writeable:
        raise InvalidValueError("out is read-only; expected an array that may be written")


def _sample_shape(model: Sequential, input_shape: Any) -> tuple[int, ...]:
    """What was given, or what the first layer that knows it says."""
    if input_shape is None:
        for layer in model.chain:
            shape = layer.taken_shape()
            if shape is not None and None not in shape:
                return tuple(size for size in shape if size is not None)
            keeps_shape = type(layer) is Normalize or type(layer).output_shape is Layer.output_shape
            if shape is not None or not keeps_shape:
                break
        raise InvalidValueError("input_shape is None; expected the shape of a sample, which this model does not tell")
    sizes = input_shape if isinstance(input_shape, (tuple, list)) else (input_shape,)
    return tuple(check.positive_int(f"input_shape[{i}]", size) for i, size in enumerate(sizes))
