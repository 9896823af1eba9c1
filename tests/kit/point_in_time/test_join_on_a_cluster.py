"""As-of joins and windows on a grid where tasks run in processes of their own: executors with another working directory and another time zone than the driver."""

from __future__ import annotations

import base64
import datetime as dt
import math
import os
import pickle
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasketches import update_theta_sketch
from pyspark.sql import SparkSession

LOOKBACK, HOUR = dt.timedelta(days=2), dt.timedelta(hours=1)
AGGREGATES = {"rows": ("count", "a"), "kinds": ("approx_distinct", "a % 7"), "half": ("percentile(0.5)", "a % 50"), "sum": ("sum", "a")}
COLUMNS = [f"{name}_2d" for name in AGGREGATES]
WAYS = ("union", "union, rows known late", "union, column by column", "auto, driver", "auto, without room on the driver")


def made() -> tuple[list[tuple], list[tuple]]:
    "Labels (n, p, q, t) and features (a, p, q, at, seen, b): half of them on one key, some tied, some without key or instant."
    rng, start = random.Random(11), dt.datetime(2013, 6, 1)

    def maybe(value: object) -> object:
        return None if rng.random() < 0.03 else value

    def key() -> tuple[object, object]:
        return (7, "hot") if rng.random() < 0.5 else (maybe(rng.randrange(12)), maybe(rng.choice(["é", "b", ""])))

    def when() -> object:
        return maybe(start + rng.randrange(4000) * dt.timedelta(minutes=15) + rng.randrange(2) * dt.timedelta(microseconds=1))

    labels = [(n, *key(), when()) for n in range(1500)]

    def later(at: Any) -> object:
        return None if at is None else maybe(at + rng.choice([0, 0, 40]) * dt.timedelta(hours=1))

    whens = [when() for _ in range(3000)]
    return labels, [(a, *key(), at, later(at), None if rng.random() < 0.3 else rng.random()) for a, at in enumerate(whens)]


def plain_loop(hashes: dict[int, int], by_column: bool = False, late: bool = False) -> dict[int, list]:
    "What each label finds, by a look at every row of its key: [a, b]."
    labels, features = made()
    by_key: dict[tuple, list[tuple]] = {}
    for a, p, q, at, seen, b in features:
        known = seen if late else at
        if None not in (p, q, at, known):
            by_key.setdefault((p, q), []).append((at, known, hashes[a], a, b))
    found = {}
    for n, p, q, t in labels:
        rows = [row for row in by_key.get((p, q), []) if t is not None and max(row[:2]) <= t]
        newest = max(rows, default=None)
        known = max((row for row in rows if row[4] is not None), default=None) if by_column else newest
        found[n] = [None if row is None or row[0] < t - LOOKBACK else row[3 + part] for part, row in enumerate((newest, known))]
    return found


def windows_by_loop() -> list[list]:
    "The windows of two days at each tick of twelve hours, by a look at every event."
    _, features = made()
    start = dt.datetime(2013, 6, 1)

    def window(key: tuple, end: dt.datetime) -> list:
        inside = [a for a, p, q, at, *_ in features if (p, q) == key and at is not None and end - LOOKBACK <= at < end]
        half = sorted(a % 50 for a in inside)[math.ceil(len(inside) / 2) - 1] if inside else None
        return [len(inside), len({a % 7 for a in inside}), half, sum(inside) if inside else None]

    keys = {(p, q) for _, p, q, at, *_ in features if None not in (p, q, at)}
    ticks = [(*key, start + n * 12 * HOUR) for key in keys for n in range(90)]
    grid = [[p, q, (tick - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1), *window((p, q), tick)] for p, q, tick in ticks]
    return [row for row in grid if row[3]]


