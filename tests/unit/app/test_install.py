# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the build of a generated image installs, by what a tree has."""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

import install
import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import to_bool

from .support import RUNTIME

SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "shop"\nversion = "1"\n'
PROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["flask", "markdown>=3"]\n'
CHOICES = """[project.optional-dependencies]
web = ["waitress"]
[dependency-groups]
prod = ["a>=1", {include-group = "more"}]
more = ["b", {include-group = "prod"}]
"""
NO_DEPS = ["--no-deps", "."]


@pytest.mark.parametrize(
    ("files", "calls"),
    [
        ({"requirements.txt": "flask"}, [["-r", "requirements.txt"]]),
        ({"requirements.txt": "-e ."}, [["-r", "requirements.txt"]]),
        ({"requirements.txt": "flask", "pyproject.toml": SETUPTOOLS}, [["-r", "requirements.txt"]]),
        ({"requirements.txt": "flask", "pyproject.toml": SETUPTOOLS, "src/shop.py": ""}, [["-r", "requirements.txt"], NO_DEPS]),
        ({"requirements.txt": "flask", "pyproject.toml": "[tool.ruff]"}, [["-r", "requirements.txt"]]),
        ({"pyproject.toml": SETUPTOOLS}, [["."]]),
        ({"pyproject.toml": PROJECT, "app.py": "", "static/b.css": ""}, [["flask", "markdown>=3"]]),
        ({"pyproject.toml": PROJECT, "src/shop.py": ""}, [["."]]),
        ({"pyproject.toml": "[project]\nname = 'shop'\nversion = '1'\n"}, []),
        ({"setup.py": ""}, [["."]]),
        ({"pyproject.toml": SETUPTOOLS + 'dependencies = ["flask"]\n[tool.uv]\npackage = false\n'}, [["flask"]]),
    ],
)
def test_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], calls: list[list[str]]
) -> None:
    tree(tmp_path, monkeypatch, files)
    assert install.application([]) == calls


@pytest.mark.parametrize("lock", install.LOCKS)
@pytest.mark.parametrize("project", ["", SETUPTOOLS])
def test_a_lock_is_told_by_its_own_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str, project: str) -> None:
    tree(tmp_path, monkeypatch, {lock: "", "pyproject.toml": project + CHOICES})
    asked = exporting(monkeypatch, "flask==3")
    calls = install.application([], ["web"], ["prod", "more"])
    assert calls[1:] == ([NO_DEPS] if project else []) and Path(calls[0][1]).read_text().strip() == "flask==3"
    how = install.LOCKS[lock]
    assert set(how.packages) <= set(asked[0])
    assert (len(asked), set(how.check) <= set(asked[1])) == (3 if how.check else 2, True)
    assert " ".join(asked[-1]).endswith(
        {
            "uv.lock": "--extra web --group prod --group more",
            "poetry.lock": "--only main --only prod --only more --extras web",
            "pdm.lock": "--group default --group web --group prod --group more",
            "Pipfile.lock": "default,web,prod,more",
        }[lock]
    )
    install.exported(Path(lock), [], [])
    assert " ".join(asked[-1]).endswith(
        {
            "uv.lock": "-o FILE",
            "poetry.lock": "-o FILE --only main",
            "pdm.lock": "-o FILE --prod",
            "Pipfile.lock": "FILE default",
        }[lock].replace("FILE", str(install.WORK / "locked.txt"))
    )


