# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs as people really have them: what is refused is named by its key, and no value of it is quoted."""

from __future__ import annotations

import base64
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.helm.program import reaching
from ansible_collections.flaskops.observability.plugins.module_utils.kube import client as kube
from ansible_collections.flaskops.observability.plugins.module_utils.kube import transport
from ansible_collections.flaskops.observability.plugins.modules import cluster_access

from tests.canary import CANARY, MALFORMED, kubeconfig, leaks

GOOD: dict[str, Any] = {"token": "x"}


def given(folder: Path, user: dict[str, Any], **cluster: Any) -> str:
    path = folder / "config"
    path.write_text(yaml.safe_dump(kubeconfig(user, **cluster)))
    return str(path)


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_named_and_not_quoted(tmp_path: Path, case: str) -> None:
    path, key = MALFORMED[case](tmp_path)
    for call in (kube.api_client, cluster_access.options):
        with pytest.raises(transport.KubeError) as failure:
            call(path, "")
        text = str(failure.value)
        assert key in text and path in text and "\n" not in text
        assert not leaks(text)


@pytest.mark.parametrize("key", ["token", "tokenFile"])
def test_a_token_is_trimmed(tmp_path: Path, key: str) -> None:
    (tmp_path / "token").write_text(" x\r\n")
    # A path of a kubeconfig begins at the kubeconfig.
    path = given(tmp_path, {"tokenFile": "token"} if key == "tokenFile" else {"token": "x\n"})
    _access, api = kube.unconnected(path, "c")
    for _attempt in range(2):
        assert api.configuration.auth_settings()["BearerToken"]["value"] == "Bearer x"
    found = cluster_access.options(path, "")
    assert found["helm"]["api_key"] == "x" and found["k8s"]["kubeconfig"]["users"][0]["user"] == {"token": "x"}


def test_a_file_wins_over_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("y")
    path = given(tmp_path, {"token": "x", "tokenFile": "token"})
    _access, api = kube.unconnected(path, "")
    assert api.configuration.auth_settings()["BearerToken"]["value"] == "Bearer y"
    assert "api_key" in cluster_access.options(path, "")["helm"]


def test_a_kubeconfig_that_needs_nothing_is_handed_on_as_it_is(tmp_path: Path) -> None:
    path = given(tmp_path, GOOD, server="https://api.test")
    assert cluster_access.options(path, "c") == {name: {"kubeconfig": path, "context": "c"} for name in ("k8s", "helm")}
    assert cluster_access.options(path, "") == {name: {"kubeconfig": path} for name in ("k8s", "helm")}


def test_impersonation_is_read(tmp_path: Path) -> None:
    extra = {"a/b": ["1", "2"]}
    user = {**GOOD, "as": "ann", "as-uid": "7", "as-groups": ["g", "h"], "as-user-extra": extra}
    access, _api = kube.unconnected(given(tmp_path, user), "")
    assert access.headers == [
        ("Impersonate-User", "ann"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "g"),
        ("Impersonate-Group", "h"),
        ("Impersonate-Extra-a%2Fb", "1"),
        ("Impersonate-Extra-a%2Fb", "2"),
    ]
    found = cluster_access.options(given(tmp_path, {**GOOD, "as": "ann", "as-groups": ["g", "h"]}), "")["k8s"]
    assert (found["impersonate_user"], found["impersonate_groups"]) == ("ann", ["g", "h"])


@pytest.mark.parametrize(
    "user", [{"as-groups": ["g"]}, {"as-uid": "7"}, {"as": "a\nb"}, {"as": "ann", "as-groups": [7]}, {"as": 7}]
)
def test_impersonation_that_can_not_be_sent_is_refused(tmp_path: Path, user: dict[str, Any]) -> None:
    with pytest.raises(transport.KubeError, match=r"\bas"):
        kube.unconnected(given(tmp_path, {**GOOD, **user}), "")


def test_several_files_are_one_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kubeconfig(GOOD)
    parts = [{key: whole[key] for key in keys} for keys in (("clusters", "contexts"), ("users", "current-context"))]
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, part in zip(paths, parts, strict=True):
        path.write_text(yaml.safe_dump(part))
    named = os.pathsep.join(map(str, [paths[0], tmp_path / "none", paths[1]]))
    assert kube.unconnected(named, "")[0].token == "x"
    monkeypatch.setenv("KUBECONFIG", named)
    assert kube.unconnected("", "c")[0].token == "x"
    monkeypatch.setenv("HOME", str(tmp_path))
    given(tmp_path, GOOD)
    assert kube.unconnected("~/config", "c")[0].token == "x"


