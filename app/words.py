"""Texts in words of eight bytes: what the loops that numba compiles over bytes are made of.

Eight bytes at once are looked at in one word, as Langdale and Lemire do ("Parsing gigabytes of JSON per second", VLDB
Journal 2019). Places are unsigned, which spares numba's check for negative indexes. A text is followed by `PADDING`
bytes, so that a word at its last place is no read outside of it.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

PADDING: Final = 8  # what a word at the last place reads beyond it
MIXER: Final = 0x9E3779B97F4A7C15

# Without reference counts, of which numba would else do one for each array and call.
BARE: Final = {"_nrt": False}
INLINE: Final = {**BARE, "forceinline": True}

# Constants are typed, so that nothing is converted.
_0, _3, _8, _32, _64 = (np.uint64(number) for number in (0, 3, 8, 32, 64))
_MIXER = np.uint64(MIXER)


def as_word(text: bytes) -> np.uint64:
    """A text of up to eight bytes as a word, the first of them lowest."""
    return np.uint64(int.from_bytes(text, "little"))


ONES, HIGH = as_word(b"\x01" * 8), as_word(b"\x80" * 8)


@intrinsic
def word_at(_typing_context, text, place):  # type: ignore[no-untyped-def]
    """The eight bytes from `place` on, the first of them lowest; the text has to reach so far."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(byte, ir.IntType(64).as_pointer()), align=1, typ=ir.IntType(64))

    return types.uint64(text, types.uint64), generate


@intrinsic
def put_word(_typing_context, text, place, word):  # type: ignore[no-untyped-def]
    """Write eight bytes from `place` on, the lowest first; the text has to reach so far."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = builder.gep(array.data, [arguments[1]])
        builder.store(arguments[2], builder.bitcast(byte, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(text, types.uint64, types.uint64), generate


@intrinsic
def zeros_below(_typing_context, word):  # type: ignore[no-untyped-def]
    """How many bits are below the lowest that is set; 64 when none is (LLVM's cttz)."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def zeros_above(_typing_context, word):  # type: ignore[no-untyped-def]
    """How many bits are above the highest that is set; 64 when none is (LLVM's ctlz)."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def high_product(_typing_context, a, b):  # type: ignore[no-untyped-def]
    """The upper 64 of the 128 bits of a product."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(one, wide) for one in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def as_bits(_typing_context, number):  # type: ignore[no-untyped-def]
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), generate


@intrinsic
def as_float(_typing_context, bits):  # type: ignore[no-untyped-def]
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), generate


@njit(**INLINE)
def first_bytes(word, count):  # type: ignore[no-untyped-def]
    """The word with nothing but its first bytes: one, or more, or all of them from a count of eight on."""
    return word & (~_0 >> (_64 - _8 * min(count, _8)))


@njit(**INLINE)
def bytes_before(word, bytes_like):  # type: ignore[no-untyped-def]
    """How many bytes of the word come before the first that is the one which `bytes_like` is full of; 8 without one."""
    difference = word ^ bytes_like
    return zeros_below((difference - ONES) & ~difference & HIGH) >> _3


@njit(**INLINE)
def mixed_with(mixed, word):  # type: ignore[no-untyped-def]
    mixed = (mixed ^ word) * _MIXER
    return mixed ^ mixed >> _32
