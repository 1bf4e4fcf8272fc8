# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm charts: found in a folder, an archive, a registry or a repository, kept in the cache, and rendered."""

from __future__ import annotations

import codecs
import fnmatch
import hashlib
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from .._files import cache_dir
from ..kube.objects import go_loader, load_all
from .program import PULL_SECONDS, Helm, HelmError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Of a chart's files those that Helm keeps otherwise.
READ_OTHERWISE = {"Chart.yaml", "Chart.lock", "values.yaml", "values.schema.json"}
RELOADER = re.compile(r"--prometheus-config-reloader=(\S+)")


@dataclass(frozen=True)
class Reference:
    """What a chart is called: a folder, an archive, an address of a registry, or a name in a repository."""

    ref: str
    version: str = ""
    repository: str = ""

    @property
    def folder(self) -> Path:
        """Where the chart lies, or will lie once it was pulled or unpacked."""
        path = Path(self.ref).expanduser()
        if path.is_dir():
            return path
        version = self.version
        if path.is_file():  # which may be replaced by another of its name
            version = hashlib.sha256(path.read_bytes()).hexdigest()
        name = f"{self.repository} {self.ref}" if self.repository else self.ref
        key = hashlib.sha256(f"{name}@{version}".encode()).hexdigest()[:12]
        return cache_dir() / "charts" / key / re.sub(r"(-v?[0-9][^/]*)?\.tgz$", "", path.name)

    def find(self) -> Chart | None:
        """The chart, where nothing has to be got for it."""
        if not (self.folder / "Chart.yaml").is_file() and Path(self.ref).expanduser().is_file():
            self._keep(self._unpack)
        return Chart(self.folder) if (self.folder / "Chart.yaml").is_file() else None

    def get(self, helm: Helm) -> Chart:
        """The chart, which Helm pulls where need be.

        :raises HelmError: where it can't be obtained.
        """
        found = self.find()
        if found is None and not Path(self.ref).expanduser().is_dir():
            place = ["--repo", self.repository] if self.repository else []
            version = ["--version", self.version] if self.version else []

            def pull(draft: str) -> None:
                helm.run("pull", self.ref, *place, *version, "--untar", "--untardir", draft, seconds=PULL_SECONDS)

            self._keep(pull)
            found = self.find()
        if found is None:
            raise HelmError("it holds no Chart.yaml")
        return found

    def _unpack(self, draft: str) -> None:
        try:
            with tarfile.open(Path(self.ref).expanduser()) as archive:
                # Python before 3.11.4 has no filters; `_members` lets nothing through that one would stop.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(draft, _members(archive))
        except (tarfile.TarError, OSError, EOFError) as error:
            raise HelmError(f"it is no archive that can be unpacked, {error}") from error

    def _keep(self, fill: Callable[[str], None]) -> None:
        """Put a chart into the cache in one step, for another run may look for it."""
        folder = self.folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".draft-") as draft:
            fill(draft)
            made = [path.parent for path in Path(draft).glob("*/Chart.yaml")]
            if not made:
                raise HelmError("it holds no Chart.yaml")
            try:
                made[0].rename(folder)
            except OSError:
                if not (folder / "Chart.yaml").is_file():
                    raise


