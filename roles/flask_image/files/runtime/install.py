# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the application of this folder and what serves it; the build of an image runs it with the Python of its environment.

The application's own packages come first, by the tools of its ecosystem, so that its pins and hashes are the ones that count.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet

HERE = Path(__file__).resolve().parent
SECRETS = Path("/run/secrets")
WORK = Path("/tmp")  # of the stage that builds; the image has nothing of it
PIP = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]
# The module container_image shows the sentence that begins so, and nothing else of the build.
FAILED = "The application can't be installed: "


def each(option: str, names: list[str]) -> list[str]:
    """An option once for each name."""
    return [word for name in names for word in (option, name)]


class Lock(NamedTuple):
    """Who can tell what a lock file holds, and how."""

    packages: list[str]
    check: list[str]  # where exporting does not tell that the project has changed since
    export: Callable[[str, list[str], list[str]], list[str]]  # to a file, with extras and groups


LOCKS = {
    "uv.lock": Lock(
        ["uv"],
        [],
        lambda file, extras, groups: [
            *("uv", "export", "--locked", "--no-dev", "--no-emit-project", "--format", "requirements-txt", "-o", file),
            *(each("--extra", extras) + each("--group", groups)),
        ],
    ),
    "poetry.lock": Lock(
        ["poetry", "poetry-plugin-export"],
        [],
        lambda file, extras, groups: [
            *("poetry", "export", "-f", "requirements.txt", "-o", file),
            *(each("--only", ["main", *groups]) + each("--extras", extras)),
        ],
    ),
    "pdm.lock": Lock(
        ["pdm", "hishel<2"],  # pdm 2.29 can't do with a newer one, and does not say so
        ["pdm", "lock", "--check"],
        lambda file, extras, groups: [
            *("pdm", "export", "-f", "requirements", "-o", file),
            *(each("--group", ["default", *extras, *groups]) if extras or groups else ["--prod"]),
        ],
    ),
    "Pipfile.lock": Lock(
        ["pipenv"],
        ["pipenv", "verify"],
        lambda file, extras, groups: [
            *("sh", "-c", 'pipenv requirements --hash --categories "$1" >"$0"', file),
            ",".join(["default", *extras, *groups]),
        ],
    ),
}

INDEX = "an index of your own is named by pip.conf or PIP_EXTRA_INDEX_URL in flask_image_build_secrets"
# What a build may lack that Python's own packages do not bring, and where else the cause of a failure is mended.
HINTS: tuple[tuple[str, str], ...] = (
    (r"(?i)\bpg_config\b|libpq-fe\.h", "add libpq-dev and gcc to flask_image_build_packages, and libpq5 to flask_image_packages"),
    (
        r"mysql_config|mysqlclient|mysql\.h",
        "add default-libmysqlclient-dev, pkg-config and gcc to flask_image_build_packages, libmariadb3 to flask_image_packages",
    ),
    (r"Cannot find command '?git|No such file or directory: 'git'", "add git to flask_image_build_packages"),
    (r"rustc|cargo", "add cargo to flask_image_build_packages"),
    (r"[Pp]ython\.h", "add python3-dev and gcc to flask_image_build_packages"),
    (
        r"fatal error|\bgcc\b|g\+\+|\bcc\b|pkg-config|Cannot find command",
        "add what it needs to flask_image_build_packages, such as gcc, g++, pkg-config or the -dev package of a library",
    ),
    (
        r"flat-layout|non-package mode",
        "the tree is no package: name what it needs in a requirements.txt or in flask_image_requirements",
    ),
    (r"Group(\(s\))? .*not|[Ee]xtra .*not", "choose others by flask_image_extras and flask_image_groups"),
    (r"different Python|another Python", "correct the version, or name an image with that Python by flask_image_base_image"),
    (
        r"setuptools-scm",
        "the version comes from git, of which an image has none:"
        " set SETUPTOOLS_SCM_PRETEND_VERSION in flask_image_build_args, or a version in pyproject.toml",
    ),
    (r"40[13] |asks for a login", "give the login as netrc or pip.conf in flask_image_build_secrets"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "set flask_image_trust_host_ca where this machine trusts the authority, or PIP_INDEX_URL in flask_image_build_args",
    ),
    (
        r"NewConnectionError|ConnectTimeout|NameResolutionError|ConnectionResetError|ProxyError",
        "name an index that this machine reaches by PIP_INDEX_URL in flask_image_build_args",
    ),
)
# What pip prints in several lines, or as a warning before an error that follows from it.
SEVERAL: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        r"WARNING: (40[13] Error, Credentials not correct for \S+)|ERROR: .*?HTTP error (40[13]) .*",
        lambda found: found[1] or found[0].removeprefix("ERROR: "),
    ),
    (
        r"WARNING: Retrying .*?connection broken by '?\"?(\w+)\(.*: (/\S+)",
        lambda found: f"the package index does not answer ({found[1]} at {found[2]})",
    ),
    (
        r"The conflict is caused by:\n((?:[ \t]+\S.*\n)+)",
        lambda found: "these do not go together: " + ", ".join(line.strip() for line in found[1].splitlines()),
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES(?:.*\n)+?[ \t]+(\S+) from .*\n(?:.*\n)*?[ \t]+Got[ \t]+(\S+)",
        lambda found: f"{found[1]} has the hash {found[2]}, which is none of those that are named",
    ),
    (
        r"ERROR: Hashes are required.*\n(?:.*\n)*?[ \t]+(\S.*?) (?:--hash=.*)?\n",
        lambda found: f"hashes are named for some packages, but not for {found[1]}",
    ),
    (
        r"ERROR: (Invalid requirement: .*)\n(?:.*\n)*?.*\((from line \d+ of .*)\)",
        lambda found: f"{found[1].split(': Expected')[0]} ({found[2]})",
    ),
    (r"ERROR: (Invalid requirement: .*\(from line \d+ of \S+\))", lambda found: found[1].split(": Expected")[0]),
    (
        r"(?:Cannot import (?:build backend )?|BackendUnavailable: Cannot find module )'([\w.]+)'"
        r"|BackendUnavailable(?:.*\n)+?.*No module named '([\w.]+)'",
        lambda found: f"the build-backend of its pyproject.toml can't be imported ({found[1] or found[2]})",
    ),
    (r"User for (\S+): ", lambda found: f"the package index {found[1]} asks for a login"),
    (
        r"ERROR: Ignored the following versions that require a different python(?:.*\n)*?ERROR: (No matching .*)",
        lambda found: f"{found[1]} (some of its versions are for another Python)",
    ),
    (
        r"(?:UnicodeDecodeError: (.*))",
        lambda found: f"a file of requirements is not in UTF-8 ({found[1]})",
    ),
)


