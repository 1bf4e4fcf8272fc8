# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program Helm, run so that it reaches no cluster but the one that was named, and that its words quote no credential."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from ..credentials.guard import RANDOM, SECRET_KEY, hide, passwords_in
from ..kube.kubeconfig import Access, Malformed, read
from ..kube.transport import KubeError

ACCEPTED = ("v3.", "v4.")
PULL_SECONDS = 300
NAME = "flaskops"
# What would lead Helm elsewhere than the kubeconfig does.
MISLEADING = ("HELM_KUBE", "HELM_NAMESPACE", "HELM_DEBUG")


class HelmError(KubeError):
    """What Helm says."""


def on_this_machine() -> str:
    """The path of a Helm 3 or 4, or ''."""
    path = shutil.which("helm")
    if not path:
        return ""
    try:
        done = subprocess.run([path, "version", "--short"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return path if done.stdout.startswith(ACCEPTED) else ""


def credentials(values: Any, secret: bool = False) -> list[str]:
    """The texts of a chart's values that no message may show."""
    if isinstance(values, dict):
        # The value of an environment variable is known by its neighbour alone.
        named = SECRET_KEY.search(str(values.get("name", ""))) is not None
        return [
            text
            for key, value in values.items()
            for text in credentials(value, secret or SECRET_KEY.search(str(key)) is not None or (named and key == "value"))
        ]
    if isinstance(values, list):
        return [text for value in values for text in credentials(value, secret)]
    if isinstance(values, str) and len(values) > 3 and (secret or RANDOM.fullmatch(values) or re.search(r"//.*@", values)):
        return [values]
    return []


def words(text: str, hidden: list[str]) -> str:
    """What Helm says, in one line."""
    text = hide(text, hidden)
    found = re.search(r"(?s)Error: .*", text)
    text = re.sub(r"(?s)\s+Use --debug.*", "", found[0] if found else text)
    return " ".join(text.split()) or "no reason given"


class Helm:
    """The program, and the environment that names the cluster."""

    def __init__(self, binary: str, env: dict[str, str] | None = None) -> None:
        self.binary = binary
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(MISLEADING)} | (env or {})

    def run(
        self,
        *arguments: str,
        values: Any = None,
        seconds: float | None = None,
        env: dict[str, str] | None = None,
        held: tuple[int, ...] = (),
    ) -> str:
        """Run it, and return what it prints.

        :param values: are given to it as its standard input.
        :param held: descriptors that it keeps open until it ends.
        :raises HelmError: with its own words.
        """
        text = None if values is None else json.dumps(values)
        try:
            done = subprocess.run(
                [self.binary, *arguments],
                input=text or "",
                capture_output=True,
                text=True,
                timeout=seconds,
                env=self.env | (env or {}),
                pass_fds=held,
                check=False,
            )
        except OSError as error:
            raise HelmError(f"{self.binary} can't be run, {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise HelmError(f"no answer after {seconds} s") from error
        if done.returncode:
            raise HelmError(words(done.stderr or done.stdout, credentials(values) + passwords_in(arguments)))
        return done.stdout


@contextlib.contextmanager
def reaching(kubeconfig: str, context: str) -> Iterator[dict[str, str]]:
    """The environment with which Helm reaches a cluster. Helm reads `as` of a kubeconfig and logs in to proxies itself.

    :raises KubeError: where the kubeconfig can't be used.
    """
    try:
        access = read(kubeconfig, context)
    except Malformed as error:
        raise KubeError(str(error)) from error
    env: dict[str, str] = {}
    if access.own_host:
        others = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
        env["NO_PROXY"] = env["no_proxy"] = ",".join(filter(None, (others, access.own_host)))
    if not access.trimmed:
        yield {"KUBECONFIG": os.pathsep.join(map(os.path.abspath, access.paths)), "HELM_KUBECONTEXT": access.context, **env}
        return
    # Helm would send the token with the line break that ends it.
    with tempfile.NamedTemporaryFile("w", prefix="flaskops-") as file:  # of mode 0600
        json.dump(_trimmed(access), file)
        file.flush()
        yield {"KUBECONFIG": file.name, "HELM_KUBECONTEXT": NAME, **env}


def _trimmed(access: Access) -> dict[str, Any]:
    """A kubeconfig of one context, with the token as it is sent."""
    user = {key: value for key, value in access.user.items() if key != "tokenFile"} | {"token": access.token}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": access.cluster}],
        "users": [{"name": NAME, "user": user}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "current-context": NAME,
    }
