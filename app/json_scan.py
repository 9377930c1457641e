"""The plain form of a ranking's JSON, read straight into numbers: loops that numba compiles.

Whatever is not plain makes `scan` give up. Plain are candidates that are an id, or an object of `id` and `features`,
each once; ids in ASCII without escapes; features with known names, each once; known categories without escapes; numbers
of up to 19 significant digits.

`text` is a body and `PADDING` zero bytes. No loop passes a zero, which JSON cannot hold; so none asks where the text
ends, and none reads outside of it. Place 0, where a body has a blank or a brace, stands for "not plain": no comparison
succeeds there.
"""

# Kernels are called by position: numba has no keyword-only arguments.
# ruff: noqa: PLR0917

from typing import Final

import numpy as np
from numba import float64, int64, njit, uint64

from app.id_lines import are_distinct
from app.words import (
    BARE,
    HIGH,
    INLINE,
    ONES,
    PADDING,
    as_bits,
    as_float,
    as_word,
    first_bytes,
    high_product,
    mixed_with,
    put_word,
    word_at,
    zeros_above,
    zeros_below,
)
from scoring.kernel_cache import compiled

LONGEST_ID: Final = 128
NUMBER, INTEGER, BOOLEAN, CATEGORY = range(4)
# Constants are typed, so that nothing is converted.
_0, _1, _3, _4, _5, _7, _8, _9, _64 = (np.uint64(number) for number in (0, 1, 3, 4, 5, 7, 8, 9, 64))
_NO_BITS, _SPACE = (np.uint8(number) for number in (0, 0x20))
_TAB, _LINE_FEED, _RETURN, _QUOTE, _BACKSLASH = (np.uint8(byte) for byte in b'\t\n\r"\\')
_OBJECT, _END_OBJECT, _LIST, _END_LIST, _COMMA, _COLON = (np.uint8(byte) for byte in b"{}[],:")
_MINUS, _PLUS, _POINT, _E, _N, _ZERO = (np.uint8(byte) for byte in b"-+.en0")
_LONGEST_ID, _PADDING = np.uint64(LONGEST_ID), np.uint64(PADDING)
_NAN: Final = np.float64(np.nan).view(np.uint64)
_SAFE_INTEGER: Final = 2.0**53


_BLANKS, _ZEROS, _TO_HIGH, _LOW = (as_word(bytes([byte]) * 8) for byte in b" 0\x76\x7f")
_QUOTES, _BACKSLASHES = (as_word(byte * 8) for byte in (b'"', b"\\"))
_TRUE, _FALSE, _NULL, _ID = (as_word(text) for text in (b"true", b"false", b"null", b'"id"'))
_FEATURES = (as_word(b'"feature'), as_word(b's"'))
_CANDIDATES = (as_word(b'"candida'), as_word(b'tes"'))

# Ten to the power of 0 to 8 digits, and below what a number has room for so many more: it stays below 10**19.
_POWERS: Final = np.array([10**digits for digits in range(9)], np.uint64)
_ROOM: Final = np.array([10 ** (19 - digits) for digits in range(9)], np.uint64)
# Digits in the bytes of a word are added up to pairs, fours and the number: what is kept, multiplied and shifted.
_PAIRS, _FOURS, _EIGHTS = (np.uint64(int(bits, 16)) for bits in ("0F" * 8, "00FF" * 4, "0000FFFF" * 2))
_BY_TEN, _BY_HUNDRED, _BY_MYRIAD = (np.uint64(by) for by in ((10 << 8) + 1, (100 << 16) + 1, (10_000 << 32) + 1))
_16, _32 = np.uint64(16), np.uint64(32)

FARTHEST: Final = 64  # the power of ten that a number of 19 digits may be multiplied with
_EXPONENT_END: Final = np.uint64(1_000)


