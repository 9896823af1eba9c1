"The bundle as a whole: keys, variables, permissions, modes; and what this machine lacks."

from __future__ import annotations

import getpass
from typing import Any

import pytest

from boathouse.workspace.errors import BundleError

N = "notebook_task: {notebook_path: n.py}"
TASK = f"tasks: [{{task_key: t, {N}}}]\n"
DEV = "bundle: {name: demo}\ntargets: {dev: {mode: development, "
JOBS = f"resources: {{jobs: {{a: {{tasks: [{{task_key: t, {N}}}]}}}}}}\n"

CASES = [
    ("unknown-key", "bundle: {name: demo}\n^owner: me\n", "'owner' is not a key of a bundle and is ignored."),
    ("unknown-key", "bundle: {name: demo}\ntargets: {dev: {^color: red}}\n", "'color' is not a key of a target and is ignored."),
    (
        "unknown-key",
        "bundle: {name: demo}\nresources: {^job: {a: {}}}\n",
        "'job' is not a type of resource and is ignored. Did you mean 'jobs'?",
    ),
    (
        "same-resource-key",
        "bundle: {name: demo}\nresources:\n  jobs:\n    silver: {tasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]}\n"
        "  schemas:\n    ^silver: {catalog_name: c, name: silver}\n",
        "resources.schemas.silver has the key of resources.jobs.silver (databricks.yml:4). Rename one of the two keys; names may stay.",
    ),
    ("unused-variable", "bundle: {name: demo}\nvariables:\n  ^days: {default: 7}\n", "nothing reads the variable 'days'."),
    (
        "permission-level",
        "permissions: [{level: ^CAN_RUN, group_name: users}]\n" + TASK,
        "'CAN_RUN' is not a level of permission on jobs. Did you mean 'CAN_MANAGE_RUN'?",
    ),
    (
        "permission-level",
        "bundle: {name: demo}\npermissions: [{level: ^CAN_MANAGE_RUN, group_name: users}]\n",
        "'CAN_MANAGE_RUN' is not a level of permission of a bundle. Did you mean 'CAN_MANAGE'?",
    ),
    (
        "permission-holder",
        "permissions: [^{level: CAN_VIEW, group_name: users, user_name: me}]\n" + TASK,
        "a permission is for one of user_name, group_name, service_principal_name; this one names user_name and group_name.",
    ),
    (
        "run-as",
        "run_as: ^{user_name: me, service_principal_name: robot}\n" + TASK,
        "'run_as' names user_name and service_principal_name; it takes user_name or service_principal_name.",
    ),
    (
        "development-path",
        DEV + "workspace: {root_path: ^'/Workspace/Shared/${bundle.name}'}}}\n",
        "the root_path '/Workspace/Shared/${bundle.name}' of a target of mode development is the same for every user. "
        "Start it with `~/`, or write ${workspace.current_user.userName} in it.",
    ),
    (
        "development-prefix",
        DEV + "presets: {name_prefix: ^'[dev] '}}}\n",
        "the name_prefix '[dev] ' of a target of mode development does not hold the user's name. "
        "Write ${workspace.current_user.short_name} in it.",
    ),
    (
        "development-unpaused",
        DEV + "presets: {trigger_pause_status: ^UNPAUSED}}}\n",
        "a target of mode development cannot start triggers unpaused. Set pause_status at the one job that needs it.",
    ),
    (
        "production-root-path",
        JOBS.replace("resources", "bundle: {name: demo}\nresources", 1) + "targets: {prod: {^mode: production}}\n",
        "target 'prod' is of mode production and has no workspace.root_path of its own. "
        "Write one path for everybody, as /Workspace/Shared/.bundle/${bundle.name}/${bundle.target}.",
    ),
    (
        "production-pipeline",
        "bundle: {name: demo}\nresources: {pipelines: {p: {name: p, development: ^true}}}\n"
        "targets: {prod: {mode: production, workspace: {root_path: /Workspace/Shared/x}}}\n",
        "pipeline 'p' has `development: true` in a target of mode production.",
    ),
    (
        "python-resources",
        "bundle: {name: demo}\npython: ^{resources: ['resources:load_resources']}\n",
        "resources that Python code makes are not loaded on this machine.",
    ),
    (
        "not-run-here",
        "tasks: [{task_key: t, ^sql_task: {warehouse_id: w, query: {query_id: q}}}]\n",
        "task 't' is a sql_task, which this machine does not run.",
    ),
    (
        "not-run-here",
        "^git_source: {git_url: https://example.com/x.git, git_provider: gitHub, git_branch: main}\n" + TASK.replace("n.py", "jobs/n"),
        "'git_source' is not supported on this machine.",
    ),
    (
        "shared-schema",
        "bundle: {name: demo}\nresources:\n  schemas:\n    a: {catalog_name: dev, name: silver}\n    b: {catalog_name: prod, name: ^silver}\n",
        "the schema 'silver' is named in two catalogs, 'prod' here and 'dev' at databricks.yml:4:34. "
        "The catalogs of a target share their schemas on this machine. Rename the schema in one of them, or give each catalog a target of its own.",
    ),
    (
        "workspace-value",
        "bundle: {name: demo}\nvariables:\n  wh: {lookup: {warehouse: Shared}}\nresources:\n  jobs:\n    a:\n      tasks:\n"
        "        - {task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {wh: ^'${var.wh}'}}}\n",
        "${var.wh} has no value on this machine: it is looked up in a workspace. Give the variable a value with --var.",
    ),
    (
        "workspace-value",
        "bundle: {name: demo}\nresources:\n  pipelines: {p: {name: p}}\n  jobs:\n    a:\n      tasks:\n"
        "        - {task_key: t, notebook_task: {notebook_path: n.py, base_parameters: {p: ^'${resources.pipelines.p.id}'}}}\n",
        "${resources.pipelines.p.id} has no value on this machine: a workspace gives it to resources.pipelines.p when that is deployed.",
    ),
]


