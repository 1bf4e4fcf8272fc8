# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image by the content of its tree: built where it is not there, and delivered to a cluster or a registry; or removed.

Private to this collection; its interface can change at any time.
"""

from __future__ import annotations

import platform
import re
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..node.engine import Engine, EngineError
from ..node.images import ImageError, NodeImages, PutError, one_line
from .build import DEBIAN_BASE, build
from .build_context import content_tag
from .cluster_tools import TOOLS, ClusterTool
from .inputs import check, inputs, secret_texts
from .registry import engine_finds, in_registry, push

CONTENT_TAG = re.compile(r"^[0-9a-f]{12}$")


def bring(module: AnsibleModule) -> dict[str, Any]:
    """Bring the image to the state of the options; the result of the module.

    :raises ContextError, EngineError, ImageError, OSError: with one sentence for the user, but for the last one.
    """
    node = first_node(module.params)
    engine = Engine.find(module.params["engine"], having=(("container", node),) if node else ())
    return (absent if module.params["state"] == "absent" else present)(module, engine)


def node_import(images: NodeImages, ref: str, nodes: list[str]) -> None:
    """Put an image of this machine into the nodes."""
    try:
        images.put(ref, nodes)
    except PutError as error:
        printed = one_line(error.printed or "it said nothing")
        raise ImageError(f"The import of {ref} into the node {' and '.join(error.nodes)} failed: {printed}") from error


def content_refs(engine: Engine, repository: str) -> list[str]:
    """Local images of the repository that have a content tag."""
    template = "{{.Name}}:{{.Tag}}" if engine.name == "buildah" else "{{.Repository}}:{{.Tag}}"
    for attempt in range(5):
        try:
            output = engine.run(["images", "--format", template]).stdout
            break
        except EngineError:
            # podman lists first and looks at each image then: one that another run removes in between makes it fail.
            if attempt == 4:
                raise
    text = output.decode() if isinstance(output, bytes) else output
    if engine.name != "docker":
        return [ref for ref in text.split() if is_content_ref(ref, repository)]
    # docker shows an image of Docker Hub without the host.
    short = repository.removeprefix("docker.io/").removeprefix("library/")
    return [f"{repository}:{ref.rpartition(':')[2]}" for ref in text.split() if is_content_ref(ref, short)]


def is_content_ref(ref: str, repository: str) -> bool:
    name, _colon, tag = ref.rpartition(":")
    return name == repository and bool(CONTENT_TAG.match(tag))


def tool_of(params: dict[str, Any], engine: Engine) -> ClusterTool | None:
    """The program that loads images into the cluster; None where another way is taken."""
    tool = TOOLS.get(params["delivery"])
    return tool(engine, params["cluster"]) if tool else None


def first_node(params: dict[str, Any]) -> str | None:
    """The container that tells which engine has the cluster."""
    tool = TOOLS.get(params["delivery"])
    return tool.node.format(params["cluster"]) if tool else params["node"]


def absent(module: AnsibleModule, engine: Engine) -> dict[str, Any]:
    params = module.params
    repository, node, tool = params["repository"], params["node"], tool_of(params, engine)
    local = content_refs(engine, repository)
    remote: list[str] = []
    in_nodes: dict[str, list[str]] = {}
    images: NodeImages | None = None
    if tool:
        found = sorted(set().union(*tool.images().values()))
        remote = [ref for ref in found if is_content_ref(ref, repository)]
    elif node and engine.name != "buildah":
        # a node that is gone has no images
        state = engine.run(["ps", "--format", "{{.Names}}"]).stdout
        names = (state.decode() if isinstance(state, bytes) else state).split()
        if node in names:
            images = NodeImages(engine, node)
            found_refs = images.refs(f"name~={re.escape(repository)}").items()
            in_nodes = {name: [ref for ref in refs if is_content_ref(ref, repository)] for name, refs in found_refs}
            remote = sorted(set().union(*in_nodes.values()))
    if not module.check_mode:
        if images:
            images.remove(in_nodes)
        if tool:
            for ref in remote:
                tool.remove(ref)
        for ref in local:
            engine.run(["rmi", ref])
    return {"changed": bool(local or remote), "removed": local + remote}


def present(module: AnsibleModule, engine: Engine) -> dict[str, Any]:
    params = module.params
    delivery, node, tool = params["delivery"], params["node"], tool_of(params, engine)
    params["rebuild"] = str(time.time_ns()) if params["rebuild"].lower() in ("true", "yes") else params["rebuild"]
    given = inputs(params)
    # Not among the options again: Ansible shows them, and hides only what it was given there.
    build_secrets = secret_texts(params["build_secrets"])
    check(params, given.containerfile)
    args = {key: str(value) for key, value in params["build_args"].items()}
    # How a Debian base is made counts too: an image on one that was made wrongly is not taken for right.
    bases = [params["base"], params["base_image"], *([] if params["base"] == "registry" else [DEBIAN_BASE])]
    # An image holds programs of one kind of processor.
    how = [
        params["platform"] or platform.machine(),
        *(f"{name}={params[name]}" for name in ("target", "rebuild") if params[name]),
    ]
    tag = content_tag(given.tree, given.containerfile, args, " ".join(bases + how))
    ref = f"{params['repository']}:{tag}"
    login = (params["registry_username"], params["registry_password"])

    images, lacking = None, []
    if delivery == "import":
        if engine.name == "buildah":
            raise ImageError("delivery import needs podman or docker, because buildah can't reach into a node.")
        images = NodeImages(engine, node)
        lacking = images.lacking(ref)
        delivered = not lacking
    elif tool:
        delivered = not tool.lacking(ref)
    else:
        delivered = delivery == "none" or in_registry(params["repository"], tag, *login)
        delivered = delivered or (not all(login) and engine_finds(engine, ref))
    # what the registry has already need not be built here
    needs_build = not (delivery == "push" and delivered) and not engine.image_exists(ref)
    base = ""
    if not module.check_mode:
        if needs_build and given.secrets:
            module.warn(
                f"These files are not in the image, because they may hold credentials: {', '.join(given.secrets)}."
                f" Include what the app needs by exclude, such as '!{given.secrets[0]}', and name the rest in the ignore file."
            )
        if needs_build:
            base, warning = build(engine, params, given, ref, build_secrets)
            if warning:
                module.warn(warning)
        if not delivered and images:
            node_import(images, ref, lacking)
        elif not delivered and tool:
            tool.load(ref)
        elif not delivered:
            push(engine, ref, *login)
    return {
        "changed": needs_build or not delivered,
        "image": ref,
        "tag": tag,
        "base": base,
        "built": needs_build,
        "delivered": not delivered,
    }
