"Registered models and serving endpoints: schema, served entities, traffic."

from __future__ import annotations

from typing import Any

import pytest

MODEL = "  registered_models:\n    late: {catalog_name: dev, schema_name: ml, name: late_arrival}\n"
TWO = "served_entities: [{name: old, entity_name: other.ml.m, entity_version: 1}, {name: new, entity_name: other.ml.m, entity_version: 2}]"


def endpoint(config: str = "", rest: str = "name: e", more: str = "", model: str = MODEL) -> str:
    "A bundle with a registered model and one endpoint, which has this configuration."
    body = f"{rest}, config: {{{config}}}" if config else rest
    return f"bundle: {{name: demo}}\nresources:\n{model}  model_serving_endpoints:\n    e: {{{body}}}\n{more}"


def one(entity: str, **more: str) -> str:
    return endpoint(f"served_entities: [{entity}]", **more)


def routes(*written: str, key: str = "routes", more: str = "") -> str:
    "Two served entities, and these routes to them."
    return endpoint(f"{TWO}, traffic_config: {{{key}: [{', '.join(written)}]}}", more=more)


REST = "variables: {rest: {lookup: {alert: newest}}}\n"
OLD = "{served_entity_name: old, traffic_percentage: 90}"
CASES = [
    (
        "endpoint-key",
        endpoint("served_entities: [{entity_name: dev.ml.late_arrival, entity_version: 1, ^workload: Small}]"),
        "'workload' is not a key of an item of 'served_entities'. Did you mean 'workload_type'?",
    ),
    (
        "endpoint-key",
        endpoint("^name: other"),
        "'name' is not a key of 'config'. Known keys: auto_capture_config, served_entities, served_models, traffic_config.",
    ),
    (
        "endpoint-key",
        one("{entity_name: dev.ml.late_arrival, entity_version: 1, scale_to_zero_enabled: ^never}"),
        "'scale_to_zero_enabled' is 'never', not true or false.",
    ),
    ("endpoint-required", endpoint(rest="description: d").replace("    e: {", "    e: ^{"), "a serving endpoint lacks 'name'."),
    ("endpoint-required", routes(OLD, "^{served_entity_name: new}"), "an item of 'routes' lacks 'traffic_percentage'."),
    (
        "endpoint-name",
        endpoint(rest="name: ^late arrival"),
        "the name 'late arrival' of a serving endpoint holds other characters than letters, digits, dashes and underscores.",
    ),
    ("endpoint-name", endpoint(more="    f: {name: ^e}\n"), "'e' is the name of the serving endpoint 'e' too."),
    (
        "two-served-lists",
        endpoint(f"{TWO}, ^served_models: [{{model_name: m, model_version: 1, scale_to_zero_enabled: true}}]"),
        "endpoint 'e' has both 'served_models' and 'served_entities'. Keep the latter.",
    ),
    (
        "served-models",
        endpoint("^served_models: [{model_name: m, model_version: 1, scale_to_zero_enabled: true}]"),
        "endpoint 'e' uses the deprecated 'served_models'. Use `served_entities`.",
    ),
    ("served-name", endpoint(TWO.replace("name: new", "name: ^old")), "endpoint 'e' has two served entities of the name 'old'."),
    (
        "served-name",
        one("{name: ^ml.m-1, entity_name: other.ml.m, entity_version: 1}"),
        "the name 'ml.m-1' of a served entity holds other characters than letters, digits, dashes and underscores.",
    ),
    (
        "entity-version",
        one("^{entity_name: '${resources.registered_models.late.id}'}"),
        "'dev.ml.late_arrival' is served without 'entity_version'. Write the number of a version: an endpoint follows no alias.",
    ),
    (
        "entity-version",
        one("{entity_name: other.ml.m, entity_version: ^champion}"),
        "'entity_version' is 'champion', not the number of a version. An endpoint follows no alias; a job moves it to a new version.",
    ),
    (
        "entity-name",
        one("{entity_name: ^dev.ml.late_arival, entity_version: 1}"),
        "no registered model of the bundle is called 'dev.ml.late_arival'. Did you mean 'dev.ml.late_arrival'?",
    ),
    (
        "entity-name",
        one("{entity_name: ^late_arrival, entity_version: 1}"),
        "no registered model of the bundle is called 'late_arrival'. "
        "The deployed model is 'dev.ml.late_arrival': write ${resources.registered_models.late.id}.",
    ),
    (
        "entity-name",
        one("{entity_name: ^dev.ml.late_arrival, entity_version: 1}", more="targets: {dev: {presets: {name_prefix: mine_}}}\n"),
        "no registered model of the bundle is called 'dev.ml.late_arrival'. "
        "The deployed model is 'dev.ml.mine_late_arrival': write ${resources.registered_models.late.id}.",
    ),
    (
        "endpoint-compute",
        one("{entity_name: dev.ml.late_arrival, entity_version: 1, workload_size: ^small}"),
        "'small' is not one of the sizes Small, Medium, Large. Did you mean 'Small'?",
    ),
    (
        "endpoint-compute",
        one("{entity_name: dev.ml.late_arrival, entity_version: 1, workload_size: Small, ^max_provisioned_concurrency: 8}"),
        "'workload_size' and 'max_provisioned_concurrency' both set the concurrency. Leave out one of the two.",
    ),
    (
        "endpoint-compute",
        one(
            "{entity_name: dev.ml.late_arrival, entity_version: 1, scale_to_zero_enabled: ^true}",
            more="targets: {prod: {mode: production, workspace: {root_path: /Workspace/Shared/x}}}\n",
        ),
        "'scale_to_zero_enabled' is true in a target of mode production: the first request after a pause waits for a machine. "
        "Databricks advises against it.",
    ),
    (
        "endpoint-compute",
        one("{^entity_name: other.ml.m, external_model: {provider: openai, name: gpt, task: llm/v1/chat}}"),
        "a served entity has 'external_model' and 'entity_name'. Serve the two as two entities.",
    ),
    (
        "traffic-sum",
        routes(OLD, "{served_entity_name: new, traffic_percentage: 5}", key="^routes"),
        "the percentages of endpoint 'e' add up to 95, not to 100.",
    ),
    (
        "traffic-sum",
        routes("{served_entity_name: old, traffic_percentage: ^110}", "{served_entity_name: new, traffic_percentage: '${var.rest}'}", more=REST),
        "110 is not a percentage from 0 to 100.",
    ),
    (
        "traffic-route",
        routes(OLD, "{served_model_name: ^knew, traffic_percentage: 10}"),
        "a route of endpoint 'e' leads to 'knew', which it does not serve. Did you mean 'new'?",
    ),
    (
        "traffic-route",
        routes(OLD, "{served_entity_name: ^old, traffic_percentage: 10}"),
        "endpoint 'e' has two routes to 'old'.",
    ),
    (
        "auto-capture",
        endpoint(f"{TWO}, ^auto_capture_config: {{catalog_name: dev, schema_name: ml, enabled: true}}"),
        "endpoint 'e' logs requests by the deprecated 'auto_capture_config'. Use `ai_gateway.inference_table_config` of the endpoint.",
    ),
    (
        "endpoint-run-as",
        endpoint(more="run_as: ^{service_principal_name: robot}\n"),
        "the bundle has a serving endpoint and 'run_as'. Deploy as that identity, or write `run_as` at each job.",
    ),
    (
        "model-aliases",
        endpoint(model=MODEL.replace("}", ", ^aliases: [{alias_name: champion, version_num: 1}]}")),
        "the aliases of registered model 'late' are not set by a deployment, which reports them as set. Set an alias in a job, after the gates.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "expected"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_what_is_wrong_with_an_endpoint_is_named_with_its_place(check: Any, page: Any, rule: str, text: str, expected: str) -> None:
    assert check(text) == [f"{rule} ^ {expected}"]
    page.shows(rule, expected)


@pytest.mark.parametrize(
    "text",
    [
        endpoint(),
        one("{entity_name: '${resources.registered_models.late.full_name}', entity_version: '1', workload_size: Small}"),
        one("{entity_name: '${var.catalog}.ml.late_arrival', entity_version: 3}", more="variables: {catalog: {default: dev}}\n"),
        one("{entity_name: '${resources.registered_models.late.id}', entity_version: 1}", more="targets: {dev: {mode: development}}\n"),
        one("{entity_name: other.features.of_a_flight}"),  # a feature spec has no version
        one("{entity_name: other.ml.m, entity_version: '${var.rest}'}", more=REST),
        one("{external_model: {provider: openai, name: gpt, task: llm/v1/chat}}", rest="name: e, permissions: [{level: CAN_QUERY, group_name: users}]"),
        routes("{served_entity_name: old, traffic_percentage: '60'}", "{served_entity_name: new, traffic_percentage: 40}"),
        # The platform names the entity, so that a route may lead to it.
        endpoint(
            "served_entities: [{entity_name: dev.ml.late_arrival, entity_version: 1}],"
            " traffic_config: {routes: [{served_model_name: late_arrival-1, traffic_percentage: 100}]}"
        ),
    ],
)  # fmt: skip
def test_an_endpoint_that_a_workspace_may_accept_has_no_findings(check: Any, text: str) -> None:
    assert check(text) == []
