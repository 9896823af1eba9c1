"""Put each fault of the list into a checkout of its own, run the tests that are there to notice it, and say which faults they caught."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from catalogue import HERE, Fault, Selection, Unusable, edits, load, select
from chosen import SETTING
from shared import STATE, TEMPLATE

ROOT = HERE.parent.parent
CAUGHT, MISSED, TIMED_OUT, CANNOT, NO_VERDICT = "caught", "missed", "timed out", "cannot apply", "no verdict"
MARK = "BOATHOUSE_FAULT_RUN"  # in the environment of every process that a run starts: by it they are found and ended
# A JVM that lives for a few tests: time spent on optimising its code would not come back. The blank at the end keeps `conftest.py` from taking it off.
JAVA = "-XX:TieredStopAtLevel=1 "
EXAMPLES = """examples:
  python tests/faults/run.py --list
  python tests/faults/run.py --pure                                   the faults whose tests need no Spark session
  python tests/faults/run.py --only splits-fold-gap,as-of-known-by
  python tests/faults/run.py --at v1.0 --json results.jsonl --lock spark.lock
  python tests/faults/run.py --check-clean                            do the same tests pass without a fault?
"""


@dataclass(frozen=True)
class Outcome:
    "What became of one fault at one commit; `said` is the first failing test, or the reason."

    id: str
    area: str
    status: str
    seconds: float
    said: str
    commit: str
    suite: str
    digest: str


@dataclass(frozen=True)
class Ended:
    "How a pytest process ended: its exit code (None if it was ended at the deadline), seconds, and the tests that failed."

    code: int | None
    seconds: float
    failed: tuple[str, ...]
    last: str


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    "A git worktree of `commit` in a temporary folder, removed afterwards."
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    tree = scratch / "checkout"
    try:
        git(ROOT, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        yield tree
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)
        shutil.rmtree(scratch, ignore_errors=True)
        subprocess.run(["git", "-C", str(ROOT), "worktree", "prune"], capture_output=True, check=False)


def git(folder: Path, *words: str) -> str:
    "What Git prints."
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def holding(lock: Path | None) -> Iterator[None]:
    "Hold the lock file while the block lasts, as `flock` does."
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def planted(fault: Fault, tree: Path) -> Iterator[None]:
    "The fault in the checkout while the block lasts; Git is told to see no difference, as a run of committed code would."
    changes = edits(fault, tree)
    names = [change.path.relative_to(tree).as_posix() for change in changes]
    git(tree, "update-index", "--assume-unchanged", *names)
    try:
        for change in changes:
            change.path.write_text(change.after, encoding="utf-8")
        yield
    finally:
        for change in changes:
            change.path.write_text(change.before, encoding="utf-8")
        git(tree, "update-index", "--no-assume-unchanged", *names)


def jars() -> Path | None:
    "Delta's jars of the checkout that this file lies in, or of the environment's own project."
    places = [folder / ".boathouse" / "jars" for folder in (ROOT, Path(sys.prefix).parent)]
    return next((jar for place in places for jar in sorted(place.glob("delta-spark*")) if jar.is_dir()), None)


def environment(tree: Path, scratch: Path, selection: Selection, mark: str) -> dict[str, str]:
    "The variables of the pytest process: the checkout's code first, nothing compiled kept, temporary files in `scratch`."
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "BOATHOUSE_", "MLFLOW_"))}
    found = {
        "PYTHONPATH": os.pathsep.join([str(tree / "src"), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",  # a file that is changed and restored within a second would leave a stale one
        "TMPDIR": str(scratch),
        "BOATHOUSE_JAVA_OPTIONS": JAVA,
        SETTING: json.dumps(selection.rules),
        MARK: mark,
    }
    if (named := os.environ.get("BOATHOUSE_JARS") or jars()) is not None:
        found["BOATHOUSE_JARS"] = str(named)
    return {**kept, **found}


# Starts the cluster, and returns when MLflow's database is there too.
START = """
import sys, time
from pathlib import Path
from boathouse.workspace.cluster.address import ClusterSpec
from boathouse.workspace.cluster.client import BackgroundCluster
state = Path(sys.argv[1])
BackgroundCluster.reach(ClusterSpec(state, Path.cwd())).close()
while not (state / "mlflow.db").exists():
    time.sleep(0.1)
