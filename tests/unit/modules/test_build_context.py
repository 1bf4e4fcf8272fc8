# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a tree go into an image and into its tag."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.image.build_context import (
    ContextError,
    Rules,
    TreeEntry,
    read_tree,
    write_tree,
)

APP = {"app.py": "", "shop/__init__.py": "", "shop/static/app.css": ""}


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("app.py", "app.py", True),
        ("app.py", "shop/app.py", False),
        ("/app.py", "app.py", True),
        ("./app.py", "app.py", True),
        ("docs/", "docs/deep/a.md", True),
        ("docs", "docs/a.md", True),
        ("docs", "docs2/a.md", False),
        ("*.md", "README.md", True),
        ("*.md", "docs/README.md", False),
        ("*/*.md", "docs/README.md", True),
        ("**/*.md", "README.md", True),
        ("**/*.md", "a/b/README.md", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**", "a", False),
        ("a/**", "a/x/y", True),
        ("**", "a/b", True),
        ("*", "a/b", True),
        ("te?t", "test", True),
        ("te?t", "te/t", False),
        ("[ab].py", "b.py", True),
        ("[^ab].py", "b.py", False),
        (r"\!a", "!a", True),
        ("a.py", "axpy", False),
        ("# a comment\n\n  a  \r\n", "a", True),
        ("#a", "#a", False),
        # The last one that fits counts.
        ("*\n!app.py", "app.py", False),
        ("*\n!app.py", "b.py", True),
        ("!app.py\n*", "app.py", True),
        ("*.log\n!keep.log\nkeep.log", "keep.log", True),
        ("*\n!shop", "shop/deep/a.py", False),
        ("*\n!shop\nshop/*.md", "shop/a.md", True),
        ("**\n!shop/*.py", "shop/a.py", False),
        ("**\n!shop/*.py", "shop/a.css", True),
        ("! app.py", "app.py", False),
    ],
)
def test_patterns_are_those_of_a_dockerignore(patterns: str, path: str, ignored: bool) -> None:
    assert Rules(patterns.split("\n"))(path) == ignored


@pytest.mark.parametrize("name", [".dockerignore", ".containerignore"])
def test_the_tree_s_ignore_file(tmp_path: Path, name: str) -> None:
    tree(tmp_path, *APP, "docs/a.md", "docs/keep/b.md", "README.md")
    (tmp_path / name).write_text("\ufeff**/*.md\n!docs/keep\nshop/static\n", encoding="utf-8")
    assert files(tmp_path) == ["app.py", "docs/keep/b.md", "shop/__init__.py"]


def test_podman_s_own_ignore_file_comes_first(tmp_path: Path) -> None:
    tree(tmp_path, *APP)
    (tmp_path / ".dockerignore").write_text("*")
    (tmp_path / ".containerignore").write_text("shop")
    assert files(tmp_path) == ["app.py"]


@pytest.mark.parametrize(
    "junk",
    [
        *(".git/HEAD", "shop/__pycache__/a.pyc", "a.pyc", ".pytest_cache/v/x", ".mypy_cache/x", ".ruff_cache/x", ".coverage"),
        *("htmlcov/index.html", ".idea/x", ".vscode/x", "shop/.DS_Store", ".tox/py/x", ".nox/x", "instance/shop.sqlite"),
        *("instance/shop.db-wal", "node_modules/a/x.js", "shop/static/node_modules/a.js", ".venv/x", "shop.egg-info/PKG-INFO"),
        *("src/shop.egg-info/PKG-INFO", "libs/a/src/a.egg-info/PKG-INFO", "my-env/lib/x.py", "conda/bin/python"),
    ],
)
def test_caches_are_in_neither(tmp_path: Path, junk: str) -> None:
    tree(tmp_path, *APP, "pyproject.toml", "libs/a/setup.py")
    before = files(tmp_path)
    tree(tmp_path, junk, "my-env/pyvenv.cfg", "conda/conda-meta/history")
    assert (files(tmp_path), read_tree(str(tmp_path), [])[1]) == (before, [])


@pytest.mark.parametrize(
    "kept",
    [".flaskenv", ".env.example", "certs/ca.pem", "instance/config.py", "vendor/a.egg-info/PKG-INFO", "venv/app.py", "a/b.env"],
)
def test_what_an_application_may_need_stays(tmp_path: Path, kept: str) -> None:
    tree(tmp_path, kept, content="-----BEGIN CERTIFICATE-----")
    assert files(tmp_path) == [kept]


@pytest.mark.parametrize(
    "secret",
    [
        ".env",
        "shop/.env",
        ".env.local",
        ".netrc",
        ".pypirc",
        ".ssh/config",
        "deploy/id_rsa",
        "id_ed25519",
        "certs/tls.pem",
        "tls.key",
    ],
)
def test_credentials_stay_out_and_are_told(tmp_path: Path, secret: str) -> None:
    tree(tmp_path, *APP)
    tree(tmp_path, secret, content="-----BEGIN RSA PRIVATE KEY-----")
    assert read_tree(str(tmp_path), [])[1] == [secret]
    assert files(tmp_path) == sorted(APP)
    assert secret in files(tmp_path, f"!{secret}")
    # Whoever ignores it knows, and an exception there is for what else the file ignores.
    (tmp_path / ".dockerignore").write_text(secret)
    assert read_tree(str(tmp_path), [])[1] == []
    (tmp_path / ".dockerignore").write_text(f"*\n!{secret}")
    assert (files(tmp_path), read_tree(str(tmp_path), [])[1]) == ([], [secret])


def test_the_option_adds_to_the_rest(tmp_path: Path) -> None:
    tree(tmp_path, *APP, "docs/a.md", "shop/docs/b.md", "notes/c.txt", ".git/HEAD", "node_modules/a.js", "node_modules/b.js")
    assert files(tmp_path, "docs", "/notes") == ["app.py", "shop/__init__.py", "shop/static/app.css"]
    assert "node_modules/b.js" in files(tmp_path, "!node_modules/b.js")
    assert not {"node_modules/a.js", ".git/HEAD"} & set(files(tmp_path, "!node_modules/b.js"))


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    """What is in the image is what the tag says."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_text("1")
    found, _ = read_tree(str(tmp_path / "in"), [])
    (tmp_path / "in/a").write_text("2")
    with pytest.raises(ContextError, match="in/a changed"):
        write_tree(found, str(tmp_path / "out"))


def test_links_and_modes(tmp_path: Path) -> None:
    source = tmp_path / "in"
    tree(source, "a", "folder/b")
    (source / "run").write_text("")
    (source / "run").chmod(0o700)
    (source / "link").symlink_to("a")
    (source / "folders").symlink_to("folder")
    found, _ = read_tree(str(source), [])
    assert {rel: entry.kind for rel, entry in found.items()} == {
        "a": "-",
        "folder/b": "-",
        "run": "x",
        "link": "l",
        "folders": "l",
    }
    assert found["link"] == TreeEntry.text(b"a", "l")
    write_tree(found, str(tmp_path / "out"))
    assert (tmp_path / "out/folders/b").is_file() and (tmp_path / "out/run").stat().st_mode & 0o777 == 0o755


def tree(folder: Path, *names: str, content: str = "") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def files(folder: Path, *exclude: str) -> list[str]:
    return sorted(read_tree(str(folder), list(exclude))[0])
