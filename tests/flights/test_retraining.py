"Months and dates of the simulated operation."

from __future__ import annotations

import json
import sys
from datetime import date

import pytest

from flights.retraining import dates_main, day_after, ended_main, month_before, months_from, months_main


@pytest.mark.parametrize(
    ("start", "months", "expected"),
    [
        (date(2013, 10, 1), 3, ["2013-10", "2013-11", "2013-12"]),
        (date(2013, 12, 15), 2, ["2013-12", "2014-01"]),
        (date(2013, 2, 1), 11, [f"2013-{m:02}" for m in range(2, 13)]),
    ],
)
def test_months_are_counted_from_that_of_the_start(start: date, months: int, expected: list[str]) -> None:
    assert months_from(start, months) == expected


def test_no_months_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        months_from(date(2013, 10, 1), 0)


def test_a_month_ends_where_the_next_begins() -> None:
    assert [day_after(m) for m in ("2013-02", "2013-12")] == ["2013-03-01", "2014-01-01"]


@pytest.mark.parametrize(("day", "month"), [(date(2013, 11, 1), "2013-10"), (date(2013, 11, 30), "2013-10"), (date(2014, 1, 1), "2013-12")])
def test_a_start_at_any_day_of_a_month_is_about_the_month_before(day: date, month: str) -> None:
    assert month_before(day) == month
    assert day_after(month) == f"{day:%Y-%m}-01"


def test_the_small_tasks_print_what_they_publish(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["task", "--start=2013-11-01", "--months=2", "--month=2013-12", "--day=2013-12-01"])
    months_main()
    dates_main()
    ended_main()
    first, second, third = capsys.readouterr().out.splitlines()
    assert json.loads(first) == ["2013-11", "2013-12"]
    assert second == "2014-01-01"
    assert third == "2013-11"
