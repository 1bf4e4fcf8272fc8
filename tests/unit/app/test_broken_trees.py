# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree that can't become an image ends in one sentence: with the cause, and with the option or file to change.

pip is the real one; the package index is one of this test, on loopback.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import install
import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.image import build as image_build
from ansible_collections.flaskops.observability.plugins.module_utils.image import deliver
from ansible_collections.flaskops.observability.plugins.module_utils.image.build_context import ContextError
from ansible_collections.flaskops.observability.plugins.module_utils.image.flask_target import described
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import ImageError
from ansible_collections.flaskops.observability.plugins.modules import container_image

APP = "from flask import Flask\napp = Flask(__name__)\n"
TOML = "pyproject.toml"
OWN = {"Containerfile": "ARG A\nFROM x AS web\nRUN --mount=type=secret,id=pip true\n"}
CONFLICT = "<<<<<<< HEAD\nflask==3.1\n=======\nflask==3.0\n>>>>>>> other\n"


def project(more: str = "", dependencies: str = "", backend: str = "") -> str:
    """A pyproject.toml; with a backend it is one of the tree's own."""
    system = f'[build-system]\nrequires = []\nbuild-backend = "{backend}"\nbackend-path = ["."]\n' if backend else ""
    return f'[project]\nname = "shop"\nversion = "1"\ndependencies = [{dependencies}]\n{more}\n{system}'


# What is told before anything is built.
BEFORE: list[tuple[str, dict[str, str | bytes], dict[str, Any], list[str]]] = [
    ("two applications", {"one.py": APP, "two.py": APP}, {}, ["one:app, two:app", "flask_image_wsgi"]),
    ("no application", {"shop.py": "x = 1\n"}, {}, ["shop.py", "flask_image_wsgi"]),
    ("a syntax error", {"app.py": "def broken(:\n"}, {}, ["app.py", "line 1"]),
    ("a merge conflict in code", {"app.py": CONFLICT}, {}, ["app.py", "line 1"]),
    ("a factory with arguments", {"app.py": "def create_app(config): ...\n"}, {}, ["create_app(config)", "flask_image_wsgi"]),
    ("FLASK_APP of nothing", {".flaskenv": "FLASK_APP=gone\n", "app.py": APP}, {}, ["FLASK_APP", "gone", "flask_image_wsgi"]),
    ("a missing folder", {"app.py": APP}, {"folder": "services/web"}, ["services/web", "flask_image_folder"]),
    ("a folder outside", {"app.py": APP}, {"folder": "../web"}, ["../web", "flask_image_folder"]),
    ("a Python too new", {"app.py": APP, TOML: project("requires-python = '>=3.99'")}, {}, [TOML, ">=3.99", "base_image"]),
    (
        "a Python too old",
        {"app.py": APP, "Pipfile": "[requires]\npython_version = '3.8'\n"},
        {},
        ["Pipfile", "3.8", "base_image"],
    ),
    ("no version of Python", {"app.py": APP, TOML: project("requires-python = 'new'")}, {}, [TOML, "'new'"]),
    ("two kinds of image", OWN, {"wsgi": "app:app", "containerfile": "Containerfile"}, ["flask_image_wsgi", "containerfile"]),
    ("a missing Containerfile", {}, {"containerfile": "docker/Web"}, ["docker/Web", "set containerfile"]),
    ("an unused build argument", OWN, {"build_args": {"B": "1"}}, ["build_args", "ARG B"]),
    ("an unused secret", OWN, {"build_secrets": {"netrc": "x"}}, ["build_secrets", "id=netrc"]),
    ("a missing secret", OWN, {"build_secrets": {"pip": {"src": "/nowhere"}}}, ["build_secrets.pip", "src"]),
    ("a missing stage", OWN, {"target": "wbe"}, ["target", "wbe", "web"]),
    ("a bad ignore file", OWN | {".dockerignore": "a\n[z-a]\n"}, {}, ["[z-a]", "ignore file"]),
    ("an ignore file of another encoding", OWN | {".dockerignore": "ä".encode("utf-16")}, {}, [".dockerignore", "UTF-8"]),
]


@pytest.mark.parametrize(("files", "given", "parts"), [one[1:] for one in BEFORE], ids=[one[0] for one in BEFORE])
def test_before_the_build(tmp_path: Path, files: dict[str, str | bytes], given: dict[str, Any], parts: list[str]) -> None:
    tree(tmp_path, files)
    names = ("folder", "wsgi", "containerfile")
    said = described(str(tmp_path), **{name: given[name] for name in names if name in given})["problem"]
    if not said:
        params = {name: spec.get("default") for name, spec in container_image.ARGUMENTS["argument_spec"].items()}
        params |= {"source": str(tmp_path), "repository": "localhost/a", "check_mode": True} | given
        with pytest.raises((ImageError, ContextError)) as error:
            deliver.present(type("Module", (), {"params": params, "check_mode": True}), type("Engine", (), {"name": "podman"}))
        said = str(error.value)
    one_sentence(said, parts)