def cause(output: str) -> str:
    """What of pip's output says why it failed, with the package that it is about; empty where there is nothing."""
    for pattern, told in SEVERAL:
        if found := re.search(pattern, output):
            return told(found)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    ends = [number for number, line in enumerate(lines) if line == "[end of output]"]
    if ends:
        # What a package's own build printed; pip only adds that this is no problem with pip.
        begin = max(
            (number for number, line in enumerate(lines[: ends[0]]) if re.match(r"[╰>─ ]*\[\d+ lines? of output\]", line)),
            default=0,
        )
        inside = lines[begin : ends[0]]
        found_lines = [line for line in inside if "fatal error" in line][:1] or [
            line for line in inside if re.match(r"(?:[\w.]*(?:Error|Exception)\b|error:|[\w.]+: error:)", line)
        ][-1:]
        about = re.findall(
            r"^╰─> (?!\[|See above)(\S+)$|^ERROR: Failed (?:building wheel|to build) (?:for )?(\S+)", "\n".join(lines), re.M
        )
        # An older pip names the package only where it begins with it.
        begun = [line.split()[1] for line in lines[: ends[0]] if re.match(r"Collecting \S|Processing \S", line)]
        name = next((one or other for one, other in about), "").strip("'") or os.path.basename((begun or [""])[-1])
        return f"{name}: {(found_lines or inside[-1:] or [''])[0]}".removeprefix(": ")
    if "ERROR: Exception:" in lines:
        # What pip did not foresee ends with the exception's own line.
        return re.sub(r"^(?:\w+\.)+", "", next(line for line in reversed(lines) if re.match(r"[\w.]+: |ERROR: Exception:", line)))
    errors = [re.sub(r"^(ERROR|error): ", "", line) for line in lines if re.match(r"(ERROR|error): ", line)]
    return next((line for line in errors if "Could not find a version" not in line and "for help visit" not in line), "")


def run(command: list[str], about: str = "", cwd: Path | None = None) -> None:
    """Run a command and show what it prints.

    :param about: where the cause of a failure is mended, if nothing else is known of it.
    :raises SystemExit: with the line that says why it failed, and what helps.
    """
    printed = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=cwd
    ) as process:
        assert process.stdout
        for line in process.stdout:
            printed += line
            print(line, end="", flush=True)
    if process.returncode:
        why = cause(printed) or (printed.strip().splitlines() or ["it printed nothing"])[-1]
        hint = next((hint for pattern, hint in HINTS if re.search(pattern, why)), "")
        if not hint and "No matching distribution" in why:
            hint = f"correct it in {about}; {INDEX}" if about else INDEX
        if not hint and about:
            hint = f"correct {about}"
        # One sentence, whatever is quoted in it.
        why = re.sub(r"\. It should either .*", "", why)
        why = re.sub(r"\. (?=[A-Z])", "; ", " ".join(why.split()).rstrip(".: "))
        raise SystemExit(": ".join(part for part in (why, hint) if part))