"""


@contextlib.contextmanager
def cluster(tree: Path, used: bool, lock: Path | None) -> Iterator[Path | None]:
    "The state folder of a cluster whose JVM the tests of several faults share, one after the other: starting one takes longer than most tests."
    if not used:
        yield None
        return
    state, mark = tree.parent / "state", secrets.token_hex(16)
    variables = environment(tree, tree.parent, Selection(), mark) | {"BOATHOUSE_IDLE_SECONDS": "86400"}
    try:
        with holding(lock):
            subprocess.run([sys.executable, "-c", START, str(state)], cwd=tree, env=variables, check=True, stdout=subprocess.DEVNULL)
        shutil.copy(state / "mlflow.db", state / TEMPLATE)
        yield state
    finally:
        end_marked(mark)


def run_tests(tree: Path, selection: Selection, seconds: float, first_only: bool = True, state: Path | None = None) -> Ended:
    """One pytest process in the checkout, ended with everything it started when it is over or `seconds` have passed.

    With the `state` of a cluster, its tests use that cluster's JVM.
    """
    scratch, mark = Path(tempfile.mkdtemp(prefix="tests-", dir=tree.parent)), secrets.token_hex(16)
    options = ["-q", "-m", "", "--tb=line", "--no-header", "-p", "chosen", "-p", "no:cacheprovider", "--basetemp", str(scratch / "pytest")]
    options += ["--hypothesis-seed=0", *(["-x"] if first_only else [])]
    variables = environment(tree, scratch, selection, mark)
    if state is not None:
        options += ["-p", "shared"]
        variables[STATE] = str(state)
    shutil.rmtree(tree / ".hypothesis", ignore_errors=True)
    command = [sys.executable, "-m", "pytest", *options, *selection.rules]
    log, begun, code = scratch / "said.txt", time.monotonic(), None
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=tree, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        end_marked(mark)
        process.wait()
        end_workers(state)
        said = log.read_text(errors="replace")
        shutil.rmtree(scratch, ignore_errors=True)
    failed = tuple(re.findall(r"^(?:FAILED|ERROR) (\S+(?: \S+)*?)(?: - .*)?$", said, re.MULTILINE))
    lines = [line for line in said.splitlines() if line.strip()]
    return Ended(code, time.monotonic() - begun, failed, lines[-1][:200] if lines else "")


def end_marked(mark: str) -> None:
    "End every process that carries this run's mark in its environment: those that the tests started, and no other."
    for _ in range(3):  # one of them may be starting another just now
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == mark:
                    process.kill()


def end_workers(state: Path | None) -> None:
    "End the Python workers of the shared JVM: they hold the code of the fault before."
    for process in psutil.process_iter() if state is not None else ():
        with contextlib.suppress(psutil.Error):
            if "pyspark.daemon" in process.cmdline() and process.environ().get("BOATHOUSE_STATE") == str(state):
                process.kill()


def attempt(fault: Fault, tree: Path, suite: str, lock: Path | None, slow: bool, state: Path | None) -> tuple[str, float, str]:
    "Status, seconds and reason of one fault."
    try:
        chosen = [select(fault.selections(suite), tree), *([select(fault.slow, tree)] if slow and fault.slow else [])]
        seconds, said = 0.0, ""
        with planted(fault, tree):
            for selection in chosen:
                with holding(None if fault.pure else lock):
                    quick = selection is chosen[0]
                    ended = run_tests(tree, selection, fault.seconds if quick else 1800, state=state if fault.shares and quick else None)
                seconds, said = seconds + ended.seconds, ended.failed[0] if ended.failed else ended.last
                if ended.code is None:
                    return TIMED_OUT, seconds, f"not over after {fault.seconds} s"
                if ended.code == 1:
                    return CAUGHT, seconds, said
                if ended.code:
                    return NO_VERDICT, seconds, f"pytest ended with {ended.code}: {said}"
        return MISSED, seconds, said
    except Unusable as error:
        return CANNOT, 0.0, str(error)


def check_clean(faults: list[Fault], tree: Path, suite: str, lock: Path | None, state: Path | None) -> int:
    "Run every selection without a fault, those of some faults in one process; print what fails, and its number."
    failures = 0
    # Of those with Spark so few that the lock is free again after some minutes.
    kinds = {"pure": (100, [f for f in faults if f.pure]), "own JVM": (12, [f for f in faults if not f.pure and not f.shares])}
    kinds["shared JVM"] = 12, [f for f in faults if f.shares]
    for kind, (some, mine) in kinds.items():
        texts = list(dict.fromkeys(text for fault in mine for text in fault.selections(suite)))
        for first in range(0, len(texts), some):
            with holding(None if kind == "pure" else lock):
                chosen = select(tuple(texts[first : first + some]), tree)
                ended = run_tests(tree, chosen, 7200, first_only=False, state=state if kind == "shared JVM" else None)
            print(f"{kind}, selections {first + 1} to {min(first + some, len(texts))} of {len(texts)}: {ended.last}", flush=True)
            for name in ended.failed:
                print(f"  fails without a fault: {name}")
            failures += len(ended.failed) + (ended.code not in (0, 1))
    return failures


def known_results(file: Path, commit: str, suite: str) -> dict[str, Outcome]:
    "The results that the file has for this commit and suite, by fault; the last one of each counts."
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = (Outcome(**json.loads(line)) for line in lines if line.strip())
    return {one.id: one for one in found if (one.commit, one.suite) == (commit, suite)}


def show(outcomes: list[Outcome]) -> None:
    "A line per fault that was not caught, and the totals of each part."
    for one in outcomes:
        if one.status != CAUGHT:
            print(f"{one.status:<12}  {one.id:<34}  {one.said}")
    parts: dict[str, list[Outcome]] = {}
    for one in outcomes:
        parts.setdefault(one.area.partition(".")[0], []).append(one)
    print()
    for part, mine in sorted(parts.items()):
        print(f"{part:<16} {sum(one.status in (CAUGHT, TIMED_OUT) for one in mine):3} of {len(mine):3} caught")
    counts = {status: sum(one.status == status for one in outcomes) for status in (CAUGHT, TIMED_OUT, MISSED, CANNOT, NO_VERDICT)}
    print(f"\n{len(outcomes)} faults: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count or status == CAUGHT))
    print(f"{sum(one.seconds for one in outcomes) / 60:.0f} minutes of tests")


def wanted(faults: list[Fault], given: argparse.Namespace) -> list[Fault]:
    "The faults that the command line names, those with the quickest tests first; SystemExit for an id that is in no list."
    only = [name for name in (given.only or "").split(",") if name]
    if unknown := sorted(set(only) - {fault.id for fault in faults}):
        raise SystemExit(f"no fault is called {', '.join(unknown)}; --list shows them")
    chosen = [
        fault for fault in faults if (not only or fault.id in only) and not (fault.pure and given.spark) and (fault.pure or not given.pure)
    ]
    return sorted(chosen, key=lambda fault: (not fault.pure, not fault.shares, fault.area.startswith("flights.")))


def main(words: list[str] | None = None) -> int:
    "Run the faults; 0 if each was caught, or every test passes without one."
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="ID,...", help="these faults alone")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--pure", action="store_true", help="only faults whose tests need no Spark session")
    part.add_argument("--spark", action="store_true", help="only faults whose tests need one")
    parser.add_argument("--at", metavar="COMMIT", default="HEAD", help="the commit to test (HEAD)")
    parser.add_argument("--suite", choices=("before", "after"), default="before", help="whose test selections to use")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="append results here, and skip faults that have one (.boathouse/faults.jsonl)"
    )
    parser.add_argument("--again", action="store_true", help="run faults that have a result too")
    parser.add_argument("--slow", action="store_true", help="also run the tests that take minutes, for faults the quick ones missed")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold this lock file while a fault with Spark runs")
    parser.add_argument("--check-clean", action="store_true", help="run the tests without faults instead")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    given = parser.parse_args(words)
    faults = wanted(load(), given)
    if given.list:
        for fault in faults:
            print(f"{fault.id:<34}  {'      ' if fault.pure else 'Spark '} {fault.breaks}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the checkout is removed
    commit = git(ROOT, "rev-parse", "--short=7", given.at)
    file = given.json or ROOT / ".boathouse" / "faults.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {} if given.again else known_results(file, commit, given.suite)
    left = [f for f in faults if f.id not in known or known[f.id].digest != f.digest]
    used = any(f.shares for f in (faults if given.check_clean else left))
    with checkout(given.at) as tree, cluster(tree, used, given.lock) as state:
        if given.check_clean:
            return 1 if check_clean(faults, tree, given.suite, given.lock, state) else 0
        outcomes = []
        for number, fault in enumerate(faults, 1):
            one = known.get(fault.id)
            if one is None or one.digest != fault.digest or (given.slow and fault.slow and one.status == MISSED):
                status, seconds, said = attempt(fault, tree, given.suite, given.lock, given.slow, state)
                one = Outcome(fault.id, fault.area, status, round(seconds, 1), said, commit, given.suite, fault.digest)
                with file.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(asdict(one)) + "\n")
                print(f"{number:3}/{len(faults)}  {one.status:<12}  {one.seconds:6.1f} s  {one.id:<34}  {one.said[:110]}", flush=True)
            outcomes.append(one)
    show(outcomes)
    return 0 if all(one.status in (CAUGHT, TIMED_OUT) for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
