"""PyTorch in its best forms: tensors in memory, rows by index, no DataLoader; images contiguous and ``channels_last``.

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
from contenders.networks import DENSE, FLATTEN, MLP, POOL, RELU, TANH, Conv, Linear

foreach_add: Any = vars(torch)["_foreach_add_"]  # the foreach optimizers' own update
#: How an optimizer works; its variants are named ``SGD``, ``SGD(foreach)`` and so on.
OPTIMIZERS: dict[str, dict[str, bool]] = {
    "": {"foreach": False, "fused": False},
    "(foreach)": {"foreach": True},
    "(fused)": {"fused": True},
}
EAGER, UPDATES, BY_HAND = "eager", "autograd.grad + foreach_add", "by hand"
COMPILED, COMPILED_CPP = "compile, whole step", "compile, whole step, cpp_wrapper"
TUNED, FROZEN = "compile, max-autotune", "compile, frozen weights"
COMPILERS: dict[str, dict[str, Any]] = {
    COMPILED: {},
    COMPILED_CPP: {"options": {"cpp_wrapper": True}},
    TUNED: {"mode": "max-autotune-no-cudagraphs"},
    FROZEN: {"options": {"freezing": True}},  # it may pack the weights beforehand; for inference
}
CHANNELS_LAST = ", channels_last"
#: Work of a call, in operations, up to which the wrapper in C++ may gain something: it saves some tens of microseconds.
SMALL = 2e8


def variants(task: common.Task, n_threads: int, quick: bool) -> list[str]:
    if task.kind == "labels":
        return []  # what is timed there is estimators' own
    plain = [task.optimizer + how for how in OPTIMIZERS] if task.kind == "step" else [EAGER]
    if task.kind == "step" and task.optimizer == common.SGD:
        plain.append(UPDATES)
    compiled, small = [] if quick else [COMPILED], task.flops < SMALL
    if task.kind == "loss" or not task.description.of_images:
        by_hand = [BY_HAND] if task.kind == "step" and task.network in (MLP, DENSE) else []
        wrapped = [COMPILED_CPP] if task.kind in ("step", "inference") and small and not quick else []
        return [*plain, *compiled, *by_hand, *wrapped]
    # Optimizers differ by microseconds in steps of milliseconds; compilers little, so they have the better layout only.
    both = [*plain[-1 if quick else -2 :], *compiled]
    # On LeNet-5, max-autotune was not faster than the plain compilation by more than the noise.
    rest = [TUNED] if task.kind in ("forward", "gradients") else []
    if task.kind in common.INFERENCE:
        rest.append(FROZEN)
    if task.kind in ("step", "inference") and small:
        rest.append(COMPILED_CPP)
    names = [how + layout for how in both for layout in ("", CHANNELS_LAST)]
    return names if quick else names + [how + CHANNELS_LAST for how in rest]


def _compile(function: Any, how: str) -> Any:
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False, fullgraph=True, **COMPILERS[how])


def _module(task: common.Task, layout: torch.memory_format) -> torch.nn.Sequential:
    """The network with its first weights; PyTorch keeps linear ones as (out, in)."""
    plain = {RELU: torch.nn.ReLU, TANH: torch.nn.Tanh, POOL: lambda: torch.nn.MaxPool2d(2), FLATTEN: torch.nn.Flatten}
    weights, layers = iter(map(torch.from_numpy, common.first_weights(task))), []
    for layer in task.description.layers:
        if isinstance(layer, Linear):
            made = torch.nn.Linear(layer.n_in, layer.n_out)
            made.weight = torch.nn.Parameter(next(weights).T.contiguous())
        elif isinstance(layer, Conv):
            made = torch.nn.Conv2d(layer.c_in, layer.c_out, layer.kernel, padding=layer.padding)
            made.weight = torch.nn.Parameter(next(weights))
        else:
            layers.append(plain[layer]())
            continue
        made.bias = torch.nn.Parameter(next(weights))
        layers.append(made)
    return torch.nn.Sequential(*layers).to(memory_format=layout)  # type: ignore[call-overload]


def _call(module: torch.nn.Module, parameters: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The module as a function of its parameters, for transformations."""
    names = (name for name, _ in module.named_parameters())
    return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))


Step = Callable[[torch.Tensor, torch.Tensor], Any]


def _loss(task: common.Task) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return functional.mse_loss if task.description.of_numbers else functional.cross_entropy


def _with_optimizer(module: torch.nn.Module, task: common.Task, **how: bool) -> Step:
    made = {common.SGD: torch.optim.SGD, common.ADAM: torch.optim.Adam}[task.optimizer]
    optimizer: Any = made(module.parameters(), lr=common.learning_rate(task), **how)
    loss = _loss(task)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(module(x), y).backward()
        optimizer.step()

    return step


def _with_grad(module: torch.nn.Module, task: common.Task) -> Step:
    own, loss, lr = list(module.parameters()), _loss(task), common.learning_rate(task)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        gradients = torch.autograd.grad(loss(module(x), y), own)
        with torch.no_grad():
            foreach_add(own, gradients, alpha=-lr)

    return step


