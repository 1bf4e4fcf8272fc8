# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names of an application on an API server, which knows HTTPRoutes by the Gateway API's definitions."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks import addresses
from ansible_collections.flaskops.observability.plugins.module_utils.kube import front
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify import by_name, stack
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import route

from tests.api_rig import Rig, free_ports
from tests.evaluation import ROOT, evaluate
from tests.fakes.certificates import certificate
from tests.fakes.kubelet import kubelet
from tests.harness import LONG, Run, playbook, run_role, until
from tests.toolchain import gateway_definitions, programs

NAME = "front"
NS = f"/api/v1/namespaces/{NAME}"
INGRESSES = f"/apis/networking.k8s.io/v1/namespaces/{NAME}/ingresses"
GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"
ROUTES = f"{GATEWAY_API}/namespaces/{NAME}/httproutes"
HOSTS = [{"name": "shop.test", "tls_secret": "shop-tls"}, {"name": "www.shop.test", "path": "/shop", "tls_secret": "shop-tls"}]
PLAIN = [{key: host[key] for key in host if key != "tls_secret"} for host in HOSTS]
GATEWAY = {"name": "public", "namespace": "default", "section": "https"}


def run(rig: Rig, folder: Path, *args: str, **options: Any) -> Run:
    given = {"kubeconfig": str(rig.kubeconfig()), "name": NAME, "namespace": NAME, "image": "shop:1", "wait_timeout": 30}
    variables = {f"flask_app_{key}": value for key, value in {**given, **options}.items()}
    with kubelet(rig, NAME):
        return run_role("flask_app", folder, variables, *args)


@pytest.fixture(autouse=True)
def namespace(rig: Rig) -> Iterator[None]:
    """The application's, with the Secret of a certificate, since whoever makes that needs it first."""
    rig.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAME}})
    yield
    rig.remove(NS)


@pytest.fixture
def tls(rig: Rig) -> None:
    cert, key = certificate("shop.test", "www.shop.test")
    secret = {"metadata": {"name": "shop-tls"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": cert, "tls.key": key}}
    rig.request("POST", f"{NS}/secrets", secret)


@pytest.fixture
def gateway_api(rig: Rig) -> Iterator[None]:
    """The definitions, and a Gateway."""
    definitions = [file for file in sorted(gateway_definitions().glob("gateway*.yaml")) if "_vap_" not in file.name]
    files = [f"--filename={file}" for file in definitions]
    kubectl = [programs("kubernetes") / "kubectl", f"--kubeconfig={rig.kubeconfig()}"]
    subprocess.run([*kubectl, "apply", "--server-side", *files], check=True, capture_output=True, timeout=120)
    until(lambda: served(rig, f"{GATEWAY_API}/httproutes") and served(rig, f"{GATEWAY_API}/gateways"), 60, "the Gateway API")
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "any"}]}}
    spec = {"gatewayClassName": "any", "listeners": [listener, {"name": "http", "port": 8080, "protocol": "HTTP"}]}
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "public"}, "spec": spec}
    rig.request("POST", f"{GATEWAY_API}/namespaces/default/gateways", gateway)
    yield
    for item in rig.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]:
        if item["spec"]["group"] == "gateway.networking.k8s.io":
            rig.remove(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{item['metadata']['name']}")


def served(rig: Rig, path: str) -> bool:
    try:
        return bool(rig.request("GET", path))
    except AssertionError:
        return False


def names(rig: Rig, path: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in rig.request("GET", path)["items"])


def url(rig: Rig, path: str) -> str:
    """The address that an outside check of the application gets."""
    return addresses.find(Objects(rig.api), {"name": NAME, "path": path}, NAME, 0)


def test_hosts_make_an_ingress_and_take_it_along(rig: Rig, tmp_path: Path, tls: None) -> None:
    options: dict[str, Any] = {"hosts": HOSTS, "ingress_class": "nginx", "ingress_annotations": {"size": 8}}
    assert run(rig, tmp_path, "--check", **options).changed == 1
    assert names(rig, INGRESSES) == []
    assert [run(rig, tmp_path, *args, **options).changed for args in ((), (), ("--check",))] == [1, 0, 0]
    ingress = rig.request("GET", f"{INGRESSES}/{NAME}")
    assert ingress["metadata"]["annotations"] == {"size": "8"} and ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["shop.test", "www.shop.test"], "secretName": "shop-tls"}]
    # What is not below the path of a host is asked of another one.
    assert [url(rig, path) for path in ("/health", "/shop/up")] == ["https://shop.test/health", "https://www.shop.test/shop/up"]
    # Somebody's change is put back, and what is no longer wanted goes with its option.
    rig.request("PATCH", f"{INGRESSES}/{NAME}", {"spec": {"ingressClassName": "other"}}, "application/merge-patch+json")
    assert [run(rig, tmp_path, **options).changed for _ in range(2)] == [1, 0]
    assert [run(rig, tmp_path).changed for _ in range(2)] == [1, 0]
    assert names(rig, INGRESSES) == []
    assert run(rig, tmp_path, hosts=PLAIN, tls_issuer={"name": "acme"}).changed == 1
    assert rig.request("GET", f"{INGRESSES}/{NAME}")["spec"]["tls"][0]["secretName"] == f"{NAME}-tls"
    assert [run(rig, tmp_path, state="absent").changed for _ in range(2)] == [1, 0]
    assert names(rig, INGRESSES) == []


