#!/usr/bin/python
# Copyright: flaskops contributors
# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a container image whose tag is a hash of what it was built from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Build a content-addressed container image from a source tree
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Builds an image from a source tree and tags it with the first twelve hexadecimal digits of a SHA-256
    over the tree, the Containerfile, the build arguments and the choice of base image.
  - An image that already has this tag is never built again.
  - Optionally imports the image into the node of a local cluster, or pushes it to its registry.
options:
  state:
    description:
      - V(present) builds and delivers; V(absent) removes every image of the repository that has a content tag,
        here and, with O(node) or O(cluster), in the cluster. Nothing is ever removed from a registry.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: Folder of the source tree. May be left out when O(containerfile_content) is set.
    type: path
  containerfile:
    description: Containerfile to use; C(Containerfile) or C(Dockerfile) of O(source) by default.
    type: path
  containerfile_content:
    description: Text of a Containerfile, used instead of a file.
    type: str
  extra_files:
    description: Further files of the build context, as a mapping of relative path to text.
    type: dict
    default: {}
  extra_folders:
    description: Further folders of the build context, as a mapping of relative path to folder.
    type: dict
    default: {}
  repository:
    description: Name of the image without its tag.
    type: str
    required: true
  build_args:
    description: Build arguments. They are visible in the image's history, so they must not hold secrets.
    type: dict
    default: {}
  base_image:
    description: Base image, handed to the build as E(BASE_IMAGE) and E(RUNTIME_IMAGE).
    type: str
    default: docker.io/library/python:3.13-slim-bookworm
  base:
    description:
      - V(registry) pulls O(base_image); V(debian) makes a Debian base image with Python on this machine;
        V(auto) tries the registry for O(pull_timeout) seconds and then makes the Debian one.
    type: str
    choices: [auto, registry, debian]
    default: auto
  pull_timeout:
    description: Seconds that O(base=auto) waits for the base image.
    type: int
    default: 20
  trust_host_ca:
    description:
      - Let the build trust the certificate authorities of this machine, for networks with a private one.
      - podman and buildah mount this machine's bundle read-only, for the build arguments E(PIP_CERT) and E(SSL_CERT_FILE).
      - docker mounts no folders, so E(BASE_IMAGE) becomes the base image with that bundle, E(RUNTIME_IMAGE) stays plain.
    type: bool
    default: false
  engine:
    description: >-
      Container engine. V(auto) takes the one that has O(node), or the first node of O(cluster), else podman, docker or buildah.
    type: str
    choices: [auto, podman, buildah, docker]
    default: auto
  exclude:
    description: Names or patterns that are neither hashed nor handed to the build.
    type: list
    elements: str
    default: [.git, __pycache__, '*.pyc', .venv]
  delivery:
    description:
      - V(import) puts the image into the cluster of O(node), V(push) into its registry; one on C(localhost) needs no TLS.
      - V(kind), V(minikube) and V(k3d) have that program load the image into its cluster O(cluster).
      - V(none) is for a cluster that runs the images of O(engine), as Docker Desktop does.
    type: str
    choices: [none, import, push, kind, minikube, k3d]
    default: none
  node:
    description: Name of the container that is a node of the local cluster; the image reaches all its nodes that run.
    type: str
  cluster:
    description: Name that kind or k3d has for its cluster, or the profile of minikube.
    type: str
  registry_username:
    description: User of the registry; E(FLASK_IMAGE_REGISTRY_USERNAME) when left out.
    type: str
  registry_password:
    description: Password of the registry; E(FLASK_IMAGE_REGISTRY_PASSWORD) when left out.
    type: str
attributes:
  check_mode:
    description: Tells whether an image would be built or delivered, and builds nothing.
    support: full
"""

EXAMPLES = r"""
- name: Build the app and put it into the local cluster
  flaskops.observability.container_image:
    source: /srv/app
    repository: localhost/flask-app
    delivery: import
    node: flaskops-node

- name: Build the app and have kind load it into the cluster that kind names kind
  flaskops.observability.container_image:
    source: /srv/app
    repository: localhost/flask-app
    delivery: kind
    cluster: kind
"""

RETURN = r"""
image:
  description: Full reference of the image.
  returned: when state is present
  type: str
  sample: localhost/flask-app:0a1b2c3d4e5f
