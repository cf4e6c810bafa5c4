"""PyTorch modules with a `forward` of their own: those that are chains, and whose branches meet again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fastfnn.errors import InvalidTypeError, InvalidValueError
from fastfnn.interchange.branching import Made, chain_between


class Leaf(NamedTuple):
    """A module that becomes a layer, and where it is."""

    place: str
    module: Any


class Taken(NamedTuple):
    """In place of a module: columns of the input, as ``x[:, columns]`` gives them."""

    columns: tuple[int, ...]


def branches(modules: Mapping[str, Any], join: str, name: str, columns: list[list[int]] | None = None) -> Any:
    """A module of branches that get the same input and meet by ``"add"`` or ``"concat"``.

    With `columns` each gets its own, as integers where it looks them up, and what it makes is flattened.
    """
    import torch
    from torch import fx

    graph = fx.Graph()
    x = graph.placeholder("x")
    outs = []
    for i, (branch, module) in enumerate(modules.items()):
        own = x if columns is None else graph.call_function(operator.getitem, (x, (slice(None), columns[i])))
        first = next(iter(module), None) if isinstance(module, torch.nn.Sequential) else module
        if columns is not None and isinstance(first, torch.nn.Embedding):
            own = graph.call_method("long", (own,))
        out = graph.call_module(branch, (own,))
        outs.append(out if columns is None else graph.call_method("flatten", (out, 1)))
    total: Any = outs[0]
    if join == "concat":
        total = graph.call_function(torch.cat, (outs,), {"dim": 1})
    else:
        for out in outs[1:]:
            total = graph.call_function(operator.add, (total, out))
    graph.output(total)
    return fx.GraphModule(dict(modules), graph, name)


def traced(module: Any, place: str) -> list[Any]:
    """What a module's `forward` does, as `Leaf`s and `Join`s of them, found out by ``torch.fx``.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        It cannot be traced, takes several inputs, or does what no layer does.
    """
    import torch
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            return True  # each is looked at for itself

    try:
        graph = Tracer().trace(module)
    except Exception as error:  # whatever a user's forward does with what is no tensor
        raise InvalidTypeError(
            f"{place} is {type(module).__name__}, whose forward torch.fx cannot trace ({error}); expected one without "
            "branches that depend on the data"
        ) from None
    nodes = list(graph.nodes)
    inputs = [node.name for node in nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise InvalidValueError(f"{place} takes {' and '.join(inputs) or 'nothing'}; expected one input")
    (end,) = nodes[-1].args
    if not isinstance(end, fx.Node):
        raise InvalidTypeError(f"{place} gives {end!r}; expected one tensor")
    made: dict[str, Made] = {}
    written: dict[str, str] = {}  # by an operation in place: whoever takes the first afterwards gets the second
    for node in nodes:
        entry = _made(torch, module, node, place)
        if entry is not None:
            made[node.name] = Made(entry.item, [written.get(name, name) for name in entry.inputs], entry.join)
            if _is_in_place(module, node):
                last = written.get(entry.inputs[0], entry.inputs[0])
                names = [name for name, value in written.items() if value == last]
                written |= {name: str(node.name) for name in (*names, last, entry.inputs[0])}
    return chain_between(inputs[0], str(written.get(end.name, end.name)), made, lambda leaf: leaf.place)


def _is_in_place(module: Any, node: Any) -> bool:
    """Whether a node writes into what it takes."""
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(node.target), "inplace", False))
    if node.op == "call_method":
        return node.target.endswith("_") and not node.target.endswith("__")
    named = str(getattr(node.target, "__name__", ""))
    return bool(node.kwargs.get("inplace")) or node.target is operator.iadd or named.endswith("_")


def _made(torch: Any, module: Any, node: Any, place: str) -> Made | None:
    """What a node makes; None for sizes, which only reshapes ask for, and for the graph's ends."""
    at = f"{place}.{node.target if node.op == 'call_module' else node.name}"
    taken = [each.name for each in node.all_input_nodes if not _is_size(each)]
    if node.op in ("placeholder", "output", "get_attr") or _is_size(node):
        return None
    if node.op == "call_module":
        return Made(Leaf(at, module.get_submodule(node.target)), taken[:1])
    join = _join(torch, node)
    if join is not None:
        return Made(Leaf(at, None), [each.name for each in _summands(node)], join)
    columns = _columns(node)
    if columns is not None:
        return Made(Leaf(at, Taken(columns)), taken)
    found = _module(torch, node)
    if found is None or len(taken) != 1:
        name = getattr(node.target, "__name__", node.target)
        given = ", ".join([*map(str, node.args), *(f"{key}={value}" for key, value in node.kwargs.items())])
        raise InvalidTypeError(f"{at} is {name}({given}), which no layer does")
    return Made(Leaf(at, found.train(module.training)), taken)


