"""Parts of a bundle in detail: included files, variables and where their values come from, presets, what only a workspace knows."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from boathouse.workspace.bundle import yaml_tree as yamlfile
from boathouse.workspace.bundle.load import Bundle, load, read_bundle
from boathouse.workspace.errors import BundleError

NAME = "bundle: {name: demo}\n"
JOB = "resources: {jobs: {%s: {name: %s}}}\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def of(folder: Path, text: str, target: str | None = None, files: dict[str, str] | None = None, **options: Any) -> Bundle:
    return load(write(folder, {"databricks.yml": text} | (files or {})), target, options.pop("overrides", {}), options.pop("environ", {}))


def refused(folder: Path, text: str, target: str | None = None, **options: Any) -> str:
    with pytest.raises(BundleError) as caught:
        of(folder, text, target, **options)
    return str(caught.value)


def test_a_file_that_two_patterns_match_is_included_once(tmp_path: Path) -> None:
    bundle = of(
        tmp_path, NAME + "include: [jobs/a.yml, 'jobs/*.yml']\n", files={"jobs/a.yml": JOB % ("a", "x"), "jobs/b.yml": JOB % ("b", "y")}
    )
    assert list(bundle.jobs) == ["a", "b"]


def test_two_stars_reach_one_folder_down_as_in_the_cli(tmp_path: Path) -> None:
    files = {"r/a.yml": JOB % ("a", "x"), "r/one/b.yml": JOB % ("b", "y"), "r/one/two/c.yml": JOB % ("c", "z")}
    assert list(of(tmp_path, NAME + "include: ['r/**/*.yml']\n", files=files).jobs) == ["b"]


def test_an_included_file_may_lie_beside_the_bundle(tmp_path: Path) -> None:
    write(tmp_path, {"shared/a.yml": JOB % ("a", "x")})
    assert list(of(tmp_path / "mine", NAME + "include: ['../shared/*.yml']\n").jobs) == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include: [/etc/x.yml]\n", "databricks.yml:2:11: 'include' names '/etc/x.yml'; patterns are relative to the bundle's root."),
        ("include: ['jobs/*']\n", "databricks.yml:2:11: 'include' matches jobs/readme.md, which is neither YAML nor JSON."),
        ("include: [jobs/aa.yml]\n", "databricks.yml:2:11: 'include' names 'jobs/aa.yml', which does not exist. Did you mean 'a.yml'?"),
        ("targets: {dev: {resorces: {}}}\n", "databricks.yml:2:17: 'resorces' is not a key of a target. Did you mean 'resources'?"),
        (
            "variables: {v: {default: {a: 1}}}\n",
            "databricks.yml:2:26: the value of variable 'v' is a mapping. Declare 'v' with `type: complex`.",
        ),
        ("variables: {v: {type: string, default: 1}}\n", "databricks.yml:2:23: 'string' is not a type of variable."),
        ("variables: {v: {lookup: {clustr: x}}}\n", "databricks.yml:2:26: 'clustr' cannot be looked up. Did you mean 'cluster'?"),
        ("variables: {v: {default: 1, lookup: {cluster: x}}}\n", "databricks.yml:2:29: variable 'v' has a default and a lookup."),
        (
            "presets: {jobs_max_concurrent_runs: many}\n",
            "databricks.yml:2:37: the preset 'jobs_max_concurrent_runs' is 'many', not a whole number.",
        ),
        (
            "presets: {trigger_pause_status: OFF}\n",
            "databricks.yml:2:33: the preset 'trigger_pause_status' is 'OFF', not PAUSED or UNPAUSED.",
        ),
        ("presets: {name_prefx: x}\n", "databricks.yml:2:11: 'name_prefx' is not a preset. Did you mean 'name_prefix'?"),
        (
            "variables: {" + ", ".join(f"v{i}: {{default: '${{var.v{i + 1}}}'}}" for i in range(13)) + ", v13: {default: x}}\n",
            "${var.v12} leads through more than 11 references.",
        ),
    ],
)
def test_a_slip_is_refused_where_it_is(tmp_path: Path, text: str, message: str) -> None:
    found = refused(tmp_path, NAME + text, files={"jobs/readme.md": "", "jobs/a.yml": JOB % ("a", "x")})
    assert message in found


VARIABLES = """
bundle: {name: demo}
variables:
  size: {default: 1}
  cluster: {type: complex, default: {workers: 1, tags: {a: b}}}
  place: {lookup: {warehouse: Shared}}