def on_executors(spark: SparkSession, folder: Path) -> dict[str, Any]:
    "What a session on two executors says: the rows of each way, the tie-breaks, where its tasks ran, and what was sent to them."
    from pyspark.serializers import CloudPickleSerializer
    from pyspark.sql.classic.dataframe import DataFrame

    from boathouse.point_in_time.grid_windows import rolling
    from boathouse.point_in_time.join import as_of_join
    from boathouse.point_in_time.plan import AsOfLookup, plan_join
    from boathouse.point_in_time.spark import Side, row_hash

    sent, really = [], DataFrame.mapInArrow

    def recorded(df: DataFrame, task: Any, schema: Any, *more: Any) -> DataFrame:
        sent.append(CloudPickleSerializer().dumps(task))
        return really(df, task, schema, *more)

    def here(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        time.sleep(0.2)
        yield pa.RecordBatch.from_pydict({"folder": [os.getcwd()], "zone": [os.environ["TZ"]], "executor": [os.getppid()]})

    for name, rows, schema in zip(
        ("labels", "features"),
        made(),
        ("n int, p int, q string, t timestamp", "a int, p bigint, q string, at timestamp, seen timestamp, b double"),
        strict=True,
    ):
        spark.createDataFrame(rows, schema).repartition(3).write.format("delta").save(f"{folder}/{name}")
    labels, features = (spark.read.format("delta").load(f"{folder}/{name}") for name in ("labels", "features"))
    side = Side(features, ("p", "q"), "at", {"a": "a", "b": "b"}, LOOKBACK)

    def join(engine: str, **more: Any) -> DataFrame:
        return as_of_join(labels, features, ["p", "q"], "t", "at", ["a", "b"], LOOKBACK, engine=engine, **more)

    ways = {
        "union": join("union"), "union, rows known late": join("union", known_by="seen"),
        "union, column by column": join("union", nulls="column"), "auto, driver": join("auto"),
        "auto, without room on the driver": join("auto", budget=1),
    }  # fmt: skip
    DataFrame.mapInArrow = recorded
    grid = rolling(features, ["p", "q"], "at", AGGREGATES, {"2d": LOOKBACK}, hop=12 * HOUR)
    DataFrame.mapInArrow = really
    return {
        "windows": [list(row) for row in grid.selectExpr("p", "q", "unix_micros(tick)", *COLUMNS).collect()],
        "ways": {name: [[row.n, row.a, row.b] for row in df.select("n", "a", "b").collect()] for name, df in ways.items()},
        "engines": [plan_join(labels, [AsOfLookup(("p", "q"), "t", side)], "auto", budget).engine for budget in (None, 1)],
        "hashes": [[row.a, row.tie] for row in features.select("a", row_hash(features).alias("tie")).collect()],
        "tasks": [list(row) for row in spark.range(0, 8, 1, 8).mapInArrow(here, "folder string, zone string, executor long").collect()],
        "sent": [base64.b64encode(task).decode() for task in sent],
    }


@pytest.fixture(scope="module")
def said(executors: dict[str, Any]) -> dict[str, Any]:
    return {**executors[Path(__file__).stem], "folder": executors["folder"]}


@pytest.mark.parametrize("way", WAYS)
def test_executors_give_the_rows_of_a_plain_loop(said: dict[str, Any], way: str) -> None:
    wanted = plain_loop(dict(said["hashes"]), by_column="column" in way, late="late" in way)
    assert sum(row[0] is not None for row in wanted.values()) > 800
    assert sorted([n, *row] for n, row in wanted.items()) == sorted(said["ways"][way])


def test_executors_give_the_windows_of_a_plain_loop(said: dict[str, Any]) -> None:
    wanted = windows_by_loop()
    assert len(wanted) > 900
    assert sorted(wanted) == sorted(said["windows"])


def test_auto_took_the_driver_or_the_cluster_by_the_room_there_is(said: dict[str, Any]) -> None:
    assert said["engines"] == ["local", "union"]


def test_tasks_ran_in_two_executors_away_from_the_drivers_folder_and_zone(said: dict[str, Any]) -> None:
    assert len({executor for *_, executor in said["tasks"]}) == 2
    assert {zone for _, zone, _ in said["tasks"]} == {"Asia/Tokyo"}
    assert not any(folder.startswith(said["folder"]) for folder, *_ in said["tasks"])


def test_what_a_task_is_sent_names_no_path_of_the_driver_and_works_without_a_session(said: dict[str, Any]) -> None:
    # A DataFrame or a session among it could not have been pickled.
    sketch = update_theta_sketch()
    sketch.update(1)
    hop = {"p": 7, "q": "hot", "hop": 0, "newest": 5, "rows_n": 3, "kinds_distinct": sketch.compact().serialize(), "sum_sum": 6}
    histogram = pa.list_(pa.struct({"value": pa.float64(), "n": pa.int64()}))
    kinds = {"p": pa.int64(), "q": pa.string(), **dict.fromkeys(("hop", "newest"), pa.timestamp("us", "UTC")), "rows_n": pa.int64()}
    kinds |= {"kinds_distinct": pa.binary(), "half_histogram": histogram, "sum_sum": pa.int64()}
    row = {**hop, "half_histogram": [{"value": 2.0, "n": 3}]}
    batch = pa.RecordBatch.from_pylist([row], pa.schema(list(kinds.items())))
    assert len(said["sent"]) == 1
    task = base64.b64decode(said["sent"][0])
    assert said["folder"].encode() not in task
    found = [row for made in pickle.loads(task)(iter([batch])) for row in made.to_pylist()]
    assert [tuple(row[name] for name in COLUMNS) for row in found] == [(3, 1, 2.0, 6)] * 4  # a window of two days, in hops of half a day
