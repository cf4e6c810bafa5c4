"""How every kernel is compiled and cached: the one place that calls `numba.njit`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from llvmlite.binding import Linkage
from numba import types
from numba.core import compiler, ir
from numba.core import config as numba_config
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler  # type: ignore[attr-defined]
from numba.core.registry import CPUDispatcher

from fastfnn_kernels import _announcing, _interrupts
from fastfnn_kernels._cache import KernelCache, usable_folder

config: Any = numba_config  # its settings are made at run time, so no type checker knows them

#: False under NUMBA_DISABLE_JIT=1: every kernel then is its reference twin.
JIT = not config.DISABLE_JIT

# Never fastmath=True: "nnan" and "ninf" delete the guards that stop a diverging run. Nor "arcp": LLVM multiplies by a
# reciprocal where several quotients share a divisor, as in an unrolled loop, but divides in the loop's rest, so the
# bits of a number would depend on where a thread's share ends.
FASTMATH = {"nsz", "contract", "afn", "reassoc"}
OPTIONS: dict[str, Any] = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True}

#: For what vectorised loops call, however long it is: LLVM leaves no call of it, which would end a vector.
FORCED: dict[str, Any] = {**OPTIONS, "forceinline": True}


class _InnerLibrary(JITCodeLibrary):
    """Optimised code for others to link in; machine code is made of it as a part of theirs."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _InnerCompiler(_FunctionCompiler):
    """Leaves out the two ways into a function, from Python and from C: they take longer than most functions."""

    def _compile_core(self, args: Any, return_type: Any) -> Any:
        context = self.targetdescr.target_context
        flags: Any = compiler.Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
        library = _InnerLibrary(context.codegen(), self.py_func.__qualname__)
        made = compiler.compile_extra(
            self.targetdescr.typing_context, context, self.py_func, args, return_type, flags, self.locals, library
        )
        made = made._replace(entry_point=object())  # by which numba tells functions apart
        context.insert_user_function(made.entry_point, made.fndesc, [library])
        return made


class _Inner(CPUDispatcher):
    """A function that compiled code calls."""

    def __init__(self, py_func: Callable[..., Any], locals: Any = None, targetoptions: Any = None) -> None:
        super().__init__(py_func, locals, {**targetoptions, "nopython": True})
        self._compiler = _InnerCompiler(py_func, self.targetdescr, self.targetoptions, {}, compiler.Compiler)

    @functools.cached_property
    def _for_python(self) -> Any:
        return numba.jit(**self.targetoptions)(self.py_func)

    def __call__(self, *args: Any) -> Any:  # type: ignore[override]
        return self._for_python(*args)

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres


def _inner(options: dict[str, Any]) -> Callable[[Callable[..., Any]], Any]:
    return lambda function: _Inner(function, targetoptions=options) if JIT else function


#: Compiles a function that kernels call; it is cached inside the kernels that use it.
helper = _inner(OPTIONS)
#: The same with `FORCED`.
forced = _inner(FORCED)

#: The same, but it becomes part of its callers. For a large one with one or two of them: LLVM would otherwise work on
#: it at every level of calls again, as numba optimises a function together with all that it calls. And for one that
#: adds up floats: each caller has a copy, optimised anew, whose sums may go in another order; and which copy runs
#: depends on what else the process has compiled, so a first run would give other last bits than those that load from
#: the cache.
inlined: Callable[[Callable[..., Any]], Any] = numba.njit(inline="always", **OPTIONS)


def _cache(compiled: Any, function: Callable[..., Any]) -> Any:
    """Have numba keep what it compiles in our folder and nowhere else."""
    folder = usable_folder()
    if folder is not None:
        compiled._cache = KernelCache(function, folder)
    return compiled


@contextlib.contextmanager
def _shared_scopes() -> Iterator[None]:
    """Blocks of code that numba copies, to put them into a caller, keep their scope.

    It would copy that, all variables of the function, with every block: most of the time that compiling took.
    """
    scope: Any = ir.Scope
    with global_compiler_lock:
        within = "__deepcopy__" in vars(scope)
        if not within:
            scope.__deepcopy__ = lambda self, memo: self
        try:
            yield
        finally:
            if not within:
                del scope.__deepcopy__


class _Kernel(CPUDispatcher):
    """A function that Python calls."""

    def compile(self, sig: Any) -> Any:
        with _shared_scopes():
            return super().compile(sig)


def _cached_kernel(function: Callable[..., Any]) -> Any:
    return _cache(_Kernel(function, targetoptions={**OPTIONS, "nopython": True}), function)


def driver(function: Callable[..., Any]) -> Any:
    """Compile a function that runs kernels and has no twin of its own."""
    return _cached_kernel(function) if JIT else function