def exported(lock: Path, extras: list[str], groups: list[str]) -> Path:
    """The requirements that a lock file holds, as its own tool tells them."""
    how = LOCKS[lock.name]
    tools, target = WORK / "tools", WORK / "locked.txt"
    venv.create(tools, with_pip=True)
    run([str(tools / "bin/python"), "-m", "pip", "install", "--quiet", *PIP[4:], *how.packages])
    path = ["env", f"PATH={tools}/bin:/usr/local/bin:/usr/bin:/bin", "NO_COLOR=1", "POETRY_VIRTUALENVS_CREATE=false"]
    stale = f"{lock.name}, which its own tool makes again of the project"
    if not lock.is_file():
        run([*path, how.packages[0], "lock"], "pyproject.toml")
    elif how.check:
        run([*path, *how.check], stale)
    run([*path, *how.export(str(target), extras, groups)], stale)
    return target


def split(requirements: Path, base: Path) -> list[list[str]]:
    """Calls of pip for exported requirements: hashes are for packages of an index, and those of folders have none."""
    lines = requirements.read_text().replace("\\\n", " ").splitlines()

    def bare(line: str) -> str:
        """Without the condition under which it counts."""
        return line.partition(";")[0].strip()

    local = [bare(line) for line in lines if re.match(r"(-e |--editable[ =])?(\.{1,2}/|\.$|file:|/)|\S+ @ file:", line)]
    if not local:
        return [["-r", str(requirements)]]
    rest = requirements.with_name("locked-packages.txt")
    rest.write_text("\n".join(line for line in lines if bare(line) not in local) + "\n")
    paths = [str(base / one) if one.startswith(".") else one for one in (re.sub(r"^(-e|--editable)[ =]", "", x) for x in local)]
    return [["-r", str(rest)], ["--no-deps", *paths]]


def chosen(project: dict[str, Any], extras: list[str], groups: list[str]) -> list[str]:
    """The requirements of extras and of dependency groups (PEP 735) of a project.

    :raises SystemExit: where it has none of such a name.
    """
    tables = (
        ("flask_image_extras", extras, project.get("project", {}).get("optional-dependencies", {})),
        ("flask_image_groups", groups, project.get("dependency-groups", {})),
    )
    found: list[str] = []
    for option, names, table in tables:
        todo = list(names)
        for name in todo:
            if name not in table:
                has = f"choose one of {', '.join(sorted(table))}" if table else "add it there, or drop it"
                raise SystemExit(f"pyproject.toml has no {name}, which {option} names: {has}")
            found += [one for one in table[name] if isinstance(one, str)]
            todo += [
                one["include-group"]
                for one in table[name]
                if isinstance(one, dict) and one.get("include-group") not in (None, *todo)
            ]
    return found


def read(file: str) -> dict[str, Any]:
    """A TOML file, empty where there is none.

    :raises SystemExit: where it can't be read.
    """
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8")) if Path(file).is_file() else {}
    except UnicodeDecodeError as error:
        raise SystemExit(f"{file} is not in UTF-8 ({error}): save it so") from error
    except tomllib.TOMLDecodeError as error:
        raise SystemExit(f"{file} is no TOML: {error}: correct it there") from error


def check_python(project: dict[str, Any]) -> None:
    """Refuse a Python that the project does not work with; pip asks only what it builds.

    :raises SystemExit: naming where the project says so.
    """
    wanted, file = project.get("project", {}).get("requires-python", ""), "requires-python of pyproject.toml"
    said = Path(".python-version").read_text().split() if Path(".python-version").is_file() else []
    if not wanted and said and (version := re.match(r"(?:cpython-)?(\d+\.\d+)", said[0])):
        wanted, file = f">={version[1]}", ".python-version"
    try:
        fits = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier as error:
        raise SystemExit(f"{file} is {wanted!r}, which is no version specifier: correct it there") from error
    if not fits:
        raise SystemExit(
            f"the application wants Python {wanted} ({file}), and the base image has {platform.python_version()}:"
            " set flask_image_base to registry if this one was made here, or name another by flask_image_base_image"
        )


