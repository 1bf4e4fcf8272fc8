# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is built of, and what of it can't be meant. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from ..node.images import ImageError
from .build_context import Tree, TreeEntry, read_tree

# Build arguments that engines know by themselves.
PREDEFINED = re.compile(r"(?i:(https?|ftp|no|all)_proxy)|SOURCE_DATE_EPOCH|BUILDKIT_\w+|(TARGET|BUILD)(PLATFORM|OS|ARCH|VARIANT)")


class Inputs(NamedTuple):
    """What an image is built of."""

    tree: Tree
    containerfile: str
    secrets: list[str]  # credentials of the tree, which are not in it
    file: str  # where the Containerfile is; empty for a text


def inputs(params: dict[str, Any]) -> Inputs:
    """Tree and Containerfile text, or a sentence about what is missing."""
    source, content = params["source"], params["containerfile_content"]
    if source and not os.path.isdir(source):
        raise ImageError(f"source {source} is not a folder; set it to the folder of the source tree.")
    if not source and not content and not params["containerfile"]:
        raise ImageError("There is nothing to build: set source, or containerfile_content.")
    names = [params["containerfile"]] if params["containerfile"] else ["Containerfile", "Dockerfile"]
    candidates = [os.path.join(source or "", name) for name in names]
    path = next((each for each in candidates if os.path.isfile(each)), "")
    if not content:
        if not path:
            raise ImageError(f"No Containerfile at {' or '.join(candidates)}; add one or set containerfile.")
        content = Path(path).read_text(encoding="utf-8", errors="replace")
    tree: Tree = {}
    secrets: list[str] = []
    if source:
        own = "" if params["containerfile_content"] else os.path.relpath(path, source)
        tree, secrets = read_tree(source, params["exclude"], own)
    for option in ("extra_folders", "extra_files"):
        for rel in params[option]:
            if os.path.isabs(rel) or ".." in rel.split("/"):
                raise ImageError(f"{option} has {rel}; its names must be relative paths inside the build context.")
    # What is added is needed, whatever the tree's ignore file and the option say.
    for rel, folder in params["extra_folders"].items():
        if not os.path.isdir(folder):
            raise ImageError(f"extra_folders has {folder}, which is not a folder; set it to one.")
        tree |= {os.path.join(rel, name): entry for name, entry in read_tree(folder, [])[0].items()}
    tree |= {rel: TreeEntry.text(str(text).encode()) for rel, text in params["extra_files"].items()}
    return Inputs(tree, content, secrets, "" if params["containerfile_content"] else path)


def check(params: dict[str, Any], containerfile: str) -> None:
    """Refuse what the Containerfile would pass over without a word, or what a build would find out late.

    :raises ImageError: with what to change.
    """
    text = re.sub(r"\\\r?\n", " ", re.sub(r"(?m)^\s*#.*\n?", "", containerfile))
    declared = {word.partition("=")[0] for line in re.findall(r"(?im)^\s*ARG\s+(.+)$", text) for word in line.split()}
    if unused := sorted(name for name in params["build_args"] if name not in declared and not PREDEFINED.fullmatch(name)):
        raise ImageError(
            f"build_args has {', '.join(unused)}, for which the Containerfile has no ARG: add ARG {unused[0]} to it, or drop it."
        )
    mounts = [dict(word.partition("=")[::2] for word in each.split(",")) for each in re.findall(r"--mount=(\S+)", text)]
    wanted = [each for each in mounts if each.get("type") == "secret"]
    mounted = {each.get("id") or os.path.basename(each.get("target", "")) for each in wanted}
    if unused := sorted(set(params["build_secrets"]) - mounted):
        raise ImageError(
            f"build_secrets has {', '.join(unused)}, which the Containerfile mounts nowhere:"
            f" add --mount=type=secret,id={unused[0]} to a RUN of it, or drop it."
        )
    needed = {each.get("id", "") for each in wanted if each.get("required", "false") in ("", "true")}
    if lacking := sorted(needed - set(params["build_secrets"])):
        raise ImageError(f"The Containerfile needs the secret {', '.join(lacking)} (required=true): give it in build_secrets.")
    stages = re.findall(r"(?im)^\s*FROM\s.+\sAS\s+(\S+)", text)
    target = params["target"]
    if target and target.lower() not in [stage.lower() for stage in stages] and not target.isdecimal():
        raise ImageError(
            f"target is {target}, and the Containerfile has no such stage: set it to one that it has"
            f" ({', '.join(stages) or 'none has a name'})."
        )


def secret_texts(build_secrets: dict[str, Any]) -> dict[str, str]:
    """The secrets by their ids, each given as a text or as the file that has it.

    :raises ImageError: where one is neither.
    """
    texts = {}
    for name, given in build_secrets.items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise ImageError(
                "build_secrets has an id with other characters than letters, digits, dot, dash and underscore; name it so."
            )
        if isinstance(given, str):
            texts[name] = given
        elif isinstance(given, dict) and set(given) == {"src"}:
            try:
                texts[name] = Path(given["src"]).expanduser().read_text(encoding="utf-8")
            except (OSError, ValueError, TypeError) as error:
                raise ImageError(
                    f"The src of build_secrets.{name} can't be read ({type(error).__name__}); correct it."
                ) from error
        else:
            raise ImageError(
                f"build_secrets.{name} is neither a text nor a mapping with src, the file that has it; give one of them."
            )
    return texts


def secret_parts(text: str) -> set[str]:
    """What no message may show of a secret: the whole, its lines, and the values and passwords in them."""
    found = {text, *text.splitlines()}
    found |= set(re.findall(r"(?:=|\b(?:password|account)\b)[ \t]*(\S+)", text))
    for login in re.findall(r"//([^/\s]*)@", text):
        found |= {login, login.partition(":")[2]}
    return {each.strip() for each in found if len(each.strip()) > 3}