def test_a_secret_that_is_missing_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    done = run(rig, tmp_path, hosts=HOSTS)
    assert "Secret shop-tls in namespace front does not exist" in done.error
    assert names(rig, f"{NS}/services") == []


def test_a_secret_that_is_no_certificate_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    rig.request("POST", f"{NS}/secrets", {"metadata": {"name": "shop-tls"}, "stringData": {"tls.crt": "a", "tls.key": "b"}})
    done = run(rig, tmp_path, hosts=HOSTS)
    assert "Secret shop-tls in namespace front is of the type Opaque" in done.error and "kubernetes.io/tls" in done.error
    assert names(rig, f"{NS}/services") == []


def test_a_gateway_without_its_definitions_is_refused(rig: Rig, tmp_path: Path) -> None:
    done = run(rig, tmp_path, hosts=PLAIN, gateway=GATEWAY)
    assert "the cluster knows no HTTPRoute" in done.error and names(rig, f"{NS}/services") == []


def test_hosts_make_routes_of_a_gateway(rig: Rig, tmp_path: Path, tls: None, gateway_api: None) -> None:
    options: dict[str, Any] = {"hosts": PLAIN, "gateway": GATEWAY}
    assert [run(rig, tmp_path, *args, **options).changed for args in (("--check",), (), (), ("--check",))] == [1, 1, 0, 0]
    assert names(rig, ROUTES) == ["front", "front-2"] and names(rig, INGRESSES) == []
    assert url(rig, "/health") == "https://shop.test/health"
    # One path less, and the listener without TLS.
    options = {"hosts": PLAIN[:1], "gateway": {**GATEWAY, "section": "http"}}
    assert [run(rig, tmp_path, **options).changed for _ in range(2)] == [1, 0]
    assert names(rig, ROUTES) == ["front"] and url(rig, "/health") == "http://shop.test:8080/health"
    # From one kind of door to the other, and away.
    assert run(rig, tmp_path, hosts=HOSTS).changed == 1
    assert names(rig, ROUTES) == [] and names(rig, INGRESSES) == ["front"]
    assert run(rig, tmp_path, **options).changed == 1
    assert [run(rig, tmp_path, state="absent").changed for _ in range(2)] == [1, 0]
    assert names(rig, ROUTES) == names(rig, INGRESSES) == []


