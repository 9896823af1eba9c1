"""Loading a bundle: includes, targets, variables, references, and errors that name file, line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.bundle import yaml_tree as yamlfile
from boathouse.workspace.bundle.load import Bundle, load
from boathouse.workspace.errors import BundleError

ROOT = """
bundle: {name: demo}
include: ["bundles/*.yml"]
variables:
  catalog: {default: spark_catalog}
  cap: {default: 3}
  sizes: {type: complex, default: {small: 1, names: [a, b]}}
targets:
  local: {default: true}
  dev: {variables: {catalog: dev}}
"""


def make(tmp_path: Path, files: dict[str, str] | str = ROOT, **options: Any) -> Bundle:
    files = {"databricks.yml": files} if isinstance(files, str) else files
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return load(tmp_path, options.pop("target", None), options.pop("overrides", {}), options.pop("environ", {}))


def job(text: str) -> str:
    return "resources:\n  jobs:\n    a:\n" + "\n".join(f"      {line}" for line in text.splitlines())


def refused(tmp_path: Path, files: dict[str, str] | str, **options: Any) -> str:
    with pytest.raises(BundleError) as caught:
        make(tmp_path, files, **options)
    return str(caught.value)


def test_a_string_that_is_one_reference_takes_over_the_type_of_what_it_names(tmp_path: Path) -> None:
    bundle = make(
        tmp_path,
        {"databricks.yml": ROOT, "bundles/a.yml": job("max_concurrent_runs: ${var.cap}\nname: up to ${var.cap}\ntags: ${var.sizes}")},
    )
    assert bundle.jobs["a"]["max_concurrent_runs"] == 3
    assert bundle.jobs["a"]["name"] == "up to 3"
    assert yamlfile.to_plain_tree(bundle.jobs["a"]["tags"]) == {"small": 1, "names": ["a", "b"]}


def test_a_complex_variable_can_be_read_in_parts(tmp_path: Path) -> None:
    bundle = make(tmp_path, {"databricks.yml": ROOT, "bundles/a.yml": job("name: ${var.sizes.names[1]}-${var.sizes.small}")})
    assert bundle.jobs["a"]["name"] == "b-1"


def test_the_command_line_beats_the_environment_beats_the_target_beats_the_default(tmp_path: Path) -> None:
    env, cli = {"BUNDLE_VAR_catalog": "from_env"}, {"catalog": "from_cli"}
    assert make(tmp_path).catalog == "spark_catalog"
    assert make(tmp_path, target="dev").catalog == "dev"
    assert make(tmp_path, target="dev", environ=env).catalog == "from_env"
    assert make(tmp_path, target="dev", environ=env, overrides=cli).catalog == "from_cli"


def test_a_target_changes_one_field_of_one_task_and_keeps_the_rest(tmp_path: Path) -> None:
    base = job("tasks:\n- {task_key: x, timeout_seconds: 5}\n- {task_key: y}\nparameters: [{name: p, default: '1'}]")
    target = "  dev:\n    resources: {jobs: {a: {tasks: [{task_key: y, max_retries: 2}], parameters: [{name: p, default: '2'}]}}}\n"
    files = {"databricks.yml": ROOT.replace("  dev: {variables: {catalog: dev}}\n", target), "bundles/a.yml": base}
    changed = yamlfile.to_plain_tree(make(tmp_path, files, target="dev").jobs["a"])
    assert changed["tasks"] == [{"task_key": "x", "timeout_seconds": 5}, {"task_key": "y", "max_retries": 2}]
    assert changed["parameters"] == [{"name": "p", "default": "2"}]
    assert yamlfile.to_plain_tree(make(tmp_path, files).jobs["a"])["tasks"][1] == {"task_key": "y"}


def test_resources_read_each_other_as_deployed_on_this_machine(tmp_path: Path) -> None:
    resources = job(
        "name: ${resources.volumes.v.volume_path}\ntimeout_seconds: ${resources.jobs.a.id}\ndescription: ${resources.schemas.s.id}"
    )
    resources += "\n  schemas: {s: {catalog_name: '${var.catalog}', name: bronze}}"
    resources += "\n  volumes: {v: {catalog_name: '${var.catalog}', schema_name: '${resources.schemas.s.name}', name: landing}}"
    bundle = make(tmp_path, {"databricks.yml": ROOT, "bundles/a.yml": resources})
    assert bundle.jobs["a"]["name"] == str(tmp_path / ".boathouse/local/volumes/spark_catalog/bronze/landing")
    assert bundle.jobs["a"]["description"] == "spark_catalog.bronze"
    number = bundle.jobs["a"]["timeout_seconds"]
    assert isinstance(number, int)
    assert number == load(tmp_path, "dev").jobs["a"]["timeout_seconds"]


def test_double_braces_and_unknown_spaces_are_left_for_others(tmp_path: Path) -> None:
    bundle = make(tmp_path, {"databricks.yml": ROOT, "bundles/a.yml": job("name: '{{job.id}} ${HOME} ${1x}'")})
    assert bundle.jobs["a"]["name"] == "{{job.id}} ${HOME} ${1x}"


def test_an_unknown_variable_is_refused_with_its_place_and_the_nearest_name(tmp_path: Path) -> None:
    message = refused(tmp_path, {"databricks.yml": ROOT, "bundles/a.yml": job("name: ${var.catalgo}")})
    assert message == "bundles/a.yml:4:13: ${var.catalgo}: the bundle declares no variable 'catalgo'. Did you mean 'catalog'?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bundle: {name: x}\nbundle: {name: y}\n", "databricks.yml:2:1: the key 'bundle' appears twice"),
        ("bundle: {name: x}\nincldue: []\n", "databricks.yml:2:1: 'incldue' is not a key of a bundle. Did you mean 'include'?"),
        ("bundle: {name: x\n", "not valid YAML"),
        (
            'bundle:\n  name: "x\n  uuid: "1"\n',
            "databricks.yml:3:10: not valid YAML: did not find expected key while parsing a block mapping that begins in line 2.",
        ),
        ("bundle: {name: @x}\n", "databricks.yml:1:16: not valid YAML: found character that cannot start any token."),
        ("targets: {a: {}}\n", "the bundle has no name"),
        ("bundle: {name: x}\nvariables: {v: {}}\n", "databricks.yml:2:13: variable 'v' has no value. Give one with --var v=..."),
        ("bundle: {name: x}\nvariables: {v: {default: '${var.w}'}, w: {default: '${var.v}'}}\n", "references go round in a circle"),
        ("bundle: {name: x}\ntargets: {a: {}, b: {}}\n", "no target is the default. Name one with -t: a, b."),
        ("bundle: {name: x}\ninclude: [none.yml]\n", "databricks.yml:2:11: 'include' names 'none.yml', which does not exist."),
        ("bundle: {name: x}\ntargets: {a: {mode: develop}}\n", "'develop' is not a mode"),
        ("bundle: {name: x}\nresources: {jobs: {j: 1}}\n", "databricks.yml:2:23: 'resources.jobs.j' must be a mapping."),
        ("bundle: {name: x}\nvariables: {l: {type: complex, default: [1]}, s: {default: 'a ${var.l}'}}\n", "is a list and cannot be part"),
    ],
)
def test_a_broken_bundle_is_refused_where_it_is_broken(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_two_tasks_of_one_key_in_one_definition_are_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, {"databricks.yml": ROOT, "bundles/a.yml": job("tasks:\n- task_key: x\n- task_key: x")})
    assert message == "bundles/a.yml:6:19: task_key 'x' appears twice under 'tasks' (first at line 5)."


def test_one_resource_in_two_files_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, {"databricks.yml": ROOT, "bundles/a.yml": job("name: x"), "bundles/b.yml": job("name: y")})
    assert "bundles/b.yml:3:5: resources.jobs.a is defined twice (first at bundles/a.yml:3)." in message


def test_an_unknown_target_and_an_unknown_var_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    assert "the bundle has no target 'locale'. Did you mean 'local'?" in refused(tmp_path, ROOT, target="locale")
    assert "declares no variable 'catalogue'. Did you mean 'catalog'?" in refused(tmp_path, ROOT, overrides={"catalogue": "x"})


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no databricks\.yml"):
        load(tmp_path)


ANCHORS = """
bundle: {name: demo}
%s
resources:
  jobs:
    a: {<<: *shared, tasks: [{task_key: t, notebook_task: {notebook_path: n.py}}]}