@pytest.mark.parametrize(("rule", "text", "expected"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_what_is_odd_about_a_bundle_is_named_with_its_place(check: Any, page: Any, rule: str, text: str, expected: str) -> None:
    assert check(text) == [f"{rule} ^ {expected}"]
    page.shows(rule, expected)


def test_an_include_in_an_included_file_is_ignored_as_the_cli_does(check: Any, page: Any) -> None:
    expected = "'include' of more.yml is ignored: only the root file's has an effect."
    found = check("bundle: {name: demo}\ninclude: [more.yml]\n", {"more.yml": "include: [third.yml]\n", "third.yml": "nonsense: 1\n"})
    assert found == [f"nested-include more.yml:1:1: {expected}"]
    page.shows("nested-include", expected)


def test_a_bundle_that_cannot_be_loaded_is_refused(check: Any, page: Any) -> None:
    with pytest.raises(BundleError) as caught:
        check("bundle: {name: demo}\nvariables: {catalog: {default: c}}\nresources: {jobs: {a: {name: '${var.catalgo}'}}}\n")
    assert str(caught.value) == "databricks.yml:3:30: ${var.catalgo}: the bundle declares no variable 'catalgo'. Did you mean 'catalog'?"
    page.shows("bundle", caught.value.as_json()["error"]["message"])


def test_what_has_no_effect_here_is_a_note(check: Any, page: Any) -> None:
    from boathouse.workspace.problems import RULES

    assert RULES["no-effect"].level == "note"
    assert check("run_as: {user_name: me@example.com}\n" + TASK) == []
    page.shows("no-effect", "'run_as' has no effect on this machine: tasks run as you.")


@pytest.mark.parametrize(
    "rest",
    [
        "presets: {name_prefix: '[${workspace.current_user.short_name}] '}}}",
        f"presets: {{name_prefix: '{getpass.getuser()}_'}}}}}}",
        "workspace: {root_path: '~/.bundle/x'}}}",
        "workspace: {root_path: '/Workspace/Users/someone@example.com/x'}}}",
        "workspace: {root_path: '/Workspace/Shared/${workspace.current_user.userName}/x'}}}",
        "presets: {trigger_pause_status: PAUSED}}}",
    ],
)
def test_a_development_target_with_the_user_s_name_is_right(check: Any, rest: str) -> None:
    assert check(DEV + rest + "\n") == []


@pytest.mark.parametrize(
    "target",
    [
        "{mode: production, workspace: {root_path: /Workspace/Shared/x}}",
        "{mode: production, run_as: {service_principal_name: robot}}",
        "{}",
    ],
)
def test_a_production_target_of_one_place_or_one_identity_is_right(check: Any, target: str) -> None:
    assert check("bundle: {name: demo}\n" + JOBS + f"targets: {{prod: {target}}}\n") == []


def test_a_variable_that_anything_reads_is_used(check: Any) -> None:
    text = "bundle: {name: demo}\nvariables:\n  a: {default: '${var.b}'}\n  b: {default: {x: 1}, type: complex}\n  c: {default: 1}\n"
    text += "targets: {dev: {default: true}, prod: {workspace: {root_path: '/x/${var.a}/${var.c}'}}}\n"
    assert check(text) == []
    assert check("bundle: {name: demo}\nvariables: {catalog: {default: c}}\n") == []
    python = "bundle: {name: demo}\nvariables: {a: {default: 1}}\npython: {resources: ['r:load']}\n"
    assert [f.split()[0] for f in check(python)] == ["python-resources"]


def test_a_lookup_that_only_chooses_compute_does_not_keep_a_job_from_running(check: Any) -> None:
    text = "bundle: {name: demo}\nvariables:\n  policy: {lookup: {cluster_policy: Small}}\n  pool: {lookup: {instance_pool: Pool}}\n"
    text += "resources:\n  jobs:\n    a:\n      job_clusters:\n"
    text += "        - {job_cluster_key: c, new_cluster: {num_workers: 1, policy_id: '${var.policy}', instance_pool_id: '${var.pool}'}}\n"
    assert check(text + f"      tasks: [{{task_key: t, job_cluster_key: c, {N}}}]\n") == []
    own = f"new_cluster: {{num_workers: 1, policy_id: '${{var.policy}}'}}, {N}"
    assert check(text + f"      tasks: [{{task_key: t, {own}}}]\n") == []


def test_a_number_that_only_a_workspace_knows_is_no_fault_of_the_schema(check: Any) -> None:
    text = "bundle: {name: demo}\nvariables: {other: {lookup: {job: Somebody's}}}\nresources:\n  jobs:\n    a:\n      tasks:\n"
    found = check(text + "        - {task_key: t, run_job_task: {job_id: ^'${var.other}'}}\n")
    assert [f.partition(" ^ ")[0] for f in found] == ["workspace-value"]
