#!/usr/bin/env python3
"""A small schema registry that speaks the REST API of Confluent's, and fails on command.

    registry_stub.py [--port N] [--user NAME:PASSWORD] [--schema SUBJECT=FILE…]

Prints REGISTRY=URL once it answers; ids count from 1 in the order of registration. Besides the API:

    PUT /control {"fail": N, "status": 503, "delay_ms": 0}
        the next N requests (-1: all) are answered with that status, after that delay
    GET /control
        {"requests": ["GET /schemas/ids/1", …], "fail": N, …}: what was asked since the start, refused requests included

Needs nothing but Python. The compatibility check is BACKWARD for records, as far as the tests go: a field that is
added has a default, a field that stays keeps its type or is promoted.
"""

import argparse
import base64
import json
import signal
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
PROMOTIONS = {"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}, "string": {"bytes"}, "bytes": {"string"}}


class Registry:
    def __init__(self, user: str | None):
        self.lock = threading.Lock()
        self.user = user
        self.schemas: list[str] = []
        self.subjects: dict[str, list[int]] = {}
        self.control = {"fail": 0, "status": 503, "delay_ms": 0}
        self.requests: list[str] = []

    def register(self, subject: str, schema: str) -> int:
        plain = canonical(schema)
        if plain not in self.schemas:
            self.schemas.append(plain)
        schema_id = self.schemas.index(plain) + 1
        versions = self.subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def latest(self, subject: str) -> str | None:
        versions = self.subjects.get(subject)
        return self.schemas[versions[-1] - 1] if versions else None


def canonical(schema: str) -> str:
    return json.dumps(json.loads(schema), separators=(",", ":"))


def incompatibilities(old: str, new: str) -> list[str]:
    """Why a reader with `new` cannot read what was written with `old`."""
    before = {field["name"]: field for field in json.loads(old).get("fields", [])}
    found = []
    for field in json.loads(new).get("fields", []):
        known = before.get(field["name"])
        if known is None:
            if "default" not in field:
                found.append(f"READER_FIELD_MISSING_DEFAULT_VALUE: {field['name']}")
        elif not readable(known["type"], field["type"]):
            found.append(f"TYPE_MISMATCH: {field['name']} was {known['type']}, is {field['type']}")
    return found


def readable(old, new) -> bool:
    if isinstance(old, list):
        return all(readable(branch, new) for branch in old)
    if isinstance(new, list):
        return any(readable(old, branch) for branch in new)
    return old == new or (isinstance(old, str) and new in PROMOTIONS.get(old, set()))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.answer("POST")

    def do_PUT(self):
        self.answer("PUT")

    def log_message(self, *_):
        pass

    def answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        registry = self.registry
        path = urllib.parse.urlsplit(self.path).path
        if path == "/control":
            with registry.lock:
                if method == "PUT":
                    registry.control.update(json.loads(body))
                self.send(200, {**registry.control, "requests": registry.requests})
            return
        with registry.lock:
            registry.requests.append(f"{method} {self.path}")
            failing, control = registry.control["fail"], dict(registry.control)
            if failing > 0:
                registry.control["fail"] -= 1
        time.sleep(control["delay_ms"] / 1000)
        if failing:
            self.send(control["status"], {"error_code": control["status"] * 100, "message": "told to fail"})
        elif registry.user and not self.authorised():
            self.send(401, {"error_code": 401, "message": "Unauthorized"}, {"WWW-Authenticate": "Basic"})
        else:
            with registry.lock:
                try:
                    self.send(*self.route(method, [urllib.parse.unquote(part) for part in path.strip("/").split("/")], body))
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    self.send(422, {"error_code": 42201, "message": f"Invalid Avro schema: {error}"})

    def authorised(self) -> bool:
        expected = "Basic " + base64.b64encode(self.registry.user.encode()).decode()
        return self.headers.get("Authorization") == expected

    def route(self, method: str, parts: list[str], body: bytes) -> tuple[int, object]:
        registry = self.registry
        match (method, *parts):
            case ("GET", "subjects"):
                return 200, sorted(registry.subjects)
            case ("GET", "schemas", "ids", number):
                if number.isdigit() and 1 <= int(number) <= len(registry.schemas):
                    return 200, {"schema": registry.schemas[int(number) - 1]}
                return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
            case ("GET", "subjects", subject, "versions"):
                if subject in registry.subjects:
                    return 200, list(range(1, len(registry.subjects[subject]) + 1))
                return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
            case ("GET", "subjects", subject, "versions", "latest"):
                latest = registry.latest(subject)
                if latest is None:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                versions = registry.subjects[subject]
                return 200, {"subject": subject, "id": versions[-1], "version": len(versions), "schema": latest}
            case ("POST", "subjects", subject, "versions"):
                schema, latest = json.loads(body)["schema"], registry.latest(subject)
                wrong = incompatibilities(latest, schema) if latest else []
                if wrong:
                    message = f"Schema being registered is incompatible with an earlier schema for subject \"{subject}\": {wrong}"
                    return 409, {"error_code": 409, "message": message}
                return 200, {"id": registry.register(subject, schema)}
            case ("POST", "compatibility", "subjects", subject, "versions", _):
                latest = registry.latest(subject)
                if latest is None:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                wrong = incompatibilities(latest, json.loads(body)["schema"])
                return 200, {"is_compatible": not wrong, **({"messages": wrong} if wrong else {})}
            case ("GET" | "PUT", "config", *_):
                return 200, {"compatibilityLevel" if method == "GET" else "compatibility": "BACKWARD"}
        return 404, {"error_code": 404, "message": f"HTTP 404 Not Found: {method} {self.path}"}

    def send(self, status: int, answer: object, headers: dict | None = None) -> None:
        payload = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(payload)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", help="NAME:PASSWORD that every request must bring")
    parser.add_argument("--schema", action="append", default=[], metavar="SUBJECT=FILE")
    arguments = parser.parse_args()
    registry = Registry(arguments.user)
    for pair in arguments.schema:
        subject, file = pair.split("=", 1)
        with open(file, encoding="utf-8") as schema:
            registry.register(subject, schema.read())
    Handler.registry = registry
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"REGISTRY=http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
