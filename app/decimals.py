"""Doubles as JSON writes them: the shortest decimal that is read back as the same double, by loops that numba compiles.

The algorithm is Schubfach (Giulietti, "The Schubfach way to render doubles", 2020), in the form of Neubauer's
Drachennest: the candidates are the multiples of a power of ten around the number, of which at most two are in the
interval that rounds to it, and a product of 64 and 128 bits, rounded to odd, tells exactly on which side they are.
"""

from typing import Final

import numpy as np
from numba import int64, njit, uint64

from app.words import BARE, INLINE, as_bits, as_word, high_product, put_word, zeros_above

LONGEST: Final = 24  # bytes: -1.2345678901234567e-123

_0, _1, _2, _4, _8, _10, _12, _16, _20, _32, _40, _64, _100 = (
    np.uint64(number) for number in (0, 1, 2, 4, 8, 10, 12, 16, 20, 32, 40, 64, 100)
)
_POINT, _MINUS, _E = (np.uint8(byte) for byte in b".-e")
_ZEROS: Final = as_word(b"0" * 8)
# Dividing by these is multiplying and shifting, while a product fits its part of the word; what is kept of each part.
_MYRIAD, _BY_HUNDRED, _BY_TEN = (np.uint64(number) for number in (10_000, 10_486, 103))
_TWOS, _ONES = (np.uint64(int(bits, 16)) for bits in ("0000007F" * 2, "000F" * 4))
_EIGHT_TENS: Final = np.uint64(10**8)
_LOG_OF_TWO: Final = np.uint64(1_233)  # times 4096
_NULL = as_word(b"null")
_52, _63, _EXPONENT = np.uint64(52), np.uint64(63), np.uint64(0x7FF)
_FRACTION, _HIDDEN = np.uint64((1 << 52) - 1), np.uint64(1 << 52)

# A number is written without an exponent while its point is so many digits behind its first one; below 0: before it.
_LEAST_POINT, _MOST_POINT = -4, 16

_LEAST_POWER, _MOST_POWER = -292, 324


