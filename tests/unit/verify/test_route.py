# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The link route, with a server on the loopback address that serves Ingresses and HTTPRoutes as a controller does."""

from __future__ import annotations

import base64
import copy
import datetime
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube import front
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from ansible_collections.flaskops.observability.plugins.module_utils.verify import by_name, certificates, chain
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running

from tests.fakes.certificates import certificate

from .test_verify_links import NS, FakeCluster

HOST, DOOR, ELSEWHERE = "shop.test", "127.0.0.1", "127.0.0.2"
INGRESSES = front.INGRESSES.format("flask-app")
ROUTES, GATEWAY = f"{front.GATEWAY_API}/httproutes", f"{front.GATEWAY_API}/namespaces/gateways/gateways/public"
GRANTS = front.GRANTS.format("flask-app")
CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
SECRET = f"{NS}/secrets/shop-tls"
HOSTS = [{"name": HOST}]
GOOD, EXPIRED, OTHER = certificate(HOST, left=80), certificate(HOST, age=90, left=-1), certificate("other.test", left=80)
Fault = Callable[["World"], None]


def secret(pair: tuple[str, str]) -> dict[str, Any]:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in zip(("tls.crt", "tls.key"), pair, strict=True)}
    return {"type": "kubernetes.io/tls", "data": data}


def condition(kind: str, status: str = "True", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": kind, "message": "", "observedGeneration": 1, **more}


class World(FakeCluster):
    """A cluster with a door to the app: an Ingress, or an HTTPRoute of another namespace."""

    def __init__(self, kind: str, port: int) -> None:
        super().__init__()
        self.kind, self.names, self.serving = kind, {HOST: [DOOR]}, True
        self.certificates = {DOOR: "", ELSEWHERE: GOOD}
        backend = {"service": {"name": "flask-app", "port": {"number": 80}}}
        self.ingress: dict[str, Any] = {
            "metadata": {"name": "shop", "namespace": "flask-app"},
            "spec": {
                "ingressClassName": "nginx",
                "tls": [{"hosts": [HOST], "secretName": "shop-tls"}],
                "rules": [{"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": DOOR}]}},
        }
        parent = {"name": "public", "namespace": "gateways", "sectionName": "https"}
        self.route: dict[str, Any] = {
            "metadata": {"name": "shop", "namespace": "routes", "generation": 1},
            "spec": {
                "parentRefs": [parent],
                "hostnames": [HOST],
                "rules": [
                    {
                        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                        "backendRefs": [{"name": "flask-app", "namespace": "flask-app", "port": 80}],
                    }
                ],
            },
            "status": {"parents": [{"parentRef": parent, "conditions": [condition("Accepted"), condition("ResolvedRefs")]}]},
        }
        certificate_refs = {"certificateRefs": [{"name": "shop-tls", "namespace": "flask-app"}]}
        self.gateway: dict[str, Any] = {
            "metadata": {"name": "public", "namespace": "gateways"},
            "spec": {"listeners": [{"name": "https", "port": port, "protocol": "HTTPS", "tls": certificate_refs}]},
            "status": {
                "addresses": [{"value": DOOR}],
                "listeners": [{"name": "https", "conditions": [condition("ResolvedRefs")]}],
            },
        }
        self.grant: dict[str, Any] = {
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "routes"}],
                "to": [{"group": "", "kind": "Service"}],
            }
        }
        self.answers |= {
            SECRET: (200, secret(GOOD)),
            CLASSES: (200, {"items": []}),
            f"{CLASSES}/nginx": (200, {}),
            INGRESSES: (200, {"items": [self.ingress] if kind == "Ingress" else []}),
            ROUTES: (200, {"items": [] if kind == "Ingress" else [self.route]}),
            GATEWAY: (200, self.gateway),
            GRANTS: (200, {"items": [self.grant]}),
        }

    @property
    def path(self) -> dict[str, Any]:
        """Where the path of the door is, and to what it leads."""
        found: dict[str, Any] = self.route["spec"]["rules"][0]
        if self.kind == "Ingress":
            found = self.ingress["spec"]["rules"][0]["http"]["paths"][0]
        return found

    def rename(self, host: str) -> None:
        self.ingress["spec"]["rules"][0]["host"] = self.route["spec"]["hostnames"][0] = host

    def move(self, path: str) -> None:
        if self.kind == "Ingress":
            self.path["path"] = path
        else:
            self.path["matches"][0]["path"]["value"] = path

    def lead(self, port: int, service: str = "flask-app") -> None:
        if self.kind == "Ingress":
            self.path["backend"]["service"] = {"name": service, "port": {"number": port}}
        else:
            self.path["backendRefs"] = [{"name": service, "namespace": "flask-app", "port": port}]

    def served(self, host: str, path: str) -> bool:
        """Whether a controller sends a request to the app."""
        ways = front.ways_of_ingress(self.ingress) if self.kind == "Ingress" else front.ways_of_route(self.route)
        found = front.of_path(front.of_host(ways, host), path)
        return self.serving and any(way.leads_to("flask-app", "flask-app") and way.backends[0].port == 80 for way in found)

    def unaddressed(self) -> dict[str, Any]:
        """Nobody has given it an address; gives the status that said so."""
        holder = self.ingress if self.kind == "Ingress" else self.gateway
        found: dict[str, Any] = holder["status"]
        holder["status"] = {} if self.kind == "Ingress" else {**found, "addresses": []}
        return found

    def shown(self, address: str) -> tuple[str, str]:
        """The certificate that is shown at an address: the door's is that of the Secret, or the controller's own."""
        if own := self.certificates[address]:
            return own
        status, found = self.answers.get(SECRET, (404, {}))
        data = found.get("data", {}) if status == 200 else {}
        texts = [base64.b64decode(data[key]).decode() for key in ("tls.crt", "tls.key") if key in data]
        return (texts[0], texts[1]) if len(texts) == 2 else OTHER