targets:
  plain: {default: true}
  scalar: {variables: {size: 2}}
  mapping: {variables: {size: {default: 3, description: three}, place: {default: here}}}
  value: {variables: {cluster: {workers: 4}}}
  odd: {variables: {cluster: {type: single}}}
  whole: {variables: {cluster: {type: complex, default: {workers: 5}}}}
"""


def test_a_target_gives_a_variable_a_value_or_a_new_definition(tmp_path: Path) -> None:
    values = {t: of(tmp_path, VARIABLES, t).variables for t in ("plain", "scalar", "mapping", "value", "whole")}
    assert [v["size"] for v in values.values()] == [1, 2, 3, 1, 1]
    assert [v["cluster"]["workers"] for v in values.values()] == [1, 1, 1, 4, 5]
    assert "tags" not in values["value"]["cluster"]
    assert of(tmp_path, VARIABLES, "odd").variables["cluster"] == {"type": "single"}
    assert values["mapping"]["place"] == "here"
    assert "place" not in values["plain"]


def test_saved_overrides_beat_the_target_and_are_beaten_by_the_environment(tmp_path: Path) -> None:
    saved = {".databricks/bundle/value/variable-overrides.json": json.dumps({"size": 7, "cluster": {"workers": 8}})}
    assert of(tmp_path, VARIABLES, "value", files=saved).variables == {"size": 7, "cluster": {"workers": 8}}
    assert of(tmp_path, VARIABLES, "value", environ={"BUNDLE_VAR_size": "9"}).variables["size"] == "9"
    assert of(tmp_path, VARIABLES, "scalar").variables["size"] == 2


def test_a_complex_variable_is_given_by_files_only(tmp_path: Path) -> None:
    assert "variable 'cluster' is complex and cannot be given by --var" in refused(tmp_path, VARIABLES, overrides={"cluster": "x"})
    assert "BUNDLE_VAR_cluster: variable 'cluster' is complex" in refused(tmp_path, VARIABLES, environ={"BUNDLE_VAR_cluster": "x"})


def test_what_only_a_workspace_knows_stays_as_it_is_written_and_is_remembered(tmp_path: Path) -> None:
    text = VARIABLES + "resources:\n  pipelines: {p: {name: x}}\n  jobs: {a: {name: '${var.place}-${resources.pipelines.p.id}'}}\n"
    bundle = of(tmp_path, text)
    assert bundle.jobs["a"]["name"] == "${var.place}-${resources.pipelines.p.id}"
    assert list(bundle.unfilled) == ["${var.place}", "${resources.pipelines.p.id}"]
    assert of(tmp_path, text, overrides={"place": "w"}).jobs["a"]["name"].startswith("w-")
    assert "${resources.pipelines.q.id} names nothing" in refused(tmp_path, text.replace("pipelines.p.id", "pipelines.q.id"))


def test_git_is_asked_for_what_it_knows(tmp_path: Path) -> None:
    text = NAME + "resources: {jobs: {a: {name: '${bundle.git.branch}/${bundle.git.commit}/${bundle.git.origin_url}'}}}\n"
    assert of(tmp_path / "none", text).jobs["a"]["name"] == "//"
    repository = write(tmp_path / "some", {"databricks.yml": text})
    for command in (
        "init -q -b trunk",
        "add .",
        "-c user.name=x -c user.email=x@y commit -q -m x",
        "remote add origin https://example.com/r.git",
    ):
        subprocess.run(["git", "-C", str(repository), *command.split()], check=True)
    branch, commit, *url = load(repository, environ={}).jobs["a"]["name"].split("/")
    assert (branch, len(commit), "/".join(url)) == ("trunk", 40, "https://example.com/r.git")
    written = text.replace("{name: demo}", "{name: demo, git: {branch: release}}")
    assert of(tmp_path / "message", written).jobs["a"]["name"] == "release//"


PRESETS = """
bundle: {name: demo}
resources:
  jobs:
    a: {name: j, tags: {team: mine}, trigger: {periodic: {interval: 1, unit: DAYS}}}
    b: {schedule: {quartz_cron_expression: 0 0 0 * * ?, timezone_id: UTC, pause_status: UNPAUSED}, max_concurrent_runs: 2}
  pipelines: {p: {name: p}}
  schemas: {s: {catalog_name: c, name: bronze}}
  volumes: {v: {catalog_name: c, schema_name: bronze, name: v}}
  registered_models: {m: {catalog_name: c, schema_name: other, name: m}}
  model_serving_endpoints: {e: {name: e}}
  experiments: {x: {name: /Shared/x, tags: [{key: team, value: mine}]}}
  clusters: {k: {cluster_name: k}}
  dashboards: {d: {display_name: d}}
