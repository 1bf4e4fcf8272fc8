# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the three fakes share: server, contract, request log, faults, limits, probing."""

from __future__ import annotations

import copy
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener
from urllib.request import Request as HttpRequest

import yaml
from jsonschema import Draft202012Validator

from . import documents
from .documents import Problem

HERE = Path(__file__).parent
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
KINDS = ("status", "timeout", "reset", "reset_after_write", "half_json", "malformed", "content_type", "empty")


class Clock:
    """A clock that moves only when told: pass it as `clock` to a fake and its `sleep` to the client."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


@dataclass
class Request:
    """One request as it came, and what it was answered."""

    method: str
    path: str
    query: dict[str, Any]
    body: Any = None
    operation: str | None = None
    status: int | None = None
    fault: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Plan:
    """Limits of an account: number of checks, seconds of the smallest interval, [(requests, seconds)] of its rates."""

    checks: int
    min_interval: int
    rates: list[tuple[int, int]]


@dataclass
class Target:
    """What a probe needs to know of a check, the same for every provider."""

    url: str
    interval: float
    timeout: float
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    is_good: Callable[[int], bool] = lambda status: 200 <= status < 400
    keyword: str = ""
    keyword_expected: bool = True
    redirects: bool = True
    verify: bool = True


class Refused(Exception):
    """The request is answered with an error of the provider; problems are (field or "", sentence)."""

    def __init__(
        self,
        status: int,
        message: str,
        name: str = "",
        *,
        problems: list[Problem] | None = None,
        off_contract: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.off_contract, self.extra = status, message, off_contract, extra
        self.problems = problems or [(name, message)]

    def __str__(self) -> str:
        return "; ".join(f"{name}: {text}" if name else text for name, text in self.problems)


@dataclass
class Fault:
    """An error to be shown to the requests that match."""

    match: str
    kind: str
    left: int | None
    skip: int
    after_write: bool
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    seconds: float = 5.0


@dataclass
class Hook:
    """A call to be made before a matching answer is sent."""

    match: str
    function: Callable[[], Any]
    left: int | None
    skip: int


# Log entry, status, headers, body, and the fault to show instead.
Reply = tuple[Request, int, dict[str, str], Any, Fault | None]


def due(entries: Iterable[Any], request: Request) -> Any:
    """The first fault or hook whose turn it is; counts those that match."""
    for entry in entries:
        if entry.left != 0 and fnmatchcase(str(request), entry.match):
            if entry.skip:
                entry.skip -= 1
                continue
            if entry.left is not None:
                entry.left -= 1
            return entry
    return None


def coerce(value: Any, schema: dict[str, Any]) -> Any:
    """A text of a query or form as the type of its schema; unchanged where it doesn't fit, for the validator to refuse."""
    kind = schema.get("type")
    if isinstance(value, list):
        items = [] if value == [""] else value
        return [coerce(item, schema.get("items", {})) for item in items]
    if kind == "boolean":
        if value == "" and schema.get("x-flag"):
            return True
        return {"true": True, "false": False}.get(value, value)
    if kind in ("integer", "number") and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value


