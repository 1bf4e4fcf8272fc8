# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine of this machine. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ENGINES = ("podman", "docker", "buildah")

# podman's defaults ask for systemd, crun and raised limits; a host without systemd or with cgroup v1 has none of them.
_PLAIN_HOST_CONF = """\
[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


CTR_IMAGES = ["ctr", "-n", "k8s.io", "images"]


class EngineError(Exception):
    """One sentence that says what the engine refused and what it printed last."""


def cache_dir() -> Path:
    """The folder for everything that can be made again: ``$XDG_CACHE_HOME/flaskops``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"


class NoEngineError(EngineError):
    """No engine can be used; *refused* says why for each."""

    def __init__(self, refused: list[str]) -> None:
        self.refused = refused
        super().__init__(f"No container engine can be used ({'; '.join(refused)}): install podman or start docker.")


class Engine:
    """podman, docker or buildah, called by its command line."""

    def __init__(self, name: str, path: str, env: dict[str, str]) -> None:
        self.name = name
        self.path = path
        self.env = env

    @classmethod
    def find(cls, preferred: str = "auto", cache: str | None = None, only: tuple[str, ...] = ENGINES) -> Engine:
        """The preferred engine, or the first one that answers.

        :raises NoEngineError: when none is installed, or docker's daemon does not answer.
        """
        names = only if preferred == "auto" else (preferred,)
        refused = []
        for name in names:
            path = shutil.which(name)
            if path is None:
                refused.append(f"{name} is not installed")
                continue
            engine = cls(name, path, _environment(name, Path(cache) if cache else cache_dir()))
            if name == "docker":
                try:
                    engine.run(["version", "--format", "{{.Server.Version}}"], timeout=10)
                except EngineError:
                    refused.append("docker is installed but its daemon does not answer")
                    continue
            return engine
        raise NoEngineError(refused)

    def run(
        self, args: list[str], input: bytes | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one engine command.

        :raises EngineError: when it fails or takes longer than *timeout* seconds.
        """
        try:
            done = subprocess.run([self.path, *args], input=input, capture_output=True, env=self.env, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"'{self.name} {args[0]}' gave no answer within {timeout:.0f} s.") from error
        if done.returncode:
            tail = " | ".join(done.stderr.decode(errors="replace").strip().splitlines()[-5:])
            raise EngineError(f"'{self.name} {' '.join(args[:2])}' failed with status {done.returncode}: {tail}")
        return done

    def node_images(
        self, node: str, *words: str, input: bytes | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``ctr images`` in a node of a local cluster, on the images that Kubernetes sees.

        :raises EngineError: as :meth:`run` does.
        """
        attach = [] if input is None else ["-i"]
        return self.run(["exec", *attach, node, *CTR_IMAGES, *words], input=input, timeout=timeout)

    def stream_image(self, node: str, ref: str, timeout: float) -> str:
        """Save an image of this machine straight into a node of a local cluster.

        :returns: empty, or what both programs printed where one of them failed.
        :raises subprocess.TimeoutExpired: after *timeout* seconds.
        """
        load = [self.path, "exec", "-i", node, *CTR_IMAGES, "import", "-"]
        with tempfile.TemporaryFile() as log:
            with subprocess.Popen([self.path, "save", ref], stdout=subprocess.PIPE, stderr=log, env=self.env) as source:
                try:
                    done = subprocess.run(load, stdin=source.stdout, capture_output=True, env=self.env, timeout=timeout)
                except subprocess.TimeoutExpired:
                    source.kill()
                    raise
                finally:
                    if source.stdout:
                        source.stdout.close()
            log.seek(0)
            printed = log.read().decode(errors="replace") + done.stderr.decode(errors="replace")
        return printed or "no reason was given" if source.returncode or done.returncode else ""

    def image_exists(self, ref: str) -> bool:
        """Whether this machine has the image *ref*; asks no registry."""
        probe = ["inspect", "--type", "image", ref] if self.name == "buildah" else ["image", "inspect", ref]
        return subprocess.run([self.path, *probe], capture_output=True, env=self.env).returncode == 0

    def build(
        self,
        context: str,
        containerfile: str,
        ref: str,
        build_args: dict[str, str] | None = None,
        volumes: list[str] | None = None,
    ) -> None:
        """Build *ref* from *context*.

        :raises EngineError: with the last lines of the failing step.
        """
        args = ["build", "--tag", ref, "--file", containerfile]
        if self.name != "docker":
            # The network of the host: build steps need a package index, and no bridge of ours.
            args += ["--network", "host", "--layers"]
        for name, value in (build_args or {}).items():
            args += ["--build-arg", f"{name}={value}"]
        for volume in (volumes or []) if self.name != "docker" else []:
            args += ["--volume", volume]
        self.run([*args, context])


def _environment(name: str, cache: Path) -> dict[str, str]:
    env = dict(os.environ)
    plain = not Path("/run/systemd/system").exists() or not Path("/sys/fs/cgroup/cgroup.controllers").exists()
    if name != "docker" and plain and "CONTAINERS_CONF" not in env:
        conf = cache / "containers.conf"
        if not conf.exists() or conf.read_text() != _PLAIN_HOST_CONF:
            conf.parent.mkdir(parents=True, exist_ok=True)
            conf.write_text(_PLAIN_HOST_CONF)
        env["CONTAINERS_CONF"] = str(conf)
    return env


def debian_base(engine: Engine, ref: str, include: list[str]) -> bool:
    """Make a Debian image with *include* by mmdebstrap, where no registry has one.

    :returns: whether it was made now.
    :raises EngineError: when mmdebstrap is missing or fails.
    """
    if engine.image_exists(ref):
        return False
    mmdebstrap = shutil.which("mmdebstrap")
    if mmdebstrap is None:
        raise EngineError(f"The base image {ref} cannot be made: install mmdebstrap, or name an image that a registry has.")
    with subprocess.Popen(
        [
            mmdebstrap,
            "--quiet",
            "--variant=minbase",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            f"--include={','.join(include)}",
            "bookworm",
            "-",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as bootstrap:
        load = [engine.path, "import", "-", ref]
        done = subprocess.run(load, stdin=bootstrap.stdout, capture_output=True, env=engine.env)
        reason = bootstrap.stderr.read().decode(errors="replace") if bootstrap.stderr else ""
        bootstrap.wait()
    if bootstrap.returncode or done.returncode:
        tail = (reason + done.stderr.decode(errors="replace")).strip().splitlines()[-3:]
        raise EngineError(f"The base image {ref} could not be made by mmdebstrap: {' | '.join(tail)}")
    return True
