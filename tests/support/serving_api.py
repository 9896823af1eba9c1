"""A stand-in for the Serving Endpoints API of a workspace: HTTP, with the types of `databricks-sdk`.

It refuses what the API refuses: an unknown endpoint, a second endpoint of one name, an update during an update, routes that do not add up.
A failed update leaves the configuration from before in use.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.serving import (
    EndpointCoreConfigInput,
    EndpointCoreConfigOutput,
    EndpointState,
    EndpointStateConfigUpdate,
    ServedEntityOutput,
    ServedModelState,
    ServedModelStateDeployment,
    ServingEndpointDetailed,
)

FREE, BUSY, FAILED = (EndpointStateConfigUpdate(name) for name in ("NOT_UPDATING", "IN_PROGRESS", "UPDATE_FAILED"))


class Refusal(Exception):
    "An error of the API: status, error code and message."


@dataclass
class Workspace:
    """The endpoints of the stand-in.

    `answers` maps a served model to its predictions per row, to an HTTP status, or to a function of the rows that returns one of these. An update to one of `unhealthy` fails. `calls` lists what changed something.
    `slow` has the number of times that an update is still running when its state is read.
    Somebody else creates an endpoint of `rivals` after it was looked up in vain. After a probe, the served models of `failing_later` are unhealthy.
    """

    endpoints: dict[str, ServingEndpointDetailed] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    unhealthy: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    probed: list[Any] = field(default_factory=list)
    rivals: set[str] = field(default_factory=set)
    failing_later: set[str] = field(default_factory=set)
    slow: int = 0
    reads: int = 0

    def respond(self, method: str, path: str, body: Any) -> Any:
        parts = path.strip("/").split("/")
        match method, parts:
            case "GET", ["api", "2.0", "serving-endpoints", name]:
                return self.read(name)
            case "POST", ["api", "2.0", "serving-endpoints"]:
                if body["name"] in self.endpoints:
                    raise Refusal(400, "RESOURCE_ALREADY_EXISTS", f"Endpoint {body['name']} exists.")
                self.endpoints[body["name"]] = ServingEndpointDetailed(name=body["name"], state=EndpointState(config_update=FREE))
                return self.change("create", body["name"], body.get("config") or {})
            case "PUT", ["api", "2.0", "serving-endpoints", name, "config"]:
                return self.change("update", name, body)
            case "DELETE", ["api", "2.0", "serving-endpoints", name]:
                self.calls.append(f"delete {name}")
                self.endpoints.pop(name)
                return {}
            case "POST", ["serving-endpoints", name, "served-models", served, "invocations"]:
                return self.predict(name, served, body)
            case "GET", [".well-known", *_]:
                return {}
        raise Refusal(404, "ENDPOINT_NOT_FOUND", f"No API found for {method} {path}")

    def find(self, name: str) -> ServingEndpointDetailed:
        if name not in self.endpoints:
            if name in self.rivals:
                self.endpoints[name] = ServingEndpointDetailed(name=name)
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"Endpoint {name} does not exist.")
        return self.endpoints[name]

    def read(self, name: str) -> dict[str, Any]:
        one = self.find(name)
        if one.state and one.state.config_update == BUSY:
            self.reads += 1
            if self.reads > self.slow:
                one.state, self.reads = EndpointState(config_update=FREE), 0
        return one.as_dict()

    def change(self, verb: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        one = self.find(name)
        if one.state and one.state.config_update == BUSY:
            raise Refusal(409, "RESOURCE_CONFLICT", f"Endpoint {name} is being updated.")
        config = EndpointCoreConfigInput.from_dict({"name": name, **body})
        routes = (config.traffic_config.routes if config.traffic_config else None) or []
        names = [entity.name for entity in config.served_entities or []]
        if sum(route.traffic_percentage for route in routes) != 100 or {route.served_model_name for route in routes} - set(names):
            raise Refusal(400, "INVALID_PARAMETER_VALUE", "Traffic must add up to 100 over the served models.")
        self.calls.append(f"{verb} " + " ".join(f"{route.served_model_name}:{route.traffic_percentage}" for route in routes))
        if self.unhealthy & set(names):
            one.state = EndpointState(config_update=FAILED)
            return one.as_dict()
        ready = ServedModelState(deployment=ServedModelStateDeployment.DEPLOYMENT_READY)
        entities = [ServedEntityOutput.from_dict(entity.as_dict()) for entity in config.served_entities or []]
        for entity in entities:
            entity.creator, entity.creation_timestamp, entity.state = "ida@example.com", 1, ready
        version = 1 + ((one.config.config_version or 0) if one.config else 0)
        one.config = EndpointCoreConfigOutput(served_entities=entities, traffic_config=config.traffic_config, config_version=version)
        one.state = EndpointState(config_update=BUSY if self.slow else FREE)
        return one.as_dict()

    def predict(self, name: str, served: str, body: Any) -> Any:
        config = self.find(name).config
        if served not in [entity.name for entity in (config.served_entities if config else None) or []]:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", f"{served} is not served.")
        self.probed.append((served, body))
        self.unhealthy |= self.failing_later
        answer = self.answers.get(served, [0.25] * len(body["dataframe_split"]["data"]))
        answer = answer(body["dataframe_split"]["data"]) if callable(answer) else answer
        if isinstance(answer, int):
            raise Refusal(answer, "BAD_REQUEST", "Model is missing inputs ['ts'].")
        return {"predictions": answer}

    def serves(self, name: str) -> dict[str, int]:
        "The percentage of each served model, zero included."
        config = self.endpoints[name].config
        routes = config.traffic_config.routes if config and config.traffic_config else []
        shares = {entity.name: 0 for entity in (config.served_entities if config else None) or []}
        return shares | {str(route.served_model_name): route.traffic_percentage for route in routes or []}


@contextmanager
def serve_workspace() -> Iterator[tuple[Workspace, WorkspaceClient]]:
    "A stand-in on a port of its own, and a client of the SDK for it."
    workspace = Workspace()

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                status, answer = 200, workspace.respond(self.command, self.path, body)
            except Refusal as error:
                status, code, message = error.args
                answer = {"error_code": code, "message": message}
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_DELETE = respond

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield workspace, WorkspaceClient(host=f"http://127.0.0.1:{server.server_port}", token="none")
    finally:
        server.shutdown()
        server.server_close()
