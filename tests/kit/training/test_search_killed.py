"""A search whose process is killed without warning, again and again: what had finished is not tried twice, and it ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

# One process imports what a search needs, and forks one for each search: that one appends what it tries to a file,
# and ends itself with SIGKILL in the middle of the trial whose number it was given. Printed is how each ended.
SEARCHES = """
import json, os, signal, sys
from dataclasses import astuple
from pathlib import Path
from hyperopt import hp
from boathouse.training.search import Budget, search_parameters

def searched(folder, deadly):
    tried = folder / "tried.txt"

    def score(p):
        with tried.open("a") as file:
            file.write(json.dumps(p, sort_keys=True) + chr(10))
        if len(tried.read_text().splitlines()) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if p.get("x", 0) > 0.9:
            raise RuntimeError("sank")
        return (1 - abs(p.get("x", 0.5) - 0.3), 0.5)

    space = hp.choice("kind", [{"kind": "a", "x": hp.uniform("x", 0, 1)}, {"kind": "b", "y": hp.normal("y", 0, 1)}])
    known = {"defaults": {"kind": "a", "x": 0.4}, "fails": {"kind": "a", "x": 0.95}}
    found = search_parameters(score, space, known, Budget(14), seed=3, journal=folder / "search.jsonl", tell=lambda line: None)
    (folder / "found.json").write_text(json.dumps([astuple(t) for t in found]))

ends = []
for folder, deadly in json.loads(sys.argv[1]):
    Path(folder).mkdir(exist_ok=True)
    child = os.fork()
    if not child:
        searched(Path(folder), deadly)
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""


def run(*searches: tuple[Path, int]) -> list[int]:
    "How each of these searches ended: 0, or minus a signal."
    paths = os.pathsep.join([str(Path(__file__).parents[3] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = json.dumps([(str(folder), deadly) for folder, deadly in searches])
    words = [sys.executable, "-c", SEARCHES, given]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_search_killed_three_times_ends_as_an_undisturbed_one_and_tries_nothing_twice_but_what_it_died_of(tmp_path: Path) -> None:
    ends = run((tmp_path / "calm", 0), *((tmp_path / "rough", deadly) for deadly in (2, 6, 12, 0)))
    assert ends == [0, *[-signal.SIGKILL] * 3, 0]
    calm, rough = (json.loads((tmp_path / name / "found.json").read_text()) for name in ("calm", "rough"))
    assert rough == calm
    assert len(calm) == 14
    once, again = ((tmp_path / name / "tried.txt").read_text().splitlines() for name in ("calm", "rough"))
    assert len(once) == len(set(once)) == 14
    assert [line for n, line in enumerate(again, start=1) if n not in (2, 6, 12)] == once, (
        "three trials were cut short, and only they came twice"
    )
    lines = [(tmp_path / name / "search.jsonl").read_text() for name in ("calm", "rough")]
    assert lines[0] == lines[1]