def _fifth_power(power: int) -> int:
    """The first 128 bits of 5**power: cut off, and rounded up for a negative power."""
    if power < 0:
        divisor: int = 5**-power
        return (1 << 127 + divisor.bit_length()) // divisor + 1
    value: int = 5**power
    return (value << 128) >> value.bit_length()


_FIFTHS: Final = np.array(
    [divmod(_fifth_power(power), 1 << 64) for power in range(-FARTHEST, FARTHEST + 1)], dtype=np.uint64
)
_CARRIES, _52, _63 = np.uint64(0x1FF), np.uint64(52), np.uint64(63)
_FRACTION, _FULL = np.uint64((1 << 52) - 1), np.uint64(1 << 53)


# ---- words ----


@njit(**INLINE)
def same(text, place, other, length):  # type: ignore[no-untyped-def]
    """Whether `length` bytes are the same at both places; at the `other` there is no zero among them."""
    for done in range(_0, length, _8):
        difference = word_at(text, place + done) ^ word_at(text, other + done)
        if first_bytes(difference, length - done):
            return False
    return True


# ---- texts ----


@njit(**INLINE)
def after_blanks(text, place):  # type: ignore[no-untyped-def]
    while text[place] == _SPACE or text[place] == _LINE_FEED or text[place] == _RETURN or text[place] == _TAB:
        place += _1
    return place


@njit(**INLINE)
def end_of_string(text, place):  # type: ignore[no-untyped-def]
    """Where the next quote, backslash or control character is."""
    while True:
        word = word_at(text, place)
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        # Each finds its lowest byte; what it finds above may be wrong, since subtraction borrows.
        found = (quote - ONES) & ~quote | (backslash - ONES) & ~backslash | (word - _BLANKS) & ~word
        found &= HIGH
        if found:
            return place + (zeros_below(found) >> _3)
        place += _8


@njit(**INLINE)
def closing_quote(text, place):  # type: ignore[no-untyped-def]
    """Where the plain string at `place` ends, at its last quote; 0 when there is none."""
    if text[place] != _QUOTE:
        return _0
    end = end_of_string(text, place + _1)
    return end if text[end] == _QUOTE else _0


@njit(**INLINE)
def find(text, place, length, owner, lexicon):  # type: ignore[no-untyped-def]
    """The entry of `owner` that is spelled like the `length` bytes at `place`; -1 when there is none."""
    slots, entries, words = lexicon
    key = uint64(owner) << _32 | length
    mixed = key
    for done in range(_0, length, _8):
        mixed = mixed_with(mixed, first_bytes(word_at(text, place + done), length - done))
    last = uint64(slots.size) - _1
    slot = mixed & last
    while slots[slot] >= 0:
        entry = uint64(slots[slot])
        if entries[entry, 0] == key:
            difference = _0
            for done in range(_0, length, _8):
                word = first_bytes(word_at(text, place + done), length - done)
                difference |= word ^ words[entries[entry, 1] + (done >> _3)]
            if not difference:
                return int64(entry)
        slot = slot + _1 & last
    return int64(-1)


# ---- numbers ----


@njit(**INLINE)
def digits(text, place, number):  # type: ignore[no-untyped-def]
    """The end of the digits at `place`, and `number` with them behind its own; (0, 0) past 19 significant ones."""
    while True:
        word = word_at(text, place) ^ _ZEROS
        others = ((word & _LOW) + _TO_HIGH | word) & HIGH
        count = zeros_below(others) >> _3
        if not count:
            return place, number
        if number >= _ROOM[count]:
            return _0, _0
        word <<= _64 - _8 * count  # the last digit last, zeros before the first
        word = (word & _PAIRS) * _BY_TEN >> _8
        word = (word & _FOURS) * _BY_HUNDRED >> _16
        word = (word & _EIGHTS) * _BY_MYRIAD >> _32
        number = number * _POWERS[count] + word
        place += count
        if count < _8:
            return place, number


