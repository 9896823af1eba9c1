"Every kind of bad line or file that we could think of, delivered at once, and where each ends: docs/dirt.md is made of this table."

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from boathouse.ingest import files as ingest_module
from boathouse.ingest.files import INGESTED_FILES, IngestResult, ingest
from boathouse.tables.table import Lakehouse, read
from flights import tables as t
from flights.bronze import end_of
from flights.silver import EVENT_RULES, EVENTS, add_events, process_feed

PAGE = Path(__file__).parents[3] / "docs" / "dirt.md"
COLUMNS = t.FLIGHT_EVENT_COLUMNS
LINE = "arrived,2013-01-01T13:30:00Z,2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"
NOBODY = 65534


def line(n: int, **changed: str) -> str:
    "The line of a real arrival, as flight `n`, with some fields changed."
    fields = dict(zip(COLUMNS, LINE.split(","), strict=True)) | {"flight": str(n)} | changed
    return ",".join(fields.values())


def file(*lines: str | bytes, header: str = ",".join(COLUMNS), end: bytes = b"\n") -> bytes:
    return end.join(part if isinstance(part, bytes) else part.encode() for part in (header, *lines)) + end


@dataclass(frozen=True)
class Case:
    "A kind of dirt: the content of a file with a good flight 1000 + n and the dirt as flight 5000 + n; where it ends, why, and how many rows bad."

    kind: str
    content: Callable[[int, int], bytes]
    place: str
    reason: str | None = None
    bad: int = 1
    good: int = 1
    name: str = ""


def field(kind: str, rule: str, **changed: str) -> Case:
    "A line whose fields are not what they should be: it is in bronze as it came, and rejected by a rule."
    return Case(kind, lambda g, b: file(line(g), line(b, **changed)), "quarantine", rule)


def text(kind: str, spoil: Callable[[str], str | bytes], reason: str, bad: int = 1) -> Case:
    "A line that cannot be split: it is kept and marked."
    return Case(kind, lambda g, b: file(line(g), spoil(line(b))), "marked", reason, bad)


def fine(kind: str, content: Callable[[int, int], bytes], name: str = "") -> Case:
    return Case(kind, content, "silver", bad=0, name=name)


def whole(kind: str, content: Callable[[int, int], bytes], reason: str, bad: int = 1, name: str = "") -> Case:
    "A file that is broken as a whole: its lines are marked, or one row stands for it."
    return Case(kind, content, "marked", reason, bad, good=0, name=name)


def left(kind: str, name: str, reason: str) -> Case:
    "What is not taken: it stays in the folder, and is said."
    return Case(kind, lambda g, b: file(line(g), line(b)), "left", reason, bad=0, good=0, name=name)


