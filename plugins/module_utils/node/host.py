# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node in a container needs of this machine. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from .engine import (
    ASK_TIMEOUT,
    KEYRING,
    Engine,
    EngineError,
    NoEngineError,
    SlowEngineError,
    configured,
    debian_ref,
    home,
    plain_host,
)

# What the node needs of this machine.
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}  # the machine's name of it, and that of images
MEMORY = 1536  # MiB available; the cluster with the reference application takes no more
DISK = 3  # GiB free where the engine keeps images and volumes, for the node image, and
VOLUME_DISK = 1  # for each volume that is made, which has its own copies of the images; both of a node take 2.3
WORKER_MEMORY = 256  # MiB for each worker, whose programs take 150
WORKER_INOTIFY = 16  # its programs take 10
INOTIFY = 32  # instances; the node's programs take 23, and those that get none end at once
KERNEL = (5, 13)  # the oldest one that kube-proxy's nftables mode supports
CONTROLLERS = {"cpu", "memory", "pids"}  # kubelet does not start without them
# Kernel modules, and what is there where one is loaded or built in. Without br_netfilter a pod gets no answer from a Service
# whose pod is on the same bridge.
MODULES = {"br_netfilter": Path("/proc/sys/net/bridge"), "overlay": Path("/sys/module/overlay")}
LIB_MODULES = Path("/lib/modules")
# What is needed, by its command or file, and the packages that have it: of apt-get, dnf and pacman; empty where there is none.
PACKAGES = {
    "ip": ("iproute2", "iproute", "iproute2"),
    "iptables": ("iptables", "iptables-nft", "iptables"),
    "mmdebstrap": ("mmdebstrap", "mmdebstrap", ""),
    "modprobe": ("kmod", "kmod", "kmod"),
    "netavark": ("netavark", "netavark", "netavark"),
    "nft": ("nftables", "nftables", "nftables"),
    "podman": ("podman", "podman", "podman"),
    "runc": ("runc", "runc", "runc"),
    "venv": ("python3-venv", "python3", "python"),
    str(KEYRING): ("debian-archive-keyring", "debian-keyring", "debian-archive-keyring"),
}
MANAGERS = {
    "apt-get": ["apt-get", "install", "-qq", "-y", "--no-install-recommends"],
    "dnf": ["dnf", "install", "-q", "-y"],
    "pacman": ["pacman", "-S", "--noconfirm", "--needed"],
}
# The distributions that use each, or none of them, by the words of their os-release: where mmdebstrap is, apt-get is too.
SYSTEMS = {"apt-get": {"debian", "ubuntu"}, "dnf": {"fedora", "rhel", "centos"}, "pacman": {"arch"}}
OTHER_SYSTEMS = {"suse", "opensuse", "alpine", "gentoo", "nixos"}
SYSTEM_PYTHON = Path("/usr/bin/python3")
PLACES = (
    *("/usr/sbin", "/sbin", "/usr/local/sbin"),
    *("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/local/libexec/podman"),
)
# The node's Debian: from a registry, or made here by mmdebstrap.
DEBIAN_IMAGE = "docker.io/library/debian:bookworm-slim"
NODE_PACKAGES = [
    "runc", "nftables", "iptables", "conntrack", "mount", "iproute2", "procps", "ca-certificates", "supervisor", "ethtool",
    "socat", "kmod", "catatonit",
]  # fmt: skip
NODE_BASE = debian_ref("flaskops/node-base", NODE_PACKAGES)
PROBE_TIMEOUT = 5
PULL_PATIENCE = 60  # seconds for a registry, where the node's Debian can be made here too
# Where podman's locks are, and how many bytes one takes.
LOCKS = Path("/dev/shm/libpod_lock")
MUTEX = {"x86_64": 40, "aarch64": 48}
# Where the distributions keep this machine's certificate authorities: Debian, Fedora, SUSE, Arch, and what these link to.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem", "/etc/ssl/certs/ca-bundle.crt",
)  # fmt: skip
NOT_LINUX = "A cluster made here needs Linux: make one with kind or Docker Desktop, and name it by INVENTORY=inventories/kind."