tag:
  description: The content tag.
  returned: when state is present
  type: str
base:
  description: Base image that this build used; empty when nothing was built or the Containerfile names its own.
  returned: when state is present
  type: str
built:
  description: Whether an image was built (in check mode, would be built).
  returned: when state is present
  type: bool
delivered:
  description: Whether the image was imported, loaded or pushed (in check mode, would be).
  returned: when state is present
  type: bool
removed:
  description: Images that were removed.
  returned: when state is absent
  type: list
  elements: str
"""

import base64
import fnmatch
import hashlib
import json
import os
import re
import shutil
import tempfile
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible.module_utils.urls import open_url
from ansible_collections.flaskops.observability.plugins.module_utils._cluster_tools import TOOLS, ClusterTool
from ansible_collections.flaskops.observability.plugins.module_utils._engine import (
    BuildError,
    Engine,
    EngineError,
    debian_base,
    debian_ref,
)
from ansible_collections.flaskops.observability.plugins.module_utils._host import host_bundle
from ansible_collections.flaskops.observability.plugins.module_utils._node_images import NodeImages
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import basic, careful

DEBIAN_PACKAGES = ["python3", "python3-venv", "python3-pip", "ca-certificates"]
DEBIAN_BASE = debian_ref("python", DEBIAN_PACKAGES)
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# A build's /dev is a file system of its own; anywhere else the place of a mount would be left in the image, as an empty file.
CA_MOUNT = "/dev/host-ca.crt"
CA_ARGS = ("PIP_CERT", "SSL_CERT_FILE")
TRUSTING_BASE = f"""\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}}
COPY bundle {CA_BUNDLE}
ENV {" ".join(f"{name}={CA_BUNDLE}" for name in CA_ARGS)}
"""
BASE_ARGS = ("BASE_IMAGE", "RUNTIME_IMAGE")
DELIVERY_TIMEOUT = 600
FIRST_MOMENT = 315_619_200  # 2 January 1980: a ZIP file, which a wheel is, knows none before that year
IGNORE_FILES = (".containerignore", ".dockerignore")
CONTENT_TAG = re.compile(r"^[0-9a-f]{12}$")
REPOSITORY = re.compile(r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+$")

# relative path -> (kind, content); kind is "-" for a file, "x" for an executable, "l" for a link
Tree = dict[str, tuple[str, bytes]]


class ImageError(Exception):
    """One sentence for the user."""


def read_tree(root: str, exclude: list[str]) -> Tree:
    """Everything below root that is not excluded."""
    tree: Tree = {}

    def excluded(rel: str) -> bool:
        name = os.path.basename(rel)
        return any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(rel, p) for p in exclude)

    for folder, dirs, files in os.walk(root):
        links = [d for d in dirs if os.path.islink(os.path.join(folder, d))]
        dirs[:] = [d for d in dirs if d not in links and not excluded(os.path.relpath(os.path.join(folder, d), root))]
        for name in files + links:
            path = os.path.join(folder, name)
            rel = os.path.relpath(path, root)
            if excluded(rel):
                continue
            if os.path.islink(path):
                tree[rel] = ("l", os.readlink(path).encode())
            elif os.path.isfile(path):
                with open(path, "rb") as handle:
                    tree[rel] = ("x" if os.access(path, os.X_OK) else "-", handle.read())
    return tree


def content_tag(tree: Tree, containerfile: str, build_args: dict[str, str], base: str) -> str:
    """First twelve hexadecimal digits of a hash over all inputs; every part carries its length."""
    digest = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)

    for rel in sorted(tree):
        kind, content = tree[rel]
        add(b"file", rel.encode(), kind.encode(), content)
    add(b"containerfile", containerfile.encode())
    for key in sorted(build_args):
        add(b"arg", key.encode(), build_args[key].encode())
    add(b"base", base.encode())
    return digest.hexdigest()[:12]


def write_tree(tree: Tree, target: str) -> None:
    """Write exactly what was hashed."""
    for rel, (kind, content) in tree.items():
        path = os.path.join(target, rel)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if kind == "l":
            os.symlink(content.decode(), path)
            continue
        with open(path, "wb") as handle:
            handle.write(content)
        os.chmod(path, 0o755 if kind == "x" else 0o644)
        # It follows the content: engines keep their layer cache, and browsers are told when a file has changed.
        moment = FIRST_MOMENT + int.from_bytes(hashlib.sha256(content).digest()[:3])
        os.utime(path, (moment, moment))


def inputs(params: dict[str, Any]) -> tuple[Tree, str]:
    """Tree and Containerfile text, or a sentence about what is missing."""
    source = params["source"]
    tree: Tree = {}
    if source:
        if not os.path.isdir(source):
            raise ImageError(f"source {source} is not a folder; set it to the folder of the source tree.")
        tree = read_tree(source, params["exclude"])
    for option in ("extra_folders", "extra_files"):
        for rel in params[option]:
            if os.path.isabs(rel) or ".." in rel.split("/"):
                raise ImageError(f"{option} has {rel}; its names must be relative paths inside the build context.")
    for rel, folder in params["extra_folders"].items():
        if not os.path.isdir(folder):
            raise ImageError(f"extra_folders has {folder}, which is not a folder; set it to one.")
        tree |= {os.path.join(rel, name): content for name, content in read_tree(folder, params["exclude"]).items()}
    for rel, text in params["extra_files"].items():
        tree[rel] = ("-", str(text).encode())
    ours = sorted({rel.split("/")[0] for option in ("extra_folders", "extra_files") for rel in params[option]})
    for name in IGNORE_FILES:
        if name in tree and ours:
            # What is added is needed, whatever the tree ignores.
            kind, content = tree[name]
            tree[name] = kind, content + "".join(f"\n!{one}\n!{one}/**" for one in ours).encode()
    if params["containerfile_content"]:
        return tree, params["containerfile_content"]
    if params["containerfile"]:
        candidates = [params["containerfile"]]
    elif source:
        candidates = [os.path.join(source, "Containerfile"), os.path.join(source, "Dockerfile")]
    else:
        raise ImageError("There is nothing to build: set source, or containerfile_content.")
    for path in candidates:
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as handle:
                return tree, handle.read()
    raise ImageError(f"No Containerfile at {' or '.join(candidates)}; add one or set containerfile.")


def resolve_base(engine: Engine, params: dict[str, Any]) -> tuple[str, str]:
    """Base image that is here after this call, and a warning (or '')."""
    image, warning = params["base_image"], ""
    if params["base"] != "debian":
        if engine.image_exists(image):
            return image, ""
        try:
            engine.run(["pull", image], timeout=params["pull_timeout"] if params["base"] == "auto" else 600)
            return image, ""
        except EngineError as error:
            if params["base"] == "registry" or "manifest unknown" in str(error):
                raise ImageError(
                    f"The base image {image} can't be pulled ({one_line(error)}); correct base_image, or set base to debian."
                ) from error
            warning = (
                f"The base image {image} could not be pulled, so a Debian base image made here is used ({one_line(error, 200)})."
            )
    try:
        debian_base(engine, DEBIAN_BASE, DEBIAN_PACKAGES)
    except EngineError as error:
        raise ImageError(f"{warning} It can't be made: {one_line(error)}".strip()) from error
    return DEBIAN_BASE, warning


def one_line(error: object, limit: int = 900) -> str:
    """The end of a message, on one line."""
    lines = [line.strip() for line in re.split(r"\n| \| ", str(error))]
    text = " | ".join(line for line in lines if line and not line.startswith("Copying "))
    return text if len(text) <= limit else "..." + text[-limit:]


def trusting_base(engine: Engine, base: str) -> str:
    """An image of *base* that trusts what this machine trusts; the engine's layer cache keeps it."""
    bundle = host_bundle()
    if bundle is None:
        return base
    content = bundle.read_bytes()
    ref = f"localhost/flaskops/trusting-base:{hashlib.sha256(base.encode() + content).hexdigest()[:12]}"
    with tempfile.TemporaryDirectory(prefix="container_image.") as context:
        write_tree({"bundle": ("-", content), "Containerfile": ("-", TRUSTING_BASE.encode())}, context)
        engine.build(context, os.path.join(context, "Containerfile"), ref, {"BASE_IMAGE": base})
    return ref


