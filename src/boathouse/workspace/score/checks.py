"Check each kind of evidence: tests that passed, tasks that succeeded, runs and tables that hold a record, and documents with a heading."

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

from boathouse.workspace.errors import did_you_mean
from boathouse.workspace.graph.state_machine import SUCCEEDED
from boathouse.workspace.score.outcomes import PASSED, RecordedOutcome, hash_file
from boathouse.workspace.score.rubric import Requirement
from boathouse.workspace.score.source import EvidenceFinding, EvidenceSource, from_millis
from boathouse.workspace.spark.table_facts import UnreadableLog, read_table_facts

NEVER_RAN = ("EXCLUDED", "DISABLED")  # a condition decided against the task: an earlier run of it counts


def check_requirement(source: EvidenceSource, requirement: Requirement) -> EvidenceFinding:
    "Return whether a piece of evidence is there, and not stale."
    found = CHECKS[requirement.kind](source, requirement)
    if found.holds and found.at is not None and source.is_stale(found.at):
        days = f"{source.rubric.stale_after_days:g}"
        return EvidenceFinding(requirement, False, f"{found.text}: stale, older than {days} days", found.at, found.commit, requirement.kind)
    return found


def check_test(source: EvidenceSource, requirement: Requirement) -> EvidenceFinding:
    "Check that a test, or all tests of a file or folder, exist now and passed when they last ran, in at most `seconds` together."
    name, place = requirement.subject, source.root / requirement.subject.split("::")[0]
    if not place.exists():
        return EvidenceFinding(requirement, False, f"{place.name} does not exist")
    function = name.partition("::")[2].rpartition("::")[2].partition("[")[0] or name.partition("::")[2].partition("[")[0]
    if function and function not in (there := functions_of(place)):
        return EvidenceFinding(requirement, False, f"{place.name} has no {function}. {did_you_mean(function, there)}".rstrip())
    files = sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
    if not files:
        return EvidenceFinding(requirement, False, f"{place.name} has no file test_*.py")
    passed: list[RecordedOutcome] = []
    for file in files:
        path = file.relative_to(source.root).as_posix()
        wanted = path if place.is_dir() else name
        ran = [one for node, one in source.outcomes.items() if belongs_to(node, wanted)]
        valid = [one for one in ran if one.file_hash == hash_file(file)]
        if not valid:
            what = f"{file.name} has changed since it ran" if ran else f"no outcome of {file.name if place.is_dir() else 'it'} is recorded"
            return EvidenceFinding(requirement, False, what, renew="test")
        passed += valid
    return judge_outcomes(source, requirement, passed)


def judge_outcomes(source: EvidenceSource, requirement: Requirement, ran: list[RecordedOutcome]) -> EvidenceFinding:
    "Return what the recorded outcomes of tests show. The oldest of them gives the age."
    oldest, bad, taken = min(ran, key=lambda one: one.at), [one for one in ran if one.outcome != PASSED], sum(one.seconds for one in ran)
    first = bad[0] if bad else oldest
    dirty = ", with uncommitted changes" if first.dirty else ""
    recorded = f"{source.age(first.ended)}{source.describe_commit(first.commit)}{dirty}"
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        text = f"{first.node.partition('::')[2]} {first.outcome}{more}, {recorded}"
        return EvidenceFinding(requirement, False, text, first.ended, first.commit, "test")
    count = f"{len(ran)} test{'s' if len(ran) > 1 else ''} passed"
    if too_slow := describe_excess(requirement, taken):
        return EvidenceFinding(requirement, False, f"{count} {recorded}, {too_slow}", first.ended, first.commit, "test")
    return EvidenceFinding(requirement, True, f"{count} {recorded}", first.ended, first.commit)


def describe_excess(requirement: Requirement, seconds: float) -> str:
    "Return by how much a duration is above the limit of the requirement; empty if it is not."
    limit = requirement.options.get("seconds")
    return f"in {seconds:.0f} seconds, the limit is {limit:g}" if limit is not None and seconds > limit else ""


def belongs_to(node: str, name: str) -> bool:
    "Return whether a node id is that of `name`, lies in it, or is one of its parametrised cases."
    return node == name or node.startswith((f"{name}::", f"{name}["))


def functions_of(file: Path) -> set[str]:
    "Return the names of the functions that a Python file defines, also in classes."
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return set()
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def check_task(source: EvidenceSource, requirement: Requirement) -> EvidenceFinding:
    "Check that a task is in the bundle, and that its newest run succeeded. Runs in which a condition excluded it do not count."
    job_key, _, task_key = requirement.subject.partition(".")
    if (job := source.jobs.get(job_key)) is None:
        return EvidenceFinding(requirement, False, f"the bundle has no job '{job_key}'. {did_you_mean(job_key, source.jobs)}".rstrip())
    keys = {str(task.key) for task in job.every_task()}
    if task_key not in keys:
        return EvidenceFinding(requirement, False, f"job '{job_key}' has no task '{task_key}'. {did_you_mean(task_key, keys)}".rstrip())
    rows = source.history_rows(
        "SELECT t.run_id, t.result_state, t.start_time, t.end_time FROM task_runs t JOIN runs r ON r.run_id = t.job_run WHERE r.job_key = ? AND t.task_key = ?"
        " AND t.end_time IS NOT NULL AND t.result_state NOT IN (?, ?) ORDER BY t.run_id DESC LIMIT 1",
        *(job_key, task_key, *NEVER_RAN),
    )
    if not rows:
        return EvidenceFinding(requirement, False, f"no run in target '{source.bundle.target}'", renew="task")
    ended, state = from_millis(rows[0]["end_time"]), rows[0]["result_state"]
    too_slow = describe_excess(requirement, (rows[0]["end_time"] - (rows[0]["start_time"] or rows[0]["end_time"])) / 1000)
    well = state in SUCCEEDED and not too_slow
    text = f"{state} {source.age(ended)}" + (f", {too_slow}" if too_slow else "")
    return EvidenceFinding(requirement, well, text, ended, renew="" if well else "task")


