"""The rules of `boathouse validate`: their levels, what they check, and why.

`docs/validate.md` shows each rule with an example.
"""

from __future__ import annotations

from dataclasses import dataclass

from boathouse.workspace.errors import BundleError, Where

LEVELS = ("error", "refused", "advice", "note")


@dataclass(frozen=True)
class ValidationRule:
    """Describe one rule.

    Its `level` is `error` (wrong everywhere), `refused` (does not run here), `advice` (doubtful) or `note` (no effect here).
    """

    level: str
    looks_at: str
    why: str = ""


@dataclass(frozen=True)
class Problem:
    "Hold a finding of a rule, with its place."

    rule: str
    error: BundleError

    @property
    def level(self) -> str:
        "Return the level of the rule."
        return RULES[self.rule].level


def problem(rule: str, message: str, at: Where | None, hint: str = "") -> Problem:
    "Return a finding of a rule."
    return Problem(rule, BundleError(message, at, hint))


CREATE = "The platform refuses to create such a job."
ENDPOINT = "The platform refuses to create such an endpoint."
SUBJECTS = {
    "The bundle as a whole": {
        "bundle": ValidationRule("error", "anything that keeps the bundle from being loaded"),
        "unknown-key": ValidationRule(
            "advice",
            "keys of the bundle or a target, and types of resources, that the Databricks CLI does not know",
            "The CLI ignores it with a warning.",
        ),
        "nested-include": ValidationRule("advice", "`include` outside the root file", "The Databricks CLI ignores it with a warning."),
        "same-resource-key": ValidationRule(
            "error", "resources of different types under one key", "The Databricks CLI wants keys unique across all types of resources."
        ),
        "unused-variable": ValidationRule("advice", "variables that nothing reads"),
        "permission-level": ValidationRule("error", "levels in `permissions`", "Each type of resource has levels of its own."),
        "permission-holder": ValidationRule(
            "error", "who is given a permission", "A permission is given to one user, one group or one service principal."
        ),
        "run-as": ValidationRule("error", "`run_as` of the bundle or a job", "It names one user or one service principal."),
        "development-path": ValidationRule(
            "error",
            "paths of a `mode: development` target",
            "The Databricks CLI wants the user's name in them, so that developers do not overwrite each other.",
        ),
        "development-prefix": ValidationRule(
            "error",
            "`presets.name_prefix` of a `mode: development` target",
            "The Databricks CLI wants the user's name in it, so that developers do not overwrite each other.",
        ),
        "development-unpaused": ValidationRule(
            "error", "`presets.trigger_pause_status` of a `mode: development` target", "The Databricks CLI refuses UNPAUSED there."
        ),
        "production-root-path": ValidationRule(
            "advice",
            "`workspace.root_path` of a `mode: production` target",
            "Without it the CLI deploys only as a service principal, or if each job has `run_as`.",
        ),
        "production-pipeline": ValidationRule(
            "error", "pipelines of a `mode: production` target", "The Databricks CLI refuses `development: true` there."
        ),
        "python-resources": ValidationRule("refused", "`python` of the bundle", "Resources that Python code makes are not loaded here."),
    },
    "Models and serving endpoints": {
        "endpoint-key": ValidationRule(
            "advice",
            "keys, types and values of `model_serving_endpoints` that the API does not know, and keys that it may need",
            "The Databricks CLI warns of them; it drops what it does not know.",
        ),
        "endpoint-required": ValidationRule("error", "required keys of an endpoint, its entities and its routes", ENDPOINT),
        "endpoint-name": ValidationRule("error", "names of endpoints: their characters, and two of one name", ENDPOINT),
        "two-served-lists": ValidationRule("error", "`served_models` beside `served_entities`", "The Databricks CLI refuses it."),
        "served-models": ValidationRule("advice", "`served_models`", "The Databricks CLI warns of it, and deploys `served_entities`."),
        "served-name": ValidationRule("error", "names of served entities: their characters, and two of one name", ENDPOINT),
        "entity-version": ValidationRule("error", "the version of a served model: its number", ENDPOINT),
        "entity-name": ValidationRule(
            "advice",
            "names of served models that are almost those of `registered_models`",
            "The endpoint would serve another model, or none.",
        ),
        "endpoint-compute": ValidationRule(
            "advice", "`workload_size`, provisioned concurrency, `scale_to_zero_enabled` and `external_model` of a served entity"
        ),
        "traffic-sum": ValidationRule("error", "percentages of the routes: from 0 to 100, and 100 together", ENDPOINT),
        "traffic-route": ValidationRule("error", "what the routes lead to: each to another served entity of the endpoint", ENDPOINT),
        "auto-capture": ValidationRule(
            "advice", "`auto_capture_config`", "Databricks replaces these inference tables by those of the AI Gateway."
        ),
        "endpoint-run-as": ValidationRule(
            "advice",
            "endpoints of a bundle with `run_as`",
            "The Databricks CLI refuses it unless that identity deploys the bundle.",
        ),
        "model-aliases": ValidationRule(
            "advice", "`aliases` of registered models", "An open issue of the Databricks CLI (#4012): the deployment succeeds without them."
        ),
    },
    "Jobs": {
        "schema": ValidationRule("error", "keys, types and values that the Jobs API does not know, and required keys that are missing"),
        "no-tasks": ValidationRule("error", "jobs without tasks"),
        "job-limit": ValidationRule("error", "numbers and lengths of a job against the limits of the Jobs API", CREATE),
        "parameter-name": ValidationRule("error", "names of job parameters", CREATE),
        "parameter-default": ValidationRule("error", "references in the defaults of job parameters", CREATE),
        "parameter-size": ValidationRule("error", "the length of a job's parameters", CREATE),
    },
    "Tasks": {
        "task-type": ValidationRule("error", "the type of a task: exactly one", CREATE),
        "task-key": ValidationRule("error", "keys of tasks", CREATE),
        "task-number": ValidationRule("error", "timeouts, retries and intervals of a task", CREATE),
        "wheel-parameters": ValidationRule("error", "`parameters` beside `named_parameters`", CREATE),
        "job-cluster-key": ValidationRule("error", "`job_cluster_key` against the job's `job_clusters`", CREATE),
        "environment-key": ValidationRule("error", "`environment_key` against the job's `environments`", CREATE),
        "two-clusters": ValidationRule("error", "tasks that name more than one compute", "A task runs on one compute."),
        "no-compute": ValidationRule(
            "advice", "scripts and wheels that name no compute", "The Databricks CLI refuses it; only notebook tasks may leave it out."
        ),
        "environment-base": ValidationRule("error", "`base_environment` beside `environment_version`", CREATE),
        "old-runtime": ValidationRule(
            "error",
            "wheels built here on a runtime before 13.3",
            "The Databricks CLI refuses it without `experimental.python_wheel_wrapper`.",
        ),
    },
    "What waits for what": {
        "self-dependency": ValidationRule("error", "tasks that depend on themselves", CREATE),
        "dangling-edge": ValidationRule("error", "dependencies on tasks that do not exist", CREATE),
        "edge-outcome": ValidationRule("error", "`outcome` of a dependency", CREATE),
        "circle": ValidationRule("error", "tasks that wait for each other", CREATE),
        "both-outcomes": ValidationRule(
            "advice", "tasks that depend on both outcomes of a condition", "Every outcome must be met, so such a task never runs."
        ),
        "join-without-run-if": ValidationRule(
            "advice",
            "tasks that join branches of a condition without `run_if`",
            "The branch not taken is excluded; `run_if` says what the join makes of that.",
        ),
    },
    "Jobs that run jobs, and loops": {
        "other-job": ValidationRule(
            "refused", "`run_job_task` on a job that is not of this bundle", "A workspace may have it; this machine does not."
        ),
        "other-job-parameter": ValidationRule(
            "error", "`job_parameters` that the other job does not declare", "The platform fails the run."
        ),
        "job-circle": ValidationRule("error", "jobs that run each other", "The platform fails the run."),
        "job-depth": ValidationRule("error", "jobs in jobs in jobs: three levels at most", "The platform fails the run."),
        "loop-retries": ValidationRule("error", "`max_retries` of a for_each_task itself", CREATE),
        "loop-in-loop": ValidationRule("error", "a for_each_task in a for_each_task", CREATE),
        "loop-concurrency": ValidationRule("error", "`concurrency` of a for_each_task", CREATE),
        "loop-inputs": ValidationRule("error", "`inputs` of a for_each_task", CREATE),
        "loop-task-values": ValidationRule(
            "advice", "code in a for_each_task that sets task values", "The platform fails the call: iterations have no task values."
        ),
    },
    "References": {
        "reference": ValidationRule(
            "error", "`{{...}}` to parameters, tasks and fields that do not exist, or to tasks that are not upstream", CREATE
        ),
        "condition-operand": ValidationRule(
            "advice", "operands of an ordering that are no numbers", "Orderings compare numbers; the task fails."
        ),
    },
    "The code that runs": {
        "no-notebook": ValidationRule("error", "notebooks that are not there", "The Databricks CLI refuses it."),
        "not-a-notebook": ValidationRule("error", "files that are no notebooks", "The Databricks CLI refuses it."),
        "notebook-language": ValidationRule("refused", "notebooks in other languages"),
        "no-script": ValidationRule("error", "scripts that are not there", "The Databricks CLI refuses it."),
        "script-is-notebook": ValidationRule("error", "notebooks given as scripts", "The Databricks CLI refuses it."),
        "no-file": ValidationRule("error", "requirements, SQL files and dbt projects that are not there", "The Databricks CLI refuses it."),
        "outside-sync-root": ValidationRule(
            "error",
            "files outside the bundle that `sync.paths` does not bring in",
            "The Databricks CLI deploys no such file, and refuses it.",
        ),
        "workspace-path": ValidationRule(
            "refused", "code that lies in a workspace or a cloud store", "This machine has only the bundle's own files."
        ),
        "library": ValidationRule("error", "lines of libraries, environments and requirements files that pip would not take"),
        "no-package": ValidationRule(
            "error", "packages of wheel tasks", "Nothing in the bundle builds it, and no library of the task brings it."
        ),
        "no-entry-point": ValidationRule(
            "error", "entry points of wheel tasks", "The task would fail with that name, after its cluster has started."
        ),
    },
    "Schedules and triggers": {
        "cron": ValidationRule("error", "Quartz expressions", CREATE),
        "timezone": ValidationRule("error", "time zones", CREATE),
        "two-triggers": ValidationRule("error", "more than one of schedule, trigger, continuous", CREATE),
        "trigger-kind": ValidationRule("error", "triggers that wait for nothing, or for two things", CREATE),
        "trigger-limit": ValidationRule("error", "intervals, timers, tables and aliases of triggers", CREATE),
    },
    "Notifications": {
        "no-duration-rule": ValidationRule(
            "advice",
            "recipients of a duration warning without a rule in `health`",
            "The platform notifies them of nothing without the rule.",
        ),
        "notification-settings": ValidationRule(
            "refused", "`boathouse.yml`: the mail server and the destinations of notifications", "A run could not notify anybody."
        ),
        "destination": ValidationRule("note", "ids of `webhook_notifications` that `boathouse.yml` does not have"),
    },
    "Alerts": {
        "alert": ValidationRule(
            "error", "required keys, types, operators and recipients of alerts", "The platform refuses to create such an alert."
        ),
        "alert-key": ValidationRule("advice", "keys that an alert does not have", "The Databricks CLI ignores it with a warning."),
        "alert-threshold": ValidationRule(
            "error", "the threshold of an alert: one value or one column", "The platform refuses to create such an alert."
        ),
        "alert-not-evaluated": ValidationRule("refused", "alerts with parameters or a file of their own"),
        "alert-task": ValidationRule("error", "`alert_task`: which alert it evaluates, and its subscribers", CREATE),
        "other-alert": ValidationRule(
            "refused", "`alert_task` on an alert that is not of this bundle", "A workspace may have it; this machine does not."
        ),
        "alert-schedule": ValidationRule("note", "schedules of alerts"),
    },
    "Parameters that miss each other": {
        "widget-not-set": ValidationRule("advice", "widgets that no parameter sets"),
        "widget-default": ValidationRule(
            "advice", "defaults of widgets longer than 2,048 bytes", "The platform refuses them when the cell runs."
        ),
        "parameter-not-read": ValidationRule("advice", "`base_parameters` that the notebook does not read"),
        "job-parameter-not-read": ValidationRule("advice", "job parameters that no task reads"),
        "parameter-shadowed": ValidationRule(
            "advice", "parameters of a task that a job parameter replaces", "Job parameters are pushed down to every task, over its own."
        ),
    },
    "What this machine lacks": {
        "not-run-here": ValidationRule("refused", "types of tasks, and parts of a job, that this machine does not run"),
        "workspace-value": ValidationRule("refused", "`${...}` that only a workspace can fill in"),
        "shared-schema": ValidationRule(
            "refused",
            "schemas that resources, variables and parameters name in two catalogs of a target",
            "This machine keeps one schema of a name in a target: the tables of both catalogs would be the same, and dropping one would drop the other.",
        ),
        "no-effect": ValidationRule("note", "parts of a job that have no effect on this machine, or one of their own"),
    },
}
RULES: dict[str, ValidationRule] = {name: rule for rules in SUBJECTS.values() for name, rule in rules.items()}
