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


# What a build may lack that Python's own packages do not bring.
HINTS = (
    (
        r"pg_config|[Pp]ython\.h|fatal error|gcc|g\+\+|\bcc\b|rustc|cargo|pkg-config|Cannot find command",
        "the build's base image lacks it: name one that has it by flask_image_build_args, such as"
        " {BASE_IMAGE: 'docker.io/library/python:3.13-bookworm', RUNTIME_IMAGE: 'docker.io/library/python:3.13-slim-bookworm'}",
    ),
    (
        r"flat-layout|non-package mode",
        "the tree is no package: name what it needs in a requirements.txt or in flask_image_requirements",
    ),
    (r"requires a different Python|Requires-Python", "choose another Python by flask_image_base_image"),
    (
        r"setuptools-scm",
        "the version comes from git, which an image has none of: set SETUPTOOLS_SCM_PRETEND_VERSION, or a version",
    ),
)


def cause(output: str) -> str:
    """The line of pip's output that says why it failed, with the package that it is about; empty where there is none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    ends = [number for number, line in enumerate(lines) if line == "[end of output]"]
    if ends:
        # What a package's own build printed; pip only adds that this is no problem with pip.
        begin = max(
            (number for number, line in enumerate(lines[: ends[0]]) if re.match(r"[╰>─ ]*\[\d+ lines? of output\]", line)),
            default=0,
        )
        inside = lines[begin : ends[0]]
        found = [line for line in inside if "fatal error" in line][:1] or [
            line for line in inside if re.match(r"(?:[\w.]*(?:Error|Exception)\b|error:|[\w.]+: error:)", line)
        ][-1:]
        about = re.findall(
            r"^╰─> (?!\[|See above)(\S+)$|^ERROR: Failed (?:building wheel|to build) (?:for )?(\S+)", "\n".join(lines), re.M
        )
        name = next((one or other for one, other in about), "").strip("'")
        return f"{name}: {(found or inside[-1:] or [''])[0]}".removeprefix(": ")
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return next((line for line in errors if "Could not find a version" not in line and "for help visit" not in line), "")


def run(command: list[str]) -> None:
    """Run a command and show what it prints.

    :raises SystemExit: with the line that says why it failed, and what helps.
    """
    printed = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        assert process.stdout
        for line in process.stdout:
            printed += line
            print(line, end="", flush=True)
    if process.returncode:
        why = cause(printed) or (printed.strip().splitlines() or ["it printed nothing"])[-1]
        raise SystemExit(". ".join([why.rstrip("."), *(hint for pattern, hint in HINTS if re.search(pattern, why))][:2]))


def exported(lock: str) -> Path:
    """The requirements that a lock file holds, as its own tool tells them."""
    packages, command = LOCKS[lock]
    tools, target = Path("/tmp/tools"), Path("/tmp/locked.txt")
    venv.create(tools, with_pip=True)
    run(
        [str(tools / "bin/python"), "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", *packages]
    )
    path = ["env", f"PATH={tools}/bin:/usr/local/bin:/usr/bin:/bin"]
    if not Path(lock).is_file():
        run([*path, packages[0], "lock"])
    run([*path, *command, str(target)])
    return target


def application(extra: list[str]) -> list[list[str]]:
    """What pip is to install for the application, one call after the other.

    :raises SystemExit: where the tree does not say what it needs in a way that is understood here.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text()) if Path("pyproject.toml").is_file() else {}
    tool = project.get("tool", {})
    no_package = tool.get("poetry", {}).get("package-mode") is False or tool.get("uv", {}).get("package") is False
    builds = ("build-system" in project or Path("setup.py").is_file()) and not no_package
    package = [["--no-deps", "."]] if builds and Path("src").is_dir() else []
    if Path("requirements.txt").is_file():
        return [["-r", "requirements.txt"], *package]
    if lock := next((name for name in LOCKS if Path(name).is_file()), None):
        return [["-r", str(exported(lock))], *([["--no-deps", "."]] if builds else [])]
    if "poetry" in tool and no_package and "project" not in project:
        return [["-r", str(exported("poetry.lock"))]]
    if builds or ("project" in project and Path("src").is_dir() and not no_package):
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
        "The tree does not say what it needs: it has no requirements.txt, project in a pyproject.toml, setup.py or lock file"
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