class Doors:
    """The servers at the addresses of the door and of somebody else, with and without TLS."""

    def __init__(self, folder: Path) -> None:
        self.world: World | None = None
        self.folder, self.servers, self.ports = folder, [], {}
        self.status, self.headers, self.own_id = 200, {}, ""
        for scheme in ("http", "https"):
            self.serve(DOOR, scheme, 0)
            self.serve(ELSEWHERE, scheme, self.ports[scheme])

    def serve(self, address: str, scheme: str, port: int) -> None:
        doors = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                if scheme == "https":
                    self.request = doors.context(address).wrap_socket(self.request, server_side=True)
                super().setup()

            def do_GET(self) -> None:
                doors.answer(self, address)

            def log_message(self, *_given: Any) -> None:
                pass

        server = ThreadingHTTPServer((address, port), Handler)
        server.handle_error = lambda *_given: None  # a client that refuses the certificate is no error here
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.servers.append(server)
        self.ports[scheme] = server.server_address[1]

    def context(self, address: str) -> ssl.SSLContext:
        assert self.world
        file = self.folder / "pair.pem"
        file.write_text("".join(self.world.shown(address)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def answer(self, request: BaseHTTPRequestHandler, address: str) -> None:
        assert self.world
        host, sent = request.headers["Host"].partition(":")[0], request.headers["X-Request-ID"]
        status, headers = self.status, dict(self.headers)
        if address == DOOR and self.status < 300:
            status = 200 if self.world.served(host, request.path) else 404
            if status == 200:
                seen = self.own_id or sent
                headers["X-Request-ID"] = seen
                self.world.log.append(json.dumps({"request_id": seen}))
        request.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            request.send_header(name, value)
        request.end_headers()


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    found = Doors(tmp_path)
    yield found
    for server in found.servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def world(request: pytest.FixtureRequest, doors: Doors, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("ADDRESS_SECONDS", "SETTLE"):
        monkeypatch.setattr(running, name, 0)
    for scheme, port in doors.ports.items():
        monkeypatch.setitem(front.PORTS, scheme, port)
    found = doors.world = World(getattr(request, "param", "Ingress"), doors.ports["https"])
    monkeypatch.setattr(by_name, "resolve", lambda host: found.names.get(host, [host] if host[0].isdigit() else []))
    return found


def rows(world: World, **options: Any) -> dict[str, dict[str, Any]]:
    results, url = chain.verify(world, running.Target(timeout=10, **{"hosts": HOSTS, **options}))
    return {result["link"]: {**result, "url": url} for result in results}


def failures(found: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, result in found.items() if result["status"] == "failed"]


BOTH = pytest.mark.parametrize("world", ["Ingress", "HTTPRoute"], indirect=True)


@BOTH
def test_a_door_that_leads_to_the_app(world: World) -> None:
    for hosts in (HOSTS, [{"name": HOST, "path": "/", "tls_secret": "shop-tls"}], []):
        found = rows(world, hosts=hosts)
        assert failures(found) == []
        row = found["route"]
        assert row["status"] == "ok" and "answered 200 by pod-2" in row["evidence"] and "certificate until" in row["evidence"]
        assert row["url"] == f"https://{HOST}/"
    # Nobody's door, and nothing to follow.
    world.rename("other.test")
    world.lead(80, "other")
    assert rows(world, hosts=[])["route"]["status"] == "skipped"


@BOTH
def test_a_host_that_stands_for_many_is_asked_by_one_name(world: World) -> None:
    wild, name = f"*.{HOST}", f"verify.{HOST}"
    world.rename(wild)
    world.ingress["spec"]["tls"][0]["hosts"] = [wild]
    world.names = {name: [DOOR]}
    assert rows(world, hosts=[{"name": wild}])["route"]["cause"].endswith(f"is for {HOST} and not for {name}")
    world.answers[SECRET] = (200, secret(certificate(wild, left=80)))
    for hosts in ([{"name": wild, "tls_secret": "shop-tls"}], []):
        found = rows(world, hosts=hosts)["route"]
        assert found["status"] == "ok" and found["url"] == f"https://{name}/"


def elsewhere(world: World) -> None:
    world.names[HOST] = [ELSEWHERE]


def no_class(world: World) -> None:
    del world.ingress["spec"]["ingressClassName"]
    unserved(world)


def unserved(world: World) -> None:
    world.unaddressed()
    world.serving = False


def conditions(world: World, *found: dict[str, Any]) -> None:
    world.route["status"]["parents"][0]["conditions"] = list(found)


REFUSED = condition("ResolvedRefs", "False", reason="RefNotPermitted", message="no grant")
# The eight kinds of faults of a door, some in several ways.
FAULTS: dict[str, tuple[str, Fault, list[str]]] = {
    "wrong host": ("Ingress HTTPRoute", lambda w: w.rename("shpo.test"), [HOST, "shpo.test"]),
    "missing Secret": ("Ingress HTTPRoute", lambda w: w.answers.pop(SECRET) and None, ["flask-app/shop-tls", "does not exist"]),
    "missing Secret: of another type": (
        "Ingress HTTPRoute",
        lambda w: w.answers.update({SECRET: (200, {**secret(GOOD), "type": "Opaque"})}),
        ["shop-tls", "Opaque"],
    ),
    "expired certificate": (
        "Ingress HTTPRoute",
        lambda w: w.answers.update({SECRET: (200, secret(EXPIRED))}),
        ["shop-tls", "has expired"],
    ),
    "no parent: no class": ("Ingress", no_class, ["names no class"]),
    "no parent: a class that is not there": ("Ingress", lambda w: w.answers.pop(f"{CLASSES}/nginx") and None, ["nginx"]),
    "no parent: nobody serves it": ("Ingress HTTPRoute", unserved, ["given", "address", HOST, DOOR, "404"]),
    "no parent: no Gateway": ("HTTPRoute", lambda w: w.answers.pop(GATEWAY) and None, ["gateways/public", "does not exist"]),
    "no parent: not taken": ("HTTPRoute", lambda w: w.route.pop("status") and None, ["no controller"]),
    "no parent: not accepted": (
        "HTTPRoute",
        lambda w: conditions(w, condition("Accepted", "False", reason="NotAllowedByListeners"), condition("ResolvedRefs")),
        ["Accepted", "NotAllowedByListeners"],
    ),
    "no parent: no listener": (
        "HTTPRoute",
        lambda w: w.gateway["spec"]["listeners"][0].update(hostname="other.test"),
        ["no listener", HOST],
    ),
    "refused reference": ("HTTPRoute", lambda w: conditions(w, condition("Accepted"), REFUSED), ["RefNotPermitted", "no grant"]),
    "refused reference: no grant": (
        "HTTPRoute",
        lambda w: w.grant["spec"]["from"][0].update(namespace="other"),
        ["routes", "flask-app/flask-app", "ReferenceGrant"],
    ),
    "refused reference: of the listener": (
        "HTTPRoute",
        lambda w: w.gateway["status"]["listeners"][0].update(conditions=[REFUSED]),
        ["listener https", "RefNotPermitted"],
    ),
    "wrong port": ("Ingress HTTPRoute", lambda w: w.lead(8080), ["8080", "80"]),
    "wrong Service": ("Ingress HTTPRoute", lambda w: w.lead(80, "other"), ["flask-app/other"]),
    "wrong path": ("Ingress HTTPRoute", lambda w: w.move("/sho"), ["/sho", HOST]),
    "name leads elsewhere": ("Ingress HTTPRoute", elsewhere, [ELSEWHERE, DOOR]),
}
CASES = [(kind, name) for name, (kinds, _fault, _words) in FAULTS.items() for kind in kinds.split()]


@pytest.mark.parametrize(("world", "fault"), CASES, indirect=["world"], ids=[f"{kind}: {name}" for kind, name in CASES])
def test_a_fault_is_blamed_on_the_route_and_on_nothing_else(world: World, fault: str) -> None:
    _kinds, seed, words = FAULTS[fault]
    seed(world)
    found = rows(world)
    assert failures(found) == ["route"]
    assert [word for word in words if word not in found["route"]["cause"]] == []
    assert found["route"]["query"] and found["route"]["next_command"].startswith("kubectl ") and not found["route"]["follows"]


@pytest.mark.parametrize(
    ("shown", "status", "word"),
    [(EXPIRED, "failed", "has expired"), (OTHER, "failed", "is for other.test"), (GOOD, "ok", "")],
)
def test_a_certificate_is_judged_as_it_is_shown(world: World, shown: tuple[str, str], status: str, word: str) -> None:
    world.certificates[DOOR] = shown
    # A schedule may not read the Secret.
    world.answers[SECRET] = (403, {"message": "forbidden"})
    row = rows(world)["route"]
    assert row["status"] == status and word in row["cause"] and "Secret shop-tls may not be read" in row["evidence"]
    assert status != "ok" or "does not trust" in row["evidence"]


@pytest.mark.parametrize(
    ("times", "word"),
    [
        ({"left": 80}, ""),
        ({"age": 76, "left": 13}, "expires on"),
        ({"age": 0, "left": 6}, ""),
        ({"age": 5, "left": 1}, "expires on"),
        ({"age": 90, "left": -1}, "has expired"),
        ({"age": -2, "left": 90}, "is valid from"),
    ],
)
def test_a_certificate_has_to_last(times: dict[str, float], word: str) -> None:
    found = certificates.first(certificate(HOST, "*.shop.test", "10.0.0.1", **times)[0])
    assert found.names == (HOST, "*.shop.test", "10.0.0.1")
    assert word in certificates.trouble(found, HOST) and bool(word) == bool(certificates.trouble(found, HOST))
    assert "is for" in certificates.trouble(found, "a.b.shop.test") and "is for" not in certificates.trouble(found, "a.shop.test")


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----", GOOD[1]])
def test_what_is_no_certificate_is_none(world: World, text: str) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        certificates.first(text)
    world.answers[SECRET] = (200, secret((text, GOOD[1])))
    assert "holds no certificate" in rows(world)["route"]["cause"]


def test_a_name_that_this_machine_does_not_know_is_asked_at_the_address(world: World) -> None:
    world.names = {}
    row = rows(world)["route"]
    assert row["status"] == "ok" and f"knows no {HOST}" in row["evidence"]


def test_an_address_to_which_this_machine_has_no_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(*_given: Any) -> None:
        raise ApiError(0, "timed out") from TimeoutError("timed out")

    monkeypatch.setattr(by_name, "ask", no_way)
    row = rows(world)["route"]
    assert row["status"] == "skipped" and "has no way" in row["evidence"] and "timed out" in row["evidence"]


def test_of_several_addresses_one_has_to_answer(world: World) -> None:
    world.names[HOST] = ["127.0.0.3", DOOR]
    assert rows(world)["route"]["status"] == "ok"


def test_a_door_at_which_nobody_answers_is_broken(world: World, doors: Doors) -> None:
    for server in doors.servers:
        server.shutdown()
        server.server_close()
    found = rows(world)
    assert failures(found) == ["route"] and "refused" in found["route"]["cause"]


@pytest.mark.parametrize(("own", "status"), [("f0f0f0f0-f0f0-f0f0", "ok"), ("noise", "failed")])
def test_a_proxy_with_ids_of_its_own_is_followed_by_the_answer(world: World, doors: Doors, own: str, status: str) -> None:
    doors.own_id = own
    assert rows(world)["route"]["status"] == status


def test_a_redirect_to_https_is_followed(world: World, doors: Doors) -> None:
    """A controller of its own accord, or somebody before it, ends TLS."""
    world.ingress["spec"]["tls"] = []
    assert rows(world)["route"]["status"] == "ok"
    assert "no TLS" in rows(world, hosts=[{"name": HOST, "tls_secret": "shop-tls"}])["route"]["cause"]
    asked = []
    answer = doors.answer

    def redirecting(request: BaseHTTPRequestHandler, address: str) -> None:
        asked.append(isinstance(request.request, ssl.SSLSocket))
        if asked[-1]:
            return answer(request, address)
        request.send_response(308)
        request.send_header("Location", f"https://{HOST}:{front.PORTS['https']}/")
        request.end_headers()
        return None

    doors.answer = redirecting
    assert rows(world)["route"]["status"] == "ok" and asked == [False, True]


@pytest.mark.parametrize("classed", [True, False])
@BOTH
def test_a_controller_that_gives_no_address_is_known_by_the_name(world: World, classed: bool) -> None:
    world.unaddressed()
    if not classed:
        del world.ingress["spec"]["ingressClassName"]
    row = rows(world)["route"]
    assert row["status"] == "ok" and "answered 200 by pod-2" in row["evidence"]
    assert ("given" if classed or world.kind == "HTTPRoute" else "names no class") in row["evidence"]


@pytest.mark.parametrize(
    ("log_check", "known", "shown", "status", "words"),
    [
        (True, [], "", "failed", f"knows no {HOST} either"),
        (True, [ELSEWHERE], "", "failed", f"{HOST} is {ELSEWHERE}"),
        (True, [DOOR], OTHER, "failed", "is for other.test"),
        (False, [DOOR], "", "skipped", "given"),
        (False, ["127.0.0.3"], "", "failed", "gives no answer"),
    ],
)
def test_a_name_that_does_not_lead_to_the_app_is_no_proof(
    world: World, log_check: bool, known: list[str], shown: Any, status: str, words: str
) -> None:
    world.unaddressed()
    world.names[HOST], world.certificates[DOOR] = known, shown
    row = rows(world, log_check=log_check)["route"]
    assert row["status"] == status and words in row["evidence"] + row["cause"]
    assert "given" in row["evidence"] + row["cause"]


def test_an_answer_that_no_app_gives_is_no_proof_of_an_app_without_ids(world: World) -> None:
    unserved(world)
    row = rows(world, log_check=False)["route"]
    assert row["status"] == "failed" and "404" in row["cause"]


@pytest.mark.parametrize("status", [302, 401, 403])
def test_a_login_before_the_app_hides_it(world: World, doors: Doors, status: int) -> None:
    doors.status, doors.headers = status, {"Location": "https://login.test/"}
    row = rows(world)["route"]
    assert row["status"] == "skipped" and str(status) in row["evidence"]


@pytest.mark.parametrize(("known", "status"), [([DOOR], "ok"), ([], "ok"), ([ELSEWHERE], "skipped")])
def test_an_app_that_logs_no_ids_is_known_by_the_address(world: World, known: list[str], status: str) -> None:
    world.names[HOST] = known
    assert rows(world, log_check=False)["route"]["status"] == status


@pytest.mark.parametrize("seconds", [10, 1000])
def test_a_new_door_may_take_its_time(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    world.ingress["metadata"]["creationTimestamp"] = made.isoformat()
    status = world.unaddressed()
    world.serving = False
    monkeypatch.setattr(running, "LOOK_AGAIN", 0.01)
    fetch, looks = world.fetch, []

    def opening(path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        if path == INGRESSES:
            looks.append(path)
            if len(looks) == 4:
                world.ingress["status"], world.serving = status, True
        return fetch(path, headers, seconds)

    monkeypatch.setattr(world, "fetch", opening)
    assert rows(world)["route"]["status"] == ("ok" if seconds < 180 else "failed")


def test_what_others_break_is_not_blamed_on_the_route(world: World) -> None:
    world.answers[f"{NS}/services/flask-app:80/proxy/health"] = (503, {"message": "no endpoints available"})
    world.rename("shpo.test")
    found = rows(world)
    assert failures(found) == ["health", "route"] and found["route"]["follows"] == "health"


@pytest.mark.parametrize("path", [INGRESSES, GATEWAY, GRANTS, f"{CLASSES}/nginx", SECRET, ROUTES])
@BOTH
def test_what_an_account_may_not_read_is_no_fault(world: World, path: str) -> None:
    own = f"{front.GATEWAY_API}/namespaces/flask-app/httproutes"
    world.answers[own], world.certificates[DOOR] = world.answers[ROUTES], GOOD
    world.answers[path] = (403, {"message": "forbidden"})
    found = rows(world, kubeconfig="theirs")
    assert failures(found) == []
    assert found["route"]["status"] == ("skipped" if path == INGRESSES else "ok")


def test_of_several_hosts_each_is_followed(world: World) -> None:
    other = copy.deepcopy(world.ingress["spec"]["rules"][0])
    world.ingress["spec"]["rules"].append({**other, "host": "*.shop.test"})
    world.ingress["spec"]["tls"][0]["hosts"].append("*.shop.test")
    world.certificates[DOOR] = certificate(HOST, "*.shop.test", left=80)
    world.answers[SECRET] = (200, secret(world.certificates[DOOR]))
    world.names["verify.shop.test"] = [DOOR]
    row = rows(world, hosts=[*HOSTS, {"name": "*.shop.test", "path": "/a"}])["route"]
    assert row["status"] == "ok" and "//verify.shop.test/a" in row["evidence"] and f"//{HOST}/" in row["evidence"]
    world.names["verify.shop.test"] = [ELSEWHERE]
    assert "verify.shop.test" in rows(world, hosts=[*HOSTS, {"name": "*.shop.test"}])["route"]["cause"]
