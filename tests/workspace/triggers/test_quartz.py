"When Quartz starts a job: dates computed by hand, daylight saving time, and a property against the plain definition."

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.workspace.triggers.quartz import QuartzSchedule

# October 1, 2013 is a Tuesday; January 1, 2014 a Wednesday. Each list has the first starts after that midnight, or after the date before `:`.
BY_HAND = {
    "0 0 6 * * ?": "2013-10-01 06:00:00, 2013-10-02 06:00:00",
    "5/20 59 23 31 12 ?": "2013-12-31 23:59:05, 2013-12-31 23:59:25, 2013-12-31 23:59:45, 2014-12-31 23:59:05",
    "0 0/20 8-17/3 ? * 2-6": "2013-10-01 08:00:00, 2013-10-01 08:20:00, 2013-10-01 08:40:00, 2013-10-01 11:00:00",
    "0 */30 0,12 * * ?": "2013-10-01 00:30:00, 2013-10-01 12:00:00, 2013-10-01 12:30:00, 2013-10-02 00:00:00",
    "0 0 22-2/2 * * ?": "2013-10-01 02:00:00, 2013-10-01 22:00:00, 2013-10-02 00:00:00",
    "0 0 6 1 NOV-FEB ?": "2013-11-01 06:00:00, 2013-12-01 06:00:00, 2014-01-01 06:00:00, 2014-02-01 06:00:00, 2014-11-01 06:00:00",
    "0 0 6 30-2 * ?": "2013-10-01 06:00:00, 2013-10-02 06:00:00, 2013-10-30 06:00:00, 2013-10-31 06:00:00, 2013-11-01 06:00:00",
    "0 0 6 ? * 1": "2013-10-06 06:00:00, 2013-10-13 06:00:00",
    "0 0 6 ? * FRI-MON": "2013-10-04 06:00:00, 2013-10-05 06:00:00, 2013-10-06 06:00:00, 2013-10-07 06:00:00, 2013-10-11 06:00:00",
    "0 0 6 ? * L": "2013-10-05 06:00:00, 2013-10-12 06:00:00",
    "0 0 6 ? * 6L": "2013-10-25 06:00:00, 2013-11-29 06:00:00, 2013-12-27 06:00:00",
    "0 0 6 ? * FRIL": "2013-10-25 06:00:00, 2013-11-29 06:00:00",
    "0 0 6 ? * 6#3": "2013-10-18 06:00:00, 2013-11-15 06:00:00, 2013-12-20 06:00:00",
    "0 0 6 ? * TUE#5": "2013-10-29 06:00:00, 2013-12-31 06:00:00",
    "0 0 6 L * ?": "2013-10-31 06:00:00, 2013-11-30 06:00:00",
    "0 0 6 L-3 * ?": "2013-10-28 06:00:00, 2013-11-27 06:00:00, 2013-12-28 06:00:00",
    "0 0 6 LW * ?": "2013-10-31 06:00:00, 2013-11-29 06:00:00, 2013-12-31 06:00:00",
    "0 0 6 L-3W 9,12 ?": "2013-12-27 06:00:00, 2014-09-26 06:00:00",
    "0 0 6 15W * ?": "2013-10-15 06:00:00, 2013-11-15 06:00:00, 2013-12-16 06:00:00, 2014-01-15 06:00:00, 2014-02-14 06:00:00",
    "0 0 6 1W 2,6 ?": "2014-02-03 06:00:00, 2014-06-02 06:00:00",
    "0 0 6 31W * ?": "2013-10-31 06:00:00, 2013-12-31 06:00:00",
    "0 0 6 31 * ?": "2013-10-31 06:00:00, 2013-12-31 06:00:00, 2014-01-31 06:00:00, 2014-03-31 06:00:00",
    "0 0 0 29 2 ?": "2016-02-29 00:00:00, 2020-02-29 00:00:00",
    "0 0 0 1 1 ? 2014/3": "2014-01-01 00:00:00, 2017-01-01 00:00:00",
    "0 0 0 1 1 ? 2012-2014": "2014-01-01 00:00:00, never",
    "0 0 0 30 2 ?": "never",
}  # fmt: skip


def starts(expression: str, count: int, after: datetime, zone: str = "UTC") -> list[str]:
    schedule, found = QuartzSchedule.parse(expression, zone), list[str]()
    while len(found) < count:
        start = schedule.next_start(after)
        if start is None:
            return [*found, "never"]
        found.append(f"{start:%Y-%m-%d %H:%M:%S}")
        after = start
    return found