def machine(engine: Engine | NoEngineError, build: bool) -> dict[str, Any]:
    """What this machine has of what a node needs; reads only.

    :param engine: the engine that is to run the node, or why there is none.
    :param build: whether the node image has to be built.
    :returns: ``root`` (bool), ``arch``, ``kernel`` (release), ``modules`` (missing ones that can't be loaded), ``updated`` (why,
        or empty), ``controllers`` (of cgroups), ``memory`` (MiB available), ``inotify`` (instances used and allowed), ``engine``
        (why none can be used, or empty), ``folder`` (the engine's own) and ``disk`` (GiB free there), ``packages`` (of missing
        commands), ``base`` (the packages that would make the node's Debian, where it can't be obtained without them).
    """
    folder = problem = ""
    if isinstance(engine, NoEngineError):
        problem = "; ".join(engine.refused)
    else:
        try:
            folder, problem = home(engine)
            problem = problem or lost_locks(engine)
        except SlowEngineError:
            raise
        except EngineError as error:
            problem = str(error).rstrip(".")
    modules = sorted(module for module, trace in MODULES.items() if not trace.exists() and not modprobe("--dry-run", module))
    needed = {"ip"} | ({"modprobe"} if modules else set())
    found = None if isinstance(engine, NoEngineError) else engine
    if found and found.name == "podman":
        needed |= podman_commands(found)
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
        "updated": updated(platform.release()),
        "controllers": enabled,
        "memory": int(available.group(1)) // 1024 if available else 0,
        "engine": problem,
        "folder": folder,
        "disk": free(folder) if folder and not problem else 0,
        "packages": packages(missing(needed)),
        "base": packages(base_commands(found)) if build else [],
    }


def updated(release: str) -> str:
    """What to do where the modules of the kernel that runs were replaced by another one's, as by an update on Arch; or empty."""
    if (LIB_MODULES / release).is_dir() or not (LIB_MODULES.is_dir() and any(LIB_MODULES.iterdir())):
        return ""
    return f" (the kernel that runs, {release}, has none left in {LIB_MODULES}: restart this machine)"


def free(folder: str) -> int:
    """The GiB that are free where a folder is, and enough where root alone may ask: its rights are named as missing then."""
    try:
        return shutil.disk_usage(folder).free // 2**30
    except PermissionError:
        return 2**20


def lost_locks(engine: Engine) -> str:
    """What to do about podman's locks where they are fewer than its objects, or empty.

    So it is on a machine that came back with podman's records and without /dev/shm. What is made then gets another object's lock.
    """
    if engine.name != "podman":
        return ""
    for _ in range(2):  # an object may end between the two looks
        lists = (["container", "ls", "--all", "--quiet"], ["volume", "ls", "--quiet"], ["pod", "ls", "--quiet"])
        objects = sum(len(engine.run(words, timeout=ASK_TIMEOUT).stdout.split()) for words in lists)
        taken = locks_taken()
        if taken is None or taken >= objects:
            return ""
    return f"podman has lost its locks ({objects} objects have {taken}): run 'podman system renumber' while no container runs"


def locks_taken() -> int | None:
    """How many locks podman has given out; None where it keeps them in another way.

    A magic number, a mutex and two counts, then for every 32 locks a bitmap of those that are taken and a mutex for each.
    """
    mutex = MUTEX.get(platform.machine(), 0)
    try:
        data = LOCKS.read_bytes()
        magic, groups, locks = struct.unpack_from(f"<H{mutex + 6}xII", data)
    except (OSError, struct.error):
        return None
    first, size = mutex + 16, 8 + 32 * mutex
    if magic != 0x87D1 or locks != 32 * groups or len(data) != first + groups * size:
        return None
    return sum(struct.unpack_from("<I", data, first + group * size)[0].bit_count() for group in range(groups))


def podman_commands(engine: Engine | None) -> set[str]:
    """What podman needs to run a node; *engine* is None where podman is not there yet."""
    netavark = helper("netavark", engine)
    rules = {firewall(engine)} - {""} if engine and netavark else {"nft", "iptables"}
    return {*rules, *(() if netavark else ("netavark",)), *({"runc"} if plain_host() else ())}


def helper(name: str, engine: Engine | None) -> str | None:
    """The path of a program that podman calls, also where its configuration names the folder."""
    folders = configured(engine.env).get("engine", {}).get("helper_binaries_dir", []) if engine else []
    return command(name, [folder for folder in folders if isinstance(folder, str)])