@pytest.mark.parametrize(
    ("exported", "rest", "local"),
    [
        ("flask==3 \\\n    --hash=sha256:1\n", "", []),
        ("-e ./libs/common\nflask==3 --hash=sha256:1\n", "flask==3 --hash=sha256:1", ["TREE/libs/common"]),
        ("./libs/common ; python_version > '3'\n# via\n    # x\nflask==3\n", "# via\n    # x\nflask==3", ["TREE/libs/common"]),
        ("common @ file:///app/libs/common ; x\nflask==3", "flask==3", ["common @ file:///app/libs/common"]),
        ("-e git+https://x/y@1#egg=y\nflask==3", "", []),
    ],
)
def test_folders_that_a_lock_names_have_no_hash(tmp_path: Path, exported: str, rest: str, local: list[str]) -> None:
    """pip refuses a folder among packages with hashes."""
    (tmp_path / "locked.txt").write_text(exported)
    calls = install.split(tmp_path / "locked.txt", tmp_path)
    assert calls[1:] == ([["--no-deps", *(one.replace("TREE", str(tmp_path)) for one in local)]] if local else [])
    assert not rest or Path(calls[0][1]).read_text().strip() == rest


def test_a_member_of_a_workspace_has_the_lock_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = "[tool.uv.workspace]\nmembers = ['services/*']\n"
    member = {"services/web/pyproject.toml": PROJECT, "other/web/pyproject.toml": PROJECT}
    tree(tmp_path, monkeypatch, {"uv.lock": "", "pyproject.toml": workspace, **member})
    monkeypatch.setattr(install, "HERE", tmp_path / ".flaskops")
    asked = exporting(monkeypatch, "-e ./libs/common\n")
    monkeypatch.chdir(tmp_path / "services/web")
    assert install.application([])[1] == ["--no-deps", str(tmp_path / "libs/common")] and len(asked) == 2
    monkeypatch.chdir(tmp_path / "other/web")
    assert install.application([]) == [["flask", "markdown>=3"]]
    monkeypatch.setattr(install, "HERE", tmp_path / "other/.flaskops")
    monkeypatch.chdir(tmp_path / "services/web")
    assert install.application([]) == [["flask", "markdown>=3"]]


@pytest.mark.parametrize(
    ("files", "calls"),
    [
        ({"pyproject.toml": PROJECT + CHOICES}, [["flask", "markdown>=3", "waitress", "a>=1", "b"]]),
        ({"pyproject.toml": SETUPTOOLS + CHOICES}, [[".[web]", "waitress", "a>=1", "b"]]),
        (
            {"pyproject.toml": SETUPTOOLS + CHOICES, "requirements.txt": ""},
            [["-r", "requirements.txt"], ["waitress", "a>=1", "b"]],
        ),
    ],
)
def test_extras_and_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], calls: list[list[str]]
) -> None:
    tree(tmp_path, monkeypatch, files)
    assert install.application([], ["web"], ["prod"]) == calls
    for chosen, option in (((["gone"], []), "flask_image_extras"), (([], ["gone"]), "flask_image_groups")):
        with pytest.raises(SystemExit, match=rf"gone.*{option}.*(web|prod)"):
            install.application([], *chosen)


def test_an_extra_of_a_setup_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, monkeypatch, {"setup.py": ""})
    assert install.application([], ["web"]) == [[".[web]"]]


def test_secrets_become_what_the_tools_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "SECRETS", tmp_path)
    monkeypatch.setattr(install.os, "environ", {})
    tree(
        tmp_path,
        monkeypatch,
        {"pip.conf": "", "uv.toml": "", "PIP_EXTRA_INDEX_URL": "https://me:x@y\n", "netrc": "", "Other": ""},
    )
    install.use_secrets()
    assert install.os.environ == {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
        "PIP_EXTRA_INDEX_URL": "https://me:x@y",
    }


def exporting(monkeypatch: pytest.MonkeyPatch, text: str) -> list[list[str]]:
    """Let a lock's tool export this; what was asked of it."""
    asked: list[list[str]] = []
    locked = Path(tempfile.mkdtemp(dir=Path.cwd())) / "locked.txt"

    def run(command: list[str], *_: object) -> None:
        asked.append(command)
        if str(locked) in command:
            locked.write_text(text)

    monkeypatch.setattr(install, "WORK", locked.parent)
    monkeypatch.setattr(install, "run", run)
    monkeypatch.setattr(install.venv, "create", lambda *_, **__: None)
    return asked