def _compiled(module: torch.nn.Module, parameters: list[torch.Tensor], task: common.Task, how: str) -> Step:
    """New parameters come out: updating them in place inside the compiled step gave NaN (PyTorch 2.13, on a CPU)."""
    loss, optimizer, lr = _loss(task), task.optimizer, common.learning_rate(task)
    gradient = torch.func.grad(lambda p, x, y: loss(_call(module, p, x), y))

    def update(state: tuple[Any, ...], x: torch.Tensor, y: torch.Tensor) -> tuple[Any, ...]:
        return common.update(optimizer, lr, state, gradient(state[0], x, y))

    compiled, state = _compile(update, how), common.first_state(task, parameters, torch.zeros_like, torch.zeros(()))

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        nonlocal state
        state = compiled(state, x, y)
        parameters[:] = state[0]

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
    def __init__(self, task: common.Task, how: str, layout: torch.memory_format, data: common.Data) -> None:
        self.task, self.data = task, data
        x, y = map(torch.from_numpy, common.training_set(task, data))
        self.x, self.y, self.full = x.to(memory_format=layout), y, task.batch == len(x)
        module = _module(task, layout)
        self.parameters = [parameter.detach() for parameter in module.parameters()]  # the same memory
        if how.startswith(task.optimizer):
            self.step = _with_optimizer(module, task, **OPTIMIZERS[how.removeprefix(task.optimizer)])
        elif how == UPDATES:
            self.step = _with_grad(module, task)
        elif how == BY_HAND:
            self.step = _by_hand(self.parameters, common.learning_rate(task))
        else:
            self.step = _compiled(module, self.parameters, task, how)

    def run(self, count: int) -> None:
        if self.full:
            for _ in range(count):
                self.step(self.x, self.y)
            return
        # index_select is the faster of the two, but does not keep the layout of several channels.
        keeps = self.x.is_contiguous()
        for rows in torch.from_numpy(common.order(count * self.task.batch)).split(self.task.batch):
            x = self.x.index_select(0, rows) if keeps else self.x[rows]
            self.step(x, self.y.index_select(0, rows))

    def check(self) -> dict[str, float]:
        weights = [(p.T if p.ndim == 2 else p).numpy() for p in self.parameters]
        return common.loss_after(self.task, weights, self.data)


class _Loss:
    def __init__(self, how: str, rows: int) -> None:
        logits, labels = map(torch.from_numpy, common.random_logits(rows))
        self.logits, self.labels = logits.requires_grad_(), labels
        plain = functional.cross_entropy
        self.function = plain if how == EAGER else _compile(plain, how)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.logits.grad = None
            self.loss = self.function(self.logits, self.labels)
            self.loss.backward()

    def check(self) -> dict[str, float]:
        assert self.logits.grad is not None
        return common.loss_figures(self.loss.item(), self.logits.grad.numpy())


class _Inference:
    def __init__(self, task: common.Task, how: str, layout: torch.memory_format, data: common.Data) -> None:
        self.x = torch.from_numpy(common.inputs(task, data)).to(memory_format=layout)
        module = _module(task, layout).eval()
        self.function: Any = module if how == EAGER else _compile(module, how)

    def run(self, count: int) -> None:
        with torch.inference_mode():
            for _ in range(count):
                self.out = self.function(self.x)

    def check(self) -> dict[str, float]:
        return common.inference_figures(self.out.numpy())


class _Gradients:
    """Gradients for weight and bias and, unless it is an image, the input; compiled, all of it is one function."""

    def __init__(self, task: common.Task, how: str, layout: torch.memory_format, data: common.Data) -> None:
        module = _module(task, layout)
        arrays = common.inputs(task, data), common.output_gradient(task)
        self.x, self.grad = (torch.from_numpy(array).to(memory_format=layout) for array in arrays)
        self.wanted: list[torch.Tensor] = list(module.parameters())
        if task.input_gradient:
            self.wanted.append(self.x.requires_grad_())

        def eager() -> Any:
            out = module(self.x)
            return out, torch.autograd.grad(out, self.wanted, self.grad)

        def whole(wanted: list[torch.Tensor], x: torch.Tensor, grad: torch.Tensor) -> Any:
            out, backward, *_ = torch.func.vjp(lambda w, b, x=x: _call(module, [w, b], x), *wanted)
            return out, backward(grad)

        if how == EAGER:
            self.function = eager
        else:
            compiled, x = _compile(whole, how), self.x.detach()
            wanted = [tensor.detach() for tensor in self.wanted]
            self.function = lambda: compiled(wanted, x, self.grad)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.out, self.gradients = self.function()

    def check(self) -> dict[str, float]:
        return common.gradient_figures(self.out.detach().numpy(), [gradient.numpy() for gradient in self.gradients])


def make(task: common.Task, variant: str, data: common.Data, n_threads: int) -> Any:
    torch.set_num_threads(n_threads)
    how = variant.removesuffix(CHANNELS_LAST)
    layout = torch.contiguous_format if how == variant else torch.channels_last
    if task.kind == "step":
        return _Training(task, how, layout, data)
    if task.kind == "loss":
        return _Loss(how, task.batch)
    return (_Gradients if task.kind == "gradients" else _Inference)(task, how, layout, data)
