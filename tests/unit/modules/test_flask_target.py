# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application of a tree, found as `flask run` finds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils._flask_target import find

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
        ({"app.py": "def broken(:\n"}, ["read: app.py"]),
        ({".flaskenv": "FLASK_APP=gone\n", "app.py": APP}, ["FLASK_APP", "gone"]),
    ],
)
def test_not_found(tmp_path: Path, files: dict[str, str], parts: list[str]) -> None:
    found, problem = find(tree(tmp_path, files))
    assert found == "" and "\n" not in problem and "flask_image_wsgi" in problem
    for part in parts:
        assert re.search(re.escape(part), problem), problem


def test_no_folder(tmp_path: Path) -> None:
    assert "no folder" in find(str(tmp_path / "gone"))[1]


def tree(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)
