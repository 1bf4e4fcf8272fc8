# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of Loki's HTTP API: it keeps lines in memory, answers queries, and refuses what Loki refuses.

Written from the documentation of the API; no part of Loki is in it, which is why the log store itself is proven nowhere here.
One file without other packages, so that a pod of a cluster can run it from a ConfigMap: `python loki.py --port 3100`.
Its faults are switches, set as attributes of `switches` or by `PUT /stand-in` with the changed ones as JSON.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
QUOTED = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
MATCHER = re.compile(rf"\s*({NAME})\s*(=~|!~|!=|=)\s*({QUOTED})\s*")
STAGE = re.compile(rf"\s*(?:(\|=|\|~|!=|!~)\s*({QUOTED})|\|\s*(json)\b|\|\s*({NAME})\s*(=~|!~|!=|=)\s*({QUOTED}))")
SUM = re.compile(r"sum\s*(?:by\s*\(([^)]*)\)\s*)?\((.*)\)\s*(?:by\s*\(([^)]*)\))?", re.DOTALL)
COUNT = re.compile(r"count_over_time\s*\((.*)\[(\d+)(ms|s|m|h|d)\]\s*\)", re.DOTALL)
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
HOUR = 3600 * 10**9
MOST_LINES = 5000
EMPTY = "queries require at least one regexp or equality matcher that does not have an empty-compatible value"
INSTANT = "log queries are not supported as an instant query type, please change your query to a range query type"
AHEAD = 600  # seconds that a line may be ahead of now
# The whole of the configuration that others read.
CONFIG = """\
auth_enabled: {auth}
limits_config:
  reject_old_samples: true
  reject_old_samples_max_age: {max_age:g}s
  max_line_size: {max_line}
ruler:
  alertmanager_url: {alertmanager}
"""
TENANTLESS = ("/ready", "/metrics", "/config", "/loki/api/v1/status/buildinfo", "/stand-in")


class Refused(Exception):
    """An answer other than the wanted one: its status, and its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass
class Switches:
    """What the stand-in is told to do.

    :ivar ready: whether it is; otherwise it takes and gives no line either.
    :ivar auth: whether each request has to name a tenant.
    :ivar limited: whether it says of each push that it is too much.
    :ivar max_age: seconds; older lines are refused.
    :ivar max_line: bytes; longer lines are refused.
    :ivar ruler: whether it has one.
    :ivar rule_error: what each rule's evaluation ends with.
    :ivar evaluated: seconds since the rules were evaluated last.
    :ivar firing: names of the alerts that fire.
    :ivar alertmanager: where the ruler sends alerts.
    """

    ready: bool = True
    auth: bool = False
    limited: bool = False
    max_age: float = 168 * 3600
    max_line: int = 2 << 20
    ruler: bool = True
    rule_error: str = ""
    evaluated: float = 1
    firing: tuple[str, ...] = ()
    alertmanager: str = "''"


@dataclass(frozen=True)
class Line:
    """A line, with the structured metadata that came with it."""

    time: int
    text: str
    metadata: dict[str, str] = field(hash=False, compare=False)


Labels = tuple[tuple[str, str], ...]
Test = Callable[[dict[str, str], str], bool]


def unquoted(text: str) -> str:
    return text[1:-1] if text[0] == "`" else str(json.loads(text))


def compare(operator: str, wanted: str) -> Callable[[str], bool]:
    """What a label's value is held against; a regular expression has to fit the whole of it."""
    if operator in ("=", "!="):
        return lambda value: (value == wanted) == (operator == "=")
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        raise Refused(400, f"parse error: error parsing regexp: {error}") from error
    return lambda value: bool(pattern.fullmatch(value)) == (operator == "=~")


