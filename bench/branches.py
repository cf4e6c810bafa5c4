"""Networks with branches beside PyTorch: a residual network on images, and one of embeddings on a table; their steps.

    python bench/branches.py [--quick] [--only PART …] [--out DIR]

PyTorch's module is what `fastfnn.to_torch` makes of the model, so both start from the same weights, and must come to
the same loss before they are timed. All ways that PyTorch has take turns with fastfnn in one process, and what is given
is the ratio to its fastest. Written are ``branches.json`` and ``branches.md``.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import _figures
import numpy as np
import torch
from _figures import Figure
from _machine import cores
from _timing import interleave, repeat

import fastfnn as ff

Array = Any
LR, AGREEMENT = 0.01, 2e-3
#: Of PyTorch's optimizer: one parameter at a time, all in a few calls, one fused kernel.
OPTIMIZERS: dict[str, dict[str, bool]] = {
    "": {"foreach": False},
    ", foreach": {"foreach": True},
    ", fused": {"fused": True},
}


class Settings(NamedTuple):
    """How long everything takes."""

    steps: int  # of an epoch, which is a sample
    rounds: int


FULL, QUICK = Settings(20, 9), Settings(3, 2)


def residual_network() -> tuple[ff.Sequential, int, tuple[int, ...]]:
    """Eight convolutions of 16 to 32 channels, in three blocks with shortcuts; batches of 64 images of 3×32×32."""

    def block(channels: int, out: int) -> list[ff.Layer]:
        layers = [ff.Conv2d(channels, out, 3, padding=1), ff.ReLU(), ff.Conv2d(out, out, 3, padding=1)]
        shortcut = None if channels == out else ff.Conv2d(channels, out, 1)
        return [ff.Residual(*layers, shortcut=shortcut), ff.ReLU()]

    first = [ff.Conv2d(3, 16, 3, padding=1), ff.ReLU()]
    blocks = [*block(16, 16), ff.MaxPool2d(2), *block(16, 32), ff.MaxPool2d(2), *block(32, 32)]
    return ff.Sequential(*first, *blocks, ff.GlobalAvgPool2d(), ff.Linear(32, 10), seed=0), 64, (3, 32, 32)


CATEGORIES, NUMBERS = (10, 50, 7, 100, 12, 31, 24, 5, 1000, 3), 10


def embedding_network() -> tuple[ff.Sequential, int, tuple[int, ...]]:
    """Ten categories as vectors of 8, ten numbers, two hidden layers of 128; batches of 256 rows."""
    columns: dict[Any, Any] = {i: ff.Embedding(count, 8) for i, count in enumerate(CATEGORIES)}
    columns[tuple(range(len(CATEGORIES), len(CATEGORIES) + NUMBERS))] = []
    layers = [ff.Linear(90, 128), ff.ReLU(), ff.Linear(128, 128), ff.ReLU(), ff.Linear(128, 10)]
    return ff.Sequential(ff.Columns(columns), *layers, seed=0), 256, (len(CATEGORIES) + NUMBERS,)


def rows(count: int, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Random samples, categories first where they are a table's, and labels."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((count, *shape)).astype(np.float32)
    if len(shape) == 1:
        for i, categories in enumerate(CATEGORIES):
            x[:, i] = rng.integers(0, categories, count)
    return x, rng.integers(0, 10, count)


def torch_epoch(model: ff.Sequential, x: Array, y: Array, batch: int, how: str, optimizer: dict[str, bool]) -> Any:
    """A function that trains an epoch, step by step, and the module that it trains."""
    module: Any = ff.to_torch(model).train()
    data, labels = torch.from_numpy(x), torch.from_numpy(y)
    if "channels_last" in how:
        layout = torch.channels_last
        module, data = module.to(memory_format=layout), data.to(memory_format=layout)
    update: Any = torch.optim.SGD(module.parameters(), lr=LR, **optimizer)
    compiled: Any = module
    if "compile" in how:
        torch._dynamo.reset()
        compiled = torch.compile(module, dynamic=False, fullgraph=True)

    def epoch() -> None:
        for start in range(0, len(x), batch):
            update.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(
                compiled(data[start : start + batch]), labels[start : start + batch]
            ).backward()
            update.step()

    return epoch, module


class Branches:
    """The measurements; what they come from is kept in `answers`."""

    def __init__(self, settings: Settings, quick: bool) -> None:
        self.settings, self.quick, self.answers = settings, quick, {}

    def residual(self) -> list[Figure]:
        layouts = ["", ", channels_last"]
        return [self._step("a step of the residual network, 64 images", residual_network, layouts, 2.0)]

    def embeddings(self) -> list[Figure]:
        return [self._step("a step of the embedding network, 256 rows", embedding_network, [""], 4.0)]

    def _step(self, what: str, network: Callable[[], Any], layouts: list[str], aim: float) -> Figure:
        model, batch, shape = network()
        x, y = rows(batch * self.settings.steps, shape)
        before = model.snapshot()
        options: dict[str, Any] = {"loss": ff.CrossEntropyLoss(), "epochs": 1, "shuffle": False, "progress": False}

        def ours() -> None:
            ff.fit(model, x, y, optimizer=ff.SGD(lr=LR), batch_size=batch, **options)

        contenders, losses = {"fastfnn: fit": repeat(ours)}, {}
        hows = ["eager", *([] if self.quick else ["compile"])]
        for how in [way + layout for way in hows for layout in layouts]:
            for name, optimizer in OPTIMIZERS.items():
                for threads in sorted({1, cores()}):
                    epoch, module = torch_epoch(model, x, y, batch, how, optimizer)
                    torch.set_num_threads(threads)
                    epoch()
                    losses[f"{how}{name}, {threads}t"] = loss_of(ff.from_torch(module), x, y)
                    contenders[f"PyTorch: {how}{name}, {threads}t"] = on_threads(threads, repeat(epoch))
        ours()
        own = loss_of(model, x, y)
        for name, loss in losses.items():
            if abs(loss - own) > AGREEMENT * own:
                raise SystemExit(f"{what}: PyTorch ({name}) comes to a loss of {loss:.6g}, fastfnn to {own:.6g}")
        model.restore(before)
        timings = interleave(contenders, self.settings.rounds)
        self.answers[what] = {name: timing.to_dict() for name, timing in timings.items()}
        mine = timings.pop("fastfnn: fit")
        best = min(timings, key=lambda name: timings[name].median)
        pairs = zip(mine.samples, timings[best].samples, strict=True)
        ratio = statistics.median(theirs / own for own, theirs in pairs)
        steps = self.settings.steps
        remark = f"{mine.median / steps * 1e3:.2f} ms for {timings[best].median / steps * 1e3:.2f} ms ({best})"
        return Figure(what, float(ratio), "×", aim, True, remark)


def on_threads(threads: int, sampler: Callable[[int], float]) -> Callable[[int], float]:
    """The sampler, with so many threads of PyTorch's."""

    def sample(count: int) -> float:
        torch.set_num_threads(threads)
        return sampler(count)

    return sample


def loss_of(model: ff.Sequential, x: Array, y: Array) -> float:
    return ff.evaluate(model, x[:1024], y[:1024], loss=ff.CrossEntropyLoss()).loss


PARTS = ("residual", "embeddings")


def main() -> int:
    parser = _figures.options(__doc__ or "", "branches", "half a minute")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    args = parser.parse_args()
    settings = QUICK if args.quick else FULL
    branches = Branches(settings, args.quick)
    parts = [getattr(branches, part) for part in args.only]
    how = (
        f"Ratios are medians of {settings.rounds} rounds in turn, of epochs of {settings.steps} steps, against the "
        "fastest of PyTorch's variants."
    )
    title = "Networks with branches beside PyTorch"
    _figures.run("branches", title, how, parts, branches.answers, args, settings, "Random samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
