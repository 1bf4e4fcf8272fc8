# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The build of an image. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from typing import Any

from .._files import write_whole
from ..credentials.guard import hide
from ..node.engine import BuildError, Engine, EngineError, debian_base, debian_ref
from ..node.host import host_bundle
from ..node.images import ImageError, one_line
from .build_context import TreeEntry, write_tree
from .inputs import Inputs, secret_parts

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
# How the program that installs a generated image's packages says why it can't; it has the cause already.
INSTALLER = re.compile(r"(The application can't be installed: .*?)(?: \| |\n|$)")


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
        debian_base(engine, DEBIAN_BASE, DEBIAN_PACKAGES, again=bool(params["rebuild"]))
    except EngineError as error:
        raise ImageError(f"{warning} It can't be made: {one_line(error)}".strip()) from error
    return DEBIAN_BASE, warning


def trusting_base(engine: Engine, base: str) -> str:
    """An image of *base* that trusts what this machine trusts; the engine's layer cache keeps it."""
    bundle = host_bundle()
    if bundle is None:
        return base
    content = bundle.read_bytes()
    ref = f"localhost/flaskops/trusting-base:{hashlib.sha256(base.encode() + content).hexdigest()[:12]}"
    with tempfile.TemporaryDirectory(prefix="container_image.") as context:
        write_tree({"bundle": TreeEntry.text(content), "Containerfile": TreeEntry.text(TRUSTING_BASE.encode())}, context)
        engine.build(context, os.path.join(context, "Containerfile"), ref, {"BASE_IMAGE": base})
    return ref


def build(engine: Engine, params: dict[str, Any], given: Inputs, ref: str, secrets: dict[str, str]) -> tuple[str, str]:
    """Build ref; returns base image and warning."""
    args, base, warning = _arguments(engine, params, given.containerfile)
    args, volumes, limit = _trust(engine, params, given.containerfile, args)
    with tempfile.TemporaryDirectory(prefix="container_image.", ignore_cleanup_errors=True) as work:
        context = os.path.join(work, "context")
        os.mkdir(context)
        write_tree(given.tree, context)
        path = os.path.join(work, "Containerfile")
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(given.containerfile)
        options = [word for name in ("target", "platform") if params[name] for word in (f"--{name}", params[name])]
        if params["rebuild"]:
            # The base is new already where it is of this machine alone.
            options += ["--no-cache", *([] if base.startswith("localhost/") else ["--pull"])]
        for number, (name, text) in enumerate(secrets.items()):
            file = os.path.join(work, f"secret{number}")
            write_whole(file, text, 0o600)
            options += ["--secret", f"id={name},src={file}"]
        try:
            engine.build(context, path, ref, args, volumes, options)
        except BuildError as error:
            hidden: set[str] = set().union(*map(secret_parts, secrets.values()))
            printed, step = (hide(text, hidden) for text in (str(error), " ".join(error.step.split())))
            raise ImageError(_failure(printed, step, ref, given.file, context, params["source"])) from None
    return base, f"{warning} {limit}".strip()


def _arguments(engine: Engine, params: dict[str, Any], containerfile: str) -> tuple[dict[str, str], str, str]:
    """The build arguments, the base image (empty where the Containerfile names its own), and a warning (or '')."""
    args = {key: str(value) for key, value in params["build_args"].items()}
    wanted = [name for name in BASE_ARGS if f"ARG {name}" in containerfile and name not in args]
    if not wanted:
        return args, "", ""
    # one of the two given by the user stands for both: stages that share a venv must share their Python
    named = [args[name] for name in BASE_ARGS if name in args]
    base, warning = (named[0], "") if named else resolve_base(engine, params)
    return args | dict.fromkeys(wanted, base), base, warning


def _trust(
    engine: Engine, params: dict[str, Any], containerfile: str, args: dict[str, str]
) -> tuple[dict[str, str], list[str], str]:
    """The build arguments and the mounts that let a build trust what this machine trusts, and what limits that (or '')."""
    if not params["trust_host_ca"]:
        return args, [], ""
    if engine.name == "docker":
        # Mounts are podman's; the certificates go into the stage that builds.
        if "ARG BASE_IMAGE" not in containerfile:
            return (
                args,
                [],
                "The Containerfile has no ARG BASE_IMAGE, so a docker build does not trust this machine's certificates.",
            )
        kept = "ARG RUNTIME_IMAGE" not in containerfile
        limit = "The Containerfile has no ARG RUNTIME_IMAGE, so the image keeps this machine's certificates." if kept else ""
        return args | {"BASE_IMAGE": trusting_base(engine, args["BASE_IMAGE"])}, [], limit
    bundle = host_bundle()
    if not bundle:
        return args, [], ""
    trusting = [name for name in CA_ARGS if f"ARG {name}" in containerfile]
    lacks = f"The Containerfile has no ARG {' or '.join(CA_ARGS)}, so the build does not trust this machine's certificates."
    return dict.fromkeys(trusting, CA_MOUNT) | args, [f"{bundle}:{CA_MOUNT}:ro"], "" if trusting else lacks


def _failure(printed: str, step: str, ref: str, file: str, context: str, source: str | None) -> str:
    """Why a build failed, in one sentence.

    :param file: the Containerfile, or empty where it was given as a text.
    :param context: the folder that the engine names, instead of *source*.
    """
    if said := INSTALLER.search(printed):
        return said[1]
    where = f" at step {step if len(step) <= 200 else step[:200] + '...'!r}" if step else ""
    where += f" {'of' if step else 'by'} {file}" if file else ""
    # The step is named already, and an exit status tells nothing beside what the step printed.
    cause = re.sub(r"^'\w+ build' failed with status \d+: ", "", " ".join(printed.split()))
    cause = cause.replace(f'Error: building at STEP "{step}": ', "").replace(context, source or "the generated files")
    cause = one_line(re.sub(r"^while running runtime: exit status \d+ \| ", "", cause)).rstrip(".")
    lost = re.match(r"(?i)(?:COPY|ADD)\b", step) and re.search("no such file|not found|no items matching", printed)
    hint = ": add the file to the tree, or let neither the ignore file nor exclude skip it" if lost else ""
    return f"The build of {ref} failed{where}: {cause}{hint}."