class Query:
    """A log query: a selector of streams, and what a line of theirs has to pass."""

    def __init__(self, text: str) -> None:
        self.matchers: list[tuple[str, Callable[[str], bool]]] = []
        self.stages: list[Callable[[dict[str, str], str], bool]] = []
        rest = self._selector(text.strip())
        while rest.strip():
            found = STAGE.match(rest)
            if not found:
                raise Refused(400, f"parse error at line 1, col {len(text) - len(rest) + 1}: syntax error")
            self.stages.append(self._stage(*found.groups()))
            rest = rest[found.end() :]

    def _selector(self, text: str) -> str:
        position, some = 1, False
        while text.startswith("{") and (found := MATCHER.match(text, position)):
            name, operator, value = found.groups()
            test = compare(operator, unquoted(value))
            self.matchers.append((name, test))
            some = some or not test("")
            position = found.end()
            if text[position : position + 1] == "}":
                if not some:
                    raise Refused(
                        400,
                        "queries require at least one regexp or equality matcher that does not have an empty-compatible value",
                    )
                return text[position + 1 :]
            if text[position : position + 1] != ",":
                break
            position += 1
        raise Refused(400, f"parse error at line 1, col {position}: syntax error")

    @staticmethod
    def _stage(line: str, wanted: str, parser: str, name: str, operator: str, value: str) -> Test:
        if parser:

            def read(labels: dict[str, str], text: str) -> bool:
                try:
                    found = json.loads(text)
                except ValueError:
                    labels["__error__"] = "JSONParserErr"
                    return True
                for key, item in found.items() if isinstance(found, dict) else ():
                    if not isinstance(item, dict | list):
                        labels.setdefault(key, item if isinstance(item, str) else json.dumps(item))
                return True

            return read
        if name:
            test = compare(operator, unquoted(value))
            return lambda labels, text: test(labels.get(name, ""))
        there = unquoted(wanted)
        if line in ("|=", "!="):
            return lambda labels, text: (there in text) == (line == "|=")
        pattern = re.compile(there)
        return lambda labels, text: bool(pattern.search(text)) == (line == "|~")

    def fits(self, labels: dict[str, str]) -> bool:
        return all(test(labels.get(name, "")) for name, test in self.matchers)

    def run(self, streams: dict[Labels, list[Line]], start: int, end: int) -> Iterator[tuple[dict[str, str], Line]]:
        """The lines from `start` on and before `end`, each with all its labels."""
        for key, lines in streams.items():
            if not self.fits(dict(key)):
                continue
            for line in lines:
                labels = {**dict(key), **line.metadata}
                if start <= line.time < end and all(stage(labels, line.text) for stage in self.stages):
                    yield labels, line


def read_rules(folder: Path | None) -> list[dict[str, Any]]:
    """The groups of the files as role loki writes them: a name, an interval, and the rules as JSON in one line."""
    groups: list[dict[str, Any]] = []
    # Of a ConfigMap's folder only the names, and not the hidden folder that they lead to.
    files = [file for file in sorted(folder.glob("**/*.y*ml")) if "/." not in str(file.relative_to("/"))] if folder else []
    for file in files:
        for line in file.read_text().splitlines():
            key, _, value = line.strip().removeprefix("- ").partition(": ")
            if key == "name":
                groups.append({"name": value, "interval": 60.0, "rules": [], "file": file.name})
            elif key == "interval":
                groups[-1]["interval"] = float(value[:-1]) * SECONDS[value[-1]]
            elif key == "rules":
                groups[-1]["rules"] = json.loads(value)
    return groups


