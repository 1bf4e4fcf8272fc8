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


def tree(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