"""


@pytest.mark.parametrize(
    "block",
    [
        "common_permissions: &shared {permissions: [{level: CAN_VIEW, group_name: users}]}",
        "variable:\n  of_jobs: &shared\n    max_concurrent_runs: 2",
        "resource: [&shared {timeout_seconds: 60}]",
        "permission: &unused CAN_VIEW\ndefinitions: {jobs: {one: &shared {description: first}}}",
    ],
)
def test_a_key_that_holds_an_anchor_is_no_slip_of_the_pen_whatever_it_is_called(tmp_path: Path, block: str) -> None:
    (tmp_path / "databricks.yml").write_text(ANCHORS % block)
    bundle = load(tmp_path, environ={})
    assert (bundle.notes, bundle.written and bundle.written.remarks) == ((), ())
    assert {"permissions", "max_concurrent_runs", "timeout_seconds", "description"} & bundle.jobs["a"].keys()


def test_an_anchor_is_found_in_included_files_and_targets_and_a_key_that_only_uses_one_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "databricks.yml").write_text(
        "bundle: {name: demo}\ninclude: [more.yml]\ntargets: {dev: {variable: &shared {x: {default: 1}}, variables: *shared}}\n"
    )
    (tmp_path / "more.yml").write_text("variables: {x: {default: 2}}\nresource: &own {jobs: {}}\nresources: *own\n")
    assert load(tmp_path, environ={}).variables == {"x": 1}
    (tmp_path / "more.yml").write_text("variables: &own {x: {default: 2}}\nvariable: *own\n")
    with pytest.raises(BundleError, match=r"more.yml:2:1: 'variable' is not a key of a bundle. Did you mean 'variables'\?"):
        load(tmp_path, environ={})


def test_scalars_are_those_of_yaml_1_2_and_anchors_work() -> None:
    tree = yamlfile.loads("base: &b {on: yes, day: 2013-10-01, at: 12:30, n: 010, f: 1.5, t: true}\ncopy: {<<: *b, n: 2}\n", "f.yml")
    assert tree["base"] == {"on": "yes", "day": "2013-10-01", "at": "12:30", "n": 10, "f": 1.5, "t": True}
    assert tree["copy"] == tree["base"] | {"n": 2}
    assert str(tree["copy"].values_at["day"]) == "f.yml:1:25"


def test_a_json_file_is_a_bundle_file_too(tmp_path: Path) -> None:
    root = ROOT.replace('"bundles/*.yml"', "more.json")
    bundle = make(tmp_path, {"databricks.yml": root, "more.json": '{\n\t"resources": {"jobs": {"a": {"name": "j"}}}}'})
    assert bundle.jobs["a"]["name"] == "j"


def test_development_mode_prefixes_names_and_pauses_schedules(tmp_path: Path) -> None:
    resources = job("name: j\nschedule: {quartz_cron_expression: '0 0 0 * * ?', timezone_id: UTC}")
    resources += "\n  schemas: {s: {catalog_name: c, name: bronze}}\n  experiments: {e: {name: /Shared/x}}"
    files = {"databricks.yml": ROOT.replace("dev: {", "dev: {mode: development, "), "bundles/a.yml": resources}
    bundle = make(tmp_path, files, target="dev")
    user = bundle.data["workspace"]["current_user"]["short_name"]
    assert bundle.jobs["a"]["name"] == f"[dev {user}] j"
    assert bundle.jobs["a"]["schedule"]["pause_status"] == "PAUSED"
    assert bundle.data["resources"]["schemas"]["s"]["name"] == f"dev_{user}_bronze"
    assert bundle.data["resources"]["experiments"]["e"]["name"] == f"/Shared/[dev {user}] x"
    assert make(tmp_path, files).jobs["a"]["name"] == "j"
