# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each link must look like: functions over plain dicts and text, without any network."""

from __future__ import annotations

import datetime
import re
from dataclasses import asdict, dataclass
from typing import Any

OK = "ok"
FAILED = "failed"
LEFT_OUT = "left_out"

# What the API server fills in when a probe does not say it.
PROBE_DEFAULTS: dict[str, Any] = {"timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
HTTP_GET_DEFAULTS: dict[str, Any] = {"scheme": "HTTP"}
HANDLERS = ("httpGet", "tcpSocket", "grpc", "exec")
REFERENCE = "reference probes"

# The name of a Service inside the cluster, with its namespace.
IN_CLUSTER = re.compile(r"^(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(\.[a-z0-9.-]+)?$")

REQUESTS = "flask_http_request_total"
DURATION = "flask_http_request_duration_seconds"
EXCEPTIONS = "flask_http_request_exceptions_total"


@dataclass
class Result:
    """What was found at one link.

    ``query`` is what was asked, ``evidence`` what came back. ``follows`` names the broken link that explains this one.
    """

    link: str
    status: str
    evidence: str = ""
    cause: str = ""
    next_command: str = ""
    seconds: float = 0.0
    query: str = ""
    follows: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(link: str, evidence: str, query: str = "") -> Result:
    return Result(link, OK, evidence, query=query)


def failed(link: str, evidence: str, cause: str, query: str = "", next_command: str = "") -> Result:
    return Result(link, FAILED, evidence, cause, next_command, query=query)


def left_out(link: str, why: str) -> Result:
    return Result(link, LEFT_OUT, why)


# A link, and those without which it can't work. Links of one name and a provider (`check at ...`) stand on their own.
NEEDS: dict[str, tuple[str, ...]] = {
    "image": ("node",),
    "rollout": ("node", "image", "probes"),
    "endpoint": ("rollout",),
    "health": ("endpoint",),
    "metric requests": ("rollout",),
    "metric duration": ("metric requests",),
    "metric exceptions": ("metric requests",),
    "logs": ("endpoint",),
    "log shipper": ("node",),
    **{backend: ("logs", "log shipper") for backend in ("loki", "victoria_logs", "elasticsearch", "opensearch", "cloudwatch")},
    "exporters": ("prometheus",),
    "target": ("prometheus", "metric requests"),
    "health probe": ("prometheus", "exporters", "health"),
    "rules": ("prometheus",),
    "dashboards": ("prometheus", "exporters", "target", "health probe"),
    "data sources": ("prometheus", "loki", "victoria_logs"),
    "alertmanager": ("prometheus",),
    "log alerts": ("log shipper", "prometheus"),
    "ruler": ("loki", "alertmanager"),
    "alert path": ("exporters", "rules", "alertmanager"),
    "receivers": ("alertmanager", "alert path"),
    "clocks": ("prometheus",),
}


def explain(results: list[Result]) -> None:
    """Give each broken link the name of the broken one that it follows from: the farthest that :data:`NEEDS` leads to.

    What is broken because an autoscaler has scaled the app to 0 is skipped, as the rollout is.
    """
    idle = next((result for result in results if result.link == "rollout" and result.status == LEFT_OUT), None)

    def needs_pods(link: str) -> bool:
        return link == "rollout" or any(needs_pods(need) for need in NEEDS.get(link, ()))

    for result in results:
        if idle and result.status == FAILED and needs_pods(result.link):
            result.status, result.evidence, result.cause, result.next_command = LEFT_OUT, idle.evidence, "", ""

    broken = {result.link: result for result in results if result.status == FAILED}

    def root(link: str) -> str:
        found = [root(need) for need in NEEDS.get(link, ())]
        return next(filter(None, found), link if link in broken else "")

    for name, result in broken.items():
        source = root(name)
        result.follows = "" if source == name else source


def is_ready(thing: dict[str, Any]) -> bool:
    """Whether a pod or a node reports Ready and is not being deleted."""
    if thing.get("metadata", {}).get("deletionTimestamp"):
        return False
    conditions = thing.get("status", {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def pod_trouble(pod: dict[str, Any]) -> str:
    """Why a pod is not ready, in the words of the cluster."""
    status = pod.get("status", {})
    name = pod.get("metadata", {}).get("name", "?")
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state = container.get("state") or {}
        for key in ("waiting", "terminated"):
            detail = state.get(key)
            if detail and detail.get("reason") not in (None, "Completed"):
                message = f" ({detail['message']})" if detail.get("message") else ""
                return f"{name}: {detail['reason']}{message}"
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            return f"{name}: {condition['message']}"
    return f"{name}: {status.get('reason') or status.get('phase') or 'not ready'}"


def app_container(deployment: dict[str, Any], name: str) -> dict[str, Any]:
    """The container named like the app, or else the first one."""
    containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or [{}]
    return next((c for c in containers if c.get("name") == name), containers[0])


def check_nodes(nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> Result:
    """The nodes that carry the app are ready; where no pod is placed, at least one node is."""
    ready = {n["metadata"]["name"] for n in nodes if is_ready(n)}
    carrying = {p["spec"]["nodeName"] for p in pods if p.get("spec", {}).get("nodeName")}
    evidence = f"{len(ready)} of {len(nodes)} nodes ready"
    if not ready:
        return failed("node", evidence, "no node of the cluster is ready")
    broken = sorted(carrying - ready)
    if broken:
        return failed("node", evidence, f"the app has pods on nodes that are not ready: {', '.join(broken)}")
    return ok("node", f"{evidence}, {len(carrying)} of them with the app's pods")


# Why a container waits that has no image to run.
NO_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}


def _lacks_image(pod: dict[str, Any]) -> bool:
    status = pod.get("status", {})
    containers = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    return any(((c.get("state") or {}).get("waiting") or {}).get("reason") in NO_IMAGE for c in containers)


def check_image(deployment: dict[str, Any], pods: list[dict[str, Any]], name: str, image: str = "") -> Result:
    """The Deployment names this very image where one is expected, every pod can have it, and the ready ones run it."""
    wanted = app_container(deployment, name).get("image", "")
    ready = [p for p in pods if is_ready(p)]
    running = [p for p in ready if wanted in [c.get("image") for c in p.get("spec", {}).get("containers", [])]]
    evidence = f"the Deployment names {wanted}, which {len(running)} of {len(ready)} ready pods run"
    if image and wanted != image:
        return failed("image", evidence, f"the Deployment runs {wanted}, not {image}")
    lacking = [pod_trouble(p) for p in pods if _lacks_image(p)]
    if lacking:
        return failed("image", evidence, "; ".join(lacking[:3]))
    strangers = sorted(p["metadata"]["name"] for p in ready if p not in running)
    if strangers:
        return failed("image", evidence, f"ready pods with another image: {', '.join(strangers)}")
    return ok("image", evidence)


def check_rollout(deployment: dict[str, Any], pods: list[dict[str, Any]], autoscaler: str = "") -> Result:
    """The Deployment is rolled out completely; what its *autoscaler* has scaled to 0 is skipped."""
    spec = deployment.get("spec", {})
    status = deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    updated, available = status.get("updatedReplicas") or 0, status.get("availableReplicas") or 0
    total = status.get("replicas") or 0
    evidence = f"{available} of {wanted} replicas available, {updated} updated"
    if (status.get("observedGeneration") or 0) < deployment.get("metadata", {}).get("generation", 0):
        return failed("rollout", evidence, "the Deployment's newest version has not been seen by its controller yet")
    if not wanted and autoscaler:
        return left_out("rollout", f"scaled to 0 by {autoscaler}")
    if not wanted:
        return failed("rollout", evidence, "the Deployment is scaled to 0 replicas")
    if not updated == available == total == wanted:
        troubles = [pod_trouble(p) for p in pods if not is_ready(p)]
        return failed("rollout", evidence, "; ".join(troubles[:3]) or f"the rollout is not complete ({total} pods exist)")
    return ok("rollout", evidence)


def ready_endpoints(slices: list[dict[str, Any]]) -> list[str]:
    """The names of the pods, or else the addresses, to which the EndpointSlices of a Service lead."""
    return [
        (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]
        for item in slices
        for endpoint in item.get("endpoints") or []
        # Without the condition an endpoint counts as ready, as the API's documentation says.
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]


def check_endpoint(
    service: dict[str, Any], slices: list[dict[str, Any]], pods: list[dict[str, Any]], labelled: list[dict[str, Any]]
) -> Result:
    """The Service leads to every ready one of the Deployment's *pods*, and to nothing that is not *labelled* as the app."""
    name = service.get("metadata", {}).get("name", "")
    reached = set(ready_endpoints(slices))
    ready = {p["metadata"]["name"] for p in pods if is_ready(p)}
    selector = ",".join(f"{k}={v}" for k, v in sorted((service.get("spec", {}).get("selector") or {}).items()))
    evidence = f"{len(reached & ready)} of {len(ready)} ready pods behind the selector {selector or 'none'}"
    if not reached:
        return failed("endpoint", evidence, f"the Service {name} leads to no pod: its selector is {selector or 'empty'}")
    if ready - reached:
        return failed("endpoint", evidence, f"the Service {name} does not lead to {', '.join(sorted(ready - reached))}")
    strangers = sorted(reached - {p["metadata"]["name"] for p in labelled})
    if strangers:
        return failed("endpoint", evidence, f"the Service {name} also leads to what is not the app: {', '.join(strangers)}")
    return ok("endpoint", evidence)


def expected_probes(port: int) -> dict[str, dict[str, Any]]:
    """The reference probes, with the app's port."""
    http_get = {"path": "/health", "port": port}
    return {
        "livenessProbe": {"httpGet": http_get, "initialDelaySeconds": 5, "periodSeconds": 10},
        "readinessProbe": {"httpGet": http_get, "initialDelaySeconds": 5, "periodSeconds": 5},
    }


def handler(probe: dict[str, Any]) -> str:
    """How a probe asks; empty where it does not say."""
    return next((name for name in HANDLERS if probe.get(name) is not None), "")


def port_number(port: Any, container: dict[str, Any]) -> int:
    """The number of a probe's port; 0 for a name that the container does not have. kubelet looks at no other container."""
    if str(port).isdigit():
        return int(port)
    named = [p["containerPort"] for p in container.get("ports") or [] if p.get("name") == port]
    return int(named[0]) if named else 0


def _owners(deployment: dict[str, Any], container: dict[str, Any], port: int) -> dict[int, str]:
    """The TCP ports of a pod, each with the name of its container: of the app's own, whatever it declares, *port* is one."""
    spec = deployment.get("spec", {}).get("template", {}).get("spec", {})
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    found: dict[int, str] = {}
    for item in [*sidecars, *(spec.get("containers") or []), container]:
        found |= {p["containerPort"]: item.get("name", "") for p in item.get("ports") or [] if p.get("protocol", "TCP") == "TCP"}
    return {port: container.get("name", ""), **found}


def _astray(kind: str, live: dict[str, Any], deployment: dict[str, Any], name: str, port: int) -> str:
    """Why a probe does not lead to the app; empty when it does."""
    how, container = handler(live), app_container(deployment, name)
    if how in ("", "exec"):
        return "" if how else f"{kind} asks nothing"
    host, wanted = live[how].get("host"), live[how].get("port")
    on_node = deployment["spec"]["template"]["spec"].get("hostNetwork") and host in ("localhost", "127.0.0.1", "::1")
    if host and not on_node:
        return f"{kind} asks the host {host} and not the pod"
    number = port_number(wanted, container)
    if not number:
        return f"{kind} asks the port {wanted}, and the container {container.get('name')} has no port of this name"
    if number not in _owners(deployment, container, port):
        return f"{kind} asks the port {number}, which no container of the pod has"
    return ""


def _described(live: dict[str, Any], deployment: dict[str, Any], name: str, port: int) -> str:
    """What a probe asks, in a few words, without what may be secret in it."""
    how, container = handler(live), app_container(deployment, name)
    if how == "exec":
        return "a command"
    number = port_number(live[how].get("port"), container)
    owner = _owners(deployment, container, port)[number]
    of = "" if owner == container.get("name", "") else f" of the container {owner}"
    if how != "httpGet":
        return f"{how} at port {number}{of}"
    tls = " over TLS" if live[how].get("scheme") == "HTTPS" else ""
    return f"{shown_path(live[how].get('path') or '/')} at port {number}{of}{tls}"


def shown_path(path: str) -> str:
    """A path without its query, which may hold a token."""
    bare, query, _ = path.partition("?")
    return bare + ("?..." if query else "")


def check_probes(deployment: dict[str, Any], name: str, port: int) -> Result:
    """The live Deployment has a liveness and a readiness probe, and they lead to the app; how they ask is its owner's choice."""
    container = app_container(deployment, name)
    problems = [f"no {kind}" for kind in expected_probes(port) if not container.get(kind)]
    live = {kind: container[kind] for kind in (*expected_probes(port), "startupProbe") if container.get(kind)}
    problems += filter(None, (_astray(kind, probe, deployment, name, port) for kind, probe in live.items()))
    if problems:
        return failed("probes", f"{len(problems)} of the probes are missing or lead elsewhere", "; ".join(problems))
    described = {kind.removesuffix("Probe"): _described(probe, deployment, name, port) for kind, probe in live.items()}
    return ok("probes", ", ".join(f"{kind}: {words}" for kind, words in described.items()))


def _without_defaults(probe: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in probe.items() if k not in PROBE_DEFAULTS or v != PROBE_DEFAULTS[k]}
    how = handler(probe)
    if how == "httpGet":
        # What may be secret is named and not shown.
        get = {**probe[how], "path": shown_path(probe[how].get("path") or "/")}
        if get.get("httpHeaders"):
            get["httpHeaders"] = "set"
        kept[how] = {k: v for k, v in get.items() if k not in HTTP_GET_DEFAULTS or v != HTTP_GET_DEFAULTS[k]}
    elif how:
        kept[how] = "set"
    return kept


def _flat(probe: dict[str, Any], prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in probe.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}.{key}"))
        else:
            out[f"{prefix}.{key}"] = value
    return out


def note_reference(deployment: dict[str, Any], name: str, port: int) -> Result:
    """Where the live probes are not literally the reference's. That is somebody's choice, so it is told and is no failure.

    Fields that the API server defaults do not count.
    """
    container = app_container(deployment, name)
    differences = []
    for kind, wanted in expected_probes(port).items():
        live = container.get(kind)
        if not live:
            differences.append(f"no {kind}")
            continue
        want, have = _flat(wanted, kind), _flat(_without_defaults(live), kind)
        for field in sorted(want.keys() | have.keys()):
            if want.get(field) != have.get(field):
                differences.append(f"{field} is {have.get(field, 'absent')}, not {want.get(field, 'absent')}")
    if container.get("startupProbe"):
        differences.append("a startupProbe besides")
    if differences:
        return ok(REFERENCE, f"other probes than the reference's, which is no failure: {'; '.join(differences)}")
    return ok(REFERENCE, f"/health:{port}, delays and periods as the reference has them")


def check_health(status: int, body: str, where: str, path: str = "/health") -> Result:
    """An HTTP answer of the health check, judged as kubelet does it: 200 to 399 is well."""
    evidence = f"{where} answered {status}"
    if 200 <= status < 400:
        return ok("health", evidence)
    said = " ".join(body.split())[:200]
    return failed("health", evidence, f"{path} answered {status}, which is not 200 to 399" + (f": {said}" if said else ""))


def samples(text: str, names: tuple[str, ...]) -> dict[str, float]:
    """Sums of the samples with these names in a Prometheus text exposition."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})?\s+(\S+)", line)
        if match and match[1] in names:
            try:
                sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
            except ValueError:
                continue
    return sums


def declared(text: str, name: str) -> bool:
    """Whether a HELP or TYPE line names this metric; OpenMetrics leaves out a counter's _total there."""
    names = {name, name.removesuffix("_total")}
    return any(
        line.startswith(("# HELP ", "# TYPE ")) and len(line.split()) > 2 and line.split()[2] in names
        for line in text.splitlines()
    )


def check_metrics(pages: dict[str, str], problems: dict[str, str]) -> list[Result]:
    """Request count, duration and exceptions on the metrics page of every ready pod.

    pages maps a pod to its text; problems maps a pod to the reason why its page could not be read.
    """
    links = ("metric requests", "metric duration", "metric exceptions")
    pods = len(pages) + len(problems)
    if not pods:
        return [failed(link, "no ready pod to read from", "no ready pod of the app") for link in links]
    if problems:
        cause = "; ".join(f"{pod}: {why}" for pod, why in sorted(problems.items()))
        evidence = f"metrics page read from {len(pages)} of {pods} ready pods"
        return [failed(link, evidence, cause) for link in links]

    wanted = {links[0]: (REQUESTS,), links[1]: tuple(DURATION + part for part in ("_count", "_sum"))}
    results = []
    for link, names in wanted.items():
        found = {pod: samples(text, names) for pod, text in pages.items()}
        missing = {pod: [n for n in names if n not in sums] for pod, sums in found.items()}
        missing = {pod: absent for pod, absent in missing.items() if absent}
        if missing:
            cause = "; ".join(f"{pod} serves no {' and no '.join(absent)}" for pod, absent in sorted(missing.items()))
            results.append(failed(link, f"found on {pods - len(missing)} of {pods} pods", cause))
            continue
        total = sum(sums[names[0]] for sums in found.values())
        results.append(ok(link, f"{names[0]} is {total:g} over {pods} pods"))

    link = links[2]
    thrown = {pod: samples(text, (EXCEPTIONS,)).get(EXCEPTIONS) for pod, text in pages.items()}
    silent = [pod for pod, count in thrown.items() if count is None and not declared(pages[pod], EXCEPTIONS)]
    # In several processes a metric is declared only once it has a value; such a page also has no python_info.
    unknown = [pod for pod in silent if not samples(pages[pod], ("python_info",))]
    if len(silent) > len(unknown):
        cause = f"{', '.join(sorted(set(silent) - set(unknown)))}: {EXCEPTIONS} is neither served nor declared"
        results.append(failed(link, f"found on {pods - len(silent)} of {pods} pods", cause))
    elif unknown:
        results.append(left_out(link, f"{EXCEPTIONS} appears in a multi-process exporter only after a first exception"))
    else:
        count = sum(value or 0 for value in thrown.values())
        results.append(ok(link, f"{EXCEPTIONS} is {count:g} over {pods} pods" if count else f"{EXCEPTIONS} declared, none yet"))
    return results


def service_port(service: dict[str, Any], port: int, container: dict[str, Any]) -> dict[str, Any] | None:
    """The Service's port that leads to the app's port."""
    ports = service.get("spec", {}).get("ports") or []
    targets = {port} | {p.get("name") for p in container.get("ports") or [] if p.get("containerPort") == port}
    for entry in ports:
        if entry.get("targetPort", entry.get("port")) in targets:
            return entry
    return None


def load_balancer_address(service: dict[str, Any]) -> str:
    """The address a load balancer gave to the Service; empty when there is none."""
    for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []:
        address = entry.get("ip") or entry.get("hostname")
        if address:
            return f"[{address}]" if ":" in address else address
    return ""


def load_balancer_url(service: dict[str, Any], port: int) -> str:
    """The URL of a Service's port at its load balancer; empty where it has to be asked through the API server.

    That is so without an address, and at port 443: there something else ends TLS, for a name that is not known here, and the
    pods are reached without it.
    """
    address = load_balancer_address(service)
    if not address or port == 443:
        return ""
    return f"http://{address}" + ("" if port == 80 else f":{port}")


def late(group: dict[str, Any]) -> str:
    """Why a rule group, as the rules API of Prometheus and Loki has it, counts as not evaluated; empty when it does not."""
    times = [rule["lastEvaluation"] for rule in group["rules"] or [] if rule.get("lastEvaluation")]
    newest = max((datetime.datetime.fromisoformat(text) for text in times), default=None)
    if newest is None or newest.year < 2000:  # Go's zero time: a group that has just been loaded
        return ""
    age = (datetime.datetime.now(datetime.UTC) - newest).total_seconds()
    limit = 3 * float(group.get("interval") or 60) + 30
    return f"the group {group['name']} was last evaluated {age:.0f} s ago" if age > limit else ""


def scalar(entry: str, key: str) -> str:
    """The text of a key in YAML that stands on a line of its own; empty where it has none."""
    found = re.search(rf"^[ \t]*{key}:[ \t]*['\"]?([^\s'\"]+)", entry, re.MULTILINE)
    return found[1] if found else ""