def zipped(g: int, b: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.csv", file(line(g), line(b)))
    return out.getvalue()


def reordered(*numbers: int) -> bytes:
    turned = [",".join(reversed(line(n).split(","))) for n in numbers]
    return file(*turned, header=",".join(reversed(COLUMNS)))


def both(g: int, b: int) -> bytes:
    return file(line(g), line(b))


UTF8 = "the line is not UTF-8: its bytes are kept as Latin-1"
QUOTE = "a quote is not closed, or stands inside a field"
CONTROL = "the line holds control characters"
MISFIT = "readable"
HEADER = ",".join(COLUMNS)
CASES = [
    # encodings
    text("a letter in Latin-1", lambda s: s.replace("IAH", "I\xc4H").encode("latin-1"), UTF8),
    text("a cut UTF-8 sequence", lambda s: s.encode().replace(b"IAH", b"IA\xc3"), UTF8),
    text("an overlong UTF-8 sequence", lambda s: s.encode().replace(b"IAH", b"I\xc0\xafH"), UTF8),
    text("half of a surrogate pair", lambda s: s.encode().replace(b"IAH", b"I\xed\xa0\x80"), UTF8),
    text("U+FFFD, damaged by a program before us", lambda s: s.replace("IAH", "I\ufffdH"), "the line holds U+FFFD: it was damaged before the delivery"),
    whole("UTF-16 with a mark of byte order", lambda g, b: both(g, b).decode().encode("utf-16"), "the file is UTF-16, not UTF-8"),
    whole("UTF-16 without a mark", lambda g, b: both(g, b).decode().encode("utf-16-le"), "the file is not CSV: it has binary content"),
    fine("a mark of byte order before the header", lambda g, b: b"\xef\xbb\xbf" + both(g, b)),
    field("a mark of byte order within the file", "known_event", event_type="\ufeffarrived"),
    # quotes and characters that end lines or fields
    fine("well-formed quotes", lambda g, b: file(line(g), line(b, tailnum='"N14228"'))),
    text("a quote that is not closed", lambda s: s.replace("IAH", '"IAH'), QUOTE),
    text("a quote inside a field", lambda s: s.replace("IAH", 'IA"H'), QUOTE),
    text("a quote escaped by a backslash", lambda s: s.replace("IAH", '"I\\"H"'), QUOTE),
    text("a line end inside quotes", lambda s: s.replace("IAH", '"IA\nH"'), QUOTE, bad=2),
    field("a doubled quote inside quotes", "codes", dest='"I""H"'),
    text("NUL", lambda s: s.replace("IAH", "I\0H"), CONTROL),
    text("an escape character", lambda s: s.replace("IAH", "\x1b[1mIAH"), CONTROL),
    text("a lone CR in the middle of a line", lambda s: s.replace(",IAH", "\r,IAH"), "{n} fields where 21 are declared", bad=2),
    text("another separator", lambda s: s.replace(",", ";"), "1 field where 21 are declared"),
    text("a line that is cut off", lambda s: s.rpartition(",IAH")[0], "15 fields where 21 are declared"),
    text("a field too many", lambda s: s + ",NA", "22 fields where 21 are declared"),
    text("30,000 fields", lambda s: s + "," * 30_000, "the line has more than 20000 fields"),
    text("a line of 10 MB", lambda s: s + "x" * 10_000_000, "the line has {size} bytes, at most 1048576 are allowed"),
    text("an empty line", lambda s: "", "the line is empty"),
    text("a line of blanks", lambda s: "   ", "the line is empty"),
    text("an error message among the lines", lambda s: "~~~ connection reset ~~~", "1 field where 21 are declared"),
    # dates
    field("an event in 1970", "in_time", event_time="1970-01-01T00:00:00Z"),
    field("an event in 2999", "in_time", event_time="2999-01-01T13:30:00Z"),
    field("a flight that is in 2999 throughout", "era", event_time="2999-01-01T13:30:00Z", year="2999", time_hour="2999-01-01T10:00:00Z"),
    field("a thirteenth month", MISFIT, event_time="2013-13-01T13:30:00Z"),
    field("the thirtieth of February", MISFIT, time_hour="2013-02-30T10:00:00Z"),
    field("an instant without its zone", MISFIT, event_time="2013-01-01T13:30:00"),
    field("an instant in another form", MISFIT, event_time="01/01/2013 13:30"),
    field("seconds since 1970", MISFIT, event_time="1357047000"),
    field("a local hour that is said to be UTC", "local_time", time_hour="2013-01-01T05:00:00Z"),
    field("a year of five digits", MISFIT, time_hour="+12013-01-01T10:00:00Z"),
    # numbers
    field("a letter in a number", MISFIT, dep_delay="2a"),
    field("beyond 32 bits", MISFIT, dep_delay="2147483648"),
    field("an hour that overflows the arithmetic", "schedule", hour="2000000000"),
    field("1e999", MISFIT, air_time="1e999"),
    field("NaN", MISFIT, air_time="NaN"),
    field("Infinity", MISFIT, distance="Infinity"),
    field("hexadecimal", MISFIT, distance="0x1p3"),
    field("a suffix of Java", MISFIT, distance="1400d"),
    field("separators of thousands", MISFIT, distance='"1,400"'),
    field("a leading plus", MISFIT, dep_delay="+2"),
    field("a leading blank", MISFIT, dep_delay=" 2"),
    field("a leading zero", MISFIT, dep_delay="02"),
    field("Arabic digits", MISFIT, dep_delay="\u0662"),
    field("full-width digits", MISFIT, distance="\uff11\uff14\uff10\uff10"),
    field("the minus sign U+2212", MISFIT, dep_delay="\u22122"),
    field("a fraction where a whole number belongs", MISFIT, dep_delay="2.5"),
    field("a delay of two months", "delay", arr_delay="99999"),
    field("a clock that shows 25:75", "clock", dep_time="2575"),
    field("a distance of 0", "distance", distance="0"),
    field("negative time in the air", "air_time", air_time="-5"),
    # texts that look right
    field("a Cyrillic A in the carrier", "codes", carrier="U\u0410"),
    field("a zero-width space", "codes", carrier="UA\u200b"),
    field("a non-breaking space", "codes", dest="IAH\u00a0"),
    field("a mark of writing direction", "codes", tailnum="\u200fN14228"),
    field("a line separator, U+2028", "codes", dest="IAH\u2028"),
    field("small letters", "codes", carrier="ua"),
    field("a Greek omicron in an event", "known_event", event_type="cancelled\u03bf"),
    field("a blank after the origin", "from_new_york", origin="EWR "),
    field("an event that does not exist", "known_event", event_type="teleported"),
    field("no carrier", "has_key", carrier=""),
    field("NA where there must be something", "has_key", flight="NA"),
    field("an arrival without its delay", "complete", arr_delay="NA"),
    # files
    fine("line ends CR LF", lambda g, b: file(line(g), line(b), end=b"\r\n")),
    fine("line ends CR", lambda g, b: file(line(g), line(b), end=b"\r")),
    fine("no end of the last line", lambda g, b: both(g, b).rstrip(b"\n")),
    fine("columns in another order", reordered),
    fine("a header in quotes", lambda g, b: file(line(g), line(b), header='"event_type"' + HEADER.removeprefix("event_type"))),
    Case("the header again, twice, in the middle", lambda g, b: file(line(g), HEADER, line(b), HEADER), "marked", "the header is repeated", 2),
    Case("nothing but a header", lambda g, b: file(), "silver", bad=0, good=0),
    fine("gzip", lambda g, b: gzip.compress(both(g, b)), name="good {n}.csv.gz"),
    whole("gzip, cut off", lambda g, b: gzip.compress(both(g, b))[:-9], "the file is a damaged or unfinished gzip archive", name="cut {n}.csv.gz"),
    whole("gzip under the name of a CSV file", lambda g, b: gzip.compress(both(g, b)), "the file is compressed by gzip, but its name does not end in .gz"),
    whole("zip under the name of a CSV file", zipped, "the file is a zip archive"),
    whole("a picture", lambda g, b: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\n", "the file is not CSV: it has binary content"),
    whole("an empty file", lambda g, b: b"", "the file is empty"),
    whole("a file of blank lines", lambda g, b: b"\n \n\n", "the file is empty"),
    whole("a page of HTML", lambda g, b: b"<html>\n<p>503</p>\n</html>\n", "the file is not CSV with a header: it begins with '<html>'", bad=3),
    whole("lines without a header", lambda g, b: both(g, b).split(b"\n", 1)[1],
          "the file is not CSV with a header: it begins with 'arrived,2013-01-01T13:30:00Z,2013,1,1,51'", bad=2),
    whole("a column named twice", lambda g, b: file(line(g) + ",1", header=HEADER + ",hour"), "the header names hour twice", bad=2),
    whole("a column missing", lambda g, b: file(line(g).rpartition(",")[0], header=HEADER.rpartition(",")[0]),
          "the header differs; missing time_hour", bad=2),
    whole("a column too many", lambda g, b: file(line(g) + ",B738", header=HEADER + ",model"), "the header differs; unexpected model", bad=2),
    whole("a column renamed", lambda g, b: file(line(g), header=HEADER.replace("carrier", "airline")),
          "the header differs; missing carrier; unexpected airline", bad=2),
    whole("a header of 100 kB", lambda g, b: file(line(g), header=HEADER + "x" * 100_000), "the header is longer than 65,535 bytes", bad=2),
    *(fine(f"a name with {what}", both, name=name) for what, name in {
        "blanks": "a name {n}.csv", "letters beyond ASCII": "M\u00e4rz \u2014 \u0434\u0435\u043d\u044c {n}.csv", "percent signs": "100%25 {n}%.csv",
        "the signs of patterns": "*[a-z]?{{x,y}} {n}.csv", "plus and hash": "a+b#c&d=e {n}.csv", "quotes and a backslash": "it's \"x\" \\n {n}.csv",
        "a line end": "two\nlines {n}.csv",
    }.items()),
    left("a name with a colon", "at 12:00 {n}.csv", "its name holds a colon, and Spark cannot open it"),
    left("a folder that is named like a file", "folder {n}.csv", "it is a folder"),
    left("a link to itself", "loop {n}.csv", "too many levels of symbolic links"),
    left("a link to nowhere", "nowhere {n}.csv", "no such file or directory"),
    left("a pipe", "pipe {n}.csv", "it is not a file"),
    left("a file that we may not read", "secret {n}.csv", "permission denied"),
    left("a name that is hidden", ".hidden {n}.csv", ""),
]  # fmt: skip
NAMES = [(case.name or "case {n}.csv").format(n=n) for n, case in enumerate(CASES)]


def lay(folder: Path) -> None:
    "Put every case into the folder."
    for n, (case, name) in enumerate(zip(CASES, NAMES, strict=True)):
        path = folder / name
        if case.kind.startswith("a folder"):
            path.mkdir()
        elif case.kind.startswith("a link"):
            path.symlink_to(path if "itself" in case.kind else folder / "nobody")
        elif case.kind == "a pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(case.content(1000 + n, 5000 + n))
            path.chmod(0o000 if "may not read" in case.kind else 0o644)


@pytest.fixture(scope="module")
def delivered(spark: SparkSession) -> Iterator[dict[str, Any]]:
    "All cases ingested in one run, silver once: the result, and of each table what it has by file."
    lake = Lakehouse(spark, prefix="test_dirt_")
    landing = Path(tempfile.mkdtemp())
    landing.chmod(0o755)
    (landing / "flight_events").mkdir()
    lay(landing / "flight_events")
    look = ingest_module.scan_files

    def as_anybody(*given: Any) -> Any:
        "Nothing is forbidden to root: it looks at the files as nobody."
        if os.geteuid():
            return look(*given)
        os.seteuid(NOBODY)
        try:
            return look(*given)
        finally:
            os.seteuid(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "scan_files", as_anybody)
        done = ingest(lake, t.BRONZE_FLIGHT_EVENTS, landing, "flight_events", end_of(date(2013, 1, 2)))
    process_feed(lake, EVENTS, add_events, end_of(date(2013, 1, 2)))
    rejected = read(lake, t.SILVER_FLIGHT_EVENTS_QUARANTINE).select("_source_file", "_failed_rules", "_reason", "_malformed").collect()
    yield {
        "done": done,
        "bronze": read(lake, t.BRONZE_FLIGHT_EVENTS).selectExpr("_source_file", "_malformed", "_raw LIKE '%I\u00c4H%' AS latin").collect(),
        "quarantine": rejected,
        "silver": {r.flight for r in read(lake, t.SILVER_FLIGHT_EVENTS).select("flight").collect()},
        "ledger": {r.path: r.lines for r in read(lake, INGESTED_FILES).collect()},
    }
    shutil.rmtree(landing)


@pytest.mark.parametrize("n", range(len(CASES)), ids=[case.kind for case in CASES])
def test_a_bad_line_or_file_ends_where_it_should_and_stops_nothing_else(delivered: dict[str, Any], n: int) -> None:
    case, name = CASES[n], f"flight_events/{NAMES[n]}"
    size = len(line(5000 + n)) + 10_000_000
    marked = [r._malformed for r in delivered["bronze"] if r._source_file == name and r._malformed]
    clean = [r for r in delivered["bronze"] if r._source_file == name and not r._malformed]
    rejected = [r for r in delivered["quarantine"] if r._source_file == name]
    assert len(rejected) == case.bad
    assert {1000 + n, 5000 + n} & delivered["silver"] == ({1000 + n} if case.good else set()) | (
        {5000 + n} if (case.place == "silver" and case.good) or "header again" in case.kind else set()
    )
    if case.place == "marked":
        expected = {case.reason.format(n=count, size=size) for count in ((15, 7) if "lone CR" in case.kind else (0,))}
        assert set(marked) == expected
        assert len(marked) == case.bad
        assert {(*r._failed_rules, r._reason) for r in rejected} == {("well_formed", why) for why in expected}
    elif case.place == "quarantine":
        assert marked == []
        assert len(clean) == 2
        assert rejected[0]._failed_rules[0] == case.reason
    else:
        assert marked == []
        assert delivered["done"].left.get(name, "") == (case.reason or "")
    assert delivered["ledger"].get(name, 0) == len(marked) + len(clean)


def test_a_line_in_another_encoding_keeps_every_byte(delivered: dict[str, Any]) -> None:
    assert [r._malformed for r in delivered["bronze"] if r.latin] == [UTF8]


def test_the_batch_says_what_it_took_and_what_it_left(delivered: dict[str, Any]) -> None:
    done: IngestResult = delivered["done"]
    assert done.files == sum(case.place != "left" for case in CASES)
    assert set(done.broken) == {
        f"flight_events/{name}" for case, name in zip(CASES, NAMES, strict=True) if case.place == "marked" and not case.good
    }


def page() -> str:
    rules = {rule.name: rule.reason for rule in EVENT_RULES}
    rows = [
        "# Dirt",
        "",
        f"{len(CASES)} kinds of bad lines and files, and where each ends. `tests/kit/ingest/test_corrupt_input.py` delivers all of them at once, beside good lines, and compares this page with what it finds",
        "(`pytest tests/kit/ingest/test_corrupt_input.py --save-outputs` writes it anew).",
        "",
        "- **good**: it is read, and nothing about it is bad;",
        "- **bronze, marked**: the line is kept as it came, its fields are null, and `_malformed` says why. Silver rejects it with that reason;",
        "- **quarantine**: bronze has the fields as they came, and a rule of silver rejects them;",
        "- **left**: not taken; it stays in the folder, the result of the run says why, and the next run looks again.",
        "",
        "| kind | ends | because |",
        "|---|---|---|",
    ]
    ends = {"silver": "good", "marked": "bronze, marked", "quarantine": "quarantine", "left": "left"}
    for case in CASES:
        why = f"`{case.reason}`: {rules[case.reason]}" if case.place == "quarantine" else (case.reason or "").format(n="N", size="N")
        rows.append(f"| {case.kind} | {ends[case.place]} | {why} |")
    return "\n".join(rows) + "\n"


def test_the_page_says_what_the_tests_find(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--save-outputs"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()