FAILING = "raise RuntimeError('pg_config executable not found.')"
# What pip and the installer say; @INDEX@ is the index of this test.
WHILE: list[tuple[str, dict[str, str | bytes], dict[str, str], list[str]]] = [
    ("a list that is not there", {"requirements.txt": "-r base.txt\n"}, {}, ["base.txt", "requirements.txt"]),
    ("a merge conflict", {"requirements.txt": CONFLICT}, {}, ["<<<<<<< HEAD", "line 1", "requirements.txt"]),
    ("another encoding", {"requirements.txt": "# für\nflask\n".encode("cp1252")}, {}, ["UTF-8", "requirements.txt"]),
    ("a misspelt name", {"requirements.txt": "flaks\n"}, {}, ["flaks", "requirements.txt"]),
    ("a version that nobody made", {"requirements.txt": "flask==99\n"}, {}, ["flask==99", "requirements.txt"]),
    ("a misspelt name in a project", {TOML: project(dependencies='"flaks"')}, {}, ["flaks", TOML]),
    ("no requirement at all", {"requirements.txt": "flask =< 3\n"}, {}, ["flask =< 3", "requirements.txt"]),
    ("pins that do not fit", {"requirements.txt": "flask==3.1\nwerkzeug==2\n"}, {}, ["werkzeug", "requirements.txt"]),
    ("another hash", {"requirements.txt": f"flask==3.1 --hash=sha256:{'0' * 64}\n"}, {}, ["flask", "hash", "requirements.txt"]),
    ("a package without a hash", {"requirements.txt": "click==8\nflask==3.1 --hash=sha256:@FLASK@\n"}, {}, ["hash", "click==8"]),
    ("a backend that is not there", {TOML: project(backend="shop_build"), "setup.py": ""}, {}, ["shop_build", TOML]),
    ("a build that fails", {TOML: project(backend="own"), "own.py": FAILING}, {}, ["pg_config", "flask_image_build_packages"]),
    ("a folder that is not there", {"requirements.txt": "-e ../libs/common\n"}, {}, ["libs/common", "requirements.txt"]),
    ("a folder that is no package", {"requirements.txt": "./docs\n", "docs/a.md": ""}, {}, ["docs", "requirements.txt"]),
    ("no git", {"requirements.txt": "git+https://127.0.0.1:1/a\n"}, {"PATH": "/nowhere"}, ["git", "flask_image_build_packages"]),
    ("an index that is not there", {"requirements.txt": "flask\n"}, {"PIP_INDEX_URL": "http://127.0.0.1:1/"}, ["PIP_INDEX_URL"]),
    (
        "a wrong login",
        {"requirements.txt": "flask\n"},
        {"PIP_INDEX_URL": "@LOGIN@/private"},
        ["401", "flask_image_build_secrets"],
    ),
    (
        "no login",
        {"requirements.txt": "flask\n"},
        {"PIP_INDEX_URL": "@INDEX@/private"},
        ["127.0.0.1", "login", "flask_image_build_secrets"],
    ),
    ("another Python", {"requirements.txt": "late\n"}, {}, ["late", "another Python", "flask_image_base_image"]),
    ("no TOML", {TOML: "[project\nname = 1\n"}, {}, [TOML, "line 1"]),
    ("a merge conflict in a project", {TOML: "[project]\n" + CONFLICT}, {}, [TOML, "line 2"]),
    ("a project of another encoding", {TOML: "# für\n".encode("cp1252")}, {}, [TOML, "UTF-8"]),
    ("the base image's Python", {"requirements.txt": "", ".python-version": "3.99\n"}, {}, ["3.99", "flask_image_base_image"]),
    ("only a list for conda", {"app.py": "", "environment.yml": ""}, {}, ["environment.yml", "flask_image_requirements"]),
    ("only lists elsewhere", {"requirements/prod.txt": ""}, {}, ["-r requirements/prod.txt", "flask_image_requirements"]),
    ("an extra that is not there", {TOML: project()}, {"EXTRAS": "web"}, ["web", "flask_image_extras", TOML]),
    ("a misspelt option", {"requirements.txt": ""}, {"EXTRA": "flaks"}, ["flaks", "flask_image_requirements"]),
    ("a misspelt server", {"requirements.txt": ""}, {"SERVER": "gunicron==1"}, ["gunicron", "flask_image_server_requirements"]),
]