def _power(exponent: int) -> tuple[int, int]:
    """The first 128 bits of 10**exponent, rounded up, as two words."""
    power: int = 10 ** abs(exponent)
    above = (1 << power.bit_length() + 127, power) if exponent < 0 else (power << 128, 1 << power.bit_length())
    return divmod(-(-above[0] // above[1]), 1 << 64)


_POWERS: Final = np.array([_power(exponent) for exponent in range(_LEAST_POWER, _MOST_POWER + 1)], np.uint64)
_TENS: Final = np.array([10**digits for digits in range(20)], np.uint64)


@njit(**INLINE)
def _rounded_to_odd(high, low, word):  # type: ignore[no-untyped-def]
    """The upper 64 of the 192 bits of a product, the last of them set if any below is."""
    carried = high_product(low, word)
    middle = high * word + carried
    return high_product(high, word) + uint64(middle < carried) | uint64(middle > _1)


@njit(**BARE)
def shortest(bits):  # type: ignore[no-untyped-def]
    """Digits, as a number, and the power of ten that they are multiplied with, of a finite double without its sign."""
    fraction, exponent = bits & _FRACTION, bits >> _52 & _EXPONENT
    if not fraction | exponent:
        return _0, int64(0)
    significand, power = fraction, int64(-1074)
    if exponent:
        significand, power = _HIDDEN | fraction, int64(exponent) - 1075
        if -53 < power <= 0 and not significand & ((_1 << uint64(-power)) - _1):
            return significand >> uint64(-power), int64(0)  # an integer
    odd = significand & _1
    closer = fraction == _0 and exponent > _1  # the double below is half as far as the one above
    tens = power * 1_262_611 - (524_031 if closer else 0) >> 22
    shift = uint64(power + (-tens * 1_741_647 >> 19) + 1)
    row = uint64(-tens - _LEAST_POWER)
    high, low = _POWERS[row, 0], _POWERS[row, 1]
    number = _rounded_to_odd(high, low, _4 * significand << shift)
    lower = _rounded_to_odd(high, low, _4 * significand - _2 + uint64(closer) << shift) + odd
    upper = _rounded_to_odd(high, low, _4 * significand + _2 << shift) - odd
    digits = number // _4
    if digits >= _10:
        fewer = digits // _10
        down, up = lower <= _40 * fewer, _40 * fewer + _40 <= upper
        if down != up:
            return fewer + uint64(up), tens + 1
    down, up = lower <= _4 * digits, _4 * digits + _4 <= upper
    if down == up:  # both or neither: the nearer one, of two equally near the even one
        middle = _4 * digits + _2
        up = number > middle or (number == middle and digits & _1 == _1)
    return digits + uint64(up), tens


@njit(**INLINE)
def count_digits(number):  # type: ignore[no-untyped-def]
    """Of a number below 10**19; 0 has one."""
    bits = _64 - zeros_above(number | _1)
    count = bits * _LOG_OF_TWO >> _12  # or one more
    return max(count + uint64(number >= _TENS[count]), _1)


@njit(**INLINE)
def _eight_digits(number):  # type: ignore[no-untyped-def]
    """The last eight digits of a number, as text: split into fours, twos and ones side by side in a word.

    Khuong, "How to print integers really fast (with open source AppNexus code!)", 2017.
    """
    number %= _EIGHT_TENS
    fours = number // _MYRIAD | number % _MYRIAD << _32
    hundreds = fours * _BY_HUNDRED >> _20 & _TWOS
    twos = hundreds | fours - _100 * hundreds << _16
    tens = twos * _BY_TEN >> _10 & _ONES
    return (tens | twos - _10 * tens << _8) + _ZEROS


@njit(**INLINE)
def _put_few_digits(out, used, number, count):  # type: ignore[no-untyped-def]
    put_word(out, used, _eight_digits(number) >> _64 - _8 * count)
    return used + count


@njit(**INLINE)
def put_digits(out, used, number, count):  # type: ignore[no-untyped-def]
    """Write the last so many decimal digits of a number, 1 to 20, zeros in front included; where they end.

    There is room for `PADDING` bytes more.
    """
    if count > _16:
        used = _put_few_digits(out, used, number // _EIGHT_TENS // _EIGHT_TENS, count - _16)
        count = _16
    if count > _8:
        used = _put_few_digits(out, used, number // _EIGHT_TENS, count - _8)
        count = _8
    return _put_few_digits(out, used, number, count)


@njit(**BARE)
def put_double(out, used, value):  # type: ignore[no-untyped-def]
    """Write a double as msgspec does, and return where it ends; `out` has room for `LONGEST` and `PADDING` bytes.

    What is not finite is null.
    """
    bits = as_bits(value)
    if bits >> _52 & _EXPONENT == _EXPONENT:
        put_word(out, used, _NULL)
        return used + _4
    if bits >> _63:
        out[used] = _MINUS
        used += _1
    digits, power = shortest(bits)
    while digits and digits % _10 == _0:
        digits //= _10
        power += 1
    count = count_digits(digits)
    point = int64(count) + power
    if not _LEAST_POINT <= point <= _MOST_POINT:
        return _put_with_exponent(out, used, digits, count, point - 1)
    before = uint64(max(point, 1))
    after = uint64(max(-power, 1))
    if power < 0:
        used = put_digits(out, used, digits // _TENS[after] if after < uint64(_TENS.size) else _0, before)
    else:
        used = put_digits(out, used, digits * _TENS[uint64(power)], before)
        digits = _0
    out[used] = _POINT
    return put_digits(out, used + _1, digits, after)


@njit(**BARE)
def _put_with_exponent(out, used, digits, count, exponent):  # type: ignore[no-untyped-def]
    used = put_digits(out, used, digits // _TENS[count - _1], _1)
    if count > _1:
        out[used] = _POINT
        used = put_digits(out, used + _1, digits, count - _1)
    out[used] = _E
    used += _1
    if exponent < 0:
        out[used] = _MINUS
        used += _1
    exponent = uint64(abs(exponent))
    return put_digits(out, used, exponent, count_digits(exponent))