def test_a_proxy_is_logged_in_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = "proxy-authorization", "Basic " + base64.b64encode(b"ann:p@ss").decode()
    path = given(tmp_path, GOOD, **{"proxy-url": "http://ann:p%40ss@127.0.0.1:1"})
    assert login in kube.unconnected(path, "")[1].configuration.proxy_headers.items()
    assert cluster_access.options(path, "")["k8s"]["proxy_headers"] == {"proxy_basic_auth": "ann:p@ss"}
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:p%40ss@127.0.0.1:1")
    path = given(tmp_path, GOOD, server="https://api.test")
    assert login in kube.unconnected(path, "")[1].configuration.proxy_headers.items()
    monkeypatch.setenv("HTTPS_PROXY", f"ann:{CANARY}@[bad")
    with pytest.raises(transport.KubeError, match="proxy") as failure:
        kube.unconnected(path, "")
    assert not leaks(str(failure.value))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"])
def test_no_proxy_of_the_environment_has_a_way_to_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """kind, k3d, minikube and the local cluster have such an address. The kubeconfig may name one."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.test:3128")
    path = given(tmp_path, GOOD, server=f"https://{host}:6443")
    assert kube.unconnected(path, "")[1].configuration.proxy is None
    assert cluster_access.options(path, "")["k8s"]["no_proxy"] == host.strip("[]")
    path = given(tmp_path, GOOD, server=f"https://{host}:6443", **{"proxy-url": "http://own.test:3128"})
    assert kube.unconnected(path, "")[1].configuration.proxy == "http://own.test:3128"
    assert "no_proxy" not in cluster_access.options(path, "")["k8s"]
    with reaching(path, "") as env:
        assert "NO_PROXY" not in env
    path = given(tmp_path, GOOD, server=f"https://{host}:6443")
    monkeypatch.setenv("no_proxy", "intra.test")
    with reaching(path, "") as env:
        assert env["NO_PROXY"] == env["no_proxy"] == f"intra.test,{host.strip('[]')}"
    monkeypatch.delenv("no_proxy")
    path = given(tmp_path, GOOD, server="https://10.0.0.1:6443")
    assert kube.unconnected(path, "")[1].configuration.proxy == "http://proxy.test:3128"
    assert "no_proxy" not in cluster_access.options(path, "")["k8s"]


def test_a_forwarded_port_of_this_machine_is_not_asked_of_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """websocket-client reads the environment by itself."""
    from kubernetes import client

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.2)
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        path = given(tmp_path, GOOD, server="https://127.0.0.1:1")
        with pytest.raises(Exception, match="refused"):
            transport.port_forward(client.CoreV1Api(kube.unconnected(path, "")[1]), "pod", "ns", 80)
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_what_a_plugin_gives_is_checked(tmp_path: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": f"{CANARY} \n"},
    }
    program = {"command": sys.executable, "args": ["-c", f"import json; print(json.dumps({answer!r}))"]}
    path = given(tmp_path, {"exec": {"apiVersion": answer["apiVersion"], "interactiveMode": "Never", **program}})
    with pytest.raises(transport.KubeError, match="plugin") as failure:
        kube.unconnected(path, "")
    assert not leaks(str(failure.value))


def test_a_port_is_forwarded_as_whom_the_kubeconfig_says(tmp_path: Path) -> None:
    from kubernetes import client

    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        path = given(
            tmp_path, {**GOOD, "as": "ann", "as-groups": ["g", "h"]}, server=f"http://127.0.0.1:{server.getsockname()[1]}"
        )
        with pytest.raises(client.ApiException):
            transport.port_forward(client.CoreV1Api(kube.unconnected(path, "")[1]), "pod", "ns", 80)
        thread.join()
    lines = asked[0].decode().split("\r\n")
    assert {"Impersonate-User: ann", "Impersonate-Group: g", "Impersonate-Group: h"} <= set(lines)
    assert lines[0].startswith("GET /api/v1/namespaces/ns/pods/pod/portforward?")


def test_no_header_is_quoted(tmp_path: Path) -> None:
    """Also where a caller sends what nothing has checked."""
    import urllib3

    pool = kube.unconnected(given(tmp_path, GOOD), "")[1].rest_client.pool_manager
    with pytest.raises(urllib3.exceptions.HTTPError, match="X-Key") as failure:
        pool.request("GET", "http://127.0.0.1:1/", headers={"X-Key": f"{CANARY}\n", "Accept": "a/b"})
    assert not leaks(str(failure.value))