class Chart:
    """A chart in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What its Chart.yaml says."""
        try:
            return dict(yaml.load((self.folder / "Chart.yaml").read_text(), Loader=LOADER))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise HelmError(f"{self.folder}/Chart.yaml can't be read as YAML") from error

    @property
    def name(self) -> str:
        return str(self.metadata.get("name", ""))

    @property
    def version(self) -> str:
        return str(self.metadata.get("version", ""))

    @cached_property
    def digest(self) -> str:
        """To be compared with that of a release."""
        values = self.folder / "values.yaml"  # which a chart need not have
        read = not self.metadata.get("dependencies") and values.is_file()
        try:
            defaults = yaml.load(values.read_text(), Loader=go_loader()) if read else {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise HelmError(f"{values} can't be read as YAML") from error
        return template_digest({**kept_files(self.folder), **default_values(self.metadata, defaults)})

    def render(
        self,
        helm: Helm,
        release: str,
        namespace: str,
        values: dict[str, Any],
        hooks: bool = False,
        capabilities: Sequence[str] = (),
    ) -> str:
        """The objects of a release, as YAML.

        :param capabilities: arguments that say what the cluster is; without them it is one of Helm's own.
        :raises HelmError: where the chart does not take the values.
        """
        kept = [] if hooks else ["--no-hooks"]
        return helm.run(
            "template", release, str(self.folder), "--namespace", namespace, *kept, *capabilities, "--values", "-", values=values
        )


def kept_files(root: Path) -> dict[str, bytes]:
    """The templates and other files of a chart that Helm keeps with a release, by their names."""
    ignore = root / ".helmignore"
    rules = [line.strip() for line in (ignore.read_text().splitlines() if ignore.is_file() else [])]
    rules = [line for line in rules if line and not line.startswith("#")] + ["templates/.?*"]
    found = {}
    for folder, folders, names in os.walk(root, followlinks=True):
        inside = Path(folder).relative_to(root)
        folders[:] = [each for each in folders if str(inside / each) != "charts" and not is_ignored(inside / each, rules, True)]
        for path in (inside / each for each in names):
            if str(path) not in READ_OTHERWISE and (root / path).is_file() and not is_ignored(path, rules, False):
                found[str(path)] = (root / path).read_bytes().removeprefix(codecs.BOM_UTF8)
    return found


def is_ignored(path: Path, rules: list[str], folder: bool) -> bool:
    """Whether Helm ignores a file or folder of a chart, by the rules of its .helmignore."""
    for rule in rules:
        wanted, plain = not rule.startswith("!"), rule.removeprefix("!")
        only_folders, plain = plain.endswith("/"), plain.removesuffix("/")
        whole = "/" in plain
        # As for Go's filepath.Match, an asterisk takes no slash.
        parts = (path.parts, PurePosixPath(plain.removeprefix("/")).parts) if whole else ((path.name,), (plain,))
        same = len(parts[0]) == len(parts[1]) and all(map(fnmatch.fnmatchcase, *parts))
        if only_folders and not folder:
            if not wanted:
                return True
        elif same is wanted:
            return True
    return False


def template_digest(templates: dict[str, bytes]) -> str:
    """A hash of a chart's files and default values, by their names."""
    digest = hashlib.sha256()
    for name in sorted(templates):
        digest.update(name.encode() + b"\0" + hashlib.sha256(templates[name]).digest())
    return digest.hexdigest()[:16]


def default_values(metadata: dict[str, Any], values: Any) -> dict[str, bytes]:
    """A chart's default values as one more of its files; none where Helm merges those of subcharts in."""
    if metadata.get("dependencies"):
        return {}
    texts = json.loads(json.dumps(values or {}), parse_int=_number, parse_float=_number)  # whose keys are texts
    return {"values.yaml": json.dumps(texts, sort_keys=True).encode()}


def _number(text: str) -> float:
    """A number as Helm keeps it, which knows no other than those of a floating point."""
    number = float(text)
    return int(number) if number.is_integer() else number


def images(text: str) -> dict[str, list[str]]:
    """The images of rendered objects, each with the names of what runs it; `hook` is any hook.

    Counted are those of pods, of what an operator makes pods of, and the one that the Prometheus operator is told to give each
    Prometheus. Hooks count, except those that only `helm test` runs.
    """
    found: dict[str, set[str]] = {}
    for item in load_all(text):
        metadata = item["metadata"]
        hooks = (metadata.get("annotations") or {}).get("helm.sh/hook", "")
        if hooks and set(re.split(r"[,\s]+", hooks)) <= {"test", "test-success", "test-failure"}:
            continue
        labels = metadata.get("labels") or {}
        name = "hook" if hooks else labels.get("app.kubernetes.io/name") or labels.get("app") or metadata["name"]
        for image in _images(item.get("spec")):
            found.setdefault(full_name(image), set()).add(name)
    return {image: sorted(names) for image, names in sorted(found.items())}


def _images(value: Any) -> Iterator[str]:
    """Each `image` that is text below a value, and what an operator's arguments name."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "image" and isinstance(below, str) and below:
                yield below
            else:
                yield from _images(below)
    elif isinstance(value, list):
        for below in value:
            yield from _images(below)
    elif isinstance(value, str) and (named := RELOADER.fullmatch(value)):
        yield named[1]


def full_name(image: str) -> str:
    """An image's name as a node's `ctr` takes it, with its registry and its tag: Docker Hub and `latest` where it has none."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif not re.search(r"[.:]|^localhost$", first):
        image = f"docker.io/{image}"
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files and folders of an archive; a chart has no links.

    :raises HelmError: where a name leads out of the folder.
    """
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise HelmError(f"its member {member.name} leads out of it")
        if member.isfile() or member.isdir():
            yield member
