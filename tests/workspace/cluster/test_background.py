"The background cluster with real processes: two commands at once, a runner and a JVM killed, another process's notebook, repair, cancel, the queue."

from __future__ import annotations

import json
import mailbox
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

BUNDLE = """
bundle: {name: shared}
resources:
  jobs:
    write:
      max_concurrent_runs: 4
      parameters: [{name: table, default: t}]
      tasks: [{task_key: write, spark_python_task: {python_file: write.py, parameters: ["{{job.parameters.table}}"]}}]
    steps:
      queue: {enabled: true}
      parameters: [{name: seconds, default: "0"}]
      tasks:
        - {task_key: first, spark_python_task: {python_file: first.py}}
        - {task_key: second, depends_on: [{task_key: first}], spark_python_task: {python_file: second.py, parameters: ["{{tasks.first.values.n}}", "{{job.parameters.seconds}}"]}}
        - {task_key: third, depends_on: [{task_key: second}], spark_python_task: {python_file: third.py, parameters: ["{{job.repair_count}}"]}}
    hasty:
      max_concurrent_runs: 1
      queue: {enabled: false}
      tasks: [{task_key: wait, spark_python_task: {python_file: wait.py}}]
    outer: {tasks: [{task_key: go, run_job_task: {job_id: "${resources.jobs.inner.id}"}}]}
    inner: {tasks: [{task_key: t, spark_python_task: {python_file: scripts/loose.py}}]}
    notified:
      email_notifications: {on_start: [me@example.com]}
      tasks: [{task_key: below, run_job_task: {job_id: "${resources.jobs.asked.id}"}}]
    asked:
      webhook_notifications: {on_success: [{id: nobody}]}
      tasks: [{task_key: t, condition_task: {op: EQUAL_TO, left: a, right: a}, email_notifications: {on_success: [you@example.com]}}]
    hardy:
      tasks: [{task_key: t, max_retries: 1, spark_python_task: {python_file: once.py}}]
  alerts:
    share:
      display_name: Share
      warehouse_id: w
      query_text: select id, cast(id as decimal(9, 2)) / 4 as share from range(4)
      schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: UTC}
      evaluation:
        source: {name: share, aggregation: MAX}
        comparison_operator: GREATER_THAN
        threshold: {value: {double_value: 0.5}}
        notification: {subscriptions: [{user_email: watch@example.com}]}
    missing:
      display_name: Missing
      warehouse_id: w
      query_text: select n from no_such_table
      schedule: {quartz_cron_schedule: "0 0 8 * * ?", timezone_id: UTC}
      evaluation: {source: {name: n}, comparison_operator: IS_NULL}
targets: {local: {default: true}}
"""
FILES = {
    "write.py": "import sys\nspark.range(3).write.format('delta').mode('overwrite').saveAsTable(f'default.{sys.argv[1]}')\n",
    "first.py": "import time\ndbutils.jobs.taskValues.set('n', time.time_ns())\n",
    "second.py": """
        import pathlib, sys, time
        pathlib.Path("began").touch()
        time.sleep(float(sys.argv[2]))
        assert pathlib.Path("mended").exists(), "not mended"
        print(sys.argv[1])
        """,
    "third.py": "import sys\nprint('repair', sys.argv[1])\n",
    "wait.py": "import pathlib, time\npathlib.Path('began').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n",
    "scripts/loose.py": "import of_the_checkout\n",
    "src/of_the_checkout.py": "",
    "once.py": """
        import pathlib, time
        if not pathlib.Path("tried").exists():
            pathlib.Path("tried").touch()
            time.sleep(600)
        spark.range(3).write.format("delta").mode("overwrite").saveAsTable("default.after")
        """,
}


