# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applications that nobody here wrote: built with options alone, run as in a pod, compared with plain gunicorn around them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import applications
from tests.applications import Reply, Step
from tests.harness import LONG, engine_env, run_role, until
from tests.node import free_port

# What flask_app gives a pod: its user is the image's.
AS_IN_A_POD = ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:rw,size=64m,mode=1777", "--cap-drop=ALL"]
AS_IN_A_POD += ["--security-opt=no-new-privileges", "--network=host"]
MEMORY_LIMIT = 256 * 2**20  # of flask_app_resources
# Flask's instance folders are links to below /tmp; sets have the same order in both.
PLAIN = (
    'mkdir -p /tmp/instance /tmp/var; exec /venv/bin/python -m gunicorn --threads 8 --bind "127.0.0.1:$PORT" "$FLASK_IMAGE_WSGI"'
)
PSS = (
    "import glob, re; print(sum(int(re.search('^Pss: *([0-9]+)', open(path).read(), re.M)[1])"
    " for path in glob.glob('/proc/[0-9]*/smaps_rollup') if not path.startswith('/proc/self')))"
)


def podman(*args: str, timeout: float = 120) -> str:
    done = subprocess.run(["podman", *args], env=engine_env(), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Container:
    """An image's container that has what a pod has, and no more."""

    def __init__(self, image: str, environment: dict[str, str], *command: str) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.name = f"application-{self.port}"
        given = {"PYTHONHASHSEED": "0", "DRAIN_SECONDS": "1", "PORT": self.port, "METRICS_PORT": self.metrics_port, **environment}
        options = [part for key, value in given.items() for part in ("--env", f"{key}={value}")]
        entry = ["--entrypoint", "/bin/sh"] if command else []
        podman("run", "--detach", "--name", self.name, *AS_IN_A_POD, *options, *entry, image, *command)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        podman("rm", "--force", "--time", "0", self.name)

    def page(self, path: str, port: int = 0) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=10) as response:
            return str(response.read().decode())

    def wait(self) -> None:
        """Wait until something answers, whatever it is."""

        def answers() -> bool:
            try:
                applications.answers(self.port, [Step("GET /health")], self.run)
            except OSError:
                assert podman("inspect", "--format", "{{.State.Running}}", self.name).strip() == "true", self.log()
                return False
            return True

        until(answers, 90, f"an answer of {self.name}")

    def run(self, command: list[str]) -> str:
        return podman("exec", self.name, *command)

    def log(self) -> str:
        done = subprocess.run(
            ["podman", "logs", self.name],
            env=engine_env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout


class Observed:
    """What was seen of an application: alone, and with what the role adds."""

    def __init__(self, application: dict[str, Any], image: str) -> None:
        self.application = application
        self.steps = applications.steps(application)
        environment = application.get("environment", {})
        with ExitStack() as stack:
            plain = stack.enter_context(Container(image, environment, "-c", PLAIN))
            whole = stack.enter_context(Container(image, environment))
            plain.wait()
            whole.wait()
            self.plain = applications.answers(plain.port, self.steps, plain.run)
            self.user = whole.run(["id", "-u"]).strip()
            self.health = Counter(whole.page("/health") for _ in range(60))
            self.replies = applications.answers(whole.port, self.steps, whole.run)
            until(lambda: whole.log().count('"flaskops.request"') >= len(self.replies), 10, "a line for each request")
            self.metrics = whole.page("/metrics", whole.metrics_port)
            self.memory = int(whole.run(["/venv/bin/python", "-c", PSS])) * 1024
            podman("stop", "--time", "30", whole.name)
            self.exit_code = podman("inspect", "--format", "{{.State.ExitCode}}", whole.name).strip()
            self.log = whole.log().splitlines()

    @property
    def requests(self) -> list[Step]:
        return [step for step in self.steps if step.do]

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines; those of an application that configures logging may be no JSON."""
        found = []
        for text in self.log:
            try:
                found.append(json.loads(text))
            except ValueError:
                assert self.application.get("own_log"), text
        return found

    def request_lines(self) -> list[dict[str, Any]]:
        """By their requests' order; a line is written after its answer was sent, and the next request may be faster."""
        found = [line for line in self.lines() if line["logger"] == "flaskops.request"]
        return sorted(found, key=lambda line: int(line["request_id"].removeprefix("step-")))

    def count(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        """The values of a series by labels."""
        return Counter(
            {
                tuple(sample.labels[label] for label in labels): int(sample.value)
                for family in text_string_to_metric_families(self.metrics)
                for sample in family.samples
                if sample.name == f"flask_http_request_{name}"
            }
        )


def quick_first() -> list[Any]:
    return [pytest.param(one["name"], marks=() if one.get("quick") else LONG) for one in applications.LIST]


@pytest.fixture(scope="module", params=quick_first())
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    application = applications.named(request.param)
    folder: Path = tmp_path_factory.mktemp("application")
    options = applications.options(application, folder)
    options |= {"flask_image_repository": f"localhost/applications/{request.param}", "flask_image_trust_host_ca": True}
    env = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    built = run_role("flask_image", folder, options, "-v", env=env)
    assert built.returncode == 0, built.error
    found = re.search(r'"flask_image_ref": "([^"]+)"', built.stdout)
    assert found, built.stdout[-2000:]
    yield Observed(application, found.group(1))
    run_role("flask_image", folder, {**options, "flask_image_state": "absent"})


def test_answers_are_the_application_s_own(observed: Observed) -> None:
    for step, plain, reply in zip(observed.requests, observed.plain, observed.replies, strict=True):
        if step.status:
            assert plain.status.startswith(str(step.status)), (step.do, plain)
        assert applications.difference(plain, reply) == [], step.do


def test_health_is_answered_as_often_as_it_is_asked(observed: Observed) -> None:
    assert observed.health == {'{"status":"ok"}\n': 60}


def test_each_request_has_its_line(observed: Observed) -> None:
    lines = observed.request_lines()
    asked = [(number, step) for number, step in enumerate(observed.steps) if step.do]
    assert [line["request_id"] for line in lines] == [f"step-{number}" for number, _ in asked]
    for line, (_, step), reply in zip(lines, asked, observed.replies, strict=True):
        assert (line["method"], line["path"]) == (step.method, step.path.partition("?")[0])
        assert line["status"] == int(reply.status[:3])
        assert step.route in (None, line["route"]), (step.do, line["route"])
        assert step.fails in line["message"], line["message"]
        assert line["level"] == ("ERROR" if line["status"] >= 500 else "INFO")


def test_a_failure_has_its_traceback(observed: Observed) -> None:
    lines = [line for line in observed.lines() if "traceback" in line]
    for number, step in enumerate(observed.steps):
        if step.fails and step.told:
            own = [line for line in lines if line["request_id"] == f"step-{number}"]
            assert any(step.fails in line["traceback"] for line in own), (step.do, lines)
    assert {line["request_id"] for line in lines} <= {
        f"step-{number}" for number, step in enumerate(observed.steps) if step.fails
    }


def test_the_metrics_are_those_of_the_lines(observed: Observed) -> None:
    def method(line: dict[str, Any]) -> str:
        return "_OTHER" if line["method"] == "BREW" else str(line["method"])

    lines = observed.request_lines()
    expected = Counter((method(line), str(line["status"])) for line in lines)
    assert observed.count("total", "method", "status") == expected
    expected = Counter((line["method"], str(line["route"]), str(line["status"])) for line in lines if line["method"] != "BREW")
    assert observed.count("duration_seconds_count", "method", "url_rule", "status") == expected
    expected = Counter((step.method, "500") for step in observed.requests if step.fails)
    assert observed.count("exceptions_total", "method", "status") == expected


def test_it_fits_into_a_pod_and_ends_when_it_is_told(observed: Observed) -> None:
    assert observed.user == "10001"
    assert observed.memory < MEMORY_LIMIT, f"{observed.memory / 2**20:.0f} MiB"
    assert observed.exit_code == "0", observed.log[-20:]
    last = observed.lines()[-1]
    assert (last["logger"], last["message"]) == ("gunicorn.error", "Shutting down: Master")


def test_masks_hide_no_difference() -> None:
    def differ(one: tuple[str, str], other: tuple[str, str]) -> bool:
        replies = [
            Reply("200 OK", (("Set-Cookie", cookie), ("Content-Length", str(len(body)))), body.encode())
            for cookie, body in (one, other)
        ]
        return bool(applications.difference(*replies))

    assert not differ(("a=1.x; Path=/", "at 2026-11-28T10:00:00Z"), ("a=22.y; Path=/", "at 2026-11-28T10:00:01Z"))
    assert differ(("a=1; Path=/", ""), ("b=1; Path=/", ""))
    assert differ(("a=1; Path=/", ""), ("a=1; Path=/x", ""))
    assert differ(("", "a"), ("", "b"))