def check_run(source: EvidenceSource, requirement: Requirement) -> EvidenceFinding:
    "Check that the MLflow run of the champion has a metric, a parameter, a tag or an artifact."
    champion = source.champion
    ((what, name),) = requirement.options.items()
    if champion is None:
        model = source.rubric.model or "the rubric's model"
        return EvidenceFinding(requirement, False, f"{model} has no champion in target '{source.bundle.target}'", renew="run")
    trained = source.mlflow_rows("SELECT end_time FROM runs WHERE run_uuid = ?", champion.run_id)
    at = from_millis(trained[0]["end_time"]) if trained and trained[0]["end_time"] else None
    if what == "artifact":
        there = champion.artifacts is not None and (champion.artifacts / name).is_file()
    else:
        table = {"metric": "latest_metrics", "param": "params", "tag": "tags"}[what]
        there = bool(source.mlflow_rows(f"SELECT 1 FROM {table} WHERE run_uuid = ? AND key = ?", champion.run_id, name))
    text = f"the run of champion version {champion.version} {'has' if there else 'has no'} {what} {name}"
    return EvidenceFinding(requirement, there, text, at if there else None, renew="" if there else "run")


def check_table(source: EvidenceSource, requirement: Requirement) -> EvidenceFinding:
    "Check that a Delta table has rows, all or those of a condition; `{champion}` stands for the champion's version."
    folder, wanted = source.tables.get(requirement.subject), requirement.options.get("rows", 1)
    if folder is None:
        return EvidenceFinding(requirement, False, f"no such table in target '{source.bundle.target}'", renew="table")
    condition = requirement.options.get("where", "")
    if "{champion}" in condition and source.champion is None:
        return EvidenceFinding(requirement, False, f"{source.rubric.model or 'the rubric'} has no champion", renew="table")
    try:
        facts = read_table_facts(folder)
    except UnreadableLog as error:
        return EvidenceFinding(requirement, False, str(error), renew="table")
    rows = facts.rows or 0
    if condition:
        version = source.champion.version if source.champion else 0
        counted = count_matching_rows(folder, condition.replace("{champion}", str(version)))
        if isinstance(counted, str):
            return EvidenceFinding(requirement, False, counted)
        rows = counted
    text = f"{rows:,} rows{' that fulfil the condition' if condition else ''}, table changed {source.age(facts.changed_at)}"
    return EvidenceFinding(requirement, rows >= wanted, text, facts.changed_at, renew="" if rows >= wanted else "table")


def count_matching_rows(folder: Path, condition: str) -> int | str:
    "Return the number of rows that fulfil a condition, counted by delta-rs; or, as text, why they cannot be counted."
    try:
        from deltalake import DeltaTable, QueryBuilder
    except ImportError:
        return "a condition needs deltalake: pip install 'boathouse[serve]'"
    import pyarrow as pa

    try:
        found = QueryBuilder().register("t", DeltaTable(str(folder))).execute(f"SELECT count(*) AS n FROM t WHERE {condition}")
        return sum(pa.RecordBatchReader.from_stream(found).read_all()["n"].to_pylist())
    except Exception as error:  # delta-rs raises errors of many kinds
        return f"the condition cannot be evaluated: {str(error).splitlines()[0]}"


def check_document(source: EvidenceSource, requirement: Requirement) -> EvidenceFinding:
    "Check that a page or notebook exists and has the heading after `#`."
    name, _, anchor = requirement.subject.partition("#")
    file = source.root / name
    if not file.is_file():
        return EvidenceFinding(requirement, False, f"the file {name} does not exist")
    if anchor and anchor not in (there := headings_of(file)):
        return EvidenceFinding(requirement, False, f"{name} has no heading #{anchor}. {did_you_mean(anchor, there)}".rstrip())
    return EvidenceFinding(requirement, True, "the page is there" + (" with the heading" if anchor else ""))


def headings_of(file: Path) -> list[str]:
    "Return the anchors of a page's headings, as its links name them: lower case, and a dash between words."
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix == ".ipynb":
        cells = json.loads(text).get("cells", [])
        text = "\n".join("".join(cell["source"]) for cell in cells if cell.get("cell_type") == "markdown")
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, flags=re.MULTILINE)
    return [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings]


CHECKS: dict[str, Callable[[EvidenceSource, Requirement], EvidenceFinding]] = {
    "test": check_test,
    "task": check_task,
    "run": check_run,
    "table": check_table,
    "document": check_document,
}
