# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the build of a generated image installs, by what a tree has."""

from __future__ import annotations

from pathlib import Path

import install
import pytest

SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "shop"\nversion = "1"\n'
PROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["flask", "markdown>=3"]\n'
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
    tree(tmp_path, monkeypatch, {lock: "", "pyproject.toml": project})
    asked: list[list[str]] = []
    monkeypatch.setattr(install, "run", asked.append)
    monkeypatch.setattr(install.venv, "create", lambda *_, **__: None)
    assert install.application([]) == [["-r", "/tmp/locked.txt"], *([NO_DEPS] if project else [])]
    assert [set(install.LOCKS[lock][0]) <= set(asked[0]), set(install.LOCKS[lock][1]) <= set(asked[1])] == [True, True]


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
    asked: list[list[str]] = []
    monkeypatch.setattr(install, "HERE", tmp_path / "ours")
    monkeypatch.setattr(install, "run", asked.append)
    install.main()
    assert [call[len(install.PIP) :] for call in asked] == [["-r", "requirements.txt"], ["not-here-at-all>=1"]]


def test_poetry_without_a_package_and_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, monkeypatch, {"pyproject.toml": "[tool.poetry]\npackage-mode = false\n[build-system]\nrequires = []\n"})
    asked: list[list[str]] = []
    monkeypatch.setattr(install, "run", asked.append)
    monkeypatch.setattr(install.venv, "create", lambda *_, **__: None)
    assert install.application([]) == [["-r", "/tmp/locked.txt"]]
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
            "BASE_IMAGE",
        ),
        (
            BUILD.format("a.c:1:10: fatal error: Python.h: No such file\nerror: command 'gcc' failed with exit code 1"),
            "Python.h",
            "BASE_IMAGE",
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
            "",
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
            "BASE_IMAGE",
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


def tree(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
