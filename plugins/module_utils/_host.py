# Copyright (c) flaskops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node in a container needs of this machine. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ._engine import ASK_TIMEOUT, Engine, EngineError, NoEngineError, SlowEngineError

# What the node needs of this machine.
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}  # the machine's name of it, and that of images
MEMORY = 1536  # MiB available; the cluster with the reference application takes no more
DISK = 4  # GiB free where the engine keeps images and volumes; the node image and the volume take 2.3
INOTIFY = 32  # instances; the node's programs take 23, and those that get none end at once
KERNEL = (5, 13)  # the oldest one that kube-proxy's nftables mode supports
CONTROLLERS = {"cpu", "memory", "pids"}  # kubelet does not start without them
# Kernel modules, and what is there where one is loaded or built in. Without br_netfilter a pod gets no answer from a Service
# whose pod is on the same bridge.
MODULES = {"br_netfilter": Path("/proc/sys/net/bridge"), "overlay": Path("/sys/module/overlay")}
# Commands and Debian's packages that have them.
COMMANDS = {"ip": "iproute2"}
BUILD_COMMANDS = {"catatonit": "catatonit", "mmdebstrap": "mmdebstrap"}
PODMAN_COMMANDS = {"iptables": "iptables", "netavark": "netavark"}
PLACES = ("/usr/sbin", "/sbin", "/usr/lib/podman", "/usr/libexec/podman")


def machine(engine: Engine | NoEngineError, build: bool) -> dict[str, Any]:
    """What this machine has of what a node needs; reads only.

    :param engine: the engine that is to run the node, or why there is none.
    :param build: whether the node image has to be built.
    :returns: ``root`` (bool), ``arch``, ``kernel`` (release), ``modules`` (missing ones that can't be loaded), ``controllers``
        (of cgroups), ``memory`` (MiB available), ``inotify`` (instances used and allowed), ``engine`` (why none can be used, or
        empty), ``folder`` (the engine's own) and ``disk`` (GiB free there), ``packages`` (Debian's, of missing commands).
    """
    commands = COMMANDS | (BUILD_COMMANDS if build else {})
    folder = problem = ""
    if isinstance(engine, NoEngineError):
        problem = "; ".join(engine.refused)
    else:
        key = "{{.DockerRootDir}}" if engine.name == "docker" else "{{.Store.GraphRoot}}"
        try:
            folder = engine.run(["info", "--format", key], timeout=ASK_TIMEOUT).stdout.decode().strip()
        except SlowEngineError:
            raise
        except EngineError as error:
            problem = str(error).rstrip(".")
        if folder and not Path(folder).is_dir():
            problem = f"{engine.name} keeps its data in {folder}, which is not on this machine: use an engine that runs here"
        if engine.name == "podman":
            commands |= PODMAN_COMMANDS
            if engine.env.get("CONTAINERS_CONF") != os.environ.get("CONTAINERS_CONF"):
                commands |= {"runc": "runc"}  # named by the configuration that Engine makes for plain hosts
    modules = sorted(module for module, trace in MODULES.items() if not trace.exists() and not modprobe("--dry-run", module))
    if modules and command("modprobe") is None:
        commands |= {"modprobe": "kmod"}
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if controllers.exists():  # cgroup v2
        enabled = set(controllers.read_text().split())
    else:
        rows = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()]
        enabled = {row[0] for row in rows if row[3] == "1"}
    available = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "inotify": (inotify_used(), int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())),
        "root": os.geteuid() == 0,
        "arch": platform.machine(),
        "kernel": platform.release(),
        "modules": modules,
        "controllers": enabled,
        "memory": int(available.group(1)) // 1024 if available else 0,
        "engine": problem,
        "folder": folder,
        "disk": shutil.disk_usage(folder).free // 2**30 if folder and not problem else 0,
        "packages": sorted(package for name, package in commands.items() if command(name) is None),
    }


def inotify_used() -> int:
    """The inotify instances of this user."""
    used = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.geteuid():
                used += sum(os.readlink(file) == "anon_inode:inotify" for file in (folder / "fd").iterdir())
        except OSError:
            continue  # it has ended
    return used


def command(name: str) -> str | None:
    """The path of a command, also where it is in a folder for root only."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))


def modprobe(*args: str) -> bool:
    """Whether modprobe, called with *args*, succeeded."""
    path = command("modprobe")
    return path is not None and subprocess.run([path, "--quiet", *args], capture_output=True).returncode == 0


def lacks(found: dict[str, Any], build: bool) -> list[str]:
    """What *found* (see `machine`) lacks for a node, in words; empty where it has all."""
    lacking = []
    if not found["root"]:
        lacking.append("the rights of root")
    if found["arch"] not in ARCH:
        lacking.append(f"a processor of type {' or '.join(ARCH)} (has {found['arch']})")
    number = re.match(r"(\d+)\.(\d+)", found["kernel"])
    if number and (int(number.group(1)), int(number.group(2))) < KERNEL:
        lacking.append(f"Linux {KERNEL[0]}.{KERNEL[1]} or newer (has {found['kernel']})")
    lacking += [f"the kernel module {module}" for module in found["modules"]]
    lacking += [f"the cgroup controller {controller}" for controller in sorted(CONTROLLERS - found["controllers"])]
    if found["memory"] < MEMORY:
        lacking.append(f"{MEMORY} MiB of available memory (has {found['memory']})")
    used, limit = found["inotify"]
    if limit - used < INOTIFY:
        lacking.append(
            f"{INOTIFY} free inotify instances (has {limit - used}: raise the sysctl fs.inotify.max_user_instances of {limit})"
        )
    if found["engine"]:
        lacking.append(f"a container engine ({found['engine']})")
    elif build and found["disk"] < DISK:
        lacking.append(f"{DISK} GiB of free space in {found['folder']} (has {found['disk']})")
    if found["packages"]:
        lacking.append(f"the packages {', '.join(found['packages'])}")
    return lacking


def refusal(lacking: list[str]) -> str:
    """The one sentence that names all that is lacking."""
    return f"This machine lacks what a node needs, so nothing was changed: {'; '.join(lacking)}."
