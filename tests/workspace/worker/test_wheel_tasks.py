"""Tasks run from wheels and libraries: what is not in them is not there, also in Spark's workers, whatever the checkout or the zygote has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boathouse.workspace.bundle.jobs import all_jobs
from boathouse.workspace.bundle.load import load
from boathouse.workspace.history.as_json import run_json
from boathouse.workspace.history.store import History
from boathouse.workspace.run.runner import Runner

if TYPE_CHECKING:
    from boathouse.workspace.cluster.cluster import Cluster
    from conftest import Tiny

OWN_WHEEL = "{tiny: {type: whl, build: python3 -m pip wheel --no-deps --wheel-dir dist .}}"


def ran(tiny: Tiny, cluster: Cluster, *, wheel: bool = False) -> dict[str, tuple[str, str, str]]:
    "Result, message and log of each task of job `a`."
    bundle = load(tiny.root, environ={})
    jobs = all_jobs(bundle)
    history = History(bundle.state)
    run_id, _ = Runner(cluster, bundle, jobs, history, preparation=tiny.preparation(wheel=wheel)[0]).run(jobs["a"])
    tasks: list[dict[str, Any]] = run_json(history, run_id)["tasks"]
    return {t["task_key"]: (t["state"]["result_state"], t["state"]["state_message"], Path(t["log"]).read_text().strip()) for t in tasks}


@pytest.mark.parametrize(
    ("main", "missing"),
    [
        ("from importlib.resources import files\ndef go(): print(files('oars').joinpath('rules.txt').read_text())\n", "FileNotFoundError"),
        ("def go():\n    import loose\n    print(loose.SAID)\n", "ModuleNotFoundError: No module named 'loose'"),
        ("def go(): print(open('notes.txt').read())\n", "FileNotFoundError"),
    ],
    ids=["package data", "a module beside the package", "a file of the checkout"],
)
def test_what_the_checkout_has_and_the_wheel_lacks_fails_with_wheel_only(tiny: Tiny, cluster: Cluster, main: str, missing: str) -> None:
    tiny.project("oars", main, rules__txt="it is there")
    (tiny.root / "src" / "loose.py").write_text("SAID = 'it is there'\n")
    (tiny.root / "notes.txt").write_text("it is there")
    tiny.bundle("oars", artifacts=OWN_WHEEL, dependencies="[dist/*.whl]")
    assert ran(tiny, cluster)["oars"] == ("SUCCESS", "", "it is there")
    state, message, _ = ran(tiny, cluster, wheel=True)["oars"]
    assert state == "FAILED"
    assert message.startswith(missing)


def test_a_wheel_is_imported_in_the_task_and_in_sparks_workers(tiny: Tiny, cluster: Cluster) -> None:
    main = """
        def here(_):
            import oars
            return oars.__file__

        def go():
            from pyspark.sql import SparkSession
            spark = SparkSession.builder.getOrCreate()
            there = spark.sparkContext.parallelize([1], 1).map(here).first()
            print(here(0) == there, there)
        """
    tiny.project("oars", main)
    tiny.bundle("oars", artifacts=OWN_WHEEL, dependencies="[dist/*.whl]")
    state, message, log = ran(tiny, cluster, wheel=True)["oars"]
    assert (state, message) == ("SUCCESS", "")
    assert log.startswith(f"True {tiny.root}/.boathouse/default/artifacts/oars-1.0-")


def test_a_library_in_another_version_than_the_zygotes_reaches_its_own_task_only(tiny: Tiny, cluster: Cluster) -> None:
    "hyperopt is imported before any fork: this task gets an interpreter of its own."
    tiny.wheel(tiny.project("hyperopt", "", "other", version="99", needs=("filelock",)), "index")
    (tiny.root / "s.py").write_text(
        "import importlib.metadata, hyperopt\nprint(importlib.metadata.version('hyperopt'), hyperopt.__file__)\nspark.range(1)\n"
    )
    script = "spark_python_task: {python_file: s.py}"
    tiny.bundle(f"{{task_key: t, environment_key: e, {script}}}", f"{{task_key: u, {script}}}",
                dependencies=f"[hyperopt==99, '--find-links {tiny.root}/index']")  # fmt: skip
    tasks = ran(tiny, cluster)
    assert [tasks[key][:2] for key in "tu"] == [("SUCCESS", "")] * 2
    assert tasks["t"][2].startswith(f"99 {tiny.root}/.boathouse/default/libraries/")
    assert "site-packages/hyperopt" in tasks["u"][2]
