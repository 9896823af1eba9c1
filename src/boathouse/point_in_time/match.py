"""Find for each label the newest feature row of its key: arrays of numbers in, row numbers out, in one sort.

Labels and feature rows each have a key and a time. The result is one number per label: the newest feature row that is not later than the
label, or -1. A caller takes the columns of these rows alone, so no column takes part in the sort.

Keys and times become integers. Key and time of a row then fit into one 64-bit integer, with the key in the upper bits. The match is a sort of
these integers and a binary search in them. Rows with a null key or time are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NEVER = np.iinfo(np.int64).min  # the time of a row that has none
BITS = 63  # of a positive integer of 64 bits
DAY = 86_400_000_000  # microseconds


def combine_chunks(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    "Return the column as one Arrow array."
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def integers(column: pa.ChunkedArray | pa.Array, missing: int) -> np.ndarray:
    "Return a column of whole numbers as int64, with `missing` for null."
    return combine_chunks(pc.fill_null(pc.cast(column, pa.int64()), missing)).to_numpy(zero_copy_only=False)


def take_rows(column: pa.Array, rows: np.ndarray) -> pa.Array:
    "Return the values at these row numbers, null at -1."
    return column.take(pa.array(rows, mask=rows < 0))


def micros_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of timestamps or dates as microseconds since 1970, UTC, and whole numbers unchanged; `NEVER` for null.

    A date is its midnight in UTC.
    """
    if pa.types.is_integer(column.type):
        return integers(column, NEVER)
    if pa.types.is_date(column.type):
        days = integers(pc.cast(pc.cast(column, pa.date32()), pa.int32()), NEVER)
        return np.where(days == NEVER, NEVER, days * DAY)
    return integers(pc.cast(column, pa.timestamp("us", column.type.tz), safe=False), NEVER)


