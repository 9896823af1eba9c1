"Jobs and tasks one by one: schema, keys, numbers, compute; schedules and triggers."

from __future__ import annotations

from typing import Any

import pytest

from boathouse.workspace.validate import cron as quartz

N = "notebook_task: {notebook_path: n.py}"
TASK = f"tasks: [{{task_key: t, {N}}}]\n"
WHEEL = "python_wheel_task: {package_name: mine, entry_point: main}"
CRON = "timezone_id: UTC"


def of(task: str, head: str = "") -> str:
    return f"{head}tasks:\n  - {task}\n"


CASES = [
    ("schema", of(f"{{task_key: t, run_if: ^ALL_DON, {N}}}"), "'run_if' is 'ALL_DON', not one of"),
    ("no-tasks", "^description: nothing\n", "job 'a' has no tasks."),
    ("job-limit", "timeout_seconds: ^-1\n" + TASK, "timeout_seconds is -1; 0 means without end."),
    ("job-limit", "max_concurrent_runs: ^1001\n" + TASK, "max_concurrent_runs is 1001; 0 to 1000 is allowed."),
    ("job-limit", f"^tags: {{{', '.join(f't{i}: x' for i in range(26))}}}\n" + TASK, "job 'a' has 26 tags; 25 is the most."),
    (
        "job-limit",
        "^tasks:\n" + "".join(f"  - {{task_key: t{i}, {N}}}\n" for i in range(1001)),
        "job 'a' has 1001 tasks; 1000 is the most.",
    ),
    ("job-limit", f"name: ^{'x' * 4097}\n" + TASK, "the name of job 'a' has 4097 bytes; 4096 is the most."),
    (
        "task-type",
        of("^{task_key: t, description: later}"),
        "task 't' states nothing to run. A task has exactly one task type.",
    ),
    (
        "task-type",
        of(
            f"^{{task_key: t, {N}, spark_python_task: {{python_file: s.py}}, environment_key: e}}", "environments: [{environment_key: e}]\n"
        ),
        "task 't' states notebook_task and spark_python_task. A task has exactly one task type.",
    ),
    ("task-key", of(f"{{task_key: ^a b, {N}}}"), "'a b' is not a task key. Letters, digits, '_' and '-' are allowed, 100 at most."),
    ("task-number", of(f"{{task_key: t, max_retries: ^-2, {N}}}"), "max_retries is -2; -1 means without end."),
    ("task-number", of(f"{{task_key: t, timeout_seconds: ^-5, {N}}}"), "timeout_seconds is -5; it cannot be negative."),
    (
        "wheel-parameters",
        of(
            "{task_key: t, environment_key: e, python_wheel_task: {package_name: boathouse, entry_point: silver, parameters: ^[a], named_parameters: {b: c}}}",
            "environments: [{environment_key: e}]\n",
        ),
        "a wheel task has 'parameters' or 'named_parameters', not both.",
    ),
    (
        "job-cluster-key",
        of(f"{{task_key: t, job_cluster_key: ^smal, {N}}}", "job_clusters: [{job_cluster_key: small, new_cluster: {num_workers: 1}}]\n"),
        "task 't' runs on the job cluster 'smal', which its job does not declare. Did you mean 'small'?",
    ),
    (
        "environment-key",
        of(f"{{task_key: t, environment_key: ^defalt, {N}}}", "environments: [{environment_key: default}]\n"),
        "task 't' uses the environment 'defalt', which its job does not declare. Did you mean 'default'?",
    ),
    (
        "two-clusters",
        of(f"{{task_key: t, existing_cluster_id: x, ^new_cluster: {{num_workers: 1}}, {N}}}"),
        "task 't' names existing_cluster_id and new_cluster. Keep one of them.",
    ),
    (
        "no-compute",
        of("^{task_key: t, spark_python_task: {python_file: s.py}}"),
        "task 't' names no compute, which the Databricks CLI refuses. "
        "Give it one of job_cluster_key, environment_key, existing_cluster_id, new_cluster.",
    ),
    (
        "environment-base",
        "environments: [{environment_key: e, spec: {environment_version: '4', base_environment: ^base}}]\n" + TASK,
        "environment 'e' has a base_environment and an environment_version. Keep one of them.",
    ),
    (
        "old-runtime",
        of(
            "{task_key: t, job_cluster_key: c, libraries: [{whl: dist/*.whl}], python_wheel_task: {package_name: boathouse, entry_point: silver}}",
            "job_clusters: [{job_cluster_key: c, new_cluster: {num_workers: 1, spark_version: ^12.2.x-scala2.12}}]\n",
        ),
        "task 't' takes a wheel built here to Databricks runtime 12.2; 13.3 is the oldest that installs it.",
    ),
    (
        "cron",
        f"schedule: {{quartz_cron_expression: ^'0 0 * * *', {CRON}}}\n" + TASK,
        "'0 0 * * *' is not a Quartz expression: it has 5 fields, as Unix cron has them; Quartz wants the second before them, "
        "and `?` in one day field.",
    ),
    (
        "timezone",
        "schedule: {quartz_cron_expression: '0 0 0 * * ?', timezone_id: ^Europe/Berln}\n" + TASK,
        "'Europe/Berln' is not a time zone. Did you mean 'Europe/Berlin'?",
    ),
    (
        "two-triggers",
        f"schedule: {{quartz_cron_expression: '0 0 0 * * ?', {CRON}}}\n^continuous: {{pause_status: PAUSED}}\n" + TASK,
        "job 'a' has schedule and continuous; it can have one of them.",
    ),
    (
        "trigger-kind",
        "trigger: ^{pause_status: PAUSED}\n" + TASK,
        "the trigger waits for nothing: give it one of periodic, file_arrival, table_update, model.",
    ),
    (
        "trigger-kind",
        "trigger: {periodic: {interval: 1, unit: DAYS}, ^file_arrival: {url: /Volumes/a/b/c}}\n" + TASK,
        "a trigger has one of periodic, file_arrival, table_update, model; this one has periodic and file_arrival.",
    ),
    ("trigger-limit", "trigger: {periodic: {interval: ^0, unit: DAYS}}\n" + TASK, "the interval is 0; 1 is the least."),
    (
        "trigger-limit",
        "trigger: {file_arrival: {url: /Volumes/a/b/c, min_time_between_triggers_seconds: ^30}}\n" + TASK,
        "min_time_between_triggers_seconds is 30; 60 is the least.",
    ),
    (
        "trigger-limit",
        f"trigger: {{table_update: {{table_names: ^[{', '.join(f'c.s.t{i}' for i in range(11))}]}}}}\n" + TASK,
        "a trigger watches 1 to 10 tables; this one names 11.",
    ),
    (
        "trigger-limit",
        "trigger: {model: {condition: MODEL_CREATED, ^aliases: [champion]}}\n" + TASK,
        "'aliases' needs the condition MODEL_ALIAS_SET.",
    ),
]