class Controller:
    """What serves Ingresses and HTTPRoutes: it says so in their status, and answers for their hosts."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        controller = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if controller.takes(self.headers["Host"].partition(":")[0], self.path) else 404)
                self.end_headers()

            def log_message(self, *_given: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def takes(self, host: str, path: str) -> bool:
        ways = [way for item in self.rig.request("GET", INGRESSES)["items"] for way in front.ways_of_ingress(item)]
        if served(self.rig, ROUTES):
            ways += [way for item in self.rig.request("GET", ROUTES)["items"] for way in front.ways_of_route(item)]
        return bool(front.of_path(front.of_host(ways, host), path))

    def patch(self, path: str, **status: Any) -> None:
        self.rig.request("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")

    def say(self, accepted: bool = True, reason: str = "ResolvedRefs") -> None:
        """Tell what became of the HTTPRoute, as the API server's definitions take it."""
        item = self.rig.request("GET", f"{ROUTES}/{NAME}")
        times = {
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": item["metadata"]["generation"],
            "message": "",
        }
        said = [
            ("Accepted", accepted, "Accepted" if accepted else "NoMatchingParent"),
            ("ResolvedRefs", reason == "ResolvedRefs", reason),
        ]
        conditions = [{"type": kind, "status": str(holds), "reason": why, **times} for kind, holds, why in said]
        parent = {"controllerName": "test.example/door", "parentRef": item["spec"]["parentRefs"][0], "conditions": conditions}
        self.patch(f"{ROUTES}/{NAME}", parents=[parent])


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what may come yet, and no name server knows the hosts."""
    monkeypatch.setattr(by_name, "resolve", lambda _host: [])
    monkeypatch.setattr(running, "SETTLE", 0)
    monkeypatch.setattr(stack, "SETTLE_FRESH", 0)


@pytest.fixture
def controller(rig: Rig, at_once: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    found = Controller(rig)
    monkeypatch.setitem(front.PORTS, "http", found.port)
    yield found
    found.server.shutdown()
    found.server.server_close()


NEITHER = "and this machine knows no shop.test either"


def followed(rig: Rig, **options: Any) -> tuple[str, str]:
    """The row route: its status, and its cause or evidence. No pod really runs here, and so none logs a request."""
    target = running.Target(name=NAME, namespace=NAME, log_check=False, timeout=5, **options)
    run = running.Run(KubeCluster(rig.api), target)
    run.prepare()
    (found,) = route.look(run)
    return found.status, found.cause or found.evidence


def test_an_ingress_is_followed(rig: Rig, tmp_path: Path, controller: Controller) -> None:
    assert run(rig, tmp_path).changed == 1
    assert followed(rig)[0] == "skipped"
    assert run(rig, tmp_path, hosts=PLAIN[:1], ingress_class="door").changed == 1
    assert followed(rig) == ("failed", f"Ingress {NAME} is of the class door, which the cluster does not have")
    classes = "/apis/networking.k8s.io/v1/ingressclasses"
    rig.request("POST", classes, {"metadata": {"name": "door"}, "spec": {"controller": "test.example/door"}})
    try:
        assert followed(rig) == ("failed", f"no controller has given Ingress {NAME} an address, {NEITHER}")
        controller.patch(f"{INGRESSES}/{NAME}", loadBalancer={"ingress": [{"ip": "127.0.0.1"}]})
        for hosts in ([], PLAIN[:1]):
            status, said = followed(rig, hosts=hosts)
            assert status == "ok" and "answered 200" in said
        assert "www.shop.test" in followed(rig, hosts=PLAIN)[1]
        # What the controller has said stays when the role runs again.
        assert run(rig, tmp_path, hosts=PLAIN[:1], ingress_class="door").changed == 0
    finally:
        rig.remove(f"{classes}/door")


def test_a_route_is_followed(rig: Rig, tmp_path: Path, gateway_api: None, controller: Controller) -> None:
    gateways = f"{GATEWAY_API}/namespaces/default/gateways/public"
    listeners = [{"name": "http", "port": controller.port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]
    rig.request("PATCH", gateways, {"spec": {"listeners": listeners}}, "application/merge-patch+json")
    options: dict[str, Any] = {"hosts": PLAIN[:1], "gateway": {**GATEWAY, "section": "http"}}
    assert run(rig, tmp_path, **options).changed == 1
    assert served(rig, front.GRANTS.format(NAME)) and "no controller says" in followed(rig)[1]
    controller.say(accepted=False)
    assert "NoMatchingParent" in followed(rig)[1]
    controller.say(reason="RefNotPermitted")
    assert "RefNotPermitted" in followed(rig)[1]
    controller.say()
    assert followed(rig) == ("failed", f"no controller has given Gateway default/public an address, {NEITHER}")
    controller.patch(gateways, addresses=[{"type": "IPAddress", "value": "127.0.0.1"}])
    status, said = followed(rig, hosts=PLAIN[:1])
    assert status == "ok" and "answered 200" in said
    assert run(rig, tmp_path, **options).changed == 0
    # A new version of the route has to be seen again.
    assert run(rig, tmp_path, **{**options, "hosts": [{"name": "shop.test", "path": "/a"}]}).changed == 1
    assert "newest version" in followed(rig)[1]


class Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_given: Any) -> None:
        pass


@pytest.fixture
def backend(rig: Rig) -> Iterator[None]:
    """A server behind the application's Service, at this machine's own address, for no endpoint is on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 1))  # which sends nothing
        address = probe.getsockname()[0]
    with ThreadingHTTPServer((address, 0), Ok) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        slices = {
            "metadata": {"name": "own", "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": server.server_port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        }
        rig.request("POST", f"/apis/discovery.k8s.io/v1/namespaces/{NAME}/endpointslices", slices)
        yield
        server.shutdown()


@pytest.fixture
def traefik(rig: Rig, tmp_path: Path, at_once: None, backend: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What starts Traefik as the local cluster does, with the same objects and rights, and only on loopback."""
    (tmp_path / "evaluated").mkdir()
    text = "lookup('ansible.builtin.template', 'traefik.yml.j2', template_vars={'addition': {'image': 'traefik'}})"
    objects = evaluate(tmp_path / "evaluated", {"objects": text}, {}, ROOT / "roles/local_cluster")["objects"]
    (tmp_path / "traefik.yml").write_text(objects)
    kubectl = [programs("kubernetes") / "kubectl", f"--kubeconfig={rig.kubeconfig()}"]
    subprocess.run([*kubectl, "apply", f"--filename={tmp_path}/traefik.yml"], check=True, capture_output=True, timeout=60)
    account = "/api/v1/namespaces/kube-system/serviceaccounts/traefik"
    service = "/api/v1/namespaces/kube-system/services/traefik/status"
    told = {"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}}
    rig.request("PATCH", service, told, "application/merge-patch+json")
    token = rig.request("POST", f"{account}/token", {"spec": {}})["status"]["token"]
    ports = dict(zip(("8000", "8443", "8080"), free_ports(3), strict=True))
    monkeypatch.setitem(front.PORTS, "http", ports["8000"])
    monkeypatch.setitem(front.PORTS, "https", ports["8443"])
    (deployment,) = [item for item in yaml.safe_load_all(objects) if item["kind"] == "Deployment"]
    words = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    for inside, outside in ports.items():
        words = [word.replace(f"=:{inside}", f"=127.0.0.1:{outside}") for word in words]
    yield [str(programs("traefik") / "traefik"), *words, *api(rig, "kubernetesingress", token)]
    subprocess.run([*kubectl, "delete", f"--filename={tmp_path}/traefik.yml"], check=True, capture_output=True, timeout=60)


def api(rig: Rig, provider: str, token: str) -> list[str]:
    """How a provider of Traefik's reaches the API server from outside."""
    told = {"endpoint": rig.url, "token": token, "certauthfilepath": f"{rig.folder}/tls.crt"}
    return [f"--providers.{provider}.{name}={value}" for name, value in told.items()]


@contextmanager
def serving(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_class_of_somebody_elses_is_left_alone(rig: Rig, tmp_path: Path) -> None:
    path, classes = tmp_path / "play.yml", "/apis/networking.k8s.io/v1/ingressclasses"
    task = {"ansible.builtin.include_role": {"name": "flaskops.observability.local_cluster", "tasks_from": "additions"}}
    path.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))

    def added(wanted: bool) -> Run:
        given = {"local_cluster_kubeconfig": str(rig.kubeconfig()), "local_cluster_ingress": wanted}
        return playbook(str(path), "-c", "local", inventory=("-i", "localhost,"), extra=given)

    rig.request("POST", classes, {"metadata": {"name": "traefik"}, "spec": {"controller": "test.example/door"}})
    assert "IngressClass traefik" in added(True).error
    assert added(False).changed == 0 and names(rig, classes) == ["traefik"]
    ours = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "flaskops"}}}
    rig.request("PATCH", f"{classes}/traefik", ours, "application/merge-patch+json")
    assert added(False).changed == 1 and names(rig, classes) == []