@njit(**INLINE)
def nearest(number, power):  # type: ignore[no-untyped-def]
    """Bits of the double nearest to number * 10**power, ties to even; number > 0, |power| <= `FARTHEST`.

    The algorithm of Eisel and Lemire ("Number parsing at a gigabyte per second", Software: Practice and Experience
    2021), which needs no other one behind it (Mushtak and Lemire, "Fast number parsing without fallback", 2023).
    """
    shift = zeros_above(number)
    number <<= shift
    row = uint64(power + FARTHEST)
    high, low = high_product(number, _FIFTHS[row, 0]), number * _FIFTHS[row, 0]
    if high & _CARRIES == _CARRIES:
        rest = high_product(number, _FIFTHS[row, 1])
        low += rest
        high += uint64(low < rest)
    upper = high >> _63
    mantissa = high >> upper + _9  # 54 bits, one more than a double has
    exponent = (217_706 * power >> 16) + 63 + 1_023 + int64(upper) - int64(shift)
    halfway = low <= _1 and -4 <= power <= 23 and mantissa << upper + _9 == high
    if halfway and mantissa & _3 == _1:
        mantissa -= _1
    mantissa = mantissa + _1 >> _1
    if mantissa == _FULL:
        mantissa, exponent = mantissa >> _1, exponent + 1
    return uint64(exponent) << _52 | mantissa & _FRACTION


@njit(**INLINE)
def number_at(text, place):  # type: ignore[no-untyped-def]  # noqa: PLR0911
    """The end of the number at `place` and its bits as a double; the end is 0 when it is not plain."""
    minus = uint64(text[place] == _MINUS)
    first = place + minus
    place, number = digits(text, first, _0)
    if place <= first or (text[first] == _ZERO and place > first + _1):
        return _0, _0
    power, whole = int64(0), True
    if text[place] == _POINT:
        first = place + _1
        place, number = digits(text, first, number)
        if place <= first:
            return _0, _0
        power, whole = int64(first) - int64(place), False
    if text[place] | _SPACE == _E:
        down = text[place + _1] == _MINUS
        first = place + _1 + uint64(down or text[place + _1] == _PLUS)
        place, exponent = digits(text, first, _0)
        if place <= first or exponent >= _EXPONENT_END:
            return _0, _0
        power, whole = power - int64(exponent) if down else power + int64(exponent), False
    if number == _0:
        return place, _0 if whole else minus << _63  # of the integers, -0 is 0
    if whole:
        return place, as_bits(float64(number)) | minus << _63
    if abs(power) > FARTHEST:
        return _0, _0
    return place, nearest(number, power) | minus << _63


# ---- what a body is made of ----


@njit(**INLINE)
def value_at(text, place, field, lexicon, fields):  # type: ignore[no-untyped-def]
    """The end of a feature's value and its bits: of a number, 0 or 1, a category's place among its field's, or NaN."""
    kind, first, word = fields[0, field], text[place], word_at(text, place)
    if first == _N:
        return place + _4 if first_bytes(word, _4) == _NULL else _0, _NAN
    if kind <= INTEGER:
        place, bits = number_at(text, place)
        number = as_float(bits)
        fits = kind == NUMBER or (abs(number) < _SAFE_INTEGER and np.trunc(number) == number)
        return place if fits else _0, bits
    if kind == BOOLEAN:
        if first_bytes(word, _4) == _TRUE:
            return place + _4, as_bits(1.0)
        return place + _5 if first_bytes(word, _5) == _FALSE else _0, _0
    end = closing_quote(text, place)
    entry = find(text, place + _1, end - place - _1, field, lexicon) if end else int64(-1)
    return end + _1 if entry >= 0 else _0, as_bits(float64(entry - fields[1, field]))


