"Joins that look back in time: for each row, what was known at its time."

from boathouse.point_in_time.grid_windows import Grid, rolling
from boathouse.point_in_time.join import as_of_join
from boathouse.point_in_time.spark import Side

__all__ = [
    "Grid",
    "Side",
    "as_of_join",
    "rolling",
]
