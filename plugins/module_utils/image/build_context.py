# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a source tree goes into an image, and into the hash that is its tag. Private to this collection.

Its interface can change at any time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import NamedTuple

FIRST_MOMENT = 315_619_200  # 2 January 1980: a ZIP file, which a wheel is, knows none before that year
CHUNK = 1 << 20
# In the order in which an engine looks for them; that of a Containerfile's own name comes before these.
IGNORE_FILES = (".containerignore", ".dockerignore")

# What no image needs: history, caches, and what tools and editors keep for themselves.
NEVER = [
    *(".git", ".hg", ".svn", "__pycache__", "*.pyc", "*.pyo", ".venv", "node_modules", ".eggs", ".tox", ".nox", ".direnv"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".coverage", ".coverage.*", "htmlcov"),
    *(".idea", ".vscode", ".DS_Store", "*.swp"),
    *(
        "instance/*.sqlite",
        "instance/*.sqlite3",
        "instance/*.db",
        "instance/*.sqlite-*",
        "instance/*.sqlite3-*",
        "instance/*.db-*",
    ),
]
# What holds a credential of whoever wrote the tree.
CREDENTIALS = [
    *(".env", ".env.*", "!.env.example", "!.env.sample", "!.env.template", "!.env.dist"),
    *(".netrc", "_netrc", ".pypirc", ".pgpass", ".git-credentials", ".aws", ".ssh", ".kube", ".docker/config.json"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.p12", "*.pfx"),
]
KEYS = ["*.pem", "*.key"]  # where they hold a private key; a certificate is read by many applications
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
BUILDS = ("pyproject.toml", "setup.py", "setup.cfg")
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")  # each is in the folder of an environment, which works in its own place only


class ContextError(Exception):
    """One sentence for the user."""


class TreeEntry(NamedTuple):
    """A file of a tree: ``-``, an executable one: ``x``, or a link: ``l``, whose content is where it leads."""

    kind: str
    digest: bytes
    content: bytes | Path  # where it can be read again, so that no large file is kept in memory

    @classmethod
    def text(cls, content: bytes, kind: str = "-") -> TreeEntry:
        return cls(kind, hashlib.sha256(content).digest(), content)

    @classmethod
    def file(cls, path: Path) -> TreeEntry:
        with path.open("rb") as handle:
            return cls("x" if os.access(path, os.X_OK) else "-", hashlib.file_digest(handle, "sha256").digest(), path)


Tree = dict[str, TreeEntry]


class Rules:
    """Patterns as a .dockerignore has them: the last that fits a path, or a folder above it, counts; ``!`` is an exception."""

    def __init__(self, patterns: list[str], *, anywhere: bool = False) -> None:
        """:param anywhere: whether a pattern without a slash is a name in any folder, as in a .gitignore."""
        rules = []
        for line in patterns:
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            back = pattern.startswith("!")
            pattern = pattern.removeprefix("!").strip()
            cleaned = os.path.normpath(pattern).lstrip("/")
            if anywhere and "/" not in pattern.rstrip("/"):
                cleaned = f"**/{cleaned}"
            if cleaned != ".":
                rules.append((back, _expression(cleaned, line)))
        self.exceptions = any(back for back, _ in rules)
        # Neighbours of one kind are one expression, for a tree may have many files.
        self.rules = [
            (back, re.compile("|".join(text for _, text in same), re.DOTALL))
            for back, same in itertools.groupby(rules, key=lambda rule: rule[0])
        ]

    def __call__(self, rel: str) -> bool:
        """Whether a path is ignored."""
        ignored = False
        for back, expression in self.rules:
            if ignored == back and expression.fullmatch(rel):
                ignored = not back
        return ignored


def _expression(pattern: str, line: str) -> str:
    """What a pattern fits, and all below it: of Go's filepath.Match, and ``**`` for any number of folders, as engines have it."""
    parts = {r"\*\*/": "(?:.*/)?", r"\*\*": ".*", r"\*": "[^/]*", r"\?": "[^/]", r"\[\^?[^]]+\]": "", r"\\.": "", ".": ""}
    text = ""
    for token in re.findall("|".join(parts), pattern, re.DOTALL):
        text += next(
            (meaning for form, meaning in parts.items() if meaning and re.fullmatch(form, token)),
            token if token[0] == "[" and len(token) > 1 else re.escape(token[-1]),
        )
    try:
        re.compile(text)
    except re.error as error:
        raise ContextError(
            f"The pattern {line!r} can't be understood ({error}): correct it in the ignore file or in exclude."
        ) from error
    return f"(?:{text})(?:/.*)?"


def ignore_file(root: Path, containerfile: str = "") -> Path | None:
    """The ignore file of a tree, that of a Containerfile's own name first."""
    own = [f"{containerfile}{suffix}" for suffix in IGNORE_FILES] if containerfile else []
    return next((root / name for name in (*own, *IGNORE_FILES) if (root / name).is_file()), None)


def read_tree(source: str, exclude: list[str], containerfile: str = "") -> tuple[Tree, list[str]]:
    """What of a folder goes into the build, and the credentials that stay out only because nobody may have meant them.

    :param exclude: further patterns; one with ``!`` brings back what is skipped by default, but not what the ignore file ignores.
    """
    root = Path(source)
    file = ignore_file(root, containerfile)
    brought_back = [pattern for pattern in exclude if pattern.startswith("!")]
    ignored = Rules(_lines(file) if file else [])
    never = Rules(NEVER + exclude, anywhere=True)
    credentials, keys = (Rules(each + brought_back, anywhere=True) for each in (CREDENTIALS, KEYS))
    tree: Tree = {}
    secrets: list[str] = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [
            name
            for name in folders
            if name not in links
            and not any(rules(_rel(folder, name, source)) and not rules.exceptions for rules in (ignored, never))
            and not _made_here(Path(folder, name))
        ]
        for name in files + links:
            path, rel = Path(folder, name), _rel(folder, name, source)
            if path == file or rel in IGNORE_FILES or ignored(rel) or never(rel):
                continue
            if credentials(rel) or (keys(rel) and _is_key(path)):
                secrets.append(rel)
            elif path.is_symlink():
                tree[rel] = TreeEntry.text(os.readlink(path).encode(), "l")
            elif path.is_file():
                tree[rel] = TreeEntry.file(path)
    return tree, sorted(secrets)


def _rel(folder: str, name: str, root: str) -> str:
    return os.path.relpath(os.path.join(folder, name), root)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ContextError(f"{file} is not in UTF-8: save it so.") from error


def _made_here(folder: Path) -> bool:
    """Whether a folder is an environment of Python, or what building a package beside it has left."""
    if any((folder / name).exists() for name in ENVIRONMENTS):
        return True
    outer = folder.parent.parent if folder.parent.name == "src" else folder.parent
    return folder.name.endswith(".egg-info") and any((outer / name).is_file() for name in BUILDS)


def _is_key(path: Path) -> bool:
    """Whether a file holds a private key."""
    return path.is_file() and path.stat().st_size < CHUNK and PRIVATE_KEY.search(path.read_bytes()) is not None


def write_tree(tree: Tree, target: str) -> None:
    """Write exactly what was hashed.

    :raises ContextError: where a file has changed since.
    """
    for rel, entry in tree.items():
        path = Path(target, rel)
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == "l":
            assert isinstance(entry.content, bytes)
            path.symlink_to(entry.content.decode())
            continue
        if isinstance(entry.content, bytes):
            path.write_bytes(entry.content)
        elif _copied(entry.content, path) != entry.digest:
            raise ContextError(f"{entry.content} changed while it was read: run it again, or name it in the ignore file.")
        path.chmod(0o755 if entry.kind == "x" else 0o644)
        # It follows the content: engines keep their layer cache, and browsers are told when a file has changed.
        moment = FIRST_MOMENT + int.from_bytes(entry.digest[:3])
        os.utime(path, (moment, moment))
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o755)  # root's umask may keep them from the image's own user


def _copied(source: Path, target: Path) -> bytes:
    """Copy a file by chunks; the digest of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as content, target.open("wb") as copy:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    return digest.digest()


def content_tag(tree: Tree, containerfile: str, build_args: dict[str, str], base: str) -> str:
    """First twelve hexadecimal digits of a hash over all inputs; every part carries its length."""
    digest = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)

    for rel in sorted(tree):
        add(b"file", rel.encode(errors="surrogateescape"), tree[rel].kind.encode(), tree[rel].digest)
    add(b"containerfile", containerfile.encode())
    for key in sorted(build_args):
        add(b"arg", key.encode(), build_args[key].encode())
    add(b"base", base.encode())
    return digest.hexdigest()[:12]
