# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the API server has no way to a Prometheus or Alertmanager that is well, as far as the cluster's objects tell."""

from __future__ import annotations

import re
from typing import Any

from ..kube.selectors import selects
from ..kube.transport import ApiError

Json = dict[str, Any]

POLICIES = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
PROMETHEUS, ALERTMANAGER = 9090, 9093
# Where the API server's proxy leads to one of them.
PLACE = re.compile(
    rf"/api/v1/namespaces/(?P<namespace>[^/]+)/(services|pods)/[^/]+:(?P<port>{PROMETHEUS}|{ALERTMANAGER})/proxy\b"
)
REFUSED = 403  # so that nobody waits for it, as where an account may not look


class Shut(ApiError):
    """There is no way to a server by the cluster's own objects: what it says is unknown, and no fault."""

    def __init__(self, why: str) -> None:
        super().__init__(REFUSED, why)


def cause(item: Json, pods: list[Json], policies: list[Json], port: int, said: str) -> str:
    """What of the objects shuts the API server out; empty where nothing does.

    :param item: the Prometheus or Alertmanager object. :param policies: the NetworkPolicies of its namespace.
    :param said: why the proxy has no answer, in its own words.
    """
    spec = item["spec"]
    if spec.get("listenLocal"):
        return "it listens on the loopback address of its pods alone (listenLocal)"
    wants = str(((spec.get("web") or {}).get("tlsConfig") or {}).get("clientAuthType") or "")
    if wants.startswith("Require") and "tls:" in said:
        return f"it asks for a client's certificate (clientAuthType {wants})"
    # A policy lets what is sent vanish; where somebody refuses it, nobody listens.
    if "connection refused" in said or "no endpoints" in said:
        return ""
    for pod in pods:
        own = [each for each in policies if _isolates(each, pod)]
        if own and not any(_admits(each, pod, port) for each in own):
            names = ", ".join(each["metadata"]["name"] for each in own)
            return f"the NetworkPolicy {names} admits some pods alone to port {port}"
    return ""


def _isolates(policy: Json, pod: Json) -> bool:
    spec = policy["spec"]
    ingress = "Ingress" in (spec.get("policyTypes") or ["Ingress"])
    return ingress and selects(spec.get("podSelector") or {}, pod["metadata"].get("labels") or {})


def _admits(policy: Json, pod: Json, port: int) -> bool:
    """Whether the API server may be let in: it is no pod, so by a rule for all, or one for addresses."""
    return any(
        (not rule.get("from") or any("ipBlock" in peer for peer in rule["from"])) and _has(rule.get("ports") or [], pod, port)
        for rule in policy["spec"].get("ingress") or []
    )


def _has(ports: list[Json], pod: Json, port: int) -> bool:
    """Whether a rule is about a port, by its number, a range or a name of the pod."""
    own = [each for container in pod["spec"].get("containers") or [] for each in container.get("ports") or []]
    names = {each.get("name") for each in own if each["containerPort"] == port}
    return not ports or any(
        each.get("port") in (None, *names)
        or (isinstance(each["port"], int) and each["port"] <= port <= each.get("endPort", each["port"]))
        for each in ports
    )
