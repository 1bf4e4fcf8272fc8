# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which application a source tree holds, found as `flask run` finds it. Private to this collection; it can change at any time.

Nothing of the tree is run. https://flask.palletsprojects.com/en/stable/cli/#application-discovery says what Flask does.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAMES = ("app", "application")
FACTORIES = ("create_app", "make_app")
# Folders and files of a tree that hold no application to serve.
ELSE = {"tests", "test", "docs", "doc", "examples", "migrations", "node_modules", "venv", "env", "build", "dist"}
ELSE_FILES = {"setup.py", "conftest.py", "noxfile.py", "gunicorn.conf.py"}


class Module:
    """What a Python file binds at its top level that could be an application."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.imported: set[str] = set()
        self.made: list[str] = []  # from a call of a class named like Flask's
        self.assigned: set[str] = set()
        self.factories: dict[str, list[str]] = {}  # with the arguments that they need
        try:
            body = ast.parse(path.read_bytes()).body
        except (OSError, SyntaxError, ValueError):
            return
        for statement in body:
            self._note(statement)

    def _note(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            for inside in statement.body:
                self._note(inside)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.imported |= {alias.asname or alias.name for alias in statement.names}
        elif isinstance(statement, ast.FunctionDef):
            given = statement.args
            needed = [one.arg for one in (given.posonlyargs + given.args)[: -len(given.defaults) or None]]
            self.factories[statement.name] = needed
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    self.assigned.add(target.id)
                    if isinstance(statement.value, ast.Call) and _called(statement.value).endswith("Flask"):
                        self.made.append(target.id)

    def best(self, imports: bool) -> str:
        """The application of this module as gunicorn names it; empty where there is none.

        :param imports: whether one that it imports counts.
        """
        for name in NAMES:
            if name in self.assigned or (imports and name in self.imported):
                return f"{self.name}:{name}"
        if len(self.made) == 1:
            return f"{self.name}:{self.made[0]}"
        for name in FACTORIES:
            if self.factories.get(name) == [] or (imports and name in self.imported):
                return f"{self.name}:{name}()"
        return ""

    def needy(self) -> list[str]:
        """Factories that need arguments, which nobody but the user knows."""
        return [f"{self.name}:{name}({', '.join(self.factories[name])})" for name in FACTORIES if self.factories.get(name)]


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def find(source: str) -> tuple[str, str]:
    """The application of the tree *source* as gunicorn names it, and an empty text; or an empty name, and why there is none."""
    root = Path(source)
    if not root.is_dir():
        return "", f"{source} is no folder: set it to the folder of the source tree."
    said = _said(root)
    if said:
        name, _, attribute = said.partition(":")
        path = Path(name[:-3] if name.endswith(".py") else name.replace(".", "/"))
        dotted = ".".join(path.parts)
        if attribute:
            return f"{dotted}:{attribute}", ""
        files = [root / f"{path}.py", root / path / "__init__.py", root / "src" / path / "__init__.py"]
        found = next((Module(file, dotted).best(imports=True) for file in files if file.is_file()), "")
        return (
            found,
            "" if found else f"FLASK_APP of {source} is {said}, where no application is found: name it by flask_image_wsgi.",
        )
    for name in ("wsgi", "app"):
        if (root / f"{name}.py").is_file() and (found := Module(root / f"{name}.py", name).best(imports=True)):
            return found, ""
    modules = [Module(path, name) for path, name in _files(root)]
    candidates = [found for module in modules if (found := module.best(imports=False))]
    candidates = candidates or [found for module in modules if (found := module.best(imports=True))]
    # A package that is told apart from its own modules: `shop:create_app()` before `shop.views:app`.
    outer = [one for one in candidates if "." not in one.partition(":")[0]]
    candidates = outer or candidates
    if len(candidates) == 1:
        return candidates[0], ""
    needy = [each for module in modules for each in module.needy()]
    if candidates:
        return "", f"{source} has several applications ({', '.join(candidates)}): name one by flask_image_wsgi."
    if needy:
        return "", f"{source} has a factory that needs arguments ({', '.join(needy)}): name it with them by flask_image_wsgi."
    python = [str(path.relative_to(root)) for path, _ in _files(root)][:10]
    return "", (
        f"{source} has no application that Flask would find (app, application, create_app or make_app at the top of a module;"
        f" read: {', '.join(python) or 'no Python file'}): name it by flask_image_wsgi, or add a Containerfile."
    )


def _said(root: Path) -> str:
    """FLASK_APP of .env or .flaskenv, as python-dotenv reads them."""
    for name in (".env", ".flaskenv"):
        file = root / name
        if file.is_file():
            found = re.findall(r"^\s*(?:export\s+)?FLASK_APP\s*=\s*([^#\n]*)", file.read_text(errors="replace"), re.MULTILINE)
            if found and found[-1].strip(" \t\r'\""):
                return str(found[-1].strip(" \t\r'\""))
    return ""


def _files(root: Path) -> list[tuple[Path, str]]:
    """Python files that can be imported, with their names: of the top, of its packages, and of those in ``src``."""
    found: list[tuple[Path, str]] = []
    for folder in (root, root / "src"):
        if not folder.is_dir():
            continue
        found += [(path, path.stem) for path in sorted(folder.glob("*.py")) if path.name not in ELSE_FILES]
        for package in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file() and path.name not in ELSE):
            found.append((package / "__init__.py", package.name))
            found += [(path, f"{package.name}.{path.stem}") for path in sorted(package.glob("*.py")) if path.stem != "__init__"]
    return found
