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
    description: Containerfile to use, a path in O(source); C(Containerfile) or C(Dockerfile) by default.
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
    description:
      - Build arguments. They are visible in the image's history, so they must not hold secrets.
      - One that the Containerfile has no C(ARG) for is refused.
    type: dict
    default: {}
  build_secrets:
    description:
      - Secrets of the build by their ids, each a text or a mapping with C(src), the file that has it.
      - The engine gets them from a private file, for C(RUN --mount=type=secret,id=...).
      - They are in no layer, in no command line, and not in the tag.
      - One that the Containerfile does not mount is refused.
    type: dict
    default: {}
  target:
    description: Stage of the Containerfile to build; the last one by default.
    type: str
    default: ""
  platform:
    description:
      - Platform to build for, such as V(linux/arm64); that of this machine by default.
      - Where it is set, the base image comes from its registry.
    type: str
    default: ""
  rebuild:
    description:
      - A text that is part of the tag, such as a date.
      - A new one pulls the base image again and builds without the engine's cache, though the tree is the same.
      - V(true) does so at each run.
    type: str
    default: ""
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
    description:
      - Further patterns of what is neither hashed nor handed to the build, as in a C(.dockerignore).
      - One without a slash is a name in any folder.
      - The tree's own C(.containerignore) or C(.dockerignore) counts for both too.
      - Version control, caches, virtual environments and credentials are skipped by default.
      - A pattern that begins with V(!) brings back what is skipped by default, for example V(!.env).
    type: list
    elements: str
    default: []
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
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.basic import AnsibleModule, env_fallback
from ansible.module_utils.urls import open_url
from ansible_collections.flaskops.observability.plugins.module_utils._files import write_whole
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import basic, careful, hide
from ansible_collections.flaskops.observability.plugins.module_utils.image.build_context import (
    ContextError,
    Entry,
    Tree,
    content_tag,
    read_tree,
    write_tree,
)
from ansible_collections.flaskops.observability.plugins.module_utils.image.cluster_tools import TOOLS, ClusterTool
from ansible_collections.flaskops.observability.plugins.module_utils.node.engine import (
    BuildError,
    Engine,
    EngineError,
    debian_base,
    debian_ref,
)
from ansible_collections.flaskops.observability.plugins.module_utils.node.host import host_bundle
from ansible_collections.flaskops.observability.plugins.module_utils.node.images import NodeImages

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
# How the program that installs a generated image's packages says why it can't; it has the cause already.
INSTALLER = re.compile(r"(The application can't be installed: .*?)(?: \| |\n|$)")
# Build arguments that engines know by themselves.
PREDEFINED = re.compile(r"(?i:(https?|ftp|no|all)_proxy)|SOURCE_DATE_EPOCH|BUILDKIT_\w+|(TARGET|BUILD)(PLATFORM|OS|ARCH|VARIANT)")
CONTENT_TAG = re.compile(r"^[0-9a-f]{12}$")
REPOSITORY = re.compile(r"^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+$")


class ImageError(Exception):
    """One sentence for the user."""


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
    tree |= {rel: Entry.text(str(text).encode()) for rel, text in params["extra_files"].items()}
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


def resolve_base(engine: Engine, params: dict[str, Any]) -> tuple[str, str]:
    """Base image that is here after this call, and a warning (or '')."""
    image, warning = params["base_image"], ""
    foreign = ["--platform", params["platform"]] if params["platform"] else []
    if params["base"] != "debian" or foreign:
        if engine.image_exists(image) and not params["rebuild"] and not foreign:
            return image, ""
        try:
            engine.run(["pull", *foreign, image], timeout=params["pull_timeout"] if params["base"] == "auto" else 600)
            return image, ""
        except EngineError as error:
            if params["base"] == "registry" or foreign or "manifest unknown" in str(error):
                raise ImageError(
                    f"The base image {image} can't be pulled ({one_line(error)}); correct base_image, or set base to debian."
                ) from error
            warning = (
                f"The base image {image} could not be pulled, so a Debian base image made here is used ({one_line(error, 200)})."
            )
    try:
        debian_base(engine, DEBIAN_BASE, DEBIAN_PACKAGES, anew=bool(params["rebuild"]))
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
        write_tree({"bundle": Entry.text(content), "Containerfile": Entry.text(TRUSTING_BASE.encode())}, context)
        engine.build(context, os.path.join(context, "Containerfile"), ref, {"BASE_IMAGE": base})
    return ref