def firewall(engine: Engine) -> str:
    """The command by which podman's networks write their rules: iptables, nft, or none, as with firewalld."""
    driver, netavark = configured(engine.env).get("network", {}).get("firewall_driver", ""), helper("netavark", engine)
    with contextlib.suppress(ValueError):  # the oldest netavark prints its version alone
        if not driver and netavark:
            driver = json.loads(subprocess.run([netavark, "version"], capture_output=True).stdout).get("default_fw_driver", "")
    return {"": "iptables", "iptables": "iptables", "nftables": "nft"}.get(driver, "")


def dropped(engine: Engine, subnet: str) -> str:
    """What to do about rules that let the engine's networks reach nothing, or empty."""
    return _dropped_by_iptables(engine, subnet) or _dropped_by_nftables(engine, subnet)


def _dropped_by_nftables(engine: Engine, subnet: str) -> str:
    """The same of a chain that iptables does not show, such as that of Arch's own nftables.conf, and that accepts nothing."""
    nft = command("nft")
    if nft is None:
        return ""

    def listed(*words: str) -> list[dict[str, Any]]:
        told = subprocess.run([nft, "-j", "list", *words], capture_output=True).stdout
        with contextlib.suppress(ValueError, KeyError):
            return list(json.loads(told)["nftables"])
        return []

    for chain in (each["chain"] for each in listed("chains") if "chain" in each):
        place = [chain.get(key, "") for key in ("family", "table", "name")]
        if chain.get("hook") != "forward" or chain.get("policy") != "drop" or place[0] not in ("ip", "inet"):
            continue
        if place == ["ip", "filter", "FORWARD"]:  # iptables'
            continue
        rules = [json.dumps(each["rule"]["expr"]) for each in listed("chain", *place) if "rule" in each]
        # One that sends on to other chains may accept it there.
        if not any(re.search('"(jump|goto)"', rule) or ('"accept"' in rule and '"ct"' not in rule) for rule in rules):
            return (
                f"This machine drops the packets of {engine.name}'s networks, so the cluster can't reach anything outside: the"
                f" chain {' '.join(place)} of nftables has the policy drop; accept there what comes from {subnet} and goes to it."
            )
    return ""


def _dropped_by_iptables(engine: Engine, subnet: str) -> str:
    """The same of podman, where docker, or a firewall, has set the policy of FORWARD to DROP.

    No rule in another table of nftables undoes that.
    """
    iptables = command("iptables")
    if engine.name != "podman" or iptables is None or firewall(engine) != "nft":
        return ""
    rules = subprocess.run([iptables, "-S"], capture_output=True, text=True).stdout
    found = re.search(r"^(-P FORWARD DROP|-A FORWARD -j (DROP|REJECT)\b.*)$", rules, re.MULTILINE)
    accepted = re.findall(r"^-A [\w-]+ (?:.* )?-[sd] ([\d.]+/\d+) .*-j ACCEPT$", rules, re.MULTILINE)
    if not found or any(IPv4Network(subnet).subnet_of(IPv4Network(each, strict=False)) for each in accepted):
        return ""
    says = "the policy of iptables' chain FORWARD is DROP" if found[2] is None else f"iptables has the rule '{found[1]}'"
    driver = 'firewall_driver = "iptables" under [network] in containers.conf'
    if "-N ufw-" in rules:
        mend = f"ufw does so: run 'ufw route allow from {subnet}' and 'ufw route allow to {subnet}', or set {driver}"
    elif "-N DOCKER" in rules and found[2] is None:
        mend = (
            'docker sets it: set "ip-forward-no-drop": true in docker\'s daemon.json (28 and newer),'
            f" or {driver}, or accept {subnet} in the chain DOCKER-USER"
        )
    else:
        mend = f"accept what comes from {subnet} and goes to it before that, or set {driver}"
    return f"This machine drops the packets of podman's networks, so the cluster can't reach anything outside: {says}; {mend}."


def node_base() -> set[str]:
    """What makes the node's Debian here."""
    return {"mmdebstrap", str(KEYRING)}


def base_commands(engine: Engine | None) -> set[str]:
    """What is missing to make the node's Debian here, where it is not there and no registry answers."""
    wanted = missing(node_base())
    if not wanted or (engine and any(engine.image_exists(ref) for ref in (NODE_BASE, DEBIAN_IMAGE))):
        return set()
    if registry_answers("registry-1.docker.io"):
        return set()
    with contextlib.suppress(EngineError):  # which alone knows its mirrors
        if engine:
            engine.run(["pull", DEBIAN_IMAGE], timeout=PULL_PATIENCE)
            return set()
    return wanted


