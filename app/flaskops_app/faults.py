# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fault switches for drills. They exist only with FLASKOPS_FAULTS=1.

The switches of a pod live in a small file in FLASKOPS_STATE_DIR, so that they act on every worker;
a switch is handed on to the other replicas that FLASKOPS_PEERS (the DNS name of a headless Service) leads to.
FLASKOPS_FAULTS_FILE names a file of the same form (a mounted ConfigMap, say), for switches that outlive the pods.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

log = logging.getLogger(__name__)

Fault = dict[str, float]

# Each option: default, lowest, highest.
OPTIONS: dict[str, dict[str, tuple[float, float, float]]] = {
    "errors": {"ratio": (1, 0, 1)},
    "latency": {"delay": (1, 0, 30), "ratio": (1, 0, 1)},
    "health": {},
    "crash": {"times": (1, 1, 100), "after": (1, 0, 300)},
    "memory": {"mb": (64, 1, 16384)},
    "logs": {"rate": (100, 1, 1000)},
}
# A switch set by POST ends by itself after so many seconds.
SECONDS = (600, 1, 86400)


# The header that keeps a switch from being handed on for ever.
RELAYED = "X-Flaskops-Relayed"
PEER_SECONDS = 3


class InjectedError(RuntimeError):
    """The error of the switch "errors"."""


def enabled() -> bool:
    return os.environ.get("FLASKOPS_FAULTS") == "1"


def state_dir() -> Path:
    return Path(os.environ.get("FLASKOPS_STATE_DIR", "/tmp/flaskops"))


def check(name: str, given: object, options: dict[str, tuple[float, float, float]]) -> Fault:
    """The options of one fault, complete; ValueError says in one sentence what is wrong."""
    if not isinstance(given, dict):
        raise ValueError(f"The options of the fault {name} must be a JSON object.")
    unknown = sorted(set(given) - set(options))
    if unknown:
        raise ValueError(f"The fault {name} has no option {unknown[0]}; use one of: {', '.join(options) or 'none'}.")
    fault = {key: default for key, (default, _low, _high) in options.items()}
    for key, value in given.items():
        _default, low, high = options[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"The option {key} of the fault {name} must be a number from {low:g} to {high:g}.")
        fault[key] = value
    return fault


def peers() -> list[str]:
    """The addresses of the other replicas; ValueError if FLASKOPS_PEERS can't be resolved."""
    name = os.environ.get("FLASKOPS_PEERS")
    if not name:
        return []
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)}
        own = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    except OSError as error:
        raise ValueError(f"FLASKOPS_PEERS is {name}, which cannot be resolved ({error}); name a headless Service.") from error
    return sorted(found - own)


def relay(method: str, path: str, body: bytes) -> list[str]:
    """Send a switch to the other replicas at once; return a sentence for each that did not take it."""

    def send(address: str) -> str:
        url = f"http://{address}:{os.environ.get('PORT') or 5000}{path}"
        try:
            handed = urllib.request.Request(url, body, {RELAYED: "1"}, method=method)
            urllib.request.urlopen(handed, timeout=PEER_SECONDS).close()
        except OSError as error:
            return f"The replica {address} did not take the switch: {error}."
        return ""

    addresses = peers()
    if not addresses:
        return []
    with ThreadPoolExecutor(max_workers=min(16, len(addresses))) as pool:
        return [problem for problem in pool.map(send, addresses) if problem]