@pytest.mark.parametrize(("files", "given", "parts"), [one[1:] for one in WHILE], ids=[one[0] for one in WHILE])
def test_while_it_is_installed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    index: str,
    files: dict[str, str | bytes],
    given: dict[str, str],
    parts: list[str],
) -> None:
    root = tmp_path / "tree"
    tree(root, {name: text.replace("@FLASK@", FLASK) if isinstance(text, str) else text for name, text in files.items()})
    ours = {"requirements.txt": given.get("EXTRA", ""), "server-requirements.txt": given.get("SERVER", "")}
    options = '{"extras": ["web"], "groups": []}' if "EXTRAS" in given else '{"extras": [], "groups": []}'
    tree(root / ".flaskops", ours | {"options.json": options})
    for name in [name for name in install.os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    # Nothing goes into the environment of the tests.
    settings = {
        "PIP_INDEX_URL": f"{index}/simple",
        "PIP_TARGET": str(tmp_path / "target"),
        "PIP_RETRIES": "1",
        "PIP_TIMEOUT": "3",
    }
    for name, value in (settings | given).items():
        monkeypatch.setenv(name, value.replace("@INDEX@", index).replace("@LOGIN@", index.replace("//", "//me:s3cret@")))
    monkeypatch.setattr(install, "HERE", root / ".flaskops")
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as error:
        install.main()
    # As the module shows it, out of what an engine prints.
    printed = f"'podman build' failed with status 1: Collecting | {error.value} | Error: building at STEP"
    found = image_build.INSTALLER.search(printed)
    assert found, printed
    one_sentence(found[1], parts)
    assert "s3cret" not in found[1]


@pytest.mark.parametrize(
    ("lock", "printed"),
    [
        ("uv.lock", "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.\n\nhint: Run `uv lock`."),
        ("poetry.lock", "Error: pyproject.toml changed significantly since poetry.lock was last generated. Run `poetry lock`."),
        ("pdm.lock", "[PdmUsageError]: Lock file is outdated"),
        ("Pipfile.lock", "Pipfile.lock is out-of-date. Run $ pipenv lock to update."),
        ("uv.lock", "error: Failed to parse `uv.lock`\n  Caused by: TOML parse error at line 1, column 1"),
    ],
)
def test_a_lock_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str, printed: str) -> None:
    """With the words of its tool, which is not here."""
    tree(tmp_path, {lock: "", TOML: project()})
    program = ["sh", "-c", 'printf %s "$0"; exit 1', printed]
    real = install.run
    monkeypatch.setattr(install.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(install, "run", lambda command, about="": None if "pip" in command else real(program, about))
    monkeypatch.setattr(install, "WORK", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        install.application([])
    assert lock in str(error.value) and "\n" not in str(error.value)
    assert any(word in str(error.value) for word in ("updated", "changed", "outdated", "out-of-date", "parse")), error.value


def one_sentence(said: str, parts: list[str]) -> None:
    missing = [part for part in parts if part not in said]
    assert not missing, said
    assert said.endswith(".") and "\n" not in said and len(said) < 500, said
    assert not re.search(r"\. [A-Z]", said), said


def tree(folder: Path, files: dict[str, str | bytes] | dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def wheel(name: str, version: str, *needs: str, python: str = ">=3") -> bytes:
    """A package with nothing in it."""
    path = Path(f"/{name}-{version}.dist-info")
    content = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
        + "".join(f"Requires-Dist: {need}\n" for need in needs),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for entry, text in content.items():
            archive.writestr(zipfile.ZipInfo(f"{path.name}/{entry}", (1980, 1, 1, 0, 0, 0)), text)
    return file.getvalue()


PACKAGES = {
    "flask-3.1-py3-none-any.whl": wheel("flask", "3.1", "werkzeug>=3"),
    "werkzeug-3-py3-none-any.whl": wheel("werkzeug", "3"),
    "werkzeug-2-py3-none-any.whl": wheel("werkzeug", "2"),
    "click-8-py3-none-any.whl": wheel("click", "8"),
    "late-1-py3-none-any.whl": wheel("late", "1", python=">=3.99"),
}
FLASK = hashlib.sha256(PACKAGES["flask-3.1-py3-none-any.whl"]).hexdigest()


class Index(BaseHTTPRequestHandler):
    """A package index as PEP 503 has it, and a private one."""

    def do_GET(self) -> None:
        _, kind, name, *_rest = [*self.path.split("/"), ""]
        if kind == "private":
            return self.answer(401, b"")
        if kind == "files":
            return self.answer(200, PACKAGES[name])
        found = [file for file in PACKAGES if file.startswith(f"{name}-")]
        requires = {"late": 'data-requires-python="&gt;=3.99"'}.get(name, "")
        links = "".join(f'<a href="/files/{file}" {requires}>{file}</a>\n' for file in found)
        self.answer(200 if found else 404, f"<!DOCTYPE html><html><body>{links}</body></html>".encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        if status == 401:
            self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