@pytest.mark.parametrize("hint", ["requirements/prod.txt", "environment.yml", "Pipfile", "requirements-dev.txt"])
def test_a_tree_that_does_not_say_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hint: str) -> None:
    tree(tmp_path, monkeypatch, {"app.py": "", hint: "", "pyproject.toml": "[tool.ruff]"})
    with pytest.raises(SystemExit, match=rf"{hint}.*flask_image_requirements"):
        install.application([])
    assert install.application(["-r requirements/prod.txt"]) == []


def test_the_application_s_pins_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that is here already is not installed over, however its name is written."""
    tree(tmp_path, monkeypatch, {"requirements.txt": "flask"})
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/requirements.txt").write_text("\n")
    (tmp_path / "ours/server-requirements.txt").write_text("Prometheus.Client==0.1\ngunicorn==0.1\nnot-here-at-all>=1\n")
    asked = exporting(monkeypatch, "")
    monkeypatch.setattr(install, "HERE", tmp_path / "ours")
    install.main()
    assert [call[len(install.PIP) :] for call in asked] == [["-r", "requirements.txt"], ["not-here-at-all>=1"]]


def test_the_option_s_lines_name_files_of_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip looks for such a file beside the one that names it."""
    tree(tmp_path, monkeypatch, {"requirements/prod.txt": "-r base.txt", "requirements/base.txt": "", "app.py": ""})
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/requirements.txt").write_text("-r requirements/prod.txt\n")
    (tmp_path / "ours/server-requirements.txt").write_text("")
    monkeypatch.setattr(install, "HERE", tmp_path / "ours")
    install.main()
    assert not (tmp_path / ".flask-image-requirements.txt").exists()


def test_poetry_without_a_package_and_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, monkeypatch, {"pyproject.toml": "[tool.poetry]\npackage-mode = false\n[build-system]\nrequires = []\n"})
    asked = exporting(monkeypatch, "")
    assert install.application([])[0][1].endswith("/locked.txt")
    assert asked[1][-2:] == ["poetry", "lock"] and "export" in asked[2]


# As pip prints it.
BUILD = """\
Collecting psycopg2==2.9.10
  error: subprocess-exited-with-error
  Getting requirements to build wheel did not run successfully.
  │ exit code: 1
  ╰─> [4 lines of output]
      {}
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
ERROR: Failed to build 'psycopg2' when getting requirements to build wheel
"""


@pytest.mark.parametrize(
    ("output", "line", "hint"),
    [
        (
            BUILD.format("running egg_info\nError: pg_config executable not found.\n\nIt is required.\n(https://x)"),
            "Error: pg_config",
            "flask_image_build_packages",
        ),
        (
            BUILD.format("a.c:1:10: fatal error: Python.h: No such file\nerror: command 'gcc' failed with exit code 1"),
            "Python.h",
            "flask_image_build_packages",
        ),
        (BUILD.format("Traceback (most recent call last):\n  File x\nValueError: no version"), "ValueError: no version", ""),
        (
            BUILD.format("error: Multiple top-level packages discovered in a flat-layout: ['a', 'b']."),
            "flat-layout",
            "flask_image_requirements",
        ),
        (
            BUILD.format("RuntimeError: Building a package is not possible in non-package mode."),
            "non-package",
            "requirements.txt",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement flask==99 (from versions: 1, 2)\n"
            "ERROR: No matching distribution found for flask==99\n",
            "No matching distribution found for flask==99",
            "flask_image_build_secrets",
        ),
        (
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.\n"
            "ERROR: ResolutionImpossible: for help visit https://x\n",
            "Cannot install a==1 and b==2",
            "",
        ),
        (
            "ERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?\n",
            "Cannot find command 'git'",
            "add git to flask_image_build_packages",
        ),
        ("something\nelse went wrong\n", "else went wrong", ""),
    ],
)
def test_the_cause_of_a_failure_is_its_last_word(output: str, line: str, hint: str) -> None:
    with pytest.raises(SystemExit) as error:
        install.run(["sh", "-c", 'printf %s "$0"; exit 1', output])
    said = str(error.value)
    assert line in said and hint in said and "\n" not in said
    assert ("flask_image" in said) == bool(hint)
    if "psycopg2==" in output:
        assert "psycopg2" in said