def application(extra: list[str], extras: list[str] | None = None, groups: list[str] | None = None) -> list[list[str]]:
    """What pip is to install for the application, one call after the other.

    :raises SystemExit: where the tree does not say what it needs in a way that is understood here.
    """
    extras, groups = extras or [], groups or []
    project = read("pyproject.toml")
    check_python(project)
    tool = project.get("tool", {})
    no_package = tool.get("poetry", {}).get("package-mode") is False or tool.get("uv", {}).get("package") is False
    builds = ("build-system" in project or Path("setup.py").is_file()) and not no_package
    itself = f".[{','.join(extras)}]" if extras else "."
    package = [["--no-deps", "."]] if builds and Path("src").is_dir() else []
    if Path("requirements.txt").is_file():
        needed = chosen(project, extras, groups)
        return [["-r", "requirements.txt"], *([needed] if needed else []), *package]
    if lock := found_lock():
        if lock.name in ("uv.lock", "pdm.lock"):
            chosen(project, extras, groups)  # pdm exports something else for a name that it does not know
        return [*split(exported(lock, extras, groups), lock.parent), *([["--no-deps", "."]] if builds else [])]
    if "poetry" in tool and no_package and "project" not in project:
        return [["-r", str(exported(Path("poetry.lock"), extras, groups))]]
    if builds or ("project" in project and Path("src").is_dir() and not no_package):
        # Of a setup.py only itself knows its extras.
        return [[itself, *chosen(project, extras if "optional-dependencies" in project.get("project", {}) else [], groups)]]
    if "project" in project:
        # Nothing here is to be built: the packages are needed, and the code is in the image as it is.
        needed = [*project["project"].get("dependencies", []), *chosen(project, extras, groups)]
        return [needed] if needed else []
    if extra:
        return []
    others = sorted(
        str(path)
        for pattern in ("*requirements*.txt", "*requirements*/*.txt", "requirements*.in", "Pipfile", "environment.y*ml")
        for path in Path().glob(pattern)
    )
    raise SystemExit(
        "the tree does not say what it needs: it has no requirements.txt, project in a pyproject.toml, setup.py or lock file"
        f" ({', '.join(others) or 'nor any other list'}); name its packages in flask_image_requirements,"
        f" such as ['-r {next((one for one in others if one.endswith('.txt')), 'requirements/prod.txt')}'],"
        " or the folder that has them by flask_image_folder"
    )


def found_lock() -> Path | None:
    """The lock file of the application, or of the workspace that it is a member of."""
    if own := next((Path(name) for name in LOCKS if Path(name).is_file()), None):
        return own
    here = Path.cwd()
    for folder in here.parents:
        if folder.is_relative_to(HERE.parent) and (folder / "uv.lock").is_file():
            members = read(str(folder / "pyproject.toml")).get("tool", {}).get("uv", {}).get("workspace", {}).get("members", [])
            if any(here in folder.glob(pattern) for pattern in members):
                return folder / "uv.lock"
    return None


def use_secrets() -> None:
    """Hand the secrets of the build to the programs that read them."""
    for name, variable in (("pip.conf", "PIP_CONFIG_FILE"), ("uv.toml", "UV_CONFIG_FILE")):
        if (SECRETS / name).is_file():
            os.environ[variable] = str(SECRETS / name)
    for file in SECRETS.glob("[A-Z]*"):
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", file.name) and file.is_file():
            os.environ[file.name] = file.read_text().strip()


def use_authorities() -> None:
    """Let git and the locks' tools trust what pip trusts."""
    if trusted := os.environ.get("SSL_CERT_FILE"):
        for variable in ("GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE"):
            os.environ.setdefault(variable, trusted)


def source_of(call: list[str]) -> str:
    """Where what a call of pip installs is named."""
    if call[0] == "-r":
        return "the lock file" if call[1].startswith(str(WORK)) else call[1]
    return "pyproject.toml" if Path("pyproject.toml").is_file() else "setup.py"


def install() -> None:
    """Install the application, then the option's packages, then what serves it, each where it is not there yet."""
    options = json.loads((HERE / "options.json").read_text()) if (HERE / "options.json").is_file() else {}
    extra, server = ((HERE / name).read_text().split("\n") for name in ("requirements.txt", "server-requirements.txt"))
    extra, server = [line for line in extra if line.strip()], [line for line in server if line.strip()]
    for given in application(extra, options.get("extras"), options.get("groups")):
        run([*PIP, *given], source_of(given))
    if extra:
        # Here, so that the files which its lines name are those of the application.
        own = Path(".flask-image-requirements.txt")
        own.write_text("\n".join(extra) + "\n")
        run([*PIP, "-r", str(own)], "flask_image_requirements")
        own.unlink()
    importlib.invalidate_caches()
    have = {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower() for one in importlib.metadata.distributions()}
    missing = [one for one in server if re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", one, maxsplit=1)[0]).lower() not in have]
    if missing:
        run([*PIP, *missing], "flask_image_server_requirements")


def main() -> None:
    use_secrets()
    use_authorities()
    try:
        install()
    except SystemExit as error:
        raise SystemExit(f"{FAILED}{error}.") from None


if __name__ == "__main__":
    main()
