# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reaches Helm, and what it may say; the program is a script that prints its environment."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.helm import program
from ansible_collections.flaskops.observability.plugins.module_utils.helm.program import Helm, HelmError, credentials, words

KUBECONFIG: dict[str, Any] = {
    "current-context": "a",
    "clusters": [{"name": "a", "cluster": {"server": "https://a.test", "certificate-authority": "ca.crt"}}],
    "users": [{"name": "a", "user": {"tokenFile": "token", "as": "ann"}}],
    "contexts": [
        {"name": "a", "context": {"cluster": "a", "user": "a"}},
        {"name": "b", "context": {"cluster": "a", "user": "a"}},
    ],
}


def script(folder: Path, text: str) -> str:
    path = folder / "helm"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("line", "found"), [("v3.22.0+g1", True), ("v4.0.1", True), ("v2.17.0", False), ("v5.0.0", False), ("", False)]
)
def test_helm_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, found: bool) -> None:
    path = script(tmp_path, f'[ "$*" = "version --short" ] && echo "{line}"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert program.on_this_machine() == (path if found else "")


def test_nothing_leads_helm_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_KUBEASUSER", "HELM_NAMESPACE"):
        monkeypatch.setenv(name, "another-cluster")
    monkeypatch.setenv("HELM_DRIVER", "configmap")
    seen = Helm(script(tmp_path, "env"), {"KUBECONFIG": "/here"}).run("list", env={"HELM_DRIVER": "secret"})
    assert "another-cluster" not in seen and "KUBECONFIG=/here" in seen.splitlines() and "HELM_DRIVER=secret" in seen.splitlines()


def test_kubeconfig_is_the_users_own_where_helm_reads_it_alike(tmp_path: Path) -> None:
    user = {"token": "abc"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({**KUBECONFIG, "users": [{"name": "a", "user": user}]}))
    (tmp_path / "ca.crt").write_text("x")
    with program.reaching(str(path), "b") as env:
        assert env == {"KUBECONFIG": str(path), "HELM_KUBECONTEXT": "b"}


def test_token_that_ends_with_a_line_break_is_trimmed(tmp_path: Path) -> None:
    """In a file that nobody else reads, and that is gone afterwards; it is in no argument and in no variable."""
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(KUBECONFIG))
    (tmp_path / "ca.crt").write_text("x")
    (tmp_path / "token").write_text("secret-token\n")
    with program.reaching(str(path), "b") as env:
        kept = Path(env["KUBECONFIG"])
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        content = json.loads(kept.read_text())
        assert "secret-token" not in json.dumps(env)
    assert content["users"][0]["user"] == {"token": "secret-token", "as": "ann"}
    assert content["clusters"][0]["cluster"] == {"server": "https://a.test", "certificate-authority": str(tmp_path / "ca.crt")}
    assert content["current-context"] == env["HELM_KUBECONTEXT"]
    assert not kept.exists()


def test_values_reach_helm_by_its_input_and_do_not_come_back(tmp_path: Path) -> None:
    values = {"word": "plain", "auth": {"password": "hunter2"}}
    helm = Helm(
        script(tmp_path, 'cat >&2; echo "\nError: hunter2 for plain\n\nUse --debug flag to render out invalid YAML" >&2; exit 1')
    )
    with pytest.raises(HelmError, match=r"^Error: \*\*\* for plain$"):
        helm.run("template", values=values)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "LEVEL", "value": "debug"}]}, ["hunter2"]),
        ({"auth": {"tokens": ["first-one", "second"]}}, ["first-one", "second"]),
        ({"url": "https://ann:pass@a.test", "other": "https://a.test"}, ["https://ann:pass@a.test"]),
        ({"hook": "aB3dEfGhIjKlMnOpQr"}, ["aB3dEfGhIjKlMnOpQr"]),
        ({"image": {"tag": "v1.2.3"}, "password": ""}, []),
    ],
)
def test_what_no_message_shows(values: dict[str, Any], found: list[str]) -> None:
    assert credentials(values) == found


def test_words_of_helm() -> None:
    said = "coalesce.go:286: warning: x\nError: values don't meet\n  the schema\n\nUse --debug flag to render\n"
    assert words(said, []) == "Error: values don't meet the schema"
    assert words("", []) == "no reason given"