def key_places(ours: pa.ChunkedArray | pa.Array, theirs: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the values of one key column as numbers, for both sides, and an upper limit that all numbers are below.

    The number is -1 for null, and in `theirs` also for values that `ours` does not have.
    """
    known = pc.drop_null(pc.unique(ours))
    if pa.types.is_integer(known.type) and len(known):
        ends = pc.min_max(known).as_py()
        size = ends["max"] - ends["min"] + 1
        if size <= max(4 * len(known), 1 << 20):  # close together: use their distance to the least
            return near(ours, ends["min"], size), near(theirs, ends["min"], size), size
    mine, other = (integers(pc.index_in(column, value_set=known, skip_nulls=True), -1) for column in (ours, theirs))
    return mine, other, max(len(known), 1)


def near(column: pa.ChunkedArray | pa.Array, low: int, size: int) -> np.ndarray:
    "Return whole numbers as their distance to `low`; -1 for null and for numbers outside the `size` numbers from `low` on."
    offset = integers(column, NEVER)
    inside = (offset >= low) & (offset - low < size)
    return np.where(inside, offset - low, -1) if not inside.all() else offset - low


def key_codes(
    labels: Sequence[pa.ChunkedArray | pa.Array], features: Sequence[pa.ChunkedArray | pa.Array]
) -> tuple[np.ndarray, np.ndarray]:
    """Number the keys of each side: equal numbers if all key columns are equal; -1 if one is null, and for keys that no label has.

    The columns' numbers are combined like the digits of a number. As text, (1, 12) and (11, 2) would be the same key.
    """
    left, right, size = key_places(labels[0], features[0])
    for ours, theirs in zip(labels[1:], features[1:], strict=True):
        a, b, more = key_places(ours, theirs)
        if size * more > 1 << 40:  # leave room for the time: number only the keys that occur
            seen, dense = np.unique(left, return_inverse=True)
            spot = np.searchsorted(seen, right).clip(max=len(seen) - 1)
            left, right, size = np.where(left < 0, -1, dense), np.where((right >= 0) & (seen[spot] == right), spot, -1), len(seen)
        left, right = (np.where((x < 0) | (y < 0), -1, x * more + y) for x, y in ((left, a), (right, b)))
        size *= more
    return left, right


@dataclass(frozen=True)
class KeyedInstants:
    """Hold one side of a match as arrays of int64.

    `codes` number the keys (-1: none). `at` are times in microseconds. `known` are the times from which rows are known, if these differ.
    """

    codes: np.ndarray
    at: np.ndarray
    known: np.ndarray | None = None

    def usable(self) -> np.ndarray:
        "Return the numbers of the rows that have a key and all times."
        there = (self.codes >= 0) & (self.at != NEVER)
        return np.flatnonzero(there if self.known is None else there & (self.known != NEVER))

    def take(self, rows: np.ndarray) -> "KeyedInstants":
        "Return the rows of these numbers, which are ascending and occur once."
        if len(rows) == len(self.codes):
            return self
        return KeyedInstants(self.codes[rows], self.at[rows], None if self.known is None else self.known[rows])


@dataclass(frozen=True)
class KeyPacking:
    """Describe how times from `low` to `high` become the lower bits of an integer.

    They become the distance to `low`, or the rank in `ticks` if distances need too many bits.
    """

    low: int
    high: int
    bits: int
    ticks: np.ndarray | None = None

    def pack(self, codes: np.ndarray, at: np.ndarray) -> np.ndarray:
        "Return key and time as one integer. A time between two ranks gets the rank of the earlier one."
        packed = codes << self.bits
        packed |= at - self.low if self.ticks is None else np.searchsorted(self.ticks, at, side="right") - 1
        return packed


def pack_keys(codes: np.ndarray, at: np.ndarray) -> KeyPacking:
    "Return the packing in which all these rows fit into 63 bits."
    low, high = int(at.min()), int(at.max())
    bits = (high - low).bit_length()
    if bits + int(codes.max()).bit_length() <= BITS:
        return KeyPacking(low, high, bits)
    ticks = np.unique(at)
    return KeyPacking(low, high, len(ticks).bit_length(), ticks)


def order_rows(values: np.ndarray) -> np.ndarray:
    """Return the row numbers by ascending value. There is at least one value, none is negative, and equal ones come in any order.

    Sorting integers is several times faster than sorting row numbers by them. So the upper bits of each value are sorted together with the row
    number below them. Neighbours whose upper bits are equal are then sorted among themselves.
    """
    spare = (len(values) - 1).bit_length()
    lost = max(0, int(values.max()).bit_length() + spare - BITS)
    packed = values >> lost
    packed <<= spare
    packed |= np.arange(len(values))
    packed.sort()
    order = packed & ((1 << spare) - 1)
    if lost:
        packed >>= spare
        same = packed[1:] == packed[:-1]
        unsure = np.flatnonzero(np.append(same, False) | np.append(False, same))
        rows = order[unsure]
        order[unsure] = rows[np.argsort(values[rows])]
    return order


@dataclass(frozen=True)
class Timeline:
    """Hold the sorted feature rows: `order` are row numbers by key and time, `events` (and `known`) are their times in that order.

    `counts` are the integers from which rows are usable, ascending. `best` is the place in `order` of the best row so far at each of them (None: the
    place itself). The best row is the one with the latest time, not the one that became known last.
    """

    scale: KeyPacking
    counts: np.ndarray
    order: np.ndarray
    events: np.ndarray
    known: np.ndarray | None = None
    best: np.ndarray | None = None

    def places(self, labels: KeyedInstants) -> np.ndarray:
        "Return for each label the place in `order` of its row; -1 if there is none."
        out = np.full(len(labels.codes), -1)
        asking = np.flatnonzero((labels.codes >= 0) & (labels.codes <= self.counts[-1] >> self.scale.bits) & (labels.at >= self.scale.low))
        asked = self.scale.pack(labels.codes[asking], np.minimum(labels.at[asking], self.scale.high))
        by = order_rows(asked) if len(asked) else asking  # sorted, so that the search reads memory in order
        asked = asked[by]
        place = np.searchsorted(self.counts, asked, side="right") - 1
        hit = self.counts[place] >> self.scale.bits == asked >> self.scale.bits  # place -1 reads the last one: another key, or the only one
        hit &= place >= 0
        out[asking[by[hit]]] = place[hit] if self.best is None else self.best[place[hit]]
        return out

    def ties(self) -> np.ndarray:
        "Return for each place whether its row has the same key and times as the row one place before."
        same = np.append(False, self.events[1:] == self.events[:-1])
        if self.known is not None:
            same[1:] &= self.known[1:] == self.known[:-1]
        return same


def timeline(rows: KeyedInstants) -> Timeline:
    "Return the rows in order. All of them are usable, and there is at least one."
    scale = pack_keys(rows.codes, rows.at)
    events = scale.pack(rows.codes, rows.at)
    if rows.known is None:
        order = order_rows(events)
        events = events[order]
        return Timeline(scale, events, order, events)
    order = np.lexsort((rows.known, events))
    since = np.maximum(rows.at, rows.known)[order]
    scale = pack_keys(rows.codes, since)
    counts = scale.pack(rows.codes[order], since)
    turn = np.argsort(counts, kind="stable")
    return Timeline(scale, counts[turn], order, events[order], rows.known[order], np.maximum.accumulate(turn))


def settle_ties(places: np.ndarray, same: np.ndarray, number: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return each place, replaced by the place with the greatest `number` among the rows of the same key and times.

    Each given place is the last one of its tie. `same` is the result of `Timeline.ties`.
    """
    tied = np.unique(places[same[places]])
    if not len(tied):
        return places
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(same))))[tied]
    sizes = tied - first + 1
    group = np.repeat(np.arange(len(tied)), sizes)
    spots = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + first[group]
    ranked = spots[np.lexsort((number(spots), group))]
    winner = ranked[np.cumsum(sizes) - 1]
    at = np.searchsorted(tied, places).clip(max=len(tied) - 1)
    return np.where(tied[at] == places, winner[at], places)


