# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a local cluster's nodes. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from . import image_archive
from .engine import ASK_TIMEOUT, PULL_TIMEOUT, Engine, EngineError, debian_base
from .host import ARCH, DEBIAN_IMAGE, NODE_BASE, NODE_PACKAGES, PULL_PATIENCE, missing
from .node import ClusterError

# What keeps a pod's namespaces, upstream's image or catatonit. The name is in the node's configuration of containerd.
PAUSE = "localhost/pause:node"
NODE_DEBIAN = f"""\
FROM {DEBIAN_IMAGE}
RUN dpkg --status {" ".join(NODE_PACKAGES)} >/dev/null 2>&1 \\
 || {{ apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {" ".join(NODE_PACKAGES)} \\
 && rm -rf /var/lib/apt/lists/*; }}
"""


def image_name(params: dict[str, Any]) -> str:
    """The node image's name; its tag is a hash of what goes in."""
    given = [params["binaries"], params["versions"], NODE_BASE, NODE_DEBIAN]
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode())
    for file in sorted((Path(params["files"]) / "node").rglob("*")):
        if file.is_file():
            digest.update(str(file.name).encode() + b"\0" + file.read_bytes())
    return f"localhost/flaskops/node:v{params['versions']['kubernetes']}-{digest.hexdigest()[:12]}"


def build_image(engine: Engine, params: dict[str, Any], ref: str) -> None:
    """Build the node image: Debian, the binaries, and archives of the control plane's images.

    :raises ClusterError: where there is no room for what it is built of.
    :raises EngineError: when the engine can't build it.
    """
    build_base(engine)
    try:
        _build_on_base(engine, params, ref)
    except OSError as error:
        # In the words of this machine's language, and of shutil, which tells all files at once.
        if error.errno != errno.ENOSPC and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise ClusterError(
            f"{tempfile.gettempdir()} has no room for the gigabyte that a node is built of: set TMPDIR to a folder that has."
        ) from error


def _build_on_base(engine: Engine, params: dict[str, Any], ref: str) -> None:
    versions, arch = params["versions"], ARCH[platform.machine()]
    folders = {name: Path(path) for name, path in params["binaries"].items()}
    kube = f"v{versions['kubernetes']}"
    with tempfile.TemporaryDirectory(prefix="flaskops-node-") as scratch:
        context = Path(scratch) / "node"
        shutil.copytree(Path(params["files"]) / "node", context)
        catatonit = Path(scratch) / "catatonit"
        look = ["run", "--rm", "--network", "none", "--entrypoint", "cat", NODE_BASE, "/usr/bin/catatonit"]
        catatonit.write_bytes(engine.run(look, timeout=ASK_TIMEOUT).stdout)
        (context / "bin").mkdir()
        (context / "images").mkdir()
        inside = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "coredns", "kube-network-policies"}
        for folder in folders.values():
            for binary in folder.iterdir():
                if binary.name not in inside:
                    shutil.copy(binary, context / "bin")
        archives = [
            (f"registry.k8s.io/{name}:{kube}", folders["kubernetes"] / name, f"/usr/local/bin/{name}", [name])
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        ]
        archives += [
            (f"registry.k8s.io/etcd:{versions['etcd']}-0", folders["etcd"] / "etcd", "/usr/local/bin/etcd", ["etcd"]),
            (
                f"registry.k8s.io/coredns/coredns:v{versions['coredns']}",
                folders["coredns"] / "coredns",
                "/coredns",
                ["/coredns"],
            ),
            (PAUSE, catatonit, "/pause", ["/pause", "-P"]),
        ]
        if policy := folders.get("kube-network-policies"):
            name = f"registry.k8s.io/networking/kube-network-policies:v{versions['kube-network-policies']}"
            archives.append((name, policy / "kube-network-policies", "/bin/netpol", ["/bin/netpol"]))
        for image, binary, target, entrypoint in archives:
            image_archive.write(context / "images" / f"{binary.name}.tar", image, binary, target, entrypoint, arch)
        listed = [f"{binary.name}.tar {image}\n" for image, binary, _, _ in archives]
        (context / "images" / "list").write_text("".join(listed))
        engine.build(str(context), str(context / "Containerfile"), ref, {"BASE_IMAGE": NODE_BASE})


def build_base(engine: Engine) -> None:
    """The node's Debian: from a registry with packages added to it, or made here where none answers."""
    if engine.image_exists(NODE_BASE):
        return
    patience = PULL_TIMEOUT if missing({"mmdebstrap"}) else PULL_PATIENCE
    try:
        if not engine.image_exists(DEBIAN_IMAGE):
            engine.run(["pull", DEBIAN_IMAGE], timeout=patience)
        with tempfile.TemporaryDirectory(prefix="flaskops-node-") as context:
            containerfile = Path(context) / "Containerfile"
            containerfile.write_text(NODE_DEBIAN)
            engine.build(context, str(containerfile), NODE_BASE)
    except EngineError as refused:
        try:
            debian_base(engine, NODE_BASE, NODE_PACKAGES)
        except EngineError as error:
            raise ClusterError(f"{error} Nor could it be made of {DEBIAN_IMAGE}: {refused}") from error