@pytest.mark.parametrize(("rule", "text", "message"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_a_wrong_job_or_task_is_named_with_its_place(check: Any, page: Any, rule: str, text: str, message: str) -> None:
    found = [f for f in check(text) if not f.startswith("not-run-here")]
    assert len(found) == 1, found
    assert found[0].startswith(f"{rule} ^ {message}") if rule == "schema" else found == [f"{rule} ^ {message}"]
    page.shows(rule, found[0].removeprefix(f"{rule} ^ "))


def test_the_units_of_a_periodic_trigger_are_those_of_the_api(check: Any) -> None:
    found = check("trigger: {periodic: {interval: 1, unit: ^DAY}}\n" + TASK)
    assert found == ["schema ^ 'unit' is 'DAY', not one of DAYS, HOURS, MINUTES, WEEKS. Did you mean 'DAYS'?"]


def test_a_job_written_as_people_write_them_has_nothing_wrong_with_it(check: Any) -> None:
    text = """
    schedule: {quartz_cron_expression: "23 30 8 ? * MON-FRI", timezone_id: Europe/Amsterdam, pause_status: UNPAUSED}
    max_concurrent_runs: 1
    timeout_seconds: 0
    email_notifications: {on_failure: [someone@example.com]}
    webhook_notifications: {on_failure: [{id: abc}]}
    notification_settings: {no_alert_for_skipped_runs: true}
    health: {rules: [{metric: RUN_DURATION_SECONDS, op: GREATER_THAN, value: 600}]}
    queue: {enabled: true}
    permissions: [{level: CAN_MANAGE_RUN, group_name: users}]
    run_as: {service_principal_name: abc}
    tags: {team: data}
    job_clusters:
      - job_cluster_key: main
        new_cluster:
          spark_version: 15.4.x-scala2.12
          node_type_id: i3.xlarge
          data_security_mode: SINGLE_USER
          autoscale: {min_workers: 1, max_workers: 4}
    tasks:
      - {task_key: t, job_cluster_key: main, max_retries: -1, min_retry_interval_millis: 2000, retry_on_timeout: true, notebook_task: {notebook_path: n.py}}
    """
    assert check(text) == []


RIGHT = [
    *("0 0 0 * * ?", "0 0 12 ? * MON-FRI", "0 15 10 L * ?", "0 15 10 LW * ?", "0 15 10 L-3 * ?", "0 15 10 ? * 6L", "0 15 10 ? * FRI#3"),
    *(
        "0 0/5 14,18 * * ?",
        "0 0-5 14 * * ? 2026-2030",
        "46 0 9 ? * Mon",
        "0 0 8 15W JAN,JUL ?",
        "*/30 * * ? * *",
        "0 /5 * * * ?",
        "0 0 22-2 * * ?",
    ),
]
WRONG = {
    "0 0 0 * * *": "it gives a day of the month and a day of the week; Quartz wants `?` in one of the two.",
    "0 0 0 ? * ?": "both day fields are `?`; one of them must say which days.",
    "0 60 0 * * ?": "the minute is 60; 0 to 59 is allowed.",
    "0 0 24 * * ?": "the hour is 24; 0 to 23 is allowed.",
    "0 0 0 ? * MUN": "'MUN' is not a value of the day of the week: 1 to 7 or SUN to SAT.",
    "0 0 0 ? * 0": "the day of the week is 0; 1 to 7 is allowed.",
    "0 0 0 ? 13 MON": "the month is 13; 1 to 12 is allowed.",
    "? 0 0 * * ?": "`?` stands in the second; only the day fields take it.",
    "0 0/x 0 * * ?": "'0/X' in the minute: a whole number comes after `/`.",
    "0 0/90 * * * ?": "'0/90' steps by 90 in the minute; 59 is the most.",
    "0 0 0 1,L * ?": "`L` and `#` stand alone; the day of the month '1,L' is a list.",
    "0 0 0 ? * 6#6": "'6#6' names no week of the month; 1 to 5 come after `#`.",
    "0 0 0 1- * ?": "'1-' is not a value, a list or a range of the day of the month.",
    "0 0 0 * * ? 2030-2026": "the years '2030-2026' run backwards.",
    "daily": "it has 1 fields; Quartz wants second, minute, hour, day of month, month, day of week, and perhaps year.",
}


def test_what_quartz_takes_is_taken() -> None:
    for expression in RIGHT:
        quartz.check_cron(expression)


@pytest.mark.parametrize("expression", WRONG)
def test_what_quartz_refuses_is_refused_with_the_reason(expression: str) -> None:
    with pytest.raises(quartz.NotQuartz) as caught:
        quartz.check_cron(expression)
    assert str(caught.value) == WRONG[expression]


def test_time_zones_are_those_that_java_knows() -> None:
    assert [z for z in ("UTC", "Europe/Berlin", "GMT+2", "GMT-08:00", "PST", "EST5EDT") if quartz.zone_problem(z)[0]] == []
    assert quartz.zone_problem("Mars/Olympus")[0] == "'Mars/Olympus' is not a time zone."