@njit(**INLINE)
def name_at(text, place):  # type: ignore[no-untyped-def]
    """Where the value begins whose name is at `place`, and where the name's last quote is; 0 when it is not plain."""
    end = closing_quote(text, place)
    colon = after_blanks(text, end + _1) if end else _0
    return after_blanks(text, colon + _1) if text[colon] == _COLON else _0, end


@njit(**INLINE)
def is_named(text, place, end, name):  # type: ignore[no-untyped-def]
    """Whether `name` stands from the quote at `place` to that at `end`: two words, both quotes included."""
    if end < place + _8 or word_at(text, place) != name[0]:
        return False
    return first_bytes(word_at(text, place + _8), end - place - _7) == name[1]


@njit(**BARE)
def next_feature(text, place, is_first, names, lexicon):  # type: ignore[no-untyped-def]
    """Where the next value of an object begins, and its field; at the object's end, that end and -1."""
    place = after_blanks(text, place)
    if text[place] == _END_OBJECT:
        return place + _1, int64(-1)
    if not is_first:
        if text[place] != _COMMA:
            return _0, int64(-1)
        place = after_blanks(text, place + _1)
    value, end = name_at(text, place)
    field = find(text, place + _1, end - place - _1, names, lexicon) if value else int64(-1)
    return value if field >= 0 else _0, field


@njit(**INLINE)
def features_at(text, place, row, serial, lexicon, fields, habit, bits):  # type: ignore[no-untyped-def]
    """The end of the object of features at `place`, whose values go to a row of `bits`; 0 when it is not plain.

    `habit` has what came between one value and the next in objects that were read before: where it began, how long it
    was and whose name it had. Mostly it is the same again, so that one comparison finds a name with all around it.
    Its last row is the `serial` of the object in which a field was seen last.
    """
    size = uint64(fields.shape[1])
    for field in range(size):
        bits[row, field] = _NAN
    place += _1
    for turn in range(size):
        if habit[1, turn] and same(text, place, habit[0, turn], habit[1, turn]):
            field = habit[2, turn]
            place += habit[1, turn]
        else:
            value, found = next_feature(text, place, turn == _0, size, lexicon)
            if found < 0:
                return value
            field = uint64(found)
            habit[0, turn], habit[1, turn], habit[2, turn] = place, value - place, field
            place = value
        if habit[3, field] == serial:
            return _0
        habit[3, field] = serial
        place, value = value_at(text, place, field, lexicon, fields)
        if not place:
            return _0
        bits[row, field] = value
    place = after_blanks(text, place)
    return place + _1 if text[place] == _END_OBJECT else _0


@njit(**BARE)
def id_at(text, place, ids, used):  # type: ignore[no-untyped-def]
    """The end of the id at `place`, and how much of `ids` is used when it and a line feed are there, too."""
    first = place + _1
    end = closing_quote(text, place)
    length = end - first
    if not end or length < _1 or length > _LONGEST_ID:
        return _0, used
    together = _0
    for done in range(_0, length, _8):
        word = word_at(text, first + done)
        put_word(ids, used + done, word)
        together |= first_bytes(word, length - done)
    ids[used + length] = _LINE_FEED
    return end + _1 if not together & HIGH else _0, used + length + _1


@njit(**BARE)
def after_value(text, place):  # type: ignore[no-untyped-def]
    """Where the comma or bracket is that comes behind the value at `place`, right or wrong; 0 when there is none."""
    depth = 0
    while text[place]:
        byte = text[place]
        closes = byte in (_END_OBJECT, _END_LIST)
        if depth == 0 and (closes or byte == _COMMA):
            return place
        if byte == _QUOTE:
            place = end_of_string(text, place + _1)
            while text[place] == _BACKSLASH:
                place += _1
                place = end_of_string(text, place + uint64(text[place] != _NO_BITS))
            if text[place] != _QUOTE:
                return _0
        depth += int64(byte in (_OBJECT, _LIST)) - int64(closes)
        place += _1
    return _0


