"""PyTorch in its best forms: tensors in memory, rows by index, no DataLoader.

Training steps: an optimizer (``foreach``, ``fused``, or one parameter at a time), gradients by `torch.autograd.grad`
with one `_foreach_add_` as the update, and the whole step (forward, gradients, update) as one `torch.compile`.
``by hand`` uses PyTorch as an array library: the backward pass written out as tensor operations, without autograd. It
is listed apart, since nobody writes PyTorch for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from contenders import common

foreach_add: Any = vars(torch)["_foreach_add_"]  # the foreach optimizers' own update
OPTIMIZERS: dict[str, dict[str, bool]] = {
    "SGD": {"foreach": False, "fused": False},
    "SGD(foreach)": {"foreach": True},
    "SGD(fused)": {"fused": True},
}
UPDATES = "autograd.grad + foreach_add"
COMPILED, COMPILED_CPP, BY_HAND = "compile, whole step", "compile, whole step, cpp_wrapper", "by hand"


def variants(task: str, batch: int, n_threads: int, quick: bool) -> list[str]:
    compiled = [] if quick else [COMPILED]
    if task == "step":
        return [*OPTIMIZERS, UPDATES, *compiled, BY_HAND] + ([] if quick or batch > 64 else [COMPILED_CPP])
    return ["eager", *compiled]


def _parameters() -> list[torch.Tensor]:
    """Weight (out, in) and bias of each layer, as PyTorch keeps them."""
    w1, b1, w2, b2 = map(torch.from_numpy, common.first_weights())
    return [w1.T.contiguous(), b1, w2.T.contiguous(), b2]


def _logits(parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    w1, b1, w2, b2 = parameters
    return functional.linear(torch.relu(functional.linear(x, w1, b1)), w2, b2)


def _module(parameters: list[torch.Tensor]) -> torch.nn.Sequential:
    layers = torch.nn.Linear(784, common.HIDDEN), torch.nn.Linear(common.HIDDEN, common.CLASSES)
    for i, layer in enumerate(layers):
        layer.weight, layer.bias = map(torch.nn.Parameter, parameters[2 * i : 2 * i + 2])
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])


Step = Callable[[torch.Tensor, torch.Tensor], Any]


def _with_optimizer(parameters: list[torch.Tensor], lr: float, **how: bool) -> Step:
    module = _module(parameters)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, **how)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(module(x), y).backward()
        optimizer.step()

    return step


def _with_grad(parameters: list[torch.Tensor], lr: float) -> Step:
    module = _module(parameters)
    own = list(module.parameters())

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        gradients = torch.autograd.grad(functional.cross_entropy(module(x), y), own)
        with torch.no_grad():
            foreach_add(own, gradients, alpha=-lr)

    return step


def _compiled(parameters: list[torch.Tensor], lr: float, cpp_wrapper: bool) -> Step:
    """New parameters come out: updating them in place inside the compiled step gave NaN (PyTorch 2.13, on a CPU)."""
    gradient = torch.func.grad(lambda p, x, y: functional.cross_entropy(_logits(p, x), y))

    def update(old: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [parameter - lr * change for parameter, change in zip(old, gradient(old, x, y), strict=True)]

    torch._dynamo.reset()
    compiled = torch.compile(update, dynamic=False, fullgraph=True, options={"cpp_wrapper": cpp_wrapper})

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        parameters[:] = compiled(parameters, x, y)

    return step


def _by_hand(parameters: list[torch.Tensor], lr: float) -> Step:
    w1, b1, w2, b2 = parameters

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        hidden = torch.addmm(b1, x, w1.T).relu_()
        grad = torch.softmax(torch.addmm(b2, hidden, w2.T), 1)
        grad[torch.arange(len(y)), y] -= 1
        grad /= len(y)
        grad_hidden = (grad @ w2) * (hidden > 0)
        w2.addmm_(grad.T, hidden, alpha=-lr)
        b2.add_(grad.sum(0), alpha=-lr)
        w1.addmm_(grad_hidden.T, x, alpha=-lr)
        b1.add_(grad_hidden.sum(0), alpha=-lr)

    return step


class _Training:
    def __init__(self, variant: str, data: common.Data, batch: int) -> None:
        self.data, self.batch, self.full = data, batch, batch == len(data.x)
        self.x, self.y = torch.from_numpy(data.x), torch.from_numpy(data.y)
        self.parameters, lr = _parameters(), common.learning_rate(batch)
        if variant in OPTIMIZERS:
            self.step = _with_optimizer(self.parameters, lr, **OPTIMIZERS[variant])
        elif variant == UPDATES:
            self.step = _with_grad(self.parameters, lr)
        elif variant == BY_HAND:
            self.step = _by_hand(self.parameters, lr)
        else:
            self.step = _compiled(self.parameters, lr, variant == COMPILED_CPP)

    def run(self, count: int) -> None:
        if self.full:
            for _ in range(count):
                self.step(self.x, self.y)
            return
        order = torch.from_numpy(common.order(count * self.batch))
        for rows in order.split(self.batch):
            self.step(self.x.index_select(0, rows), self.y.index_select(0, rows))

    def check(self) -> dict[str, float]:
        w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in self.parameters)
        return common.loss_after(common.Weights(w1.T, b1, w2.T, b2), self.data)


class _Loss:
    def __init__(self, variant: str, rows: int) -> None:
        logits, labels = map(torch.from_numpy, common.random_logits(rows))
        self.logits, self.labels = logits.requires_grad_(), labels
        plain = functional.cross_entropy
        self.function = torch.compile(plain, dynamic=False) if variant == COMPILED else plain

    def run(self, count: int) -> None:
        for _ in range(count):
            self.logits.grad = None
            self.loss = self.function(self.logits, self.labels)
            self.loss.backward()

    def check(self) -> dict[str, float]:
        assert self.logits.grad is not None
        return common.loss_figures(self.loss.item(), self.logits.grad.numpy())


class _Inference:
    def __init__(self, variant: str, data: common.Data, batch: int) -> None:
        self.x = torch.from_numpy(data.x[:batch].copy())
        module = _module(_parameters()).eval()
        self.function: Any = torch.compile(module, dynamic=False) if variant == COMPILED else module

    def run(self, count: int) -> None:
        with torch.inference_mode():
            for _ in range(count):
                self.out = self.function(self.x)

    def check(self) -> dict[str, float]:
        return common.inference_figures(self.out.numpy())


def make(task: str, variant: str, data: common.Data, batch: int, n_threads: int) -> Any:
    torch.set_num_threads(n_threads)
    if task == "step":
        return _Training(variant, data, batch)
    return _Loss(variant, batch) if task == "loss" else _Inference(variant, data, batch)
