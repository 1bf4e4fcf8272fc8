# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which application a source tree holds, found as `flask run` finds it. Private to this collection; it can change at any time.

Nothing of the tree is run. https://flask.palletsprojects.com/en/stable/cli/#application-discovery says what Flask does.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

NAMES = ("app", "application")
FACTORIES = ("create_app", "make_app")
# Folders and files of a tree that hold no application to serve.
ELSE = {"tests", "test", "docs", "doc", "examples", "migrations", "node_modules", "venv", "env", "build", "dist"}
ELSE_FILES = {"setup.py", "conftest.py", "noxfile.py", "gunicorn.conf.py"}
BASE_IMAGE = "docker.io/library/python:{}-slim-bookworm"
PYTHON = "3.13"
MINORS = range(11, 15)  # of Python 3: those that the server of a generated image works with


class Module:
    """What a Python file binds at its top level that could be an application."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.imported: set[str] = set()
        self.made: list[str] = []  # from a call of a class named like Flask's
        self.assigned: set[str] = set()
        self.factories: dict[str, list[str]] = {}  # with the arguments that they need
        self.problem = ""
        try:
            body = ast.parse(path.read_bytes()).body
        except (OSError, SyntaxError, ValueError) as error:
            where = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            self.problem = f"{path} can't be read as Python ({getattr(error, 'msg', None) or error}{where})"
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


def described(source: str, folder: str = "", wsgi: str = "", containerfile: str = "", base_image: str = "") -> dict[str, str]:
    """What image a tree gets: its application (empty for its own Containerfile), its base image, and why it gets none.

    :param folder: the application's folder in the tree, for a generated image.
    :param wsgi: the application, where the user names it.
    :param containerfile: the tree's own Containerfile, where the user names it.
    :param base_image: the base image, where the user names it.
    """
    root = Path(source).expanduser()
    own = bool(containerfile) or (source != "" and any((root / name).is_file() for name in ("Containerfile", "Dockerfile")))
    place = root / folder
    found, python, problem = "", "", ""
    if containerfile and (wsgi or folder):
        given = "flask_image_wsgi" if wsgi else "flask_image_folder"
        problem = (
            f"{given} is for an image that is generated, and flask_image_containerfile for one of your own: set one of them."
        )
    elif not source and not wsgi:
        problem = "There is nothing to build: set flask_image_source or flask_image_wsgi."
    elif folder and (Path(folder).is_absolute() or ".." in Path(folder).parts or not place.is_dir()):
        problem = f"{source} has no folder {folder} inside it: correct flask_image_folder, a path in flask_image_source."
    elif wsgi or folder or not own:
        found, problem = (wsgi, "") if wsgi else find(str(place))
        if source and not problem and not base_image:
            python, problem = wanted_python(place, root)
    return {"wsgi": found, "problem": problem, "base_image": base_image or BASE_IMAGE.format(python or PYTHON)}


def wanted_python(place: Path, root: Path) -> tuple[str, str]:
    """The Python that an application asks for, or why there is none for it.

    A ``.python-version``, also of a folder above, chooses among what the project works with.
    """
    wanted, file = _python_of_project(place)
    pin = 0
    above = [folder for folder in (place, *place.parents) if folder.is_relative_to(root)]
    for pins in (folder / ".python-version" for folder in above):
        if pins.is_file() and (said := re.match(r"\s*(?:cpython-)?3\.(\d+)", pins.read_text(errors="replace"))):
            pin, file = int(said[1]), file or ".python-version"
            break
    try:
        specifier = SpecifierSet(wanted)
    except InvalidSpecifier:
        return "", f"{place / file} wants Python {wanted!r}, which is no version specifier: correct it there."
    minors = [minor for minor in MINORS if any(specifier.contains(f"3.{minor}.{patch}") for patch in range(40))]
    if pin and not wanted:
        minors = [minor for minor in MINORS if minor >= pin]
    if not minors:
        return "", (
            f"{place / file} wants Python {wanted or f'3.{pin}'}, and a generated image has 3.{MINORS[0]} to 3.{MINORS[-1]}:"
            " correct it there, or name an image that has it by flask_image_base_image."
        )
    if pin in minors:
        return f"3.{pin}", ""
    usual = int(PYTHON.partition(".")[2])
    return (PYTHON if usual in minors else f"3.{max(minors)}"), ""


def _python_of_project(place: Path) -> tuple[str, str]:
    """Which Python a project says that it works with, and the file that says so; pip reports what can't be read."""
    project, pipfile = _toml(place / "pyproject.toml"), _toml(place / "Pipfile")
    if wanted := project.get("project", {}).get("requires-python"):
        return str(wanted), "pyproject.toml"
    poetry = project.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python", "")
    if isinstance(poetry, str) and poetry and "|" not in poetry:
        return ",".join(map(_of_poetry, poetry.split(","))).strip(","), "pyproject.toml"
    if version := pipfile.get("requires", {}).get("python_version"):
        return f"=={version}.*", "Pipfile"
    return "", ""


def _of_poetry(constraint: str) -> str:
    """A constraint of poetry as a specifier of versions."""
    text = constraint.strip()
    numbers = [int(each) for each in re.findall(r"\d+", text)]
    if text.startswith("^") and numbers:
        return f">={text[1:].strip()},<{numbers[0] + 1}"
    if text.startswith("~") and not text.startswith("~=") and len(numbers) > 1:
        return f">={text[1:].strip()},<{numbers[0]}.{numbers[1] + 1}"
    if text == "*":
        return ""
    return f"=={text}{'' if '*' in text or len(numbers) > 2 else '.*'}" if text[:1].isdigit() else text


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        return {}


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
    if not candidates and (broken := next((module.problem for module in modules if module.problem), "")):
        return "", f"{broken}: correct it, or name the application by flask_image_wsgi."
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
