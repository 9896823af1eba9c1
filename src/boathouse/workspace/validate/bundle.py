"""Check the bundle apart from its jobs: keys, variables, permissions, identities, and the rules for the modes of a target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from boathouse.workspace.bundle.interpolation import REFERENCE
from boathouse.workspace.bundle.jobs import Job
from boathouse.workspace.bundle.load import Bundle
from boathouse.workspace.bundle.yaml_tree import List, Map, where
from boathouse.workspace.errors import Where, did_you_mean
from boathouse.workspace.problems import Problem, problem
from boathouse.workspace.validate.references import strings

HOLDERS = ("user_name", "group_name", "service_principal_name")
LEVELS = {
    "": ("CAN_VIEW", "CAN_MANAGE", "CAN_RUN"),
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE"),
    "pipelines": ("CAN_VIEW", "CAN_RUN", "CAN_MANAGE", "IS_OWNER"),
    "experiments": ("CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
    "models": ("CAN_READ", "CAN_EDIT", "CAN_MANAGE_STAGING_VERSIONS", "CAN_MANAGE_PRODUCTION_VERSIONS", "CAN_MANAGE"),
    "model_serving_endpoints": ("CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"),
    "clusters": ("CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"),
    "secret_scopes": ("READ", "WRITE", "MANAGE"),
}
PATHS = ("root_path", "file_path", "artifact_path", "state_path", "resource_path")
SHARED = re.compile(r"/(Workspace/)?Shared(/|$)")
USER = re.compile(r"\$\{workspace\.current_user\.")


def problems(bundle: Bundle) -> Iterator[Problem]:
    "Yield everything that is wrong or doubtful about a bundle, without its jobs."
    if bundle.written is not None:
        yield from bundle.written.remarks
        yield from _same_keys(bundle.written.tree)
        yield from _unused(bundle.written.tree)
        yield from _modes(bundle, bundle.written.targets.get(bundle.target) or Map(bundle.data.at))
    yield from _permissions("", bundle.data)
    yield from _run_as(bundle.data)
    for kind, group in (bundle.data.get("resources") or {}).items():
        for resource in (group or {}).values() if kind != "jobs" else ():
            yield from _permissions(kind, resource)
            yield from _run_as(resource)
    python = bundle.data.get("python") or (bundle.data.get("experimental") or {}).get("python")
    if isinstance(python, Map):
        yield problem("python-resources", "resources that Python code makes are not loaded on this machine.", python.at)


def of_job(job: Job) -> Iterator[Problem]:
    "Yield what is wrong with the permissions and the identity of a job; these findings belong to the job, not to the bundle."
    yield from _permissions("jobs", job.source)
    yield from _run_as(job.source)


def _same_keys(tree: Map) -> Iterator[Problem]:
    first: dict[str, tuple[str, Where]] = {}
    for kind, group in (tree.get("resources") or {}).items():
        for key in group or ():
            if key in first:
                other, at = first[key]
                message = f"resources.{kind}.{key} has the key of resources.{other}.{key} ({at.file}:{at.line})."
                yield problem("same-resource-key", message, group.keys_at[key], "Rename one of the two keys; names may stay.")
            first.setdefault(key, (kind, group.keys_at[key]))


def _unused(tree: Map) -> Iterator[Problem]:
    variables = tree.get("variables")
    # Python code of the bundle may read any variable.
    if not isinstance(variables, Map) or tree.get("python") or (tree.get("experimental") or {}).get("python"):
        return
    paths = [m[1].split(".") for text, _ in strings(tree) for m in REFERENCE.finditer(text)]
    used = {re.split(r"\[", path[1])[0] for path in paths if path[0] in ("var", "variables") and len(path) > 1}
    for name in variables:
        # `catalog` names the catalog that is current in tasks here, even if nothing else reads it.
        if name not in used and name != "catalog":
            yield problem("unused-variable", f"nothing reads the variable '{name}'.", variables.keys_at[name])


def _modes(bundle: Bundle, target: Map) -> Iterator[Problem]:
    if target.get("mode") == "development":
        yield from _development(bundle, target)
    if target.get("mode") != "production":
        return
    for key, pipeline in bundle.resources("pipelines").items():
        if pipeline.get("development") is True:
            message = f"pipeline '{key}' has `development: true` in a target of mode production."
            yield problem("production-pipeline", message, where(pipeline, "development"))
    if not _of(target, "workspace", "root_path") and "run_as" not in bundle.data and not all(j.get("run_as") for j in bundle.jobs.values()):
        message = f"target '{bundle.target}' is of mode production and has no workspace.root_path of its own."
        hint = "Write one path for everybody, as /Workspace/Shared/.bundle/${bundle.name}/${bundle.target}."
        yield problem("production-root-path", message, target.keys_at["mode"], hint)


def _development(bundle: Bundle, target: Map) -> Iterator[Problem]:
    user = bundle.data["workspace"]["current_user"]
    names = (user["userName"], user["short_name"])
    prefix, at = _effective(bundle, target, "presets", "name_prefix")
    if isinstance(prefix, str) and prefix and not USER.search(prefix) and not _with_name(prefix, names):
        message = f"the name_prefix '{prefix}' of a target of mode development does not hold the user's name."
        yield problem("development-prefix", message, at, "Write ${workspace.current_user.short_name} in it.")
    for key in PATHS:
        path, at = _effective(bundle, target, "workspace", key)
        # Only shared names certainly hold no user's name: the names of other users are not known here.
        if isinstance(path, str) and SHARED.match(path) and not USER.search(path) and not _with_name(path, names):
            message = f"the {key} '{path}' of a target of mode development is the same for every user."
            yield problem("development-path", message, at, "Start it with `~/`, or write ${workspace.current_user.userName} in it.")
    status, at = _effective(bundle, target, "presets", "trigger_pause_status")
    if status == "UNPAUSED":
        message = "a target of mode development cannot start triggers unpaused."
        yield problem("development-unpaused", message, at, "Set pause_status at the one job that needs it.")


def _effective(bundle: Bundle, target: Map, section: str, key: str) -> tuple[Any, Where]:
    "Return a setting as it is written, the target's before the bundle's, and its place."
    for part in (target, bundle.written.tree if bundle.written is not None else target):
        if (value := _of(part, section, key)) is not None:
            return value, part[section].values_at[key]
    return None, target.at


def _of(node: Map, *path: str) -> Any:
    for step in path:
        node = node.get(step) if isinstance(node, Map) else None  # type: ignore[assignment]
    return node


def _with_name(text: str, names: tuple[str, ...]) -> bool:
    return "${var." in text or any(name in text for name in names)


def _permissions(kind: str, holder: Map) -> Iterator[Problem]:
    permissions = holder.get("permissions")
    for item in permissions if isinstance(permissions, List) else ():
        if not isinstance(item, Map):
            continue
        level, known = item.get("level"), LEVELS.get(kind)
        if known is not None and "${" not in str(level) and level not in known:
            message = f"'{level}' is not a level of permission {'on ' + kind if kind else 'of a bundle'}."
            hint = did_you_mean(str(level), known) or f"Known: {', '.join(known)}."
            yield problem("permission-level", message, where(item, "level"), hint)
        named = [key for key in HOLDERS if item.get(key)]
        if len(named) != 1:
            message = f"a permission is for one of {', '.join(HOLDERS)}; this one names {' and '.join(named) or 'nobody'}."
            yield problem("permission-holder", message, item.at)


def _run_as(holder: Map) -> Iterator[Problem]:
    run_as = holder.get("run_as")
    named = [key for key in ("user_name", "service_principal_name", "group_name") if isinstance(run_as, Map) and run_as.get(key)]
    if isinstance(run_as, Map) and len(named) != 1:
        message = f"'run_as' names {' and '.join(named) or 'nobody'}; it takes user_name or service_principal_name."
        yield problem("run-as", message, run_as.at)