def build(engine: Engine, params: dict[str, Any], tree: Tree, containerfile: str, ref: str) -> tuple[str, str]:
    """Build ref; returns base image and warning."""
    args = {key: str(value) for key, value in params["build_args"].items()}
    base = warning = ""
    wanted = [name for name in BASE_ARGS if f"ARG {name}" in containerfile and name not in args]
    if wanted:
        # one of the two given by the user stands for both: stages that share a venv must share their Python
        given = [args[name] for name in BASE_ARGS if name in args]
        base, warning = (given[0], "") if given else resolve_base(engine, params)
        args.update({name: base for name in wanted})
    volumes = []
    if params["trust_host_ca"] and engine.name == "docker":
        # Mounts are podman's; the certificates go into the stage that builds.
        if "ARG BASE_IMAGE" not in containerfile:
            limit = "The Containerfile has no ARG BASE_IMAGE, so a docker build does not trust this machine's certificates."
        else:
            args["BASE_IMAGE"] = trusting_base(engine, args["BASE_IMAGE"])
            kept = "ARG RUNTIME_IMAGE" not in containerfile
            limit = "The Containerfile has no ARG RUNTIME_IMAGE, so the image keeps this machine's certificates." if kept else ""
        warning = f"{warning} {limit}".strip()
    elif params["trust_host_ca"] and (bundle := host_bundle()):
        volumes = [f"{bundle}:{CA_MOUNT}:ro"]
        trusting = [name for name in CA_ARGS if f"ARG {name}" in containerfile]
        args = {name: CA_MOUNT for name in trusting} | args
        if not trusting:
            limit = (
                f"The Containerfile has no ARG {' or '.join(CA_ARGS)}, so the build does not trust this machine's certificates."
            )
            warning = f"{warning} {limit}".strip()
    work = tempfile.mkdtemp(prefix="container_image.")
    try:
        context = os.path.join(work, "context")
        os.mkdir(context)
        write_tree(tree, context)
        path = os.path.join(work, "Containerfile")
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(containerfile)
        engine.build(context, path, ref, args, volumes)
    except BuildError as error:
        step = error.step if len(error.step) <= 200 else f"{error.step[:200]}..."
        where = f" at step {step!r}" if step else ""
        cause = one_line(str(error).replace(context, params["source"] or "the generated files"))
        raise ImageError(f"The build of {ref} failed{where}: {cause}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return base, warning


def node_import(images: NodeImages, ref: str, nodes: list[str]) -> None:
    """Stream the image into the nodes; a half-done import does not keep its name."""
    problems = images.engine.stream_image(nodes, ref, DELIVERY_TIMEOUT)
    lacking = images.lacking(ref)
    failed = [node for node in nodes if node in problems or node in lacking]
    images.remove({node: [ref] for node in failed if node not in lacking})
    if failed:
        printed = one_line(problems.get(failed[0], "it said nothing"))
        raise ImageError(f"The import of {ref} into the node {' and '.join(failed)} failed: {printed}")


def on_loopback(host: str) -> bool:
    """Whether a registry is this machine's own, which engines speak to without TLS too."""
    return re.match(r"(localhost|127(\.[0-9]{1,3}){3})(:[0-9]+)?$", host) is not None


def in_registry(repository: str, tag: str, username: str | None, password: str | None) -> bool:
    """Whether the registry has this tag; False when that can't be told (the push then says why)."""
    host, name = repository.split("/", 1)
    host = "registry-1.docker.io" if host == "docker.io" else host
    path = f"{host}/v2/{name}/manifests/{tag}"
    schemes = ("https", "http") if on_loopback(host) else ("https",)
    return any(_has_manifest(f"{scheme}://{path}", username, password) for scheme in schemes)


def _has_manifest(url: str, username: str | None, password: str | None) -> bool:
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    login = {}
    if username and password:
        login["Authorization"] = basic(username, password)
    headers = {"Accept": kinds, **login}
    # As the engines have it: a proxy has no way to this machine, and would read the password of a request without TLS.
    proxied = not on_loopback(urlsplit(url).netloc)
    for _attempt in range(2):
        try:
            open_url(url, method="HEAD", headers=headers, timeout=10, use_proxy=proxied)
            return True
        except HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if error.code != 401 or not challenge.lower().startswith("bearer "):
                return False
            fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
            query = urlencode({k: fields[k] for k in ("service", "scope") if k in fields})
            if not fields.get("realm", "").startswith("https://"):
                return False
            try:
                answer = json.load(open_url(f"{fields['realm']}?{query}", headers=login, timeout=10))
            except (URLError, OSError, ValueError):
                return False
            headers["Authorization"] = f"Bearer {answer.get('token') or answer.get('access_token', '')}"
        except (URLError, OSError):
            return False
    return False


def push(engine: Engine, ref: str, username: str | None, password: str | None) -> None:
    """Push; credentials go through a file that only we can read, never through the command line."""
    host = ref.split("/", 1)[0]
    work = tempfile.mkdtemp(prefix="container_image.")  # mode 0700
    try:
        args = ["push", ref]
        if username and password:
            key = "https://index.docker.io/v1/" if host == "docker.io" and engine.name == "docker" else host
            token = base64.b64encode(f"{username}:{password}".encode()).decode()
            path = os.path.join(work, "config.json")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
                json.dump({"auths": {key: {"auth": token}}}, handle)
            args = ["--config", work, *args] if engine.name == "docker" else ["push", "--authfile", path, ref]
        if on_loopback(host) and engine.name != "docker":
            args.insert(1, "--tls-verify=false")
        engine.run(args, timeout=DELIVERY_TIMEOUT)
    except EngineError as error:
        raise ImageError(
            f"The push of {ref} failed ({one_line(error)}); check the repository and the variables "
            "FLASK_IMAGE_REGISTRY_USERNAME and FLASK_IMAGE_REGISTRY_PASSWORD."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


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
    tree, containerfile = inputs(params)
    args = {key: str(value) for key, value in params["build_args"].items()}
    # How a Debian base is made counts too: an image on one that was made wrongly is not taken for right.
    bases = [params["base"], params["base_image"], *([] if params["base"] == "registry" else [DEBIAN_BASE])]
    tag = content_tag(tree, containerfile, args, " ".join(bases))
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
    # what the registry has already need not be built here
    needs_build = not (delivery == "push" and delivered) and not engine.image_exists(ref)
    base = ""
    if not module.check_mode:
        if needs_build:
            base, warning = build(engine, params, tree, containerfile, ref)
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


def argument_spec() -> dict[str, Any]:
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "source": {"type": "path"},
        "containerfile": {"type": "path"},
        "containerfile_content": {"type": "str"},
        "extra_files": {"type": "dict", "default": {}},
        "extra_folders": {"type": "dict", "default": {}},
        "repository": {"type": "str", "required": True},
        "build_args": {"type": "dict", "default": {}},
        "base_image": {"type": "str", "default": "docker.io/library/python:3.13-slim-bookworm"},
        "base": {"type": "str", "choices": ["auto", "registry", "debian"], "default": "auto"},
        "pull_timeout": {"type": "int", "default": 20},
        "trust_host_ca": {"type": "bool", "default": False},
        "engine": {"type": "str", "choices": ["auto", "podman", "buildah", "docker"], "default": "auto"},
        "exclude": {"type": "list", "elements": "str", "default": [".git", "__pycache__", "*.pyc", ".venv"]},
        "delivery": {"type": "str", "choices": ["none", "import", "push", *TOOLS], "default": "none"},
        "node": {"type": "str"},
        "cluster": {"type": "str"},
        "registry_username": {"type": "str", "fallback": (env_fallback, ["FLASK_IMAGE_REGISTRY_USERNAME"])},
        "registry_password": {
            "type": "str",
            "no_log": True,
            "fallback": (env_fallback, ["FLASK_IMAGE_REGISTRY_PASSWORD"]),
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        mutually_exclusive=[("containerfile", "containerfile_content")],
        required_if=[("delivery", "import", ["node"]), *(("delivery", tool, ["cluster"]) for tool in TOOLS)],
    )
    repository = module.params["repository"]
    if not REPOSITORY.match(repository):
        module.fail_json(
            msg=f"repository {repository} is not a full image name without a tag; write it like localhost/flask-app."
        )
    try:
        node = first_node(module.params)
        engine = Engine.find(module.params["engine"], having=(("container", node),) if node else ())
        result = (absent if module.params["state"] == "absent" else present)(module, engine)
    except (EngineError, ImageError) as error:
        module.fail_json(msg=one_line(error, 2000))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'A file'} can't be used: {error.strerror or error}.")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    careful(main)()
