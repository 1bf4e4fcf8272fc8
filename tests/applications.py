# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The applications of applications.yml: their trees, and what they answer to their steps."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import ndiff
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.harness import playbook

LIST: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("applications.yml").read_text())
# Asked of every application, in addition to its own steps: what its first page, and a page that is none, say to other methods.
ALWAYS = ("HEAD {}", "OPTIONS {}", "PUT {}", "BREW {}", "GET /no-such-page", "BREW /no-such-page")
HOST = "localhost"
MASKS = (
    # What differs from one start to the next: times, ids, signed cookies and tokens of forms.
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d[ -]\w{3}[ -]\d{4} \d\d:\d\d:\d\d GMT", "<date>"),
    (r"(?<!\d)\d{4}-\d\d-\d\d([T_ ]\d\d[:-]?\d\d([:-]?\d\d)?(\.\d+)?(Z|\+00:00)?)?", "<date>"),
    (r"(?<![\w~-])(?=[\w.~-]*\d)(?=[\w.~-]*[A-Za-z])[\w~-]{20,}(\.[\w-]+)*", "<id>"),
    (r"\b1[78]\d{8}(\.\d+)?\b", "<time>"),
)


def _absent(role: str, **given: str) -> dict[str, Any]:
    """The task by which a role takes each application away."""
    return {
        "name": f"Remove what {role} made",
        "ansible.builtin.include_role": {"name": f"flaskops.observability.{role}"},
        "vars": {f"{role}_{key}": value for key, value in {"state": "absent", **given}.items()},
        "loop": "{{ flask_apps }}",
        "loop_control": {"loop_var": "app", "label": "{{ app.name }}"},
    }


# What takes applications away, and their images.
CLEAR = [
    {
        "name": "Remove the applications of the test",
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            *(
                _absent(role, name="{{ app.name }}", namespace="{{ app.name }}")
                for role in ("verify", "app_monitoring", "flask_app")
            ),
            _absent("flask_image", repository="localhost/{{ app.name }}"),
        ],
    }
]


@dataclass(frozen=True)
class Reply:
    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass
class Step:
    """A request of an application's list, or a command."""

    do: str = ""
    run: list[str] = field(default_factory=list)
    status: int = 0
    route: str | None = None
    fails: str = ""
    told: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] | None = None
    json: Any = None

    @property
    def method(self) -> str:
        return self.do.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.do.partition(" ")[2]


def named(name: str) -> dict[str, Any]:
    return next(one for one in LIST if one["name"] == name)


def steps(application: dict[str, Any]) -> list[Step]:
    own = [Step(**given) for given in application["steps"]]
    first = own[0]
    return own + [replace(first, do=text.format(first.path), status=0, route=None) for text in ALWAYS]


def options(application: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The options of the role flask_image; *folder* gets the tree."""
    given = dict(application["image"])
    if "sdist" in application:
        given["source"] = str(unpacked(application["sdist"], folder) / given["source"])
    elif "files" in application:
        tree = folder / application["name"]
        tree.mkdir()
        for name, text in application["files"].items():
            (tree / name).write_text(text)
        given["source"] = str(tree)
    return {f"flask_image_{name}": value for name, value in given.items()}


def clear(folder: Path, apps: list[dict[str, Any]]) -> None:
    """Take applications away from the shared cluster."""
    (folder / "clear.yml").write_text(yaml.safe_dump(CLEAR))
    done = playbook(str(folder / "clear.yml"), extra={"flask_apps": apps})
    assert done.returncode == 0, done.error


def unpacked(requirement: str, folder: Path) -> Path:
    """The folder of a source package, as the package index has it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", requirement.partition("=")[0], "--dest", str(folder), requirement]
    subprocess.run(command, check=True, timeout=300)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extraction_filter = getattr(tarfile, "data_filter", None)  # which Python has since 3.11.4
        opened.extractall(folder)
    return folder / archive.name.removesuffix(".tar.gz")


def answers(port: int, todo: list[Step], run: Callable[[list[str]], object]) -> list[Reply]:
    """What the application at a port says to all steps, one after the other; a client that keeps its cookies asks."""
    cookies: dict[str, str] = {}
    found = []
    for number, step in enumerate(todo):
        if step.run:
            run(step.run)
            continue
        headers = {"Host": HOST, "X-Request-ID": f"step-{number}", "Connection": "close", **step.headers}
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        body = None
        if step.form is not None:
            body, headers["Content-Type"] = urlencode(step.form), "application/x-www-form-urlencoded"
        elif step.json is not None:
            body, headers["Content-Type"] = json.dumps(step.json), "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(step.method, step.path, body, headers)
        response = connection.getresponse()
        given = tuple(
            (name, value) for name, value in response.getheaders() if (name, value) != ("X-Request-ID", f"step-{number}")
        )
        reply = Reply(f"{response.status} {response.reason}", given, response.read())
        connection.close()
        for name, value in given:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                cookies[key] = rest.partition(";")[0]
        found.append(reply)
    return found


def difference(plain: Reply, reply: Reply) -> list[str]:
    """The lines in which two answers differ, but for what differs from one start to the next."""
    return [line for line in ndiff(lines(plain), lines(reply)) if line[0] in "+-"]


def lines(reply: Reply) -> list[str]:
    def masked(text: str) -> str:
        for pattern, word in MASKS:
            text = re.sub(pattern, word, text)
        return text

    given = reply.body.decode("latin1")
    body, head = masked(given), []
    for name, value in reply.headers:
        if name.lower() == "set-cookie":
            value = re.sub("=[^;]*", "=<cookie>", value, count=1)
        elif name.lower() == "content-length" and body != given:
            value = "<length>"  # an id may be longer the next time
        head.append(f"{name}: {masked(value)}")
    return [reply.status, *head, *body.splitlines()]