@njit(**INLINE)
def candidate_at(text, place, serial, brought, used, lexicon, fields, habit, bits, ids):  # type: ignore[no-untyped-def]
    """The end of the candidate object at `place`; and how many have features, and how much of `ids` is used, then."""
    has_id, row = False, brought
    has_features = False
    while text[place] != _END_OBJECT:
        name = after_blanks(text, place + _1)
        place, end = name_at(text, name)
        if not place:
            return _0, brought, used
        if not has_id and first_bytes(word_at(text, name), _4) == _ID:
            has_id = True
            place, used = id_at(text, place, ids, used)
        elif not has_features and is_named(text, name, end, _FEATURES):
            has_features = True
            if text[place] == _OBJECT:
                place = features_at(text, place, row, serial, lexicon, fields, habit, bits)
                brought += _1
            else:
                place = place + _4 if first_bytes(word_at(text, place), _4) == _NULL else _0
        else:
            return _0, brought, used
        place = after_blanks(text, place)
        if text[place] != _COMMA and text[place] != _END_OBJECT:
            return _0, brought, used
    return place + _1 if has_id else _0, brought, used


@njit(**INLINE)
def candidates_at(text, place, lexicon, fields, habit, bits, bringing, ids):  # type: ignore[no-untyped-def]
    """The end of the list at `place`, its length, how many have features, and how much of `ids` is used then."""
    count, brought, used = _0, _0, _0
    if text[place] != _LIST:
        return _0, count, brought, used
    while count < uint64(bringing.size):
        place = after_blanks(text, place + _1)
        if text[place] == _OBJECT:
            bringing[brought] = int64(count)
            serial = count + _1
            place, brought, used = candidate_at(text, place, serial, brought, used, lexicon, fields, habit, bits, ids)
        else:
            place, used = id_at(text, place, ids, used)
        count += _1
        place = after_blanks(text, place)
        if text[place] == _END_LIST:
            return place + _1, count, brought, used
        if text[place] != _COMMA:
            break
    return _0, count, brought, used


def _scan(text, turn, slots, entries, words, fields, habit, seen, bits, bringing, ids):  # type: ignore[no-untyped-def]
    """The `start` and the `end` of a body's list of candidates, and `count`, `brought` and `used`; all 0 if not plain.

    Of `count` candidates, number `bringing[k]` brings the features in row k of `bits` (doubles, in the order of the
    fields), for k below `brought`. `ids[:used]` has the ids, a line feed behind each, and `PADDING` zeros at its end.
    The list is checked, that none of its ids stands twice, and that no other member of the body has its name. What is
    around it is not: it is JSON if it is with another value in there.

    `slots`, `entries` and `words` are a lexicon; `fields` (2, fields) are kinds, and of categories the first entry in
    it. `habit` (4, fields) and `seen`, that of `are_distinct`, are scratch; `turn` is another number each time.
    """
    lexicon = slots, entries, words  # not given as one: numba would look at a tuple's parts each time to tell its type
    habit[:] = _0
    nothing = (_0, _0, _0, _0, _0)
    start, end, count, brought, used = nothing
    place = after_blanks(text, _0)
    if text[place] != _OBJECT:
        return nothing
    while text[place] != _END_OBJECT:
        name = after_blanks(text, place + _1)
        place, last = name_at(text, name)
        if not place:
            return nothing
        if is_named(text, name, last, _CANDIDATES):
            if end:
                return nothing
            start = place
            end, count, brought, used = candidates_at(text, place, lexicon, fields, habit, bits, bringing, ids)
            place = after_blanks(text, end)
        else:
            place = after_value(text, place)
        if text[place] != _COMMA and text[place] != _END_OBJECT:
            return nothing
    put_word(ids, used, _0)
    if not are_distinct(ids, count, seen, uint64(turn)):
        return nothing
    return start, end, count, brought, used + _PADDING


scan = compiled(_scan, **BARE, nogil=True)
