"""Aggregate many ranges of rows at once, exactly, without reading each row of each range.

The rows of a key are in the order of time, so a window is a range of rows. Ranges are many and overlap. Each aggregate uses a structure that is
computed once for all ranges, and then needs a few steps per range:

- sum of whole numbers, first, last: running totals, 2 steps;
- other sums, min, max, count with mean and squared distances: blocks of 1, 2, 4, 8... rows, one step per bit of the length;
- the number at a place in ascending order: numbers sorted bit by bit, one step per bit of the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pyarrow as pa

from boathouse.point_in_time.match import take_rows

SHARE = re.compile(r"percentile\(([01](?:\.\d{1,9})?)\)")  # nine digits: a share times a count fits into 64 bits


def aggregate(function: str, column: pa.Array, value: np.ndarray, there: np.ndarray, start: np.ndarray, end: np.ndarray) -> pa.Array:
    """Return sum, min, max, first or last of each range of rows from `start` to before `end`; null for a range without values.

    `column` contains the values in order, `value` the same as numbers, and `there` whether each counts. Whole numbers stay whole numbers.
    """
    total = np.append(0, np.cumsum(there))
    empty = total[end] == total[start]
    if function in ("first", "last"):
        rows = np.arange(len(there))
        if function == "first":
            near = np.append(np.minimum.accumulate(np.where(there, rows, len(there))[::-1])[::-1], len(there))[start]
        else:
            near = np.append(-1, np.maximum.accumulate(np.where(there, rows, -1)))[end]
        return take_rows(column, np.where(empty, -1, near))
    if function in ("min", "max"):
        top = np.inf if value.dtype == np.float64 else np.iinfo(np.int64).max
        best, zero = (np.minimum, top) if function == "min" else (np.maximum, -top)
        (found,) = blocks((np.where(there, value, zero),), start, end, lambda a, b: (best(a[0], b[0]),), (zero,))
    elif value.dtype == np.int64:
        sums = np.append(0, np.cumsum(np.where(there, value, 0)))  # sums of whole numbers are exact
        found = sums[end] - sums[start]
    else:
        (found,) = blocks((np.where(there, value, 0),), start, end, lambda a, b: (a[0] + b[0],), (0.0,))
    return pa.array(found, mask=empty)


def blocks(
    parts: tuple[np.ndarray, ...],
    start: np.ndarray,
    end: np.ndarray,
    combine: Callable[..., tuple[np.ndarray, ...]],
    nothing: tuple[float | None, ...],
) -> tuple[np.ndarray, ...]:
    """Combine the `parts` of each range of rows from `start` to before `end`, in the order of the rows.

    `nothing` is the result of an empty range. For each power of two, every row has the aggregate of the block of that many rows that ends there.
    A range takes the blocks of its length's bits. They depend only on the rows of the range. So a window has the same floating point result
    whatever else the table contains.
    """
    found = tuple(np.full(len(start), zero, part.dtype) for part, zero in zip(parts, nothing, strict=True))
    left, last, size = end - start, end - 1, 1
    while size <= left.max(initial=0):
        mine = np.flatnonzero(left & size)
        if len(mine):
            merged = combine(tuple(part[last[mine]] for part in parts), tuple(f[mine] for f in found))
            for f, m in zip(found, merged, strict=True):
                f[mine] = m
            last[mine] -= size
        if 2 * size > left.max(initial=0):
            break
        longer = combine(tuple(part[:-size] for part in parts), tuple(part[size:] for part in parts))
        parts = tuple(np.concatenate([part[:size], more]) for part, more in zip(parts, longer, strict=True))
        size *= 2
    return found


def moments(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    "Merge count, mean and sum of squared distances of two parts (Chan, Golub and LeVeque, 1979): a sum of squares would lose the digits."
    (n, mean, m2), (k, other, more) = a, b
    both = n + k
    share = np.divide(k, both, out=np.zeros(len(both)), where=both > 0)
    apart = other - mean
    return both, mean + apart * share, m2 + more + apart * apart * n * share


def share_of(function: str) -> Fraction | None:
    """Return the share that `percentile(q)` names, 0 to 1 with up to nine decimal digits; None for any other text.

    0.07 is 7/100, not the nearest binary fraction.
    """
    found = SHARE.fullmatch(function)
    share = Fraction(found[1]) if found else None
    return share if share is not None and share <= 1 else None


def place_of(share: Fraction, count: np.ndarray) -> np.ndarray:
    """Return the place, from 0, of the percentile among this many values in ascending order.

    It is the first value that at least this share of the values does not exceed.
    """
    return np.maximum(-(-count * share.numerator // share.denominator), 1) - 1


def smallest(numbers: np.ndarray, start: np.ndarray, end: np.ndarray, place: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Find the number at this place, from 0, of each range of rows in ascending order. A number of weight 3 counts as three numbers.

    This is a wavelet matrix (Claude, Navarro and Ordóñez, 2012). If more than `place` numbers of the range lack the highest bit, the number is
    among them; otherwise it has the bit. If a range has fewer numbers than `place`, its result is arbitrary.
    """
    found = np.zeros(len(start), numbers.dtype)
    for bit, lacking, heavy in levels(numbers, int(numbers.max(initial=0)).bit_length(), weights):
        less = heavy[end] - heavy[start]
        further = place >= less
        place = np.where(further, place - less, place)
        start, end = (np.where(further, lacking[-1] + edge - lacking[edge], lacking[edge]) for edge in (start, end))
        found |= further.astype(found.dtype) << bit
    return found


def levels(numbers: np.ndarray, bits: int, weights: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield for each bit, from the highest to the lowest: the bit, how many of the first 0, 1, 2... numbers lack it, and the sum of their weights.

    After each level the numbers that lack the bit move to the front and the others behind them, each in their order. No number is negative.
    """
    for bit in range(bits - 1, -1, -1):
        having = (numbers >> bit & 1).astype(bool)
        yield bit, np.append(0, np.cumsum(~having)), np.append(0, np.cumsum(np.where(having, 0, weights)))
        numbers = np.concatenate([numbers[~having], numbers[having]])
        weights = np.concatenate([weights[~having], weights[having]])
