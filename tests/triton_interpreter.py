"""Triton's interpreter, mended, and without what it does again for each operation of a kernel.

Loaded where TRITON_INTERPRET=1 only. What it computes and what it refuses stay: the overhead is in
looking up types, in patching the language and in checks that are themselves interpreted.
"""

import functools
import operator
from types import SimpleNamespace

import numpy as np
import triton.language as tl
from triton.language import core
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter


def mend() -> None:
    _take_loop_bounds()
    _patch_the_language_once_per_launch()
    _look_for_overflow_in_numpy()
    _remember_types()


def _take_loop_bounds() -> None:
    """Triton 3.6 makes loop bounds of arrays with one element, which NumPy 2.4 no longer takes."""
    patch_tensor = interpreter._patch_lang_tensor

    def patch_and_mend(tensor: type, scope: object) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_and_mend


def _patch_the_language_once_per_launch() -> None:
    """Instead of once more, by a search of all its names, for each call of a device function."""
    patch_language = interpreter._patch_lang
    names = SimpleNamespace(__globals__={"tl": tl, "core": core})
    interpreter._patch_lang = lambda _: patch_language(names)

    def call(self, *arguments: object, **keywords: object) -> object:
        return self.rewrite()(*arguments, **keywords)

    interpreter.InterpretedFunction.__call__ = call


def _look_for_overflow_in_numpy() -> None:
    """Of integers that are added, subtracted or multiplied, as the interpreter looks for it."""
    exact = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}

    def check(self, left: tl.tensor, right: tl.tensor, operation: object) -> None:
        integer = left.type.scalar
        if integer.int_bitwidth >= 64:
            return
        compute = exact[operation.__name__]
        wide = compute(left.handle.data.astype(np.int64), right.handle.data.astype(np.int64))
        if wide.size and not (
            integer.get_int_min_value() <= wide.min() and wide.max() <= integer.get_int_max_value()
        ):
            raise OverflowError(f"{integer} overflows in {operation.__name__}")

    TritonSemantic.binary_op_sanitize_overflow_impl = check


def _remember_types() -> None:
    numpy_type = functools.cache(interpreter._get_np_dtype)
    pointers = np.dtype(np.uint64)
    interpreter._get_np_dtype = lambda dtype: (
        pointers if dtype.scalar.is_ptr() else numpy_type(dtype.scalar)
    )
    types_of_values = core._type_for_tuple_values

    @functools.cache
    def type_of_sizes(sizes: tuple[int, ...]) -> core.tuple_type:
        return types_of_values(list(sizes))

    def type_of(values: list, fields: object = None) -> core.tuple_type:
        if fields is None and all(type(value) is int for value in values):
            return type_of_sizes((*values,))
        return types_of_values(values, fields)

    core._type_for_tuple_values = type_of
