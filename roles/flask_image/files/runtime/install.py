# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the application of this folder and what serves it; the build of an image runs it with the Python of its environment.

The application's own packages come first, by the tools of its ecosystem, so that its pins and hashes are the ones that count.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PIP = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]
# Who can tell what a lock file holds, and how.
LOCKS = {
    "uv.lock": (["uv"], ["uv", "export", "--frozen", "--no-dev", "--no-emit-project", "--format", "requirements-txt", "-o"]),
    "poetry.lock": (["poetry", "poetry-plugin-export"], ["poetry", "export", "--only", "main", "-f", "requirements.txt", "-o"]),
    "pdm.lock": (["pdm"], ["pdm", "export", "--prod", "-f", "requirements", "-o"]),
    "Pipfile.lock": (["pipenv"], ["sh", "-c", 'pipenv requirements --hash >"$0"']),
}


def run(command: list[str]) -> None:
    if subprocess.run(command).returncode:
        raise SystemExit(f"'{' '.join(command[:6])} ...' failed: its own lines above say why.")


def exported(lock: str) -> Path:
    """The requirements that a lock file holds, as its own tool tells them."""
    packages, command = LOCKS[lock]
    tools, target = Path("/tmp/tools"), Path("/tmp/locked.txt")
    venv.create(tools, with_pip=True)
    run(
        [str(tools / "bin/python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", *packages]
    )
    run(["env", f"PATH={tools}/bin:/usr/local/bin:/usr/bin:/bin", *command, str(target)])
    return target


def application(extra: list[str]) -> list[list[str]]:
    """What pip is to install for the application, one call after the other.

    :raises SystemExit: where the tree does not say what it needs in a way that is understood here.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text()) if Path("pyproject.toml").is_file() else {}
    builds = "build-system" in project or Path("setup.py").is_file()
    package = [["--no-deps", "."]] if builds and Path("src").is_dir() else []
    if Path("requirements.txt").is_file():
        return [["-r", "requirements.txt"], *package]
    if lock := next((name for name in LOCKS if Path(name).is_file()), None):
        return [["-r", str(exported(lock))], *([["--no-deps", "."]] if builds else [])]
    if builds or ("project" in project and Path("src").is_dir()):
        return [["."]]
    if "project" in project:
        # Nothing here is to be built: the packages are needed, and the code is in the image as it is.
        return [needed] if (needed := project["project"].get("dependencies", [])) else []
    if extra:
        return []
    others = sorted(
        str(path)
        for pattern in ("*requirements*.txt", "*requirements*/*.txt", "Pipfile", "environment.y*ml")
        for path in Path().glob(pattern)
    )
    raise SystemExit(
        "The tree does not say what it needs: it has no requirements.txt, no project in a pyproject.toml, no setup.py and no lock file"
        f" ({', '.join(others) or 'nor any other list'}); name its packages in flask_image_requirements,"
        " such as ['-r requirements/prod.txt']."
    )


def main() -> None:
    extra, server = ((HERE / name).read_text().split("\n") for name in ("requirements.txt", "server-requirements.txt"))
    extra, server = [line for line in extra if line.strip()], [line for line in server if line.strip()]
    for given in application(extra):
        run([*PIP, *given])
    if extra:
        run([*PIP, "-r", str(HERE / "requirements.txt")])
    importlib.invalidate_caches()
    have = {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower() for one in importlib.metadata.distributions()}
    missing = [one for one in server if re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", one, maxsplit=1)[0]).lower() not in have]
    if missing:
        run([*PIP, *missing])


if __name__ == "__main__":
    main()