@LONG
def test_traefik_serves_an_ingress(rig: Rig, tmp_path: Path, tls: None, traefik: list[str]) -> None:
    assert run(rig, tmp_path, hosts=HOSTS).changed == 1
    assert rig.request("GET", f"{INGRESSES}/{NAME}")["spec"]["ingressClassName"] == "traefik"
    assert "no controller has given" in followed(rig)[1]
    with serving(traefik):
        until(lambda: followed(rig)[0] == "ok", 30, "an answer")
        said = followed(rig, hosts=HOSTS)[1]
        assert "https://shop.test" in said and "https://www.shop.test" in said and "certificate until" in said
    # The class and the address are not this role's.
    assert run(rig, tmp_path, hosts=HOSTS).changed == 0


@LONG
def test_traefik_serves_a_route(rig: Rig, tmp_path: Path, gateway_api: None, traefik: list[str]) -> None:
    door = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "any"}}
    rig.request("POST", f"{GATEWAY_API}/gatewayclasses", {**door, "spec": {"controllerName": "traefik.io/gateway-controller"}})
    gateway = f"{GATEWAY_API}/namespaces/default/gateways/public"
    listener: dict[str, Any] = {"name": "http", "port": front.PORTS["http"], "protocol": "HTTP"}
    rig.request("PATCH", gateway, {"spec": {"listeners": [listener]}}, "application/merge-patch+json")
    assert run(rig, tmp_path, hosts=PLAIN[:1], gateway={**GATEWAY, "section": "http"}).changed == 1
    words = ["--providers.kubernetesgateway=true", "--providers.kubernetesgateway.statusaddress.ip=127.0.0.1"]
    with serving([*traefik, *words, *api(rig, "kubernetesgateway", rig.tokens["admin"])]):
        until(lambda: "NotAllowedByListeners" in followed(rig)[1], 30, "a refusal")
        listener["allowedRoutes"] = {"namespaces": {"from": "All"}}
        rig.request("PATCH", gateway, {"spec": {"listeners": [listener]}}, "application/merge-patch+json")
        until(lambda: followed(rig)[0] == "ok", 30, "an answer")