def registry_answers(host: str) -> bool:
    """Whether a registry answers at all; a refusal for want of a login is an answer."""
    # Docker Hub's images are not where its web pages are, which a network may keep closed.
    host = "registry-1.docker.io" if host == "docker.io" else host
    try:
        urllib.request.urlopen(f"https://{host}/v2/", timeout=PROBE_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError, http.client.HTTPException):  # such as of what is no host
        return False
    return True


def missing(needed: set[str]) -> set[str]:
    """Those commands and files that are not there."""
    return {each for each in needed if not (Path(each).exists() if each.startswith("/") else command(each))}


def manager() -> str | None:
    """The package manager of this machine, which its distribution uses; None where it is none that is known."""
    here, system = [name for name in MANAGERS if command(name)], set()
    with contextlib.suppress(OSError):
        told = platform.freedesktop_os_release()
        system = {told.get("ID"), *told.get("ID_LIKE", "").split()}
    if OTHER_SYSTEMS & system:
        return None
    return next((name for name in here if SYSTEMS[name] & system), here[0] if here else None)


def packages(lacking: set[str]) -> list[str]:
    """The names of the packages that this machine's manager has of what is lacking, else what is lacking."""
    return sorted(package(each) or each for each in lacking)


def package(needed: str) -> str:
    """What this machine's package manager calls what has a command or file; empty where there is no such package, or manager."""
    found = manager()
    own = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if found == "apt-get" and needed == "venv" and SYSTEM_PYTHON.resolve().name != own:
        return f"{own}-venv"  # the other one is of the distribution's own Python
    return PACKAGES[needed][[*MANAGERS].index(found)] if found else ""


def host_bundle() -> Path | None:
    """The file with the certificate authorities that this machine trusts, not a link to it; None where it has none."""
    files = (Path(path).resolve() for path in BUNDLES if os.path.isfile(path))
    return next((file for file in files if file.stat().st_size), None)


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


