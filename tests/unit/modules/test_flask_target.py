# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application of a tree, found as `flask run` finds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.image.flask_target import described, find

APP = "from flask import Flask\napp = Flask(__name__)\n"
FACTORY = "from flask import Flask\ndef create_app(test_config=None):\n    return Flask(__name__)\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"app.py": APP}, "app:app"),
        ({"app.py": APP, "wsgi.py": "from app import app\n"}, "wsgi:app"),
        ({"wsgi.py": "from shop import create_app\napplication = create_app('prod')\n"}, "wsgi:application"),
        ({"app.py": "from httpbin import app\n"}, "app:app"),
        ({"app.py": "import flask\nserver = flask.Flask('x')\n"}, "app:server"),
        ({"app.py": "from dash import Dash\nsite = Dash()\nserver = site.server\napplication = server\n"}, "app:application"),
        ({"app.py": "try:\n    import x\nexcept ImportError:\n    x = None\nif True:\n    app = make()\n"}, "app:app"),
        ({"flaskr/__init__.py": FACTORY, "flaskr/db.py": "", "tests/conftest.py": APP}, "flaskr:create_app()"),
        ({"src/task_app/__init__.py": FACTORY, "src/task_app/views.py": ""}, "task_app:create_app()"),
        (
            {
                "shop/__init__.py": APP,
                "shop/admin.py": "from flask import Flask\napp = Flask('a')\n",
                "run.py": "from shop import app\n",
            },
            "shop:app",
        ),
        ({"shop/__init__.py": "", "shop/main.py": APP}, "shop.main:app"),
        ({"main.py": APP, "setup.py": "app = 1\n", "gunicorn.conf.py": "app = 1\n"}, "main:app"),
        ({".flaskenv": "FLASK_APP=hello.py\n", "hello.py": APP, "app.py": APP}, "hello:app"),
        ({".flaskenv": "export FLASK_APP='shop:create_app(\"dev\")'\n", "shop.py": ""}, 'shop:create_app("dev")'),
        ({".flaskenv": "FLASK_APP=one\n", ".env": "FLASK_APP=two\nSECRET=1\n", "one.py": APP, "two.py": APP}, "two:app"),
        ({".flaskenv": "FLASK_APP=shop\n", "src/shop/__init__.py": FACTORY}, "shop:create_app()"),
    ],
)
def test_found(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    assert find(tree(tmp_path, files)) == (expected, "")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"one.py": APP, "two.py": APP}, ["one:app, two:app", "flask_image_wsgi"]),
        ({"one/__init__.py": FACTORY, "two/__init__.py": APP}, ["one:create_app(), two:app"]),
        ({"shop.py": "def create_app(config):\n    pass\n"}, ["shop:create_app(config)", "arguments"]),
        ({"shop.py": "x = 1\n", "tool/__init__.py": ""}, ["read: shop.py, tool/__init__.py"]),
        ({"README.md": ""}, ["no Python file"]),
        ({"app.py": "import flask\ndef broken(:\n"}, ["app.py can't be read as Python", "in line 2"]),
        ({"shop/app.py": "", "shop/__init__.py": "<<<<<<< HEAD\n"}, ["shop/__init__.py can't be read", "in line 1"]),
        ({".flaskenv": "FLASK_APP=gone\n", "app.py": APP}, ["FLASK_APP", "gone"]),
    ],
)
def test_not_found(tmp_path: Path, files: dict[str, str], parts: list[str]) -> None:
    found, problem = find(tree(tmp_path, files))
    assert found == "" and "\n" not in problem and "flask_image_wsgi" in problem
    for part in parts:
        assert re.search(re.escape(part), problem), problem


@pytest.mark.parametrize(
    ("files", "python"),
    [
        ({}, "3.13"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.11'\n"}, "3.13"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.9,<3.13'\n"}, "3.12"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.14'\n"}, "3.14"),
        ({"pyproject.toml": "[project]\nrequires-python = '~=3.12.4'\n"}, "3.12"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.11'\n", ".python-version": "3.12.4\n"}, "3.12"),
        ({"pyproject.toml": "[project]\nrequires-python = '>=3.12'\n", ".python-version": "3.11\n"}, "3.13"),
        ({".python-version": "3.14\n3.12\n"}, "3.14"),
        ({".python-version": "3.9\n"}, "3.13"),
        ({".python-version": "pypy3.10\n"}, "3.13"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\npython = '^3.11,<3.13'\n"}, "3.12"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\npython = '~3.11'\n"}, "3.11"),
        ({"pyproject.toml": "[tool.poetry.dependencies]\npython = '3.12.*'\n"}, "3.12"),
        ({"Pipfile": "[requires]\npython_version = '3.11'\n"}, "3.11"),
        ({"pyproject.toml": "<<<<<<< HEAD"}, "3.13"),
    ],
)
def test_the_python_of_the_base_image(tmp_path: Path, files: dict[str, str], python: str) -> None:
    place = tree(tmp_path, {"app.py": APP} | files)
    found = described(place)
    assert (found["problem"], found["base_image"]) == ("", f"docker.io/library/python:{python}-slim-bookworm")
    assert described(place, base_image="mine:1")["base_image"] == "mine:1"
    (tmp_path / "web").mkdir()
    (tmp_path / "web/app.py").write_text(APP)
    if ".python-version" in files and "pyproject.toml" not in files:  # it counts for the folders below, as pyenv has it
        assert described(place, "web")["base_image"] == found["base_image"]


@pytest.mark.parametrize(
    ("files", "given", "parts"),
    [
        (
            {"pyproject.toml": "[project]\nrequires-python = '>=3.99'\n"},
            {},
            ["pyproject.toml", ">=3.99", "flask_image_base_image"],
        ),
        ({"pyproject.toml": "[project]\nrequires-python = 'newest'\n"}, {}, ["pyproject.toml", "'newest'"]),
        ({".python-version": "3.99"}, {}, [".python-version", "3.99", "flask_image_base_image"]),
        ({}, {"folder": "gone"}, ["no folder gone", "flask_image_folder"]),
        ({}, {"folder": "../else"}, ["../else", "flask_image_folder"]),
        ({}, {"wsgi": "app:app", "containerfile": "C"}, ["flask_image_wsgi", "flask_image_containerfile"]),
        ({}, {"folder": "web", "containerfile": "C"}, ["flask_image_folder", "flask_image_containerfile"]),
    ],
)
def test_one_sentence_on_what_does_not_fit(
    tmp_path: Path, files: dict[str, str], given: dict[str, str], parts: list[str]
) -> None:
    problem = described(tree(tmp_path, {"app.py": APP} | files), **given)["problem"]
    assert all(part in problem for part in parts) and "\n" not in problem, problem


def test_which_image_a_tree_gets(tmp_path: Path) -> None:
    place = tree(tmp_path, {"app.py": APP, "web/app.py": "application = 1\n"})
    assert [described(place, **given)["wsgi"] for given in ({}, {"folder": "web"}, {"containerfile": "docker/C"})] == [
        "app:app",
        "app:application",
        "",
    ]
    (tmp_path / "Dockerfile").write_text("FROM x")
    assert [described(place, **given)["wsgi"] for given in ({}, {"folder": "web"}, {"wsgi": "a:b"})] == [
        "",
        "app:application",
        "a:b",
    ]
    assert "flask_image_source" in described("")["problem"] and described("", wsgi="a:b")["problem"] == ""


def test_no_folder(tmp_path: Path) -> None:
    assert "no folder" in find(str(tmp_path / "gone"))[1]


def tree(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)