class Loki:
    """The stand-in; use it as a context to have it listen on `url`."""

    version = "3.7.8"

    def __init__(self, port: int = 0, host: str = "127.0.0.1", rules: Path | None = None, **switches: Any) -> None:
        self.switches = Switches(**switches)
        self.groups = read_rules(rules)
        self.streams: dict[str, dict[Labels, dict[Line, None]]] = {}  # by tenant; a line is there once
        self.discarded: Counter[tuple[str, str]] = Counter()  # by tenant and reason
        self.answers: Counter[tuple[str, str, int]] = Counter()  # by method, route and status
        self.began = time.time()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, port), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Loki:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        self._server.serve_forever()

    def set(self, **changes: Any) -> None:
        self.switches = replace(self.switches, **changes)

    def lines(self, tenant: str = "fake") -> list[str]:
        """The lines of a tenant, the oldest first."""
        with self._lock:
            found = [line for lines in self.streams.get(tenant, {}).values() for line in lines]
        return [line.text for line in sorted(found, key=lambda line: line.time)]

    # What is answered.

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: bytes) -> tuple[int, str]:
        """The status and the text of one request."""
        tenant = headers.get("X-Scope-OrgID") or ""
        if path in TENANTLESS or not self.switches.auth:
            tenant = "fake"
        elif not tenant:
            raise Refused(401, "no org id")
        plain: dict[tuple[str, str], Callable[[], str]] = {
            ("GET", "/ready"): self._ready,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/config"): lambda: CONFIG.format(**{**asdict(self.switches), "auth": str(self.switches.auth).lower()}),
            ("GET", "/loki/api/v1/status/buildinfo"): lambda: json.dumps({"version": self.version, "revision": "stand-in"}),
            ("PUT", "/stand-in"): lambda: self._switch(body),
        }
        if (method, path) in plain:
            return 200, plain[method, path]()
        if path.startswith(("/prometheus/api/v1/", "/loki/api/v1/rules")):
            return 200, self._ruler(path)
        if not self.switches.ready:
            raise Refused(500, "empty ring")
        if (method, path) == ("POST", "/loki/api/v1/push"):
            self._push(tenant, headers, body)
            return 204, ""
        with self._lock:
            streams = {key: list(lines) for key, lines in self.streams.get(tenant, {}).items()}
        start, end = self._period(query)
        if path in ("/loki/api/v1/query", "/loki/api/v1/query_range"):
            return 200, self._query(path, query, streams, start, end)
        found = [dict(key) for key, lines in streams.items() if any(start <= line.time < end for line in lines)]
        if path == "/loki/api/v1/series":
            wanted = Query(query.get("match[]") or query.get("match") or "")
            return 200, self._data([labels for labels in found if wanted.fits(labels)])
        if path == "/loki/api/v1/labels":
            return 200, self._data(sorted({name for labels in found for name in labels}))
        if label := re.fullmatch(r"/loki/api/v1/label/([^/]+)/values", path):
            return 200, self._data(sorted({labels[label[1]] for labels in found if label[1] in labels}))
        raise Refused(404, "404 page not found")

    @staticmethod
    def _data(data: Any) -> str:
        return json.dumps({"status": "success", "data": data})

    def _ready(self) -> str:
        if not self.switches.ready:
            raise Refused(503, "Ingester not ready: waiting for 15s after being ready")
        return "ready\n"

    def _switch(self, body: bytes) -> str:
        try:
            self.set(**json.loads(body))
        except (ValueError, TypeError) as error:
            raise Refused(400, str(error)) from error
        return json.dumps(asdict(self.switches))

    def _push(self, tenant: str, headers: Any, body: bytes) -> None:
        if "json" not in headers.get("Content-Type", ""):
            raise Refused(400, "the stand-in takes JSON only")
        try:
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            streams = [
                (
                    tuple(sorted((str(k), str(v)) for k, v in stream["stream"].items())),
                    [Line(int(value[0]), str(value[1]), dict(*value[2:])) for value in stream["values"]],
                )
                for stream in json.loads(body)["streams"]
            ]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError, EOFError) as error:
            raise Refused(400, f"couldn't parse push request: {error!r}") from error
        if self.switches.limited:
            lines = [line for _labels, found in streams for line in found]
            self.discarded[tenant, "rate_limited"] += len(lines)
            size = sum(len(line.text.encode()) for line in lines)
            raise Refused(
                429,
                f"ingestion rate limit exceeded for user {tenant} (limit: 1 bytes/sec) while attempting to ingest"
                f" '{len(lines)}' lines totaling '{size}' bytes, reduce log volume or contact your Loki administrator"
                " to see if the limit can be increased",
            )
        problems = []
        with self._lock:
            kept = self.streams.setdefault(tenant, {})
            for labels, lines in streams:
                for line in lines:
                    # What is well in the same request is kept.
                    if problem := self._problem(labels, line):
                        self.discarded[tenant, problem[0]] += 1
                        problems.append(problem[1])
                    else:
                        kept.setdefault(labels, {}).setdefault(line)
        if problems:
            raise Refused(400, problems[0])

    def _problem(self, labels: Labels, line: Line) -> tuple[str, str] | None:
        """Why a line is refused: the reason in the metrics, and the sentence."""
        shown = "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels) + "}"
        size, at = len(line.text.encode()), line.time / 1e9
        wrong = [name for name, _value in labels if not re.fullmatch(NAME, name)]
        if not labels:
            return "missing_labels", "error at least one label pair is required per stream"
        if wrong:
            return "invalid_labels", f"Error parsing labels '{shown}': unexpected name {wrong[0]}"
        if size > self.switches.max_line:
            return (
                "line_too_long",
                f"max entry size '{self.switches.max_line}' bytes exceeded for stream '{shown}'"
                f" while adding an entry with length '{size}' bytes",
            )
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat()
        if at < time.time() - self.switches.max_age:
            return "greater_than_max_sample_age", f"entry for stream '{shown}' has timestamp too old: {moment}"
        if at > time.time() + AHEAD:
            return "too_far_in_future", f"entry for stream '{shown}' has timestamp too new: {moment}"
        return None

    @staticmethod
    def _period(query: dict[str, str]) -> tuple[int, int]:
        def moment(text: str) -> int:
            if re.fullmatch(r"\d{11,}", text):
                return int(text)
            if re.fullmatch(r"\d+(\.\d+)?", text):
                return int(float(text) * 1e9)
            return int(datetime.datetime.fromisoformat(text).timestamp() * 1e9)

        try:
            end = moment(query["end"]) if "end" in query else time.time_ns()
            if "start" in query:
                return moment(query["start"]), end
            since = re.fullmatch(r"(\d+)(ms|s|m|h|d)", query.get("since", "1h"))
            assert since
            return end - int(int(since[1]) * SECONDS[since[2]] * 1e9), end
        except (ValueError, AssertionError) as error:
            raise Refused(400, f"could not parse 'start', 'end' or 'since' parameter: {error}") from error

    def _query(self, path: str, query: dict[str, str], streams: dict[Labels, list[Line]], start: int, end: int) -> str:
        text = query.get("query", "").strip()
        if counted := COUNT.search(text):
            return self._count(text, counted, streams, int(float(query.get("time") or time.time()) * 1e9))
        if not path.endswith("_range"):
            raise Refused(400, INSTANT)
        limit = int(query.get("limit", "100"))
        if limit > MOST_LINES:
            raise Refused(
                400, f"max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {MOST_LINES})"
            )
        backward = query.get("direction", "backward").lower() != "forward"
        found = sorted(Query(text).run(streams, start, end), key=lambda item: item[1].time, reverse=backward)
        result: dict[str, dict[str, Any]] = {}
        for labels, line in found[:limit]:
            stream = result.setdefault(json.dumps(labels, sort_keys=True), {"stream": labels, "values": []})
            stream["values"].append([str(line.time), line.text])
        return self._data({"resultType": "streams", "result": list(result.values())})

    def _count(self, text: str, counted: re.Match[str], streams: dict[Labels, list[Line]], at: int) -> str:
        inner, number, unit = counted.groups()
        found = Query(inner).run(streams, at - int(int(number) * SECONDS[unit] * 1e9), at + 1)
        summed = SUM.fullmatch(text)
        names = re.findall(NAME, (summed[1] or summed[3] or "") if summed else "")
        groups: Counter[Labels] = Counter()
        for labels, _line in found:
            kept = {name: labels.get(name, "") for name in names} if summed else labels
            groups[tuple(sorted(kept.items()))] += 1
        result = [{"metric": dict(key), "value": [at / 1e9, str(value)]} for key, value in groups.items()]
        return self._data({"resultType": "vector", "result": result})

    def _ruler(self, path: str) -> str:
        if not self.switches.ruler:
            raise Refused(404, "404 page not found")
        if path.startswith("/loki/"):
            if not self.groups:
                raise Refused(404, "no rule groups found")
            return json.dumps({"fake": [{"name": group["name"], "rules": group["rules"]} for group in self.groups]})
        seen = datetime.datetime.fromtimestamp(time.time() - self.switches.evaluated, datetime.UTC).isoformat()
        groups, alerts = [], []
        for group in self.groups:
            rules = []
            for rule in group["rules"]:
                name = rule.get("alert") or rule["record"]
                state = "firing" if name in self.switches.firing else "inactive"
                error = self.switches.rule_error
                rules.append(
                    {
                        **{"name": name, "query": rule["expr"], "type": "alerting" if "alert" in rule else "recording"},
                        **{"state": state, "health": "err" if error else "ok", "lastError": error, "lastEvaluation": seen},
                        "labels": rule.get("labels", {}),
                    }
                )
                if state == "firing":
                    alerts.append({"labels": {"alertname": name, **rule.get("labels", {})}, "state": state, "value": "1e+00"})
            groups.append({**group, "rules": rules, "lastEvaluation": seen})
        if path.endswith("/alerts"):
            return self._data({"alerts": alerts})
        if path.endswith("/rules"):
            return self._data({"groups": groups})
        raise Refused(404, "404 page not found")

    def _metrics(self) -> str:
        lines = [f"process_start_time_seconds {self.began:.2f}", f'loki_build_info{{version="{self.version}"}} 1']
        for (tenant, reason), value in self.discarded.copy().items():
            lines.append(f'loki_discarded_samples_total{{reason="{reason}",tenant="{tenant}"}} {value}')
        for (method, route, status), value in self.answers.copy().items():
            labels = f'method="{method}",route="{route}",status_code="{status}",ws="false"'
            lines.append(f"loki_request_duration_seconds_count{{{labels}}} {value}")
        labels = f'alertmanager="{self.switches.alertmanager}",user="fake"'
        for name in ("sent", "errors"):
            lines.append(f"loki_prometheus_notifications_{name}_total{{{labels}}} 0")
        return "".join(f"{line}\n" for line in lines)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loki = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self) -> None:
                parts = urlsplit(self.path)
                path = unquote(parts.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                form = body.decode() if "x-www-form-urlencoded" in self.headers.get("Content-Type", "") else ""
                query = {name: values[-1] for name, values in parse_qs(f"{parts.query}&{form}").items()}
                try:
                    status, text = loki.answer(self.command, path, query, self.headers, body)
                except Refused as refused:
                    status, text = refused.status, f"{refused.text}\n"
                # As it names its routes: /loki/api/v1/push is loki_api_v1_push.
                loki.answers[self.command, re.sub(r"\W+", "_", path.strip("/")) or "root", status] += 1
                self.send_response(status)
                kind = "application/json; charset=UTF-8" if text[:1] in ("{", "[") else "text/plain; charset=utf-8"
                self.send_header("Content-Type", kind)
                if status != 204:
                    self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_PUT = reply

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=3100)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--rules", type=Path, help="folder with the ruler's files")
    parser.add_argument("--alertmanager", default=Switches.alertmanager, help="where the ruler sends alerts")
    arguments = parser.parse_args()
    print(f"The stand-in of Loki listens on port {arguments.port}.", file=sys.stderr, flush=True)
    Loki(arguments.port, arguments.host, arguments.rules, alertmanager=arguments.alertmanager).serve()


if __name__ == "__main__":
    main()