def command(name: str, folders: Iterable[str] = ()) -> str | None:
    """The path of a command, also where it is in a folder for root only, or in one of *folders*."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *folders, *PLACES)))


def modprobe(*args: str) -> bool:
    """Whether modprobe, called with *args*, succeeded."""
    path = command("modprobe")
    return path is not None and subprocess.run([path, "--quiet", *args], capture_output=True).returncode == 0


def lacks(found: dict[str, Any], build: bool, control: bool = True, workers: int = 0, volumes: int = 1) -> list[str]:
    """What *found* (see `machine`) lacks for the control plane and some workers, in words; empty where it has all.

    :param volumes: how many of them have no volume yet.
    """
    memory = MEMORY * control + WORKER_MEMORY * workers
    inotify = INOTIFY * control + WORKER_INOTIFY * workers
    disk = DISK * build + VOLUME_DISK * volumes
    lacking = []
    if not found["root"]:
        lacking.append("the rights of root")
    if found["arch"] not in ARCH:
        lacking.append(f"a processor of type {' or '.join(ARCH)} (has {found['arch']})")
    number = re.match(r"(\d+)\.(\d+)", found["kernel"])
    if number and (int(number.group(1)), int(number.group(2))) < KERNEL:
        lacking.append(f"Linux {KERNEL[0]}.{KERNEL[1]} or newer (has {found['kernel']})")
    lacking += [f"the kernel module {module}{found.get('updated', '')}" for module in found["modules"]]
    lacking += [f"the cgroup controller {controller}" for controller in sorted(CONTROLLERS - found["controllers"])]
    if found["memory"] < memory:
        lacking.append(f"{memory} MiB of available memory (has {found['memory']})")
    used, limit = found["inotify"]
    if limit - used < inotify:
        lacking.append(
            f"{inotify} free inotify instances (has {limit - used}: raise the sysctl fs.inotify.max_user_instances of {limit})"
        )
    if found["engine"]:
        lacking.append(f"a container engine ({found['engine']})")
    elif found["disk"] < disk:
        lacking.append(f"{disk} GiB of free space in {found['folder']} (has {found['disk']})")
    if found["packages"]:
        lacking.append(f"the packages {', '.join(found['packages'])}")
    if found["base"]:
        lacking.append(f"a Debian for the node: the image {DEBIAN_IMAGE}, or the packages {', '.join(found['base'])}")
    return lacking


def refusal(lacking: list[str]) -> str:
    """The one sentence that names all that is lacking."""
    return f"This machine lacks what a node needs, so nothing was changed: {'; '.join(lacking)}."


def embedded(inventory: str, args: str) -> str | None:
    """The engine that an inventory names for its local cluster; None where it has no such cluster.

    Ansible, which would know, is not there yet: what these variables are set to is looked up as text.
    """
    given = Path(inventory)
    folders = [given] if given.is_dir() else [given.parent / "group_vars", given.parent / "host_vars"]
    files = [Path(folder) / name for top in folders for folder, _, names in os.walk(top, followlinks=True) for name in names]
    texts = [file.read_text(errors="replace") for file in [*files, given] if file.is_file()]
    named = [Path(name).expanduser() for name in re.findall(r"(?:^|\s|=)[\"']?@([^\s\"']+)", args)]
    extra = [args, *(file.read_text(errors="replace") for file in named if file.is_file())]

    def values(name: str) -> list[str]:
        pattern = re.compile(rf"^[^#\n]*\b{name}[\"']?\s*[:=]\s*[\"']?(\w+)", re.MULTILINE)
        return [*(found for text in extra for found in pattern.findall(text)[-1:])] or [
            found for text in texts for found in pattern.findall(text)
        ]

    # One of its hosts is enough.
    return (values("local_cluster_engine") or ["auto"])[0] if "embedded" in values("cluster_provider") else None


def lacking_packages(preferred: str | None) -> set[str]:
    """What `make up` needs and does not find; *preferred* is the engine of a local cluster, if there is one."""
    lacking = set()
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        lacking.add("venv")
    if preferred is None:
        return lacking
    try:
        engine = Engine.find(preferred, only=("podman", "docker"))
    except NoEngineError as error:
        if preferred == "docker":
            raise
        engine = None
        for reason in (each for each in error.refused if not each.endswith("is not installed")):
            print(f"A cluster is made with podman here, because {reason}. Mend that, and podman is not needed.", file=sys.stderr)
    needed = {"ip"}
    if engine is None or engine.name == "podman":
        needed |= {"podman"} | podman_commands(engine)
    return lacking | missing(needed) | base_commands(engine)


def main() -> int:
    """Names what is missing of this machine's packages, or installs it; 1 where something is still missing."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--inventory", required=True)
    parser.add_argument("--args", default="", help="those of ansible-playbook")
    parser.add_argument("--install", action="store_true")
    options = parser.parse_args()
    preferred = embedded(options.inventory, options.args)
    if preferred and platform.system() != "Linux":
        print(NOT_LINUX, file=sys.stderr)
        return 1
    try:
        lacking = lacking_packages(preferred)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    if not lacking:
        return 0
    print(f"This machine lacks: {' '.join(packages(lacking))}", flush=True)
    found, names = manager(), sorted(filter(None, map(package, lacking)))
    nowhere = {each for each in lacking if not package(each)}
    install = [*MANAGERS[found], *names] if found else []
    installed = False
    if names and options.install and os.geteuid() == 0:
        if found == "apt-get":
            subprocess.run(["apt-get", "update", "-qq"])  # what it did not reach is told by the next command
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        installed = subprocess.run(install, env=env, stdout=subprocess.DEVNULL).returncode == 0
    elif names and options.install:
        print(f"PACKAGES=install needs root: run the same command as root, or '{' '.join(install)}'.", file=sys.stderr)
    elif names:
        print(f"Install them as root: '{' '.join(install)}', or the same command with PACKAGES=install.", file=sys.stderr)
    if nowhere:
        print(unpackaged(found, nowhere), file=sys.stderr)
    return 0 if installed and not nowhere else 1


def unpackaged(found: str | None, lacking: set[str]) -> str:
    """What to do about *lacking*, of which the package manager *found* has no package."""
    names = ", ".join(sorted(lacking))
    told = f"{found} has no package of {names}." if found else f"None of {', '.join(MANAGERS)} is here: install {names}."
    if base := lacking & node_base():
        told += (
            f" Instead of {' and '.join(sorted(base))} the node's Debian will do: pull {DEBIAN_IMAGE} with podman or docker,"
            " through a mirror where Docker Hub does not answer, and tag it so."
        )
    return told


if __name__ == "__main__":
    sys.exit(main())