def _columns(node: Any) -> tuple[int, ...] | None:
    """What columns a node takes, if that is what it does."""
    if node.op != "call_function" or node.target is not operator.getitem or len(node.args) != 2:
        return None
    rows, columns = node.args[1] if isinstance(node.args[1], tuple) and len(node.args[1]) == 2 else (None, None)
    whole = isinstance(rows, slice) and rows == slice(None)
    return tuple(columns) if whole and isinstance(columns, (list, tuple)) else None


def _is_size(node: Any) -> bool:
    """Whether it is a size, a shape, or an entry of one."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    return node.target is operator.getitem and hasattr(node.args[0], "op") and _is_size(node.args[0])


def _summands(node: Any) -> Iterator[Any]:
    """The tensors that meet in a node."""
    for entry in (*node.args, *node.kwargs.values()):
        yield from entry if isinstance(entry, (list, tuple)) else [entry] if hasattr(entry, "op") else []


def _join(torch: Any, node: Any) -> str | None:
    """How tensors meet in a node, if they do."""
    adds = (operator.add, operator.iadd, torch.add)
    is_sum = node.target in adds if node.op == "call_function" else node.target in ("add", "add_")
    if is_sum and len(list(_summands(node))) == 2 and node.kwargs.keys() <= {"input", "other"}:
        return "add"
    concats = (torch.cat, torch.concat, torch.concatenate)
    if node.op == "call_function" and node.target in concats:
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if dim == 1:
            return "concat"
    return None


def _module(torch: Any, node: Any) -> Any:
    """The module that does what a function or a method does, if there is one."""
    from torch import nn
    from torch.nn import functional

    functions: dict[Any, Callable[..., Any]] = {}
    for name, kind in (("relu", nn.ReLU), ("sigmoid", nn.Sigmoid), ("tanh", nn.Tanh)):
        functions |= {name: kind, getattr(torch, name): kind, getattr(functional, name): kind}
    for name, kind in (("softmax", nn.Softmax), ("log_softmax", nn.LogSoftmax)):
        functions |= {name: kind, getattr(torch, name): kind, getattr(functional, name): kind}
    more = {"gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU, "selu": nn.SELU, "softplus": nn.Softplus}
    more |= {"relu6": nn.ReLU6, "hardswish": nn.Hardswish, "dropout2d": nn.Dropout2d}
    functions |= {getattr(functional, name): kind for name, kind in more.items()}
    functions |= {"relu_": nn.ReLU, "sigmoid_": nn.Sigmoid, "tanh_": nn.Tanh}
    functions |= {"long": nn.Identity, "float": nn.Identity, "flatten": nn.Flatten, torch.flatten: nn.Flatten}
    functions |= {functional.leaky_relu: nn.LeakyReLU, functional.dropout: nn.Dropout}
    functions |= {functional.max_pool2d: nn.MaxPool2d, functional.avg_pool2d: nn.AvgPool2d}
    functions |= {functional.max_pool1d: nn.MaxPool1d, functional.avg_pool1d: nn.AvgPool1d}
    functions[functional.adaptive_avg_pool2d] = nn.AdaptiveAvgPool2d
    kind = functions.get(node.target)
    if node.target in ("view", "reshape", torch.reshape):
        sizes = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], (tuple, list)) else node.args[1:]
        first = sizes[0] if sizes else None
        is_rows = first == -1 or (hasattr(first, "op") and _is_size(first))
        return nn.Flatten() if len(sizes) == 2 and is_rows else None
    if kind is None:
        return None
    settings = {name: value for name, value in node.kwargs.items() if name not in ("training", "inplace", "input")}
    arguments = node.args[1:]
    if kind is nn.Flatten and (*arguments, *settings.values()) not in ((1,), (1, -1)):
        return None
    if kind in (nn.ReLU, nn.ReLU6, nn.SiLU, nn.SELU, nn.Hardswish):  # further ones say whether it works in place
        arguments = ()
    elif kind in (nn.Dropout, nn.Dropout2d, nn.LeakyReLU, nn.ELU):
        arguments = arguments[:1]
    if any(hasattr(value, "op") for value in (*arguments, *settings.values())):
        return None
    try:
        return kind(*arguments, **settings)
    except TypeError:
        return None