class Contract:
    """`contracts/<provider>.yaml`: the operations of the provider that we use, and the shapes of what they take and give."""

    def __init__(self, provider: str) -> None:
        data = yaml.load((HERE / "contracts" / f"{provider}.yaml").read_text(), documents.Loader)
        self.document: str = data["document"]
        self.base: str = data["base"]
        self.encoding: str = data["encoding"]
        self._raw = data["schemas"]
        self.operations: dict[str, dict[str, Any]] = {}
        for name, operation in data["operations"].items():
            method, path = operation["call"].split()
            self.operations[name] = {
                "name": name,
                "method": method,
                "path": path,
                "status": operation["status"],
                "params": {key: self.expand(value) for key, value in operation.get("params", {}).items()},
                "query": {key: self.expand(value) for key, value in operation.get("query", {}).items()},
                "body": self.expand({"$ref": operation["body"]}) if operation.get("body") else None,
                "answer": self.expand({"$ref": operation["answer"]}) if operation.get("answer") else None,
                "regex": re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "$"),
            }
        self.error = self.expand({"$ref": "error"})
        self._validators: dict[int, Draft202012Validator] = {}
        self._seen: set[tuple[int, str]] = set()

    def expand(self, schema: Any) -> Any:
        """The schema with every `$ref: name` put in place and every object that lists its properties closed."""
        if isinstance(schema, list):
            return [self.expand(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            return self.expand(self._raw[schema["$ref"]])
        out = {key: self.expand(value) for key, value in schema.items() if key != "properties"}
        if "properties" in schema:
            out["properties"] = {key: self.expand(value) for key, value in schema["properties"].items()}
            out.setdefault("additionalProperties", False)
        return out

    def find(self, method: str, path: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The operation of a call and the texts of its path parameters; Refused 404 or 405."""
        other = False
        for operation in self.operations.values():
            match = operation["regex"].match(path)
            if match and operation["method"] == method:
                return operation, {key: unquote(text) for key, text in match.groupdict().items()}
            other = other or bool(match)
        raise Refused(405 if other else 404, f"Cannot {method} {path}", off_contract=True)

    def faults(self, schema: dict[str, Any], value: Any) -> list[Problem]:
        """(field, sentence) for each way in which the value breaks the schema."""
        validator = self._validators.setdefault(id(schema), Draft202012Validator(schema))
        found = []
        for error in validator.iter_errors(value):
            path = [str(part) for part in error.absolute_path]
            if error.validator == "additionalProperties" and error.validator_value is False:
                known, patterns = error.schema.get("properties", {}), error.schema.get("patternProperties", {})
                found += [
                    (".".join([*path, name]), "is no field of this operation")
                    for name in error.instance
                    if name not in known and not any(re.search(pattern, name) for pattern in patterns)
                ]
            elif error.validator == "required":
                found += [(".".join([*path, name]), "is missing") for name in error.validator_value if name not in error.instance]
            else:
                found.append((".".join(path), error.message[:300]))
        return list(dict.fromkeys(found))

    def new_items(self, schema: dict[str, Any], answer: Any) -> tuple[Any, list[tuple[str, dict[str, Any], Any]]]:
        """The answer with its lists emptied, and (list, schema, item) for those items whose like wasn't seen before.

        Lists are long (10,000 checks) and validation is slow. What is alike: the same values, except in fields of which
        the schema says only the type, where the same type is enough.
        """
        lists = {key: value for key, value in answer.items() if isinstance(value, list)} if isinstance(answer, dict) else {}
        fresh = []
        for key, values in lists.items():
            items = schema.get("properties", {}).get(key, {}).get("items", {})
            typed = {name for name, part in items.get("properties", {}).items() if set(part) == {"type"}}
            for value in values:
                like = {k: type(v).__name__ if k in typed else v for k, v in value.items()} if isinstance(value, dict) else value
                mark = (id(items), json.dumps(like, sort_keys=True))
                if mark not in self._seen:
                    self._seen.add(mark)
                    fresh.append((key, items, value))
        return {**answer, **{key: [] for key in lists}} if lists else answer, fresh


@lru_cache
def contract_of(provider: str) -> Contract:
    """The contract, read once; it remembers what it found valid, and nothing of any fake."""
    return Contract(provider)


class Fake:
    """A provider's API on 127.0.0.1. Subclasses have one method per operation of the contract, named like it."""

    provider = ""
    plans: dict[str, Plan] = {}

    def __init__(
        self,
        token: str = "fake-token",
        *,
        read_token: str | None = None,
        clock: Callable[[], float] = time.time,
        plan: str = "paid",
        max_checks: int | None = None,
        min_interval: int | None = None,
        rates: list[tuple[int, int]] | None = None,
        rate_limit: bool = False,
        page_size: int | None = None,
        unique_names: bool = False,
        stale_reads: int = 0,
        auth_status: int = 401,
        probe: bool = False,
        probe_interval: float | None = None,
        strict: bool = True,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.token, self.read_token, self.clock = token, read_token, clock
        base = self.plans[plan]
        self.plan_name = plan
        self.max_checks = base.checks if max_checks is None else max_checks
        self.min_interval = base.min_interval if min_interval is None else min_interval
        self.rates, self.rate_limit = rates or base.rates, rate_limit
        self.page_size, self.unique_names, self.auth_status = page_size, unique_names, auth_status
        self.probe, self.probe_interval, self.strict = probe, probe_interval, strict
        self.contract = contract_of(self.provider)
        self.spec = documents.load(self.contract.document)
        self.checks: dict[Any, dict[str, Any]] = {}
        self.contacts: dict[Any, dict[str, Any]] = {}
        self.maintenance: dict[Any, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.spec_checked = 0
        self.changes: list[tuple[float, Any, str]] = []
        self.on_request: Callable[[Request], Any] = lambda request: None
        self.on_change: Callable[[Any, str], Any] = lambda key, status: None
        self.lock = threading.RLock()
        self._stale_after, self._stale_left = stale_reads, 0
        self._stale: dict[Any, dict[str, Any]] = {}
        self._new: set[Any] = set()
        self._faults: list[Fault] = []
        self._hooks: list[Hook] = []
        self._windows: dict[int, tuple[float, int]] = {}
        self._last_id = 1000
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer((address, port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_port}{self.contract.base}"
        self._threads = [threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)]
        if probe:
            self._threads.append(threading.Thread(target=self._probe_forever, daemon=True))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close()
        if self.strict and kind is None and self.violations:
            raise AssertionError("off the contract: " + "; ".join(self.violations))

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(timeout=15)

    # ---- what a provider says in its own way -------------------------------------------------------------------------

    def error(self, refused: Refused) -> Any:
        """The body of an error answer."""
        raise NotImplementedError

    def limit_headers(self, left: list[tuple[int, int, float]], refused: bool) -> dict[str, str]:
        """Rate headers; `left`: (rate, remaining, seconds until its window ends) of each window."""
        raise NotImplementedError

    def new_check(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A stored check from the fields of a create request, with the provider's defaults."""
        raise NotImplementedError

    def neutral(self, name: str, url: str, interval: int, tags: list[str], paused: bool) -> dict[str, Any]:
        """Create fields from the neutral words of `seed`."""
        raise NotImplementedError

    def show(self, check: dict[str, Any]) -> dict[str, Any]:
        """The check as the provider's read answers it."""
        raise NotImplementedError

    def target(self, check: dict[str, Any]) -> Target | None:
        """What to probe; None where the check is paused or not of HTTP."""
        raise NotImplementedError

    name_field = "name"

    # ---- for the authors of tests ------------------------------------------------------------------------------------

    @property
    def reads(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.method != "GET"]

    def clear(self) -> None:
        with self.lock:
            self.requests.clear()

    def reset(self) -> None:
        """Forget everything but the arguments: checks, contacts, windows, requests, violations, faults, limits."""
        with self.lock:
            for store in (self.checks, self.contacts, self.maintenance, self.requests, self.violations, self.changes):
                store.clear()
            for own in (self._new, self._faults, self._hooks, self._windows, self._stale):
                own.clear()
            self._stale_left, self.spec_checked = 0, 0

    def names(self) -> list[str]:
        with self.lock:
            return sorted(check[self.name_field] for check in self.checks.values())

    def find(self, name: str) -> Any:
        with self.lock:
            ids = [key for key, check in self.checks.items() if check[self.name_field] == name]
        if len(ids) != 1:
            raise KeyError(f"{len(ids)} checks are named {name!r}")
        return ids[0]

    def shown(self, key: Any) -> dict[str, Any]:
        with self.lock:
            return self.show(self.checks[key])

    def seed(
        self,
        count: int = 1,
        name: str = "check {i}",
        url: str = "https://example.test/{i}",
        interval: int = 300,
        tags: Iterable[str] = (),
        paused: bool = False,
        **fields: Any,
    ) -> list[Any]:
        with self.lock:
            ids = []
            for i in range(count):
                common = self.neutral(name.replace("{i}", str(i)), url.replace("{i}", str(i)), interval, list(tags), paused)
                ids.append(self.add_check({**common, **fields}))
                self.checks[ids[-1]]["_status"] = "up"
            return ids

    def edit(self, key: Any, **fields: Any) -> None:
        with self.lock:
            self.checks[key].update(fields)

    def remove(self, key: Any) -> None:
        with self.lock:
            del self.checks[key]

    def set_status(self, key: Any, status: str) -> None:
        with self.lock:
            self.checks[key]["_status"] = status
            self._new.discard(key)

    def fail(
        self,
        match: str,
        kind: str = "status",
        *,
        times: int | None = 1,
        skip: int = 0,
        status: int = 503,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        body: Any = None,
        seconds: float = 5.0,
        after_write: bool | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if after_write is None:
            after_write = kind not in ("status", "timeout", "reset")
        extra = dict(headers or {})
        if retry_after is not None:
            extra["Retry-After"] = str(retry_after)
        with self.lock:
            self._faults.append(Fault(match, kind, times, skip, after_write, status, extra, body, seconds))

    def after(self, match: str, function: Callable[[], Any], times: int | None = 1, skip: int = 0) -> None:
        with self.lock:
            self._hooks.append(Hook(match, function, times, skip))

    # ---- for the providers -------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def key(self, number: int) -> Any:
        """The id of a resource from its number; text with StatusCake."""
        return number

    def add_check(self, fields: dict[str, Any]) -> Any:
        """Store a check, unconditionally; its id."""
        check = self.new_check(fields)
        check["_created"] = self.clock()
        check["_status"] = "new"
        key = self.key(self.next_id())
        check["id"] = key
        self.checks[key] = check
        self._new.add(key)
        return key

    def seen(self) -> dict[Any, dict[str, Any]]:
        """The checks as reads see them: for `stale_reads` reads after a write those from before it."""
        return self._stale if self._stale_left else self.checks

    def need(self, store: dict[Any, dict[str, Any]], key: Any, what: str) -> dict[str, Any]:
        if key not in store:
            raise Refused(404, f"{what} not found")
        return store[key]

    def refuse_duplicate(self, name: str) -> None:
        if self.unique_names and name in self.names():
            raise Refused(409, f"A check named {name} already exists", self.name_field)

    # ---- the path of a request ---------------------------------------------------------------------------------------

    def _answer(self, method: str, target: str, headers: Any, raw: bytes) -> Reply:
        """Log, check and carry out one request; (log entry, status, headers, body, fault to show)."""
        parts = urlsplit(target)
        path = parts.path.removeprefix(self.contract.base) if parts.path.startswith(self.contract.base + "/") else parts.path
        request = Request(method, path, dict(parse_qsl(parts.query, keep_blank_values=True)))
        with self.lock:
            self.requests.append(request)
            fault: Fault | None = None
            extra: dict[str, str] = {}
            try:
                operation, params = self.contract.find(method, path)
                request.operation = operation["name"]
                self._authorize(method, headers.get("Authorization", ""))
                extra = self._count()
                arguments = self._parse(request, operation, params, parts.query, headers, raw)
                fault = due(self._faults, request)
                if fault and not fault.after_write:
                    request.fault = fault.kind
                    return self._shown(request, fault, extra)
                body = self._carry_out(request, operation, arguments)
                status = operation["status"]
                problems = self._answer_problems(operation, body)
                if problems:
                    raise Refused(500, "the fake's answer breaks the contract: " + "; ".join(problems), off_contract=True)
                hook = due(self._hooks, request)
                if hook:
                    hook.function()
            except Refused as refused:
                status, body = refused.status, self.error(refused)
                extra.update(refused.extra.get("headers", {}))
                if refused.off_contract:
                    self.violations.append(f"{request} -> {status}: {refused}")
                elif body is not None and self.contract.faults(self.contract.error, body):
                    self.violations.append(f"{request} -> {status}: the error breaks the contract: {body}")
            if fault:
                request.fault = fault.kind
                if fault.kind == "status":
                    return self._shown(request, fault, extra)
            request.status = None if fault and fault.kind.startswith(("reset", "timeout")) else status
            return request, status, extra, body, fault

    def _shown(self, request: Request, fault: Fault, extra: dict[str, str]) -> Reply:
        request.status = fault.status if fault.kind == "status" else None
        body = fault.body if fault.body is not None else self.error(Refused(fault.status, f"injected {fault.status}"))
        return request, fault.status, {**extra, **fault.headers}, body, fault

    def _authorize(self, method: str, header: str) -> None:
        token = header.removeprefix("Bearer ") if header.startswith("Bearer ") else None
        if token == self.token or (token and token == self.read_token and method == "GET"):
            return
        if token and token == self.read_token:
            raise Refused(403, "Forbidden: the token may only read")
        if self.auth_status == 403:
            raise Refused(403, "Unauthorized", denied=True, headers={"x-ext-authz": "denied"})
        raise Refused(401, "Unauthorized")

    def _count(self) -> dict[str, str]:
        """Count the request in every window of the plan; the headers, or Refused 429."""
        now = self.clock()
        left: list[tuple[int, int, float]] = []
        for number, (rate, seconds) in enumerate(self.rates):
            start, used = self._windows.get(number, (now, 0))
            if now >= start + seconds:
                start, used = now, 0
            left.append((rate, rate - used, start + seconds - now))
            self._windows[number] = (start, used)
        if self.rate_limit and any(remaining <= 0 for _, remaining, _ in left):
            raise Refused(429, "Request limit exceeded, try again later", headers=self.limit_headers(left, True))
        for number, (start, used) in self._windows.items():
            self._windows[number] = (start, used + 1)
        return self.limit_headers([(rate, max(remaining - 1, 0), reset) for rate, remaining, reset in left], False)

    def _parse(
        self, request: Request, operation: dict[str, Any], params: dict[str, str], query: str, headers: Any, raw: bytes
    ) -> dict[str, Any]:
        """The typed arguments of the operation; Refused 400 when anything is off the contract."""
        problems: list[Problem] = []
        pairs = parse_qsl(query, keep_blank_values=True)
        problems += [(key, "given twice") for key in {key for key, _ in pairs} if sum(key == other for other, _ in pairs) > 1]
        request.query = {key: coerce(value, operation["query"].get(key, {})) for key, value in pairs}
        for key, value in request.query.items():
            if key not in operation["query"]:
                problems.append((key, "is no parameter of this operation"))
            else:
                problems += [(key, text) for _, text in self.contract.faults(operation["query"][key], value)]
        problems += [
            (key, "is missing")
            for key, schema in operation["query"].items()
            if schema.get("x-required") and key not in request.query
        ]
        typed = {key: coerce(text, operation["params"].get(key, {})) for key, text in params.items()}
        for key, value in typed.items():
            problems += [(key, text) for _, text in self.contract.faults(operation["params"].get(key, {}), value)]
        if operation["body"] is None:
            if raw:
                problems.append(("", "this operation takes no body"))
        else:
            request.body = self._body(operation["body"], headers, raw)
            problems += self.contract.faults(operation["body"], request.body)
        if self.spec and not problems:
            problems += self.spec.request_faults(
                operation["method"], operation["path"], request.query, request.body, self.contract.encoding
            )
            self.spec_checked += 1
        if problems:
            raise Refused(400, "wrong request", problems=problems, off_contract=True)
        return {**typed, "query": request.query, **({"body": request.body} if operation["body"] else {})}

    def _body(self, schema: dict[str, Any], headers: Any, raw: bytes) -> Any:
        kind = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if kind != self.contract.encoding:
            raise Refused(415, f"the body must be {self.contract.encoding}, not {kind or 'untyped'}", off_contract=True)
        try:
            text = raw.decode()
            if kind == JSON:
                return json.loads(text)
        except ValueError as error:
            raise Refused(400, f"the body can't be read: {error}", off_contract=True) from error
        out: dict[str, Any] = {}
        for key, value in parse_qsl(text, keep_blank_values=True):
            if key.endswith("[]"):
                out.setdefault(key.removesuffix("[]"), []).append(value)
            elif key in out:
                raise Refused(400, "given twice", key, off_contract=True)
            else:
                out[key] = value
        return {key: coerce(value, schema.get("properties", {}).get(key, {})) for key, value in out.items()}

    def _carry_out(self, request: Request, operation: dict[str, Any], arguments: dict[str, Any]) -> Any:
        if not self.probe:
            for key in self._new & self.checks.keys():
                self.checks[key]["_status"] = "up"
            self._new.clear()
        handler = getattr(self, operation["name"])
        if request.method == "GET":
            try:
                return handler(**arguments)
            finally:
                self._stale_left = max(self._stale_left - 1, 0)
        before = copy.deepcopy(self.checks) if self._stale_after else {}
        body = handler(**arguments)
        self._stale, self._stale_left = before, self._stale_after
        return body

    def _answer_problems(self, operation: dict[str, Any], body: Any) -> list[str]:
        if operation["answer"] is None:
            return [] if body is None else ["no body is allowed"]
        shell, fresh = self.contract.new_items(operation["answer"], body)
        problems = self.contract.faults(operation["answer"], shell)
        for name, schema, item in fresh:
            problems += [(f"{name}.{key}", text) for key, text in self.contract.faults(schema, item)]
        if self.spec and not problems:
            sample = shell
            for name in {name for name, _, _ in fresh}:
                sample = {**sample, name: [item for key, _, item in fresh if key == name]}
            problems = self.spec.answer_faults(operation["method"], operation["path"], operation["status"], sample)
        return [f"{key}: {text}" for key, text in problems]

    # ---- the wire ----------------------------------------------------------------------------------------------------

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def log_message(self, *args: Any) -> None:
                """Nothing on stderr; the log is `requests`."""

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(fake.clock() if timestamp is None else timestamp)

            def answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request, status, headers, body, fault = fake._answer(self.command, self.path, self.headers, raw)
                fake.on_request(request)
                kind = fault.kind if fault else ""
                if kind == "timeout":
                    fake._closing.wait(fault.seconds if fault else 0)
                    self.close_connection = True
                    return
                if kind.startswith("reset"):
                    # Zero linger makes the kernel send RST; the read side holds a reference to the socket.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.rfile.close()
                    self.connection.close()
                    self.close_connection = True
                    return
                data = (
                    body
                    if isinstance(body, bytes)
                    else body.encode()
                    if isinstance(body, str)
                    else (b"" if body is None else json.dumps(body).encode())
                )
                content = JSON if not isinstance(body, (bytes, str)) else "text/html"
                if kind == "half_json":
                    data = data[: len(data) // 2]
                elif kind == "malformed":
                    data = b"<<< not JSON >>>"
                elif kind == "content_type":
                    data, content = b"<html><body>Down for maintenance</body></html>", "text/html; charset=utf-8"
                elif kind == "empty":
                    data = b""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if data:
                    self.send_header("Content-Type", content)
                if status != 204:
                    self.send_header("Content-Length", str(len(data)))
                if fake._closing.is_set():
                    self.send_header("Connection", "close")
                self.end_headers()
                if status != 204:
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        return Handler

    # ---- probing -----------------------------------------------------------------------------------------------------

    def _probe_forever(self) -> None:
        due_at: dict[Any, float] = {}
        with ThreadPoolExecutor(8) as pool:
            while not self._closing.wait(0.1):
                now = time.monotonic()
                with self.lock:
                    targets = {key: self.target(check) for key, check in self.checks.items()}
                for key, target in targets.items():
                    if target and due_at.get(key, 0.0) <= now:
                        due_at[key] = now + (self.probe_interval or target.interval)
                        pool.submit(self._probe, key, target)
                    elif not target:
                        due_at.pop(key, None)

    def _probe(self, key: Any, target: Target) -> None:
        status = "up" if probe_once(target) else "down"
        with self.lock:
            if key in self.checks and self.checks[key]["_status"] != status:
                self.set_status(key, status)
                self.changes.append((self.clock(), key, status))
                self.on_change(key, status)


class NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """A redirection is an answer like any other."""


def probe_once(target: Target) -> bool:
    """Whether the target answers as the check asks, within its time-out."""
    handlers: list[Any] = [ProxyHandler({})] if target.redirects else [ProxyHandler({}), NoRedirect()]
    if not target.verify:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(HTTPSHandler(context=context))
    try:
        request = HttpRequest(target.url, method=target.method, headers=target.headers)
        with build_opener(*handlers).open(request, timeout=target.timeout) as reply:
            code, text = reply.status, reply.read(1_000_000).decode(errors="replace")
    except HTTPError as error:
        code, text = error.code, error.read(1_000_000).decode(errors="replace")
    except (OSError, ValueError, HTTPException):
        return False
    return target.is_good(code) and (not target.keyword or (target.keyword in text) == target.keyword_expected)