class Place:
    "A bundle in a folder and the commands given there, all on its background cluster."

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "databricks.yml").write_text(BUNDLE)
        for name, text in FILES.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(textwrap.dedent(text).lstrip())

    def begin(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from boathouse.workspace.cli.main import main; main()", *words, "--json"]
        environ = {**os.environ, "BOATHOUSE_CLUSTER": ""}
        return subprocess.Popen(command, cwd=self.root, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def call(self, *words: str, code: int = 0) -> Any:
        done = self.begin(*words)
        out, err = done.communicate()
        assert done.returncode == code, err
        return json.loads(out)

    def forget(self, *names: str) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def wait_for(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while not (self.root / name).exists():
            assert time.monotonic() < deadline, f"{name} never came"
            time.sleep(0.05)

    def newest(self) -> int:
        return int(self.call("runs")["runs"][0]["run_id"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("shared"))
    yield made
    made.call("cluster", "stop", "--force")


def results(run: dict[str, Any]) -> dict[str, str]:
    return {t["task_key"]: t["state"]["result_state"] for t in run["tasks"]}


def servers(place: Place) -> list[int]:
    "The processes of the background cluster, also of one that still starts."
    seen = [(p.pid, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    state = str(place.root / ".boathouse" / "local")
    return [pid for pid, words in seen if "boathouse.workspace.cluster.server" in words and state in words[-1]]


def test_commands_that_start_at_once_get_one_cluster_also_after_the_one_that_was_starting_it_was_killed(place: Place) -> None:
    killed = place.begin("run", "write")
    deadline = time.monotonic() + 60
    while not (started := servers(place)):
        assert time.monotonic() < deadline
    killed.kill()
    killed.communicate()
    with ThreadPoolExecutor(2) as both:
        runs = list(both.map(lambda table: place.call("run", "write", "--param", f"table={table}"), ("one", "two")))
    assert [r["state"]["result_state"] for r in runs] == ["SUCCESS", "SUCCESS"]
    assert place.call("sql", "select (select count(*) from default.one) + (select count(*) from default.two) as n") == [{"n": 6}]
    assert servers(place) == started == [place.call("cluster", "status")["pid"]]


def test_a_process_of_its_own_works_on_the_same_tables_through_get_spark(place: Place) -> None:
    code = """
        from pyspark.sql.functions import udf
        from boathouse.runtime import get_spark
        spark = get_spark()
        spark.range(4).select(udf(lambda n: n * 2, "long")("id").alias("n")).write.saveAsTable("default.three")
        print(spark.table("default.one").count(), spark.sql("select sum(n) from default.three").first()[0])
        """
    environ = {**os.environ, "BOATHOUSE_CLUSTER": "", "BOATHOUSE_STATE": str(place.root / ".boathouse" / "local")}
    before = place.call("cluster", "status")["pid"]
    expected = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=place.root, env=environ, capture_output=True, text=True, check=True
    )
    assert expected.stdout.split() == ["3", "12"]
    after = place.call("cluster", "status")
    assert (after["pid"], after["sessions"]) == (before, 0)


def test_a_run_and_the_job_it_runs_notify_and_the_run_shows_to_whom(place: Place) -> None:
    process = place.begin("run", "notified")
    out, err = process.communicate()
    assert process.returncode == 0, err
    run = json.loads(out)
    unknown = "boathouse.yml has no destination 'nobody' for this target."
    assert f"a notification (on_success) to destination:nobody could not be sent: {unknown}" in err
    assert f"2 notifications are in {place.root.resolve() / '.boathouse' / 'local' / 'mailbox'}, because no mail server is set." in err
    below = run["tasks"][0]["run"]
    assert [
        (n["event"], n["task_key"], n["destination"], n["state"], n["error"]) for one in (run, below) for n in one["notifications"]
    ] == [
        ("on_start", None, "email:me@example.com", "sent", ""),
        ("on_success", "t", "email:you@example.com", "sent", ""),
        ("on_success", None, "destination:nobody", "failed", unknown),
    ]
    assert place.call("runs", str(run["run_id"]))["notifications"] == run["notifications"]
    mails = [mail["To"] for mail in mailbox.mbox(place.root / ".boathouse" / "local" / "mailbox", create=False)]
    assert sorted(mails) == ["me@example.com", "you@example.com"]


def test_alerts_are_evaluated_by_real_sql_and_one_that_fails_is_an_error(place: Place) -> None:
    share, missing = place.call("alerts", "run", code=1)["alerts"]
    assert (share["state"], share["value"], share["notified"]) == ("TRIGGERED", 0.75, "TRIGGERED")
    assert missing["state"] == "ERROR"
    assert "TABLE_OR_VIEW_NOT_FOUND" in missing["message"]
    assert place.call("alerts", "run", "share")["alerts"][0]["notified"] is None
    assert [one["state"] for one in place.call("alerts")["alerts"]] == ["TRIGGERED", "ERROR"]
    mails = mailbox.mbox(place.root / ".boathouse" / "local" / "mailbox", create=False)
    assert [mail["Subject"] for mail in mails if mail["To"] == "watch@example.com"] == ["[shared local] alert 'Share' is triggered"]


def test_a_repair_runs_again_what_failed_and_keeps_what_succeeded_with_its_values(place: Place) -> None:
    place.forget("mended")
    failed = place.call("run", "steps", code=1)
    assert results(failed) == {"first": "SUCCESS", "second": "FAILED", "third": "UPSTREAM_FAILED"}
    still = place.call("repair", str(failed["run_id"]), code=1)
    assert still["tasks"][1]["attempt_number"] == 1
    (place.root / "mended").touch()
    mended = place.call("repair", str(failed["run_id"]))
    assert mended["run_id"] == failed["run_id"]
    assert results(mended) == {"first": "SUCCESS", "second": "SUCCESS", "third": "SUCCESS"}
    first, second, third = mended["tasks"]
    assert first == failed["tasks"][0]
    assert [second["attempt_number"], len(second["previous_attempts"]), third["attempt_number"]] == [2, 2, 0]
    assert Path(second["log"]).read_text().split() == [str(first["values"]["n"])]
    assert Path(third["log"]).read_text().split() == ["repair", "2"]
    told = [(r["type"], r["state"]["result_state"]) for r in mended["repair_history"]]
    assert told == [("ORIGINAL", "FAILED"), ("REPAIR", "FAILED"), ("REPAIR", "SUCCESS")]
    assert second["run_id"] in mended["repair_history"][2]["task_run_ids"]
    assert "there is nothing to repair" in place.call("repair", str(failed["run_id"]), code=2)["error"]["message"]
    again = place.call("repair", str(failed["run_id"]), "--task", "first", "--rerun-dependents")
    assert [t["attempt_number"] for t in again["tasks"]] == [1, 3, 1]


def test_a_run_from_wheels_is_repaired_from_wheels_with_the_jobs_it_runs(place: Place) -> None:
    "The module is found in the checkout alone: a repair that forgot would succeed."
    failed = place.call("run", "outer", "--wheel", code=1)
    repaired = place.call("repair", str(failed["run_id"]), code=1)
    expected = [run["tasks"][0]["run"]["tasks"][0]["state"]["state_message"] for run in (failed, repaired)]
    assert expected == ["ModuleNotFoundError: No module named 'of_the_checkout'"] * 2
    plain = place.call("run", "outer")
    assert results(plain) == {"go": "SUCCESS"}


def test_a_runner_that_is_killed_takes_its_task_with_it_and_its_run_can_be_repaired(place: Place) -> None:
    place.forget("began")
    (place.root / "mended").touch()
    runner = place.begin("run", "steps", "--param", "seconds=600")
    place.wait_for("began")
    cluster = place.call("cluster", "status")
    assert cluster["tasks"] == ["second"]
    os.kill(runner.pid, signal.SIGKILL)
    runner.communicate()
    deadline = time.monotonic() + 20
    while place.call("cluster", "status")["tasks"]:
        assert time.monotonic() < deadline, "the task outlived its runner"
    run_id = place.newest()
    left = place.call("runs", str(run_id))
    assert left["state"]["life_cycle_state"] == "INTERNAL_ERROR"
    assert f"(pid {runner.pid}) ended before the run did" in left["state"]["state_message"]
    mended = place.call("repair", str(run_id), "--param", "seconds=0")
    assert results(mended) == {"first": "SUCCESS", "second": "SUCCESS", "third": "SUCCESS"}
    assert mended["tasks"][0]["run_id"] == left["tasks"][0]["run_id"]
    assert place.call("cluster", "status")["pid"] == cluster["pid"]


def test_a_run_is_cancelled_from_another_process_and_a_run_in_its_queue_goes_on(place: Place) -> None:
    place.forget("began")
    (place.root / "mended").touch()
    first = place.begin("run", "steps", "--param", "seconds=600")
    place.wait_for("began")
    one = place.newest()
    second = place.begin("run", "steps")
    deadline = time.monotonic() + 30
    while (two := place.newest()) == one or place.call("runs", str(two))["state"]["life_cycle_state"] != "QUEUED":
        assert time.monotonic() < deadline, "the second run did not queue"
    cancelled = place.call("cancel", str(one))
    assert results(cancelled) == {"first": "SUCCESS", "second": "CANCELED", "third": "CANCELED"}
    first.communicate()
    assert first.returncode == 1
    out, err = second.communicate()
    assert (second.returncode, json.loads(out)["state"]["result_state"]) == (0, "SUCCESS")
    assert f"is queued: run {one} of it has not ended" in err
    assert "has ended: CANCELED" in place.call("cancel", str(one), code=2)["error"]["message"]


def test_without_a_queue_a_run_too_many_is_skipped(place: Place) -> None:
    place.forget("began", "go")
    first = place.begin("run", "hasty")
    place.wait_for("began")
    skipped = place.call("run", "hasty", code=1)
    assert skipped["state"]["life_cycle_state"] == "SKIPPED"
    assert skipped["state"]["result_state"] == "MAXIMUM_CONCURRENT_RUNS_REACHED"
    assert skipped["tasks"] == []
    (place.root / "go").touch()
    first.communicate()
    assert first.returncode == 0


def test_a_jvm_that_is_killed_fails_its_task_with_that_reason_and_the_retry_gets_another(place: Place) -> None:
    before = place.call("cluster", "status")["pid"]
    place.forget("tried")
    runner = place.begin("run", "hardy")
    place.wait_for("tried")
    (jvm,) = [p for p in psutil.Process(before).children() if p.name() == "java"]
    jvm.kill()
    out, err = runner.communicate()
    assert runner.returncode == 0, err
    task = json.loads(out)["tasks"][0]
    assert "the cluster's JVM was ended from outside, or crashed (signal 9)" in task["previous_attempts"][0]["state"]["state_message"]
    assert task["state"]["result_state"] == "SUCCESS"
    assert "another one takes its place" in err
    assert place.call("sql", "select count(*) as n from default.after") == [{"n": 3}]
    assert place.call("cluster", "status")["pid"] != before