def newest_rows(labels: KeyedInstants, features: KeyedInstants, settle: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Return for each label the number of the newest feature row of its key; -1 if there is none. The row is not later than the label, and known by then.

    Among rows that share key and times, the one with the greatest `settle(row numbers)` is taken. Without `settle`, the caller guarantees that there are none.
    """
    out, rows = np.full(len(labels.codes), -1), features.usable()
    if not len(rows):
        return out
    line = timeline(features.take(rows))
    places = line.places(labels)
    hit = np.flatnonzero(places >= 0)
    chosen = places[hit]
    if settle is not None:
        chosen = settle_ties(chosen, line.ties(), lambda spots: settle(rows[line.order[spots]]))
    out[hit] = rows[line.order[chosen]]
    return out


@dataclass(frozen=True)
class Terms:
    """Describe which rows match a label: at most `lookback` microseconds old (inclusive), and with `strict` only earlier ones.

    With `by_column`, each column takes its own latest value.
    """

    lookback: int | None = None
    strict: bool = False
    by_column: bool = False


def find_rows(
    labels: KeyedInstants,
    features: KeyedInstants,
    terms: Terms,
    until: np.ndarray | None = None,
    settle: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Return for each label the row number of its feature row under these terms, as `newest_rows` does.

    `until` are the times at which feature rows were replaced, `NEVER` for those that are still valid.
    """
    asked = KeyedInstants(labels.codes, np.where(labels.at == NEVER, NEVER, labels.at - 1)) if terms.strict else labels
    found = newest_rows(asked, features, settle)
    hit = np.flatnonzero(found >= 0)
    late, rows = labels.at[hit], found[hit]
    bad = np.zeros(len(hit), bool)
    if terms.lookback is not None:
        bad |= features.at[rows] < late - terms.lookback
    if until is not None:
        bad |= (until[rows] != NEVER) & (until[rows] <= late)
    found[hit[bad]] = -1
    return found


def find_rows_by_column(
    column: pa.Array,
    labels: KeyedInstants,
    features: KeyedInstants,
    terms: Terms,
    until: np.ndarray | None = None,
    settle: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    "Return the result of `find_rows` among the feature rows that are not null in `column`."
    there = ~column.is_null().to_numpy(zero_copy_only=False)
    return find_rows(labels, replace(features, codes=np.where(there, features.codes, -1)), terms, until, settle)