@pytest.mark.parametrize("expression", BY_HAND)
def test_the_next_starts_are_those_of_quartz(expression: str) -> None:
    expected = BY_HAND[expression].split(", ")
    assert starts(expression, len(expected), datetime(2013, 10, 1, tzinfo=UTC)) == expected


# New York's clock goes from 01:59:59 to 03:00:00 on March 10, 2013, and shows 01:00:00 to 01:59:59 twice on November 3.
SKIPPED, TWICE = datetime(2013, 3, 9, 12, tzinfo=UTC), datetime(2013, 11, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "after", "zone", "expected"),
    [
        ("0 30 2 * * ?", SKIPPED, "America/New_York", ["2013-03-11 06:30:00"]),
        ("0 0 3 * * ?", SKIPPED, "America/New_York", ["2013-03-10 07:00:00", "2013-03-11 07:00:00"]),
        ("0 0 1-4 * * ?", SKIPPED, "America/New_York", ["2013-03-10 06:00:00", "2013-03-10 07:00:00", "2013-03-10 08:00:00"]),
        ("0 30 1 * * ?", TWICE, "America/New_York", ["2013-11-03 06:30:00", "2013-11-04 06:30:00"]),
        ("0 0 0-3 * * ?", TWICE, "America/New_York", ["2013-11-03 04:00:00", "2013-11-03 06:00:00", "2013-11-03 07:00:00"]),
        ("0 30 1 * * ?", datetime(2013, 11, 3, 5, 45, tzinfo=UTC), "America/New_York", ["2013-11-03 06:30:00"]),
        ("0 30 1 * * ?", datetime(2013, 11, 3, 6, 30, tzinfo=UTC), "America/New_York", ["2013-11-04 06:30:00"]),
        ("0 15 0 * * ?", datetime(2013, 10, 19, 12, tzinfo=UTC), "America/Sao_Paulo", ["2013-10-21 02:15:00"]),
        ("0 15,45 2 * * ?", datetime(2013, 10, 5, 12, tzinfo=UTC), "Australia/Lord_Howe", ["2013-10-05 15:45:00", "2013-10-06 15:15:00"]),
        ("0 0 12 * * ?", SKIPPED, "GMT+5:30", ["2013-03-10 06:30:00"]),
        ("0 0 12 * * ?", SKIPPED, "IST", ["2013-03-10 06:30:00"]),
    ],
)
def test_a_local_time_that_is_skipped_has_no_start_and_one_that_comes_twice_starts_at_its_second(
    expression: str, after: datetime, zone: str, expected: list[str]
) -> None:
    assert starts(expression, len(expected), after, zone) == expected


def one_of(*words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words)


ZONES = {"UTC": [], "America/New_York": [date(2013, 3, 10), date(2013, 11, 3)], "Europe/Dublin": [date(2013, 3, 31), date(2013, 10, 27)],
         "Australia/Lord_Howe": [date(2013, 10, 6), date(2013, 4, 7)], "America/Sao_Paulo": [date(2013, 10, 20), date(2013, 2, 17)]}  # fmt: skip


@given(
    minute=one_of("0", "*/15", "50-10/20", "7,37"), hour=one_of("*", "0-3", "22-2", "1", "2"), day=one_of("*", "L", "1-7", "LW", "3"),
    zone=st.sampled_from(sorted(ZONES)), which=st.integers(0, 1), late=st.integers(0, 48 * 60),
)  # fmt: skip
def test_the_next_start_is_the_first_minute_whose_local_time_fits(
    minute: str, hour: str, day: str, zone: str, which: int, late: int
) -> None:
    schedule = QuartzSchedule.parse(f"0 {minute} {hour} {day} * ?", zone)
    around = (ZONES[zone] or [date(2013, 10, 31)] * 2)[which]
    after = datetime(around.year, around.month, around.day, tzinfo=UTC) + timedelta(minutes=late) - timedelta(days=1)
    fits = (t for t in (after + timedelta(minutes=n) for n in range(1, 3 * 24 * 60)) if _fits(schedule, t))
    assert schedule.next_start(after) == next(fits, schedule.next_start(after + timedelta(days=3) - timedelta(minutes=1)))


def _fits(schedule: QuartzSchedule, time: datetime) -> bool:
    "Whether the minute begins a start: its local time fits, and does not come once more."
    local = time.astimezone(schedule.zone)
    return (
        (local.hour in schedule.hours and local.minute in schedule.minutes)
        and local.day in schedule._days_of(local.year, local.month)
        and local.replace(fold=1).astimezone(UTC) == time
    )
