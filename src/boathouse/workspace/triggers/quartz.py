"""Compute when a Quartz expression starts a job next, in a time zone with daylight saving time.

No library covers Quartz: croniter, cronsim and APScheduler lack `L-3`, `15W` or the year, and cronexpr counts Monday as 1 and refuses `22-2`.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from boathouse.workspace.validate.cron import FIELDS, JAVA_ZONES, MONTH_DAY, WEEK_DAY, Field, check_cron

LAST_OF_MONTH = re.compile(r"L(?:-(\d+))?(W)?")
NEAR = re.compile(r"(\d+)W")
SATURDAY = 7  # Quartz counts the days of the week from Sunday, 1
OFFSET = re.compile(r"GMT([+-])(\d{1,2}):?(\d{2})?")


@dataclass(frozen=True)
class QuartzSchedule:
    "Hold a checked expression with its time zone, each field as its sorted values; the day fields stay text because they depend on the month."

    expression: str
    zone: tzinfo
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]
    month_day: str
    week_day: str

    @classmethod
    def parse(cls, expression: str, zone: str) -> QuartzSchedule:
        "Return the schedule of an expression in a time zone as Java names it. Raises NotQuartz if Quartz would refuse the expression."
        check_cron(expression)
        words = [*expression.upper().split(), "*"][:7]
        second, minute, hour, _, month, _, year = (
            () if field in (MONTH_DAY, WEEK_DAY) else _values(word, field) for word, field in zip(words, FIELDS, strict=True)
        )
        return cls(expression, zone_of(zone), second, minute, hour, month, year, words[3], words[5])

    def next_start(self, after: datetime) -> datetime | None:
        """Return the first time after `after` (both with a time zone; the result in UTC) at which Quartz starts the job, or None.

        A local time that the clock skips in spring has no start. One that it shows twice in autumn starts at the second of the two.
        """
        local = after.astimezone(self.zone)
        begin = local.replace(tzinfo=None)
        first, second = (local.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1))
        begin -= first - second  # of a local time that comes twice, the second one may read earlier than `after`
        for wall in self._local_times(begin):
            start = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
            if start > after and start.astimezone(self.zone).replace(tzinfo=None) == wall:
                return start
        return None

    def _local_times(self, begin: datetime) -> Iterator[datetime]:
        "Yield the local times of the expression from `begin` on, in order."
        for day in self._days(begin.date()):
            low = begin.hour if day == begin.date() else 0
            for hour in self.hours:
                if hour < low:
                    continue
                for minute in self.minutes:
                    for second in self.seconds:
                        wall = datetime(day.year, day.month, day.day, hour, minute, second)
                        if wall >= begin.replace(microsecond=0):
                            yield wall

    def _days(self, begin: date) -> Iterator[date]:
        for year in self.years:
            for month in self.months:
                if (year, month) >= (begin.year, begin.month):
                    days = self._days_of(year, month)
                    yield from (day for day in (date(year, month, number) for number in sorted(days)) if day >= begin)

    def _days_of(self, year: int, month: int) -> set[int]:
        return _of_week(self.week_day, year, month) if self.month_day == "?" else _of_month(self.month_day, year, month)


def _values(word: str, field: Field) -> tuple[int, ...]:
    "Return the numbers of a field; a range may pass its end (22-2), and a step counts from the start of its range."
    found = set[int]()
    size = field.high - field.low + 1
    for part in word.split(","):
        text, slash, step = part.partition("/")
        by = int(step or 1)
        if text in ("*", ""):
            low, high, by = field.low, field.high, by or 1
        else:
            low, *end = [field.number(name) for name in text.split("-")]
            high = end[0] if end else field.high if slash and by else low
        high += size if low > high else 0
        found |= {(number - field.low) % size + field.low for number in range(low, high + 1, by or size)}
    return tuple(sorted(found))


def _of_month(word: str, year: int, month: int) -> set[int]:
    "Return the days of a month that the field `day of the month` names: numbers, L, L-3, LW, 15W."
    last = monthrange(year, month)[1]
    found = set[int]()
    for part in word.split(","):
        if ends := LAST_OF_MONTH.fullmatch(part):
            day, near = last - int(ends[1] or 0), bool(ends[2])
        elif named := NEAR.fullmatch(part):
            day, near = int(named[1]), True
        else:
            found |= {day for day in _values(part, MONTH_DAY) if day <= last}
            continue
        if 1 <= day <= last:
            found.add(_working_day(year, month, day, last) if near else day)
    return found


def _working_day(year: int, month: int, day: int, last: int) -> int:
    "Return the day from Monday to Friday that is nearest to a day, in the same month."
    weekday = date(year, month, day).isoweekday()
    if weekday == 6:
        return day + 2 if day == 1 else day - 1
    if weekday == 7:
        return day - 2 if day == last else day + 1
    return day


def _of_week(word: str, year: int, month: int) -> set[int]:
    "Return the days of a month that the field `day of the week` names: 1 to 7 or SUN to SAT, L, 6L, 6#3."
    last = monthrange(year, month)[1]
    weekdays = {day: date(year, month, day).isoweekday() % 7 + 1 for day in range(1, last + 1)}
    if word == "L":
        return {day for day, weekday in weekdays.items() if weekday == SATURDAY}
    name, nth, week = word.partition("#")
    if not nth and not word.endswith("L"):
        return {day for day, weekday in weekdays.items() if weekday in _values(word, WEEK_DAY)}
    days = [day for day, weekday in weekdays.items() if weekday == WEEK_DAY.number(name.removesuffix("L"))]
    return {days[-1]} if not nth else set(days[int(week) - 1 : int(week)])


def zone_of(name: str) -> tzinfo:
    "Return the time zone of a name that Java accepts: one of the tz database, one of its own three letters, or GMT+5:30."
    if offset := OFFSET.fullmatch(name):
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        return timezone(timedelta(minutes=minutes if offset[1] == "+" else -minutes))
    return ZoneInfo(JAVA_ZONES.get(name, name))