class JsonFile:
    """A JSON object in a file, read again only after the file changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[Any, dict[str, Any]] = (None, {})

    def read(self) -> dict[str, Any]:
        try:
            stat = self.path.stat()
        except OSError:
            return {}
        key = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        seen_key, content = self._seen
        if key == seen_key:
            return content
        try:
            content = json.loads(self.path.read_text() or "{}")
            if not isinstance(content, dict):
                raise ValueError("it is not a JSON object")
        except (OSError, ValueError) as error:
            log.warning("The faults file %s is ignored because it cannot be read: %s.", self.path, error)
            content = {}
        self._seen = (key, content)
        return content


class Faults:
    """The switches that are on: those of the shared file, then those of this pod."""

    def __init__(self) -> None:
        shared = os.environ.get("FLASKOPS_FAULTS_FILE")
        self._shared = JsonFile(Path(shared)) if shared else None
        self._local = JsonFile(state_dir() / "faults.json")
        self._warned = ""

    def _from_shared(self) -> dict[str, Fault]:
        faults: dict[str, Fault] = {}
        for name, given in (self._shared.read() if self._shared else {}).items():
            try:
                if name not in OPTIONS:
                    raise ValueError(f"There is no fault {name}; use one of: {', '.join(OPTIONS)}.")
                faults[name] = check(name, given, OPTIONS[name])
            except ValueError as error:
                if self._warned != str(error):
                    self._warned = str(error)
                    log.warning("An entry of the shared faults file is ignored. %s", error)
        return faults

    def _from_local(self) -> dict[str, Fault]:
        now = time.time()
        return {name: fault for name, fault in self._local.read().items() if fault["until"] > now}

    def active(self) -> dict[str, Fault]:
        return self._from_shared() | self._from_local()

    @contextmanager
    def _change(self) -> Iterator[dict[str, Fault]]:
        path = self._local.path
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            faults = self._from_local()
            yield faults
            new = path.with_suffix(".new")
            new.write_text(json.dumps(faults))
            new.replace(path)

    def set(self, name: str, given: object) -> None:
        fault = check(name, given, OPTIONS[name] | {"seconds": SECONDS})
        fault["until"] = time.time() + fault.pop("seconds")
        with self._change() as faults:
            faults[name] = fault

    def clear(self, name: str | None = None) -> None:
        with self._change() as faults:
            if name is None:
                faults.clear()
            else:
                faults.pop(name, None)

    def count_crash(self) -> None:
        """One crash of this pod's switch is used up."""
        with self._change() as faults:
            crash = faults.get("crash")
            if crash:
                crash["times"] -= 1
                if crash["times"] < 1:
                    del faults["crash"]


def init_app(app: Flask) -> Faults:
    """Adds /faults and lets the switches act on all requests but /health and /faults."""
    faults = Faults()
    routes = Blueprint("faults", __name__, url_prefix="/faults")

    @routes.get("")
    def show() -> Response:
        return jsonify(faults.active())

    def hand_on() -> Response | tuple[Response, int]:
        """The answer to a switch, after the other replicas took it too."""
        problems = [] if RELAYED in request.headers else relay(request.method, request.path, request.get_data())
        return (jsonify(error=" ".join(problems)), 502) if problems else show()

    @routes.delete("")
    def clear_all() -> Response | tuple[Response, int]:
        faults.clear()
        return hand_on()

    @routes.route("/<any(" + ",".join(OPTIONS) + "):name>", methods=["POST", "DELETE"])
    def switch(name: str) -> Response | tuple[Response, int]:
        try:
            if request.method == "DELETE":
                faults.clear(name)
            else:
                faults.set(name, json.loads(request.get_data() or b"{}"))
            return hand_on()
        except json.JSONDecodeError:
            return jsonify(error=f"The body of a POST to the fault {name} must be a JSON object or empty."), 400
        except ValueError as error:
            return jsonify(error=str(error)), 400

    @app.before_request
    def act() -> None:
        if request.endpoint == "health" or request.blueprint == "faults":
            return
        active = faults.active()
        latency, errors = active.get("latency"), active.get("errors")
        if latency and random.random() < latency["ratio"]:
            time.sleep(latency["delay"])
        if errors and random.random() < errors["ratio"]:
            raise InjectedError("This error was injected by the fault switch errors.")

    app.register_blueprint(routes)
    return faults


def act_in_master() -> None:
    """The switches that act once per pod (crash, memory, logs); a thread of the gunicorn master."""
    faults = Faults()
    held: bytes | None = None
    crash_seen: float | None = None
    pause = threading.Event()
    tick = 0.5
    while not pause.wait(tick):
        try:
            active = faults.active()
            crash = active.get("crash")
            if not crash:
                crash_seen = None
            else:
                crash_seen = time.monotonic() if crash_seen is None else crash_seen
                if time.monotonic() - crash_seen >= crash["after"]:
                    faults.count_crash()
                    log.critical("The process ends because of the fault switch crash.")
                    os._exit(1)
            size = int(active.get("memory", {}).get("mb", 0)) * 2**20
            if size != len(held or b""):
                held = None
                held = b"\x01" * size if size else None
            for _ in range(int(active.get("logs", {}).get("rate", 0) * tick)):
                log.error("This line was written by the fault switch logs.")
        except Exception:
            log.exception("A fault switch could not act.")


def start_in_master() -> None:
    threading.Thread(target=act_in_master, name="faults", daemon=True).start()