targets:
  own: {default: true, presets: {name_prefix: "pre ", tags: {team: ours, stage: test}, jobs_max_concurrent_runs: 9}}
  dev: {mode: development, presets: {tags: {stage: dev}}}
"""


def test_presets_prefix_names_and_fill_what_is_left_open(tmp_path: Path) -> None:
    found = yamlfile.to_plain_tree(of(tmp_path, PRESETS).data["resources"])
    assert (found["jobs"]["a"]["name"], found["jobs"]["b"]["name"]) == ("pre j", "pre Untitled")
    assert found["jobs"]["a"]["tags"] == {"team": "mine", "stage": "test"}
    assert [found["jobs"][k]["max_concurrent_runs"] for k in "ab"] == [9, 2]
    assert found["schemas"]["s"]["name"] == "pre_bronze"
    assert found["volumes"]["v"] == {"catalog_name": "c", "schema_name": "pre_bronze", "name": "v"}
    assert (found["registered_models"]["m"]["name"], found["registered_models"]["m"]["schema_name"]) == ("pre_m", "other")
    assert found["experiments"]["x"] == {
        "name": "/Shared/pre x",
        "tags": [{"key": "team", "value": "mine"}, {"key": "stage", "value": "test"}],
    }
    assert (found["clusters"]["k"]["cluster_name"], found["dashboards"]["d"]["display_name"]) == ("pre k", "pre d")
    assert found["model_serving_endpoints"]["e"]["name"] == "pre_e"


def test_development_mode_adds_its_tag_pauses_triggers_and_lets_four_run(tmp_path: Path) -> None:
    bundle = of(tmp_path, PRESETS, "dev")
    user = bundle.data["workspace"]["current_user"]["short_name"]
    found = yamlfile.to_plain_tree(bundle.data["resources"])
    assert found["jobs"]["a"]["tags"] == {"team": "mine", "dev": user, "stage": "dev"}
    assert found["jobs"]["a"]["trigger"]["pause_status"] == "PAUSED"
    assert found["jobs"]["b"]["schedule"]["pause_status"] == "UNPAUSED"
    assert [found["jobs"][k]["max_concurrent_runs"] for k in "ab"] == [4, 2]
    assert found["pipelines"]["p"]["development"] is True


def test_one_reading_serves_all_targets(tmp_path: Path) -> None:
    from boathouse.workspace.bundle.load import with_target

    written = read_bundle(write(tmp_path, {"databricks.yml": PRESETS}))
    first = with_target(written, "own", environ={}).jobs["a"]["name"]
    with_target(written, "dev", environ={})
    assert with_target(written, "own", environ={}).jobs["a"]["name"] == first == "pre j"


def test_clusters_and_environments_of_a_target_are_merged_by_key(tmp_path: Path) -> None:
    text = """
bundle: {name: demo}
resources:
  jobs:
    a:
      job_clusters: [{job_cluster_key: c, new_cluster: {num_workers: 1, spark_version: x}}, {job_cluster_key: d}]
      environments: [{environment_key: e, spec: {client: "1"}}]
targets:
  big:
    resources:
      jobs:
        a:
          job_clusters: [{job_cluster_key: c, new_cluster: {num_workers: 8}}]
          environments: [{environment_key: e, spec: {dependencies: [x]}}, {environment_key: f}]
"""
    job = yamlfile.to_plain_tree(of(tmp_path, text).jobs["a"])
    assert job["job_clusters"] == [
        {"job_cluster_key": "c", "new_cluster": {"num_workers": 8, "spark_version": "x"}},
        {"job_cluster_key": "d"},
    ]
    assert job["environments"] == [{"environment_key": "e", "spec": {"client": "1", "dependencies": ["x"]}}, {"environment_key": "f"}]


def test_a_target_in_an_included_file_adds_to_the_root_s(tmp_path: Path) -> None:
    part = "targets: {dev: {variables: {size: 5}}, test: {}}\n"
    text = NAME + "include: [t.yml]\nvariables: {size: {default: 1}}\ntargets: {dev: {default: true}}\n"
    bundle = of(tmp_path, text, files={"t.yml": part})
    assert (bundle.targets, bundle.variables) == (("dev", "test"), {"size": 5})


def test_no_part_of_the_sdk_is_missing_though_it_is_imported_in_parts() -> None:
    code = "import boathouse.workspace.bundle.sdk as s; import databricks.sdk as d; from databricks.sdk.service import catalog\n"
    code += "print(d.WorkspaceClient.__name__, d.service.jobs.Task is s.Task, d.core.__name__, catalog.__name__)"
    import sys

    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert message.split() == ["WorkspaceClient", "True", "databricks.sdk.core", "databricks.sdk.service.catalog"]
