"Place the tasks of a graph on a drawing: columns from left to right, and lines around the boxes between them."

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from statistics import fmean

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    "Hold the place of one task, in pixels; `x` and `y` are its upper left corner."

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    "Hold the boxes by task and, for each dependency `(upstream, task)`, the points of its line."

    width: float
    height: float
    boxes: Mapping[str, Box]
    lines: Mapping[tuple[str, str], Sequence[Point]]


def place_tasks(needs: Mapping[str, Sequence[str]], widths: Mapping[str, float], height: float, gap: Point = (38.0, 16.0)) -> Drawing:
    """Place every task one column to the right of the last task that it needs.

    `needs` must hold no circle; a needed task that is not among its keys is left out. `gap` is the space between columns and between rows.
    A dependency over several columns reserves a thin row in each column between, so that its line crosses no box.
    """
    needs = {key: [n for n in dict.fromkeys(upstream) if n in needs] for key, upstream in needs.items()}
    column = depths(needs)
    columns: list[list[tuple[str, ...]]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
    above: dict[tuple[str, ...], list[tuple[str, ...]]] = {}  # the neighbours of a box or waypoint in the column before
    for key, upstream in needs.items():
        columns[column[key]].append((key,))
        above[key,] = [(n,) if column[n] + 1 == column[key] else (n, key, str(column[key] - 1)) for n in upstream]
        for n in upstream:
            for at in range(column[n] + 1, column[key]):
                columns[at].append((n, key, str(at)))
                above[n, key, str(at)] = [(n,) if at == column[n] + 1 else (n, key, str(at - 1))]
    middle = _rows(columns, above, height, gap[1])
    return _drawing(needs, column, columns, middle, widths, height, gap[0])


def depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return for each task the number of tasks on the longest path to it; 0 for a task that needs none.

    `needs` must hold no circle, and every needed task must be one of its keys.
    """
    found: dict[str, int] = {}
    for key in TopologicalSorter(needs).static_order():
        found[key] = max((found[upstream] + 1 for upstream in needs[key]), default=0)
    return found


def _rows(
    columns: list[list[tuple[str, ...]]], above: Mapping[tuple[str, ...], list[tuple[str, ...]]], height: float, gap: float
) -> dict[tuple[str, ...], float]:
    "Return the middle of each box and waypoint, as near as possible to the mean of its neighbours on the left."
    middle: dict[tuple[str, ...], float] = {}
    for things in columns:
        wanted = {thing: fmean(middle[t] for t in above[thing]) if above[thing] else 0.0 for thing in things}
        if not any(above[thing] for thing in things):
            wanted = {thing: i * (height + gap) for i, thing in enumerate(things)}
        ordered = sorted(things, key=lambda thing: wanted[thing])
        below, placed = -float("inf"), []
        for thing in ordered:
            half = (height if len(thing) == 1 else 8.0) / 2
            placed.append(max(wanted[thing], below + half))
            below = placed[-1] + half + gap
        # A column that had to be stretched is centred on the wanted place.
        shift = fmean(wanted[t] for t in ordered) - fmean(placed)
        middle |= {thing: at + shift for thing, at in zip(ordered, placed, strict=True)}
    return middle


def _drawing(
    needs: Mapping[str, Sequence[str]],
    column: Mapping[str, int],
    columns: list[list[tuple[str, ...]]],
    middle: Mapping[tuple[str, ...], float],
    widths: Mapping[str, float],
    height: float,
    gap: float,
) -> Drawing:
    wide = [max(widths[thing[0]] for thing in things if len(thing) == 1) for things in columns]
    left = [sum(wide[:i]) + gap * i for i in range(len(wide))]
    top = min((at - height / 2 * (len(thing) == 1) for thing, at in middle.items()), default=0.0)
    low = max((at + height / 2 * (len(thing) == 1) for thing, at in middle.items()), default=0.0)
    boxes = {key: Box(left[c], middle[key,] - height / 2 - top, wide[c], height) for key, c in column.items()}
    lines: dict[tuple[str, str], list[Point]] = {}
    for key, upstream in needs.items():
        for n in upstream:
            points = [(boxes[n].x + boxes[n].width, middle[n,] - top)]
            for at in range(column[n] + 1, column[key]):
                y = middle[n, key, str(at)] - top
                points += [(left[at], y), (left[at] + wide[at], y)]
            lines[n, key] = [*points, (boxes[key].x, middle[key,] - top)]
    return Drawing(left[-1] + wide[-1] if wide else 0.0, low - top, boxes, lines)


def smooth_path(points: Sequence[Point]) -> str:
    "Return the points as an SVG path that leaves and reaches each of them horizontally."
    (x, y), *rest = points
    path = [f"M{x:g} {y:g}"]
    for to_x, to_y in rest:
        half = (x + to_x) / 2
        path.append(f"C{half:g} {y:g} {half:g} {to_y:g} {to_x:g} {to_y:g}")
        x, y = to_x, to_y
    return " ".join(path)