def build(engine: Engine, params: dict[str, Any], given: Inputs, ref: str, secrets: dict[str, str]) -> tuple[str, str]:
    """Build ref; returns base image and warning."""
    tree, containerfile = given.tree, given.containerfile
    args = {key: str(value) for key, value in params["build_args"].items()}
    base = warning = ""
    wanted = [name for name in BASE_ARGS if f"ARG {name}" in containerfile and name not in args]
    if wanted:
        # one of the two given by the user stands for both: stages that share a venv must share their Python
        named = [args[name] for name in BASE_ARGS if name in args]
        base, warning = (named[0], "") if named else resolve_base(engine, params)
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
        options = [word for name in ("target", "platform") if params[name] for word in (f"--{name}", params[name])]
        if params["rebuild"]:
            # The base is new already where it is of this machine alone.
            options += ["--no-cache", *([] if base.startswith("localhost/") else ["--pull"])]
        for number, (name, text) in enumerate(secrets.items()):
            file = os.path.join(work, f"secret{number}")
            write_whole(file, text, 0o600)
            options += ["--secret", f"id={name},src={file}"]
        engine.build(context, path, ref, args, volumes, options)
    except BuildError as error:
        printed, step = (
            hide(text, set().union(*map(secret_parts, secrets.values()))) for text in (str(error), " ".join(error.step.split()))
        )
        if said := INSTALLER.search(printed):
            raise ImageError(said[1]) from None
        where = f" at step {step if len(step) <= 200 else step[:200] + '...'!r}" if step else ""
        where += f" {'of' if step else 'by'} {given.file}" if given.file else ""
        # The step is named already, and an exit status tells nothing beside what the step printed.
        cause = re.sub(r"^'\w+ build' failed with status \d+: ", "", " ".join(printed.split()))
        cause = cause.replace(f'Error: building at STEP "{step}": ', "").replace(
            context, params["source"] or "the generated files"
        )
        cause = one_line(re.sub(r"^while running runtime: exit status \d+ \| ", "", cause)).rstrip(".")
        lost = re.match(r"(?i)(?:COPY|ADD)\b", step) and re.search("no such file|not found|no items matching", printed)
        hint = ": add the file to the tree, or let neither the ignore file nor exclude skip it" if lost else ""
        raise ImageError(f"The build of {ref} failed{where}: {cause}{hint}.") from None
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
            write_whole(path, json.dumps({"auths": {key: {"auth": token}}}), 0o600)
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
    # what the registry has already need not be built here
    needs_build = not (delivery == "push" and delivered) and not engine.image_exists(ref)
    base = ""
    if not module.check_mode:
        if needs_build and given.secrets:
            module.warn(
                f"Not in the image, as a credential may be in them: {', '.join(given.secrets)}. Bring back what the app needs by"
                f" exclude, such as '!{given.secrets[0]}', and name the rest in the ignore file."
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
        "build_secrets": {"type": "dict", "default": {}, "no_log": True},
        "target": {"type": "str", "default": ""},
        "platform": {"type": "str", "default": ""},
        "rebuild": {"type": "str", "default": ""},
        "base_image": {"type": "str", "default": "docker.io/library/python:3.13-slim-bookworm"},
        "base": {"type": "str", "choices": ["auto", "registry", "debian"], "default": "auto"},
        "pull_timeout": {"type": "int", "default": 20},
        "trust_host_ca": {"type": "bool", "default": False},
        "engine": {"type": "str", "choices": ["auto", "podman", "buildah", "docker"], "default": "auto"},
        "exclude": {"type": "list", "elements": "str", "default": []},
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
    # Ansible hides a text that it was given, but not what it has made of one like "netrc=...".
    for given in module.params["build_secrets"].values():
        module.no_log_values.update(secret_parts(given) if isinstance(given, str) else ())
    repository = module.params["repository"]
    if not REPOSITORY.match(repository):
        module.fail_json(
            msg=f"repository {repository} is not a full image name without a tag; write it like localhost/flask-app."
        )
    try:
        node = first_node(module.params)
        engine = Engine.find(module.params["engine"], having=(("container", node),) if node else ())
        result = (absent if module.params["state"] == "absent" else present)(module, engine)
    except (ContextError, EngineError, ImageError) as error:
        module.fail_json(msg=one_line(error, 2000))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'A file'} can't be used: {error.strerror or error}.")
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    careful(main)()
