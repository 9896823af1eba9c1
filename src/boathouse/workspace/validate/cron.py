"""Check cron expressions by the rules of Quartz 2.3: six or seven fields, seconds first, `?` in one of the two day fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, available_timezones

from boathouse.workspace.errors import did_you_mean

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# Java knows these in addition to the names of the tz database (`ZoneId.SHORT_IDS`).
JAVA_ZONES = {
    "ACT": "Australia/Darwin",
    "AET": "Australia/Sydney",
    "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo",
    "AST": "America/Anchorage",
    "BET": "America/Sao_Paulo",
    "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare",
    "CNT": "America/St_Johns",
    "CST": "America/Chicago",
    "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa",
    "ECT": "Europe/Paris",
    "IET": "America/Indiana/Indianapolis",
    "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo",
    "MIT": "Pacific/Apia",
    "NET": "Asia/Yerevan",
    "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi",
    "PNT": "America/Phoenix",
    "PRT": "America/Puerto_Rico",
    "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal",
    "VST": "Asia/Ho_Chi_Minh",
}
OFFSET = re.compile(r"GMT[+-]\d{1,2}(:?\d{2})?")


class NotQuartz(ValueError):
    "Signal that Quartz does not accept an expression; the message is the reason as a sentence."


@dataclass(frozen=True)
class Field:
    "Describe one field of an expression: its numbers from `low` to `high`, and the names that stand for them."

    name: str
    low: int
    high: int
    names: Sequence[str] = ()

    def number(self, text: str) -> int:
        "Return the number that a value stands for."
        if text[:3] in self.names:
            return self.names.index(text[:3]) + self.low
        if not text.isdigit():
            known = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise NotQuartz(f"'{text}' is not a value of the {self.name}: {self.low} to {self.high}{known}.")
        if not self.low <= int(text) <= self.high:
            raise NotQuartz(f"the {self.name} is {text}; {self.low} to {self.high} is allowed.")
        return int(text)


FIELDS = (
    Field("second", 0, 59),
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 1, 7, DAYS),
    Field("year", 1970, 2199),
)
MONTH_DAY, WEEK_DAY = FIELDS[3], FIELDS[5]


def check_cron(expression: str) -> None:
    "Raise NotQuartz if Quartz would refuse the expression."
    words = expression.upper().split()
    if len(words) == 5:
        raise NotQuartz("it has 5 fields, as Unix cron has them; Quartz wants the second before them, and `?` in one day field.")
    if len(words) not in (6, 7):
        raise NotQuartz(
            f"it has {len(words)} fields; Quartz wants second, minute, hour, day of month, month, day of week, and perhaps year."
        )
    for word, field in zip(words, FIELDS, strict=False):
        _field(word, field)
    unspecified = [words[3] == "?", words[5] == "?"]
    if all(unspecified):
        raise NotQuartz("both day fields are `?`; one of them must say which days.")
    if not any(unspecified):
        raise NotQuartz("it gives a day of the month and a day of the week; Quartz wants `?` in one of the two.")


def _field(word: str, field: Field) -> None:
    if word == "?":
        if field not in (MONTH_DAY, WEEK_DAY):
            raise NotQuartz(f"`?` stands in the {field.name}; only the day fields take it.")
        return
    parts = word.split(",")
    if len(parts) > 1 and field in (MONTH_DAY, WEEK_DAY) and any("L" in p or "#" in p for p in parts):
        raise NotQuartz(f"`L` and `#` stand alone; the {field.name} '{word}' is a list.")
    for part in parts:
        if not (_last(part, field) if field in (MONTH_DAY, WEEK_DAY) else False):
            _range(part, field)


def _last(part: str, field: Field) -> bool:
    "Return whether the part is one of the special forms of a day field: L, LW, L-3, 15W, 6L, 6#3."
    if field is MONTH_DAY:
        if found := re.fullmatch(r"L(-(\d+))?W?", part):
            if int(found[2] or 0) > 30:
                raise NotQuartz(f"'{part}' goes {found[2]} days back from the last of the month; 30 is the most.")
            return True
        if found := re.fullmatch(r"(\d+)W", part):
            field.number(found[1])
            return True
        return False
    if part == "L":
        return True
    if found := re.fullmatch(r"(\w+?)L", part):
        field.number(found[1])
        return True
    if found := re.fullmatch(r"(\w+)#(\w*)", part):
        field.number(found[1])
        if found[2] not in ("1", "2", "3", "4", "5"):
            raise NotQuartz(f"'{part}' names no week of the month; 1 to 5 come after `#`.")
        return True
    return False


def _range(part: str, field: Field) -> None:
    values, slash, step = part.partition("/")
    if slash and not step.isdigit():
        raise NotQuartz(f"'{part}' in the {field.name}: a whole number comes after `/`.")
    if slash and int(step) > field.high:
        raise NotQuartz(f"'{part}' steps by {step} in the {field.name}; {field.high} is the most.")
    if values == "*" or (slash and not values):
        return
    ends = values.split("-")
    if len(ends) > 2 or not all(ends):
        raise NotQuartz(f"'{part}' is not a value, a list or a range of the {field.name}.")
    # Quartz permits a range that passes its end (22-2), except for years.
    numbers = [field.number(end) for end in ends]
    if field.name == "year" and numbers[0] > numbers[-1]:
        raise NotQuartz(f"the years '{part}' run backwards.")


def zone_problem(name: str) -> tuple[str, str]:
    "Return why Java has no time zone of that name, and a hint; empty texts if it has one."
    if name in JAVA_ZONES or OFFSET.fullmatch(name):
        return "", ""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        known = available_timezones()
        # Without a tz database this cannot be checked.
        return (
            (f"'{name}' is not a time zone.", did_you_mean(name, known) or "Write it as `UTC` or `Europe/Berlin`.") if known else ("", "")
        )
    return "", ""