def test_an_older_pip_names_the_package_before_it_fails() -> None:
    output = (
        BUILD.format("Error: pg_config executable not found.").rpartition("ERROR")[0].replace("╰─> psycopg2", "╰─> See above")
    )
    assert install.cause("Collecting flask\n" + output) == "psycopg2==2.9.10: Error: pg_config executable not found."


def tree(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    ("given", "lines", "never"),
    [
        ({}, ["COPY . /app", "WORKDIR /app", "COPY --from=build /links /app", "RUN python3 -m venv"], ["apt-get", "--mount"]),
        ({"folder": "services/web/"}, ["WORKDIR /app/services/web", "COPY --from=build /links /app/services/web"], ["web/\n"]),
        ({"build_packages": ["gcc", "a;b"]}, ["--no-install-recommends gcc 'a;b' && rm"], []),
        (
            {"build_args": {"FOO": "1", "PIP_INDEX_URL": "x", "BASE_IMAGE": "y"}},
            ["ARG FOO\nCOPY . /app"],
            ["ARG BASE_IMAGE\nCOPY"],
        ),
        (
            {"build_secrets": {"pip.conf": "s3cret", "netrc": "s3cret"}},
            ["RUN --mount=type=secret,id=netrc,target=/root/.netrc --mount=type=secret,id=pip.conf python3 -m venv"],
            ["s3cret"],
        ),
    ],
)
def test_the_generated_containerfile(given: dict[str, Any], lines: list[str], never: list[str]) -> None:
    text = containerfile(given)
    assert all(line in text for line in lines) and not any(word in text for word in never), text
    assert (
        text.count("\nARG PIP_INDEX_URL\n") == 1
        and text.count("\nFROM ") == 2
        and all(line.strip() for line in text.split("\n\n"))
    )


def test_packages_of_the_image_are_in_its_last_stage() -> None:
    stages = containerfile({"packages": ["libpq5"], "build_packages": ["libpq-dev"]}).split("\nFROM ")
    assert [[name in stage for name in ("libpq5", "libpq-dev")] for stage in stages[1:]] == [[False, True], [True, False]]


def containerfile(given: dict[str, Any]) -> str:
    """What the role makes of its options, as Ansible renders it."""
    made = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    made.filters |= {"quote": shlex.quote, "to_json": json.dumps, "difference": lambda one, two: [x for x in one if x not in two]}
    made.filters["bool"] = to_bool
    defaults = yaml.safe_load((RUNTIME.parents[1] / "defaults/main.yml").read_text())
    options = defaults | {f"flask_image_{name}": value for name, value in given.items()}
    template = made.from_string((RUNTIME.parents[1] / "templates/Containerfile.j2").read_text())
    return template.render(**options, __flask_image_found={"wsgi": "app:app"})


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (
            "pip._vendor.pyproject_hooks._impl.BackendUnavailable: Cannot find module 'shop_build' in ['/src']",
            "the build-backend of its pyproject.toml can't be imported (shop_build)",
        ),
        ("pip._internal.exceptions.Odd: nobody thought of it", "Odd: nobody thought of it"),
        ("OSError: [Errno 28] No space left on device", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_what_pip_did_not_foresee_is_told_by_its_last_line(last: str, said: str) -> None:
    """As pip prints it since Python 3.13, which marks the places of a traceback."""
    trace = """ERROR: Exception:
Traceback (most recent call last):
  File "/venv/pip/_internal/utils/misc.py", line 734, in get_requires_for_build_wheel
    return super().get_requires_for_build_wheel(config_settings=cs)
           ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^
"""
    assert install.cause(f"Processing ./.\n{trace}{last}\n") == said