class _OwnLibrary(JITCodeLibrary):
    """Compiled code that runs its own copies of the functions that it calls.

    numba links these in under names that all libraries share, and optimises them there once more; but a process that
    has compiled such a function runs whichever copy it compiled first. What is slower there, and may round otherwise,
    is then not what the cache holds for the next process.
    """

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.linkonce_odr:
                function.name = f"{function.name}.{self.name}"
        super()._optimize_final_module()


@contextlib.contextmanager
def _own_copies(codegen: Any) -> Iterator[None]:
    before = codegen._library_class
    codegen._library_class = _OwnLibrary
    try:
        yield
    finally:
        codegen._library_class = before


class _NotCachedError(Exception):
    pass


class _Loaded(CFunc):
    """One that is in the cache."""

    def _compile_uncached(self) -> Any:
        raise _NotCachedError


def operation(
    function: Callable[[Any, Any], None], record: np.dtype[Any], place: np.dtype[Any], *, only_load: bool = False
) -> Any:
    """Compile ``function(record, place)``, pointers to such structures, now; its address is the attribute ``address``.

    With `only_load` the result is None where the cache does not have it.
    """
    return addressed(function, tuple(map(numba.from_dtype, (record, place))), only_load=only_load)


def addressed(function: Callable[..., None], arguments: tuple[Any, ...], *, only_load: bool = False) -> Any:
    """Compile a function of such arguments for compiled code to call; its address is the attribute ``address``."""
    compiled = _uncompiled(function, arguments, _Loaded if only_load else CFunc)
    try:
        with _own_copies(compiled._targetdescr.target_context.codegen()), _shared_scopes():
            compiled.compile()
    except _NotCachedError:
        return None
    return compiled


def _uncompiled(function: Callable[..., None], arguments: tuple[Any, ...], kind: type[CFunc]) -> Any:
    options = {name: value for name, value in OPTIONS.items() if name != "nogil"}  # its caller has let go of the GIL
    return _cache(kind(function, (arguments, types.void), locals={}, options=options), function)


def is_cached(function: Callable[[Any, Any], None], record: np.dtype[Any], place: np.dtype[Any]) -> bool:
    """Whether the cache has a file for such an `operation`."""
    compiled = _uncompiled(function, tuple(map(numba.from_dtype, (record, place))), CFunc)
    cache, codegen = compiled._cache, compiled._targetdescr.target_context.codegen()
    return isinstance(cache, KernelCache) and cache.holds(compiled._sig, codegen)


def kernel(
    twin: Callable[..., Any], *, outputs: int = 1, scratch: int = 0, in_place: bool = False
) -> Callable[..., Any]:
    """Make a kernel of ``function(*outputs, *scratch, *inputs, tid, n_threads)``.

    The function writes thread `tid`'s share of its first `outputs` arguments; it never raises and never allocates.
    What the decorator returns is called as ``function(*outputs, *scratch, *inputs, team=None)``: on the calling
    thread, or on every thread of a `Team`. The compiled function itself is its attribute ``jitted``; ``inlined`` is the
    same to become part of an operation. Without the JIT there is neither.

    Without the JIT the kernel is ``twin(*inputs)``, whose results are copied into the outputs.

    Parameters
    ----------
    twin : callable
        The NumPy reference; takes the inputs and returns the outputs (a tuple where there are several).
    outputs : int
        How many arguments are results.
    scratch : int
        How many arguments behind them are working memory; the twin gets none of these.
    in_place : bool
        The outputs are read too, so the twin gets them in front of the inputs.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        if not JIT:

            def run(*args: Any, team: Any = None) -> None:
                inputs = args[outputs + scratch :]
                with np.errstate(all="ignore"):  # a diverging run shows in its loss, as with compiled kernels
                    results = twin(*args[:outputs], *inputs) if in_place else twin(*inputs)
                    for out, result in zip(args[:outputs], results if outputs > 1 else (results,), strict=True):
                        np.copyto(out, result, casting="same_kind")

        else:
            jitted = _cached_kernel(function)

            def run(*args: Any, team: Any = None) -> None:
                if team is None or team.size == 1:
                    jitted(*args, 0, 1)
                else:
                    team.run(jitted, *args)

            run.jitted = jitted  # type: ignore[attr-defined]
            run.inlined = inlined(function)  # type: ignore[attr-defined]
        functools.update_wrapper(run, function)
        vars(run).update(twin=twin, outputs=outputs, scratch=scratch, in_place=in_place)  # what the registry reads
        return run

    return decorate


_announcing.listen()
_interrupts.watch()
