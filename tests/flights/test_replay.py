from __future__ import annotations

import csv
import hashlib
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from flights import replay as replay_module
from flights.replay import clock_errors, events, flight_times, read_text, replay, zones_of_airports


def digest(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.csv"))}


def body(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def manifest(landing: Path) -> list[dict[str, str]]:
    with (landing / "_planted.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("year")
    replay(landing, date(2014, 1, 1))
    return landing


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("clean")
    replay(landing, date(2014, 1, 1), dirt=0)
    return landing


def test_the_instants_of_all_flights_agree_with_the_clocks_of_both_airports() -> None:
    flights = read_text("flights")
    times = flight_times(flights, zones_of_airports())
    wrong = clock_errors(flights, times)
    assert len(times) == 336_776
    # The one exception: 2:03 in the night when the clocks went forward, which no clock showed.
    assert wrong[["dest", "arr_time"]].to_numpy().tolist() == [["PBI", "203"]]
    arrived = times.dropna(subset="arrived_at")
    assert (arrived["arrived_at"] > arrived["departed_at"]).all()
    ended = times.dropna(subset="departed_at")
    assert (ended["ended_at"] >= ended["departed_at"]).all()


def test_the_year_has_a_file_a_day_and_each_event_lies_on_its_day(clean: Path) -> None:
    files = sorted((clean / "flight_events").glob("*.csv"))
    assert [f.stem for f in files] == [str(date(2012, 12, 31) + timedelta(days=n)) for n in range(367)]
    counts: Counter[str] = Counter()
    for file in files:
        for line in body(file):
            kind, at, _ = line.split(",", 2)
            counts[kind] += 1
            assert at[:10] == file.stem
    assert counts == {"scheduled": 336_776, "departed": 328_521, "arrived": 327_346, "cancelled": 8_255, "diverted": 1_175}
    assert manifest(clean) == []


def test_no_event_tells_what_happened_after_it(clean: Path) -> None:
    for line in body(clean / "flight_events" / "2013-02-09.csv"):
        fields = line.split(",")
        if fields[0] == "scheduled":
            assert [fields[n] for n in (5, 7, 8, 10, 16)] == ["NA"] * 5
        if fields[0] == "departed":
            assert [fields[n] for n in (8, 10, 16)] == ["NA"] * 3


def test_a_year_landed_in_one_call_or_in_many_is_the_same_year(year: Path, tmp_path: Path) -> None:
    for day in ("2012-12-30", "2013-01-04", "2013-01-05", "2013-04-30", "2013-11-01", "2014-01-01", "2014-06-01"):
        replay(tmp_path, date.fromisoformat(day))
    assert digest(tmp_path) == digest(year)


def test_nothing_after_as_of_is_landed_and_a_second_call_does_nothing(tmp_path: Path) -> None:
    replay(tmp_path, date(2013, 1, 3))
    landed = digest(tmp_path)
    assert max(p for p in landed if p.startswith("flight_events")) == "flight_events/2013-01-03.csv"
    assert replay(tmp_path, date(2013, 1, 3)) == {"files": 0, "planted": 0}
    assert replay(tmp_path, date(2013, 1, 1)) == {"files": 0, "planted": 0}
    assert digest(tmp_path) == landed


def test_a_landing_that_was_interrupted_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    replay(whole, date(2013, 1, 4))
    written = replay_module.write_whole

    def dies(path: Path, text: str) -> None:
        if path.stem == "2013-01-03":
            raise KeyboardInterrupt
        written(path, text)

    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(replay_module, "write_whole", dies)
        with pytest.raises(KeyboardInterrupt):
            replay(cut, date(2013, 1, 4))
    replay(cut, date(2013, 1, 4))
    assert digest(cut) == digest(whole)


def test_every_planted_line_stands_where_the_manifest_says_and_nothing_else_differs(year: Path, clean: Path) -> None:
    planted = manifest(year)
    lines = {p: p.read_text().splitlines() for p in year.rglob("20*.csv")}
    assert all(lines[year / row["file"]][int(row["line"]) - 1] == row["text"] for row in planted)
    assert {row["kind"] for row in planted} == {"duplicate", "late", "out_of_order", "malformed", "impossible"}
    for feed in ("flight_events", "weather"):
        dirty = Counter(line for p in (year / feed).iterdir() for line in body(p))
        pure = Counter(line for p in (clean / feed).iterdir() for line in body(p))
        extra = Counter(r["text"] for r in planted if r["file"].startswith(feed) and r["kind"] in ("duplicate", "malformed", "impossible"))
        assert dirty - pure == extra
        assert not pure - dirty


def test_late_lines_come_one_to_three_days_after_their_day(year: Path) -> None:
    late = [row for row in manifest(year) if row["kind"] == "late"]
    days = Counter((date.fromisoformat(Path(r["file"]).stem) - date.fromisoformat(r["text"].split(",")[1][:10])).days for r in late)
    assert set(days) == {1, 2, 3}
    assert len(late) > 1500


def test_an_airport_without_a_time_zone_is_an_error_that_names_it() -> None:
    some = read_text("flights").slice(0, 50)
    with pytest.raises(ValueError, match="IAH"):
        flight_times(some, {k: v for k, v in zones_of_airports().items() if k != "IAH"})


def test_events_are_in_order_of_time_and_their_stories_are_whole() -> None:
    some = read_text("flights").slice(0, 200)
    told = events(some, flight_times(some, zones_of_airports()))
    assert told["at"].is_monotonic_increasing
    kinds = Counter(line.split(",", 1)[0] for line in told["line"])
    assert kinds["scheduled"] == 200
    assert kinds["arrived"] + kinds["cancelled"] + kinds["diverted"] == 200
