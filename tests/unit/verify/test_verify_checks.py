# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check with an app that passes it and apps that do not."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from types import SimpleNamespace

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify import chain, facts, result
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.endpoint import judge as judge_endpoint
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.image import judge as judge_image
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.metrics import judge as judge_metrics
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.node import judge as judge_nodes
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links.rollout import judge as judge_rollout

IMAGE = "localhost/flask-app:abc"


def deployment(**status):
    probe = {
        "httpGet": {"path": "/health", "port": 5000, "scheme": "HTTP"},
        "initialDelaySeconds": 5,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    container = {
        "name": "flask-app",
        "image": IMAGE,
        "ports": [{"name": "http", "containerPort": 5000}],
        "livenessProbe": {**copy.deepcopy(probe), "periodSeconds": 10},
        "readinessProbe": {**copy.deepcopy(probe), "periodSeconds": 5},
    }
    return {
        "metadata": {"name": "flask-app", "generation": 2},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}},
        "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, **status},
    }


def container(found):
    return found["spec"]["template"]["spec"]["containers"][0]


def pod(name="pod-1", ready="True", node="node-1", image=IMAGE, **status):
    return {
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "flask-app", "image": image}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}], **status},
    }


def node(name="node-1", ready="True"):
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_node_ready():
    assert judge_nodes([node()], [pod()]).status == "ok"


def test_a_node_without_our_pods_may_be_down():
    assert judge_nodes([node(), node("node-2", "Unknown")], [pod()]).status == "ok"


@pytest.mark.parametrize(
    ("nodes", "cause"),
    [([node(ready="False")], "no node"), ([node(ready="False"), node("node-2")], "node-1"), ([], "no node")],
)
def test_node_not_ready(nodes, cause):
    found = judge_nodes(nodes, [pod()])
    assert found.status == "failed"
    assert cause in found.cause


@pytest.mark.parametrize(
    "gone", [{"status": {"phase": "Failed", "reason": "Evicted"}}, {"metadata": {"deletionTimestamp": "now"}}]
)
def test_a_pod_that_has_ended_or_goes_says_nothing_of_its_node(gone):
    left = pod("pod-2")
    left["spec"]["nodeName"] = "node-2"
    nodes = [node(), node("node-2", "Unknown")]
    assert judge_nodes(nodes, [pod(), left]).status == "failed"
    for key, value in gone.items():
        left[key] |= value
    assert judge_nodes(nodes, [pod(), left]).status == "ok"


def test_rollout_complete():
    assert judge_rollout(deployment(), [pod(), pod("pod-2")], []).status == "ok"


@pytest.mark.parametrize("image", ["", IMAGE])
def test_image(image):
    assert judge_image(deployment(), [pod(), pod("pod-2")], "flask-app", image).status == "ok"


def test_image_that_is_another_one():
    found = judge_image(deployment(), [pod()], "flask-app", "localhost/flask-app:new")
    assert found.status == "failed"
    assert "not localhost/flask-app:new" in found.cause


@pytest.mark.parametrize("image", ["", IMAGE])
def test_ready_pod_with_another_image(image):
    found = judge_image(deployment(), [pod(image="old")], "flask-app", image)
    assert found.status == "failed"
    assert "pod-1" in found.cause


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ("mirror.test/cache/flask-app:1@sha256:ab", "ok"),
        ("mirror.test/flask-app:1", "ok"),
        ("mirror.test/flask-app:2", "failed"),
        ("mirror.test/flask-app@sha256:ab", "failed"),
        ("mirror.test/other-flask-app:1", "failed"),
    ],
)
def test_an_image_that_an_admission_has_rewritten(runs, status):
    named = deployment()
    named["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.test/flask-app:1"
    found = judge_image(named, [pod(image=runs)], "flask-app", "registry.test/flask-app:1")
    assert (found.status, runs in found.evidence) == (status, status == "ok")


def test_image_that_cannot_be_had():
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}}
    found = judge_image(deployment(), [pod(), pod("pod-2", ready="False", containerStatuses=[waiting])], "flask-app")
    assert found.cause == "pod-2: ImagePullBackOff (no such host)"


SERVICE = {"metadata": {"name": "flask-app"}, "spec": {"selector": {"app": "flask-app"}}}


def slices(*names, ready=True):
    return [{"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"name": n}} for n in names]}]


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (slices("pod-1", "pod-2"), ""),
        (slices("pod-1") + slices("pod-2"), ""),
        (slices("pod-1", "pod-2", "canary-1"), ""),
        ([], "leads to no pod: its selector is app=flask-app"),
        (slices("pod-1", "pod-2", ready=False), "leads to no pod"),
        (slices("pod-1"), "does not lead to pod-2"),
        (slices("pod-1", "pod-2", "shop-1"), "also leads to what is not the app: shop-1"),
    ],
)
def test_endpoint(found, cause):
    pods = [pod(), pod("pod-2"), pod("pod-3", ready="False")]
    found = judge_endpoint(SERVICE, found, pods, [*pods, pod("canary-1")])
    assert (found.status == "ok") == (not cause)
    assert cause in found.cause


def test_who_counts_as_ready():
    ending = pod()
    ending["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    assert [facts.is_ready(one) for one in (pod(), pod(ready="False"), ending)] == [True, False, False]
    unsaid = [
        {
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"name": "pod-1"}},
                {"addresses": ["10.0.0.2"], "conditions": {}},
            ]
        }
    ]
    assert facts.ready_endpoints(unsaid) == ["pod-1", "10.0.0.2"]


def test_what_follows_from_a_broken_link():
    names = ("node", "probes", "rollout", "endpoint", "health", "rules", "check at pingdom")
    found = [result.failed(name, "", "") for name in names if name not in ("node", "endpoint")]
    chain.explain([*found, result.ok("node", ""), result.ok("endpoint", "")])
    # The endpoint is well, and still health can be broken by what the endpoint needs.
    assert {r.link: r.follows for r in found} == {
        "probes": "",
        "rollout": "probes",
        "health": "probes",
        "rules": "",
        "check at pingdom": "",
    }


def test_no_link_needs_itself():
    def needed(link, way=()):
        assert link in chain.NEEDS, f"{way[-1]} needs {link}, which is no row"
        assert link not in way, f"{' needs '.join((*way, link))}"
        for need in chain.NEEDS[link]:
            needed(need, (*way, link))

    for link in chain.NEEDS:
        needed(link)


@pytest.mark.parametrize(("age", "late"), [(1, False), (119, False), (121, True)])
def test_group_that_is_not_evaluated(age, late):
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    text = moment.isoformat(timespec="microseconds").replace("+00:00", "123Z")
    group = {"name": "g", "interval": 30, "rules": [{"lastEvaluation": text}, {"lastEvaluation": "0001-01-01T00:00:00Z"}]}
    assert bool(facts.late(group)) == late
    assert facts.late({"name": "g", "interval": 30, "rules": []}) == ""


@pytest.mark.parametrize(
    "status",
    [{"availableReplicas": 1}, {"updatedReplicas": 1}, {"replicas": 3}, {"observedGeneration": 1}, {"availableReplicas": None}],
)
def test_rollout_incomplete(status):
    assert judge_rollout(deployment(**status), [], []).status == "failed"


def test_rollout_of_nothing():
    found = deployment(replicas=0, updatedReplicas=0, availableReplicas=0)
    found["spec"]["replicas"] = 0
    assert "0 replicas" in judge_rollout(found, [], []).cause


def scaler(kind, *conditions):
    return {"kind": kind, "metadata": {"name": "shop"}, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("kind", "spec", "meta", "status"),
    [
        ("ScaledObject", {}, {}, "skipped"),
        ("ScaledObject", {"minReplicaCount": 2}, {}, "failed"),
        ("ScaledObject", {"minReplicaCount": 2, "idleReplicaCount": 0}, {}, "skipped"),
        ("ScaledObject", {"minReplicaCount": 2}, {"annotations": {"autoscaling.keda.sh/paused-replicas": "0"}}, "skipped"),
        ("HorizontalPodAutoscaler", {"minReplicas": 0}, {}, "skipped"),
        ("HorizontalPodAutoscaler", {"minReplicas": 2}, {}, "failed"),
        ("HorizontalPodAutoscaler", {}, {}, "failed"),
        # Where the account sees no ScaledObject.
        ("HorizontalPodAutoscaler", {"minReplicas": 1}, {"ownerReferences": [{"kind": "ScaledObject"}]}, "skipped"),
    ],
)
def test_an_app_without_pods_that_has_an_autoscaler(kind, spec, meta, status):
    """Not every autoscaler goes down to nothing: then somebody else has."""
    found = deployment(replicas=0, updatedReplicas=0, availableReplicas=0)
    found["spec"]["replicas"] = 0
    result = judge_rollout(found, [], [{"kind": kind, "metadata": {"name": "shop", **meta}, "spec": spec}])
    assert (result.status, f"{kind} shop" in result.evidence + result.cause) == (status, True)


def ago(seconds):
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


CREATING = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
REFUSED = {"conditions": [{"type": "ReplicaFailure", "status": "True"}]}


@pytest.mark.parametrize(
    ("status", "second", "age", "well"),
    [
        ({}, CREATING, 20, True),
        ({"replicas": 1, "updatedReplicas": 1}, None, 0, True),  # the next pod has yet to be made
        ({}, CREATING, 700, False),
        ({}, {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}, 20, False),
        ({}, {"containerStatuses": [{"state": {"running": {}}, "restartCount": 1}]}, 20, False),
        ({}, {"conditions": [{"type": "PodScheduled", "status": "False"}]}, 20, False),
        ({"updatedReplicas": 1}, CREATING, 20, False),  # a new version, which no autoscaler brings
        ({"replicas": 1, "updatedReplicas": 1, **REFUSED}, None, 0, False),
    ],
)
def test_rollout_while_an_autoscaler_adds_pods(status, second, age, well):
    found, pods = deployment(**{"availableReplicas": 1, **status}), [pod()]
    if second:
        pods.append(pod("pod-2", ready="False", **second))
        pods[1]["metadata"]["creationTimestamp"] = ago(age)
    result = judge_rollout(found, pods, [scaler("HorizontalPodAutoscaler")])
    assert (result.status == "ok", "HorizontalPodAutoscaler shop" in result.evidence) == (well, True)
    assert judge_rollout(found, pods, []).status == "failed"


@pytest.mark.parametrize(
    ("kind", "condition", "since", "well"),
    [
        ("HorizontalPodAutoscaler", {"type": "ScalingActive"}, 300, False),
        ("HorizontalPodAutoscaler", {"type": "AbleToScale"}, 300, False),
        ("HorizontalPodAutoscaler", {"type": "ScalingActive"}, 20, True),
        ("HorizontalPodAutoscaler", {"type": "ScalingActive", "reason": "ScalingDisabled"}, 300, True),
        ("HorizontalPodAutoscaler", {"type": "ScalingLimited"}, 300, True),
        ("ScaledObject", {"type": "Ready"}, None, False),
        ("ScaledObject", {"type": "Active"}, None, True),
    ],
)
def test_rollout_of_an_autoscaler_that_does_not_work(kind, condition, since, well):
    told = {"status": "False", "message": "no metrics", **condition}
    if since:
        told["lastTransitionTime"] = ago(since)
    result = judge_rollout(deployment(), [pod(), pod("pod-2")], [scaler(kind, told)])
    assert (result.status == "ok", f"{kind} shop can't scale: no metrics" in result.cause) == (well, not well)
    whole = scaler(kind, {"type": condition["type"], "status": "True"})
    assert judge_rollout(deployment(), [pod(), pod("pod-2")], [whole]).status == "ok"


def test_what_needs_pods_is_skipped_where_there_are_to_be_none():
    names = ("node", "endpoint", "health", "metric duration", "loki", "log alerts", "dashboards", "rules", "check at pingdom")
    found = [result.failed(name, "", "broken") for name in names]
    chain.explain([*found, result.skipped("rollout", "scaled to 0 by ScaledObject shop")])
    assert [r.link for r in found if r.status == "failed"] == ["node", "rules", "check at pingdom"]
    skipped = [r for r in found if r.status == "skipped"]
    assert {(r.evidence, r.cause, r.follows) for r in skipped} == {("scaled to 0 by ScaledObject shop", "", "")}


def test_nobody_waits_for_what_needs_pods_where_there_are_to_be_none():
    asked, run = [], SimpleNamespace(followed=lambda look: look.follow())
    for link in chain.CHAIN:
        found = dataclasses.replace(link, look=lambda _run, link=link: asked.append(link) or []).follow(run, "replicas is 0")
        assert link in asked or {(r.status, r.evidence) for r in found} == {("skipped", "replicas is 0")}
    followed = {row for link in asked for row in link.rows}
    assert {"node", "probes", "promise", "log agent", "loki", "prometheus", "rules", "alert path", "check at ..."} <= followed
    assert not followed & {
        "endpoint",
        "health",
        "metric requests",
        "logs",
        "log alerts",
        "health probe",
        "dashboards",
        "dead rules",
    }


def test_rollout_names_the_pods_reason():
    waiting = {"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "image is not present"}}}
    broken = pod(ready="False", containerStatuses=[waiting])
    found = judge_rollout(deployment(availableReplicas=1), [broken], [])
    assert "ErrImageNeverPull (image is not present)" in found.cause


PAGE = """\
python_info{version="3.11"} 1.0
# HELP flask_http_request_total Total number of HTTP requests
# TYPE flask_http_request_total counter
flask_http_request_total{method="GET",status="200"} 3.0
flask_http_request_total{method="GET",status="404"} 1.0
flask_http_request_duration_seconds_bucket{le="+Inf",path="/a b}"} 4.0
flask_http_request_duration_seconds_count{path="/a b}"} 4.0
flask_http_request_duration_seconds_sum{path="/a b}"} 0.1
# HELP flask_http_request_exceptions_total Total number of exceptions
# TYPE flask_http_request_exceptions_total counter
"""
BARE = "\n".join(line for line in PAGE.splitlines() if "exceptions" not in line)


def statuses(pages, problems=None):
    return [r.status for r in judge_metrics(pages, problems or {})]


def test_metrics():
    found = judge_metrics({"a": PAGE, "b": PAGE}, {})
    assert [r.status for r in found] == ["ok", "ok", "ok"]
    assert "is 8 over 2 pods" in found[0].evidence
    assert "none yet" in found[2].evidence


def test_metrics_with_an_exception():
    found = judge_metrics({"a": PAGE + 'flask_http_request_exceptions_total{status="500"} 2.0\n'}, {})
    assert "is 2 over" in found[2].evidence


def test_openmetrics_declares_without_total():
    assert statuses({"a": BARE + "\n# TYPE flask_http_request_exceptions counter\n"})[2] == "ok"


def test_exceptions_unknown_yet_in_several_processes():
    assert statuses({"a": BARE.replace("python_info", "other")})[2] == "skipped"


def test_exceptions_absent():
    assert statuses({"a": PAGE, "b": BARE}) == ["ok", "ok", "failed"]


def test_count_declared_but_without_a_sample():
    page = "\n".join(line for line in PAGE.splitlines() if not line.startswith("flask_http_request_total"))
    found = judge_metrics({"a": PAGE, "b": page}, {})
    assert [r.status for r in found] == ["failed", "ok", "ok"]
    assert found[0].cause == "b serves no flask_http_request_total"


def test_duration_absent():
    assert statuses({"a": PAGE.replace("duration_seconds_sum", "other")}) == ["ok", "failed", "ok"]


def test_metrics_of_nobody_or_unreadable():
    assert statuses({}) == ["failed"] * 3
    assert statuses({"a": PAGE}, {"b": "refused"}) == ["failed"] * 3


def test_service_port():
    service = {"spec": {"ports": [{"port": 9200, "targetPort": 9200}, {"port": 80, "targetPort": "http"}]}}
    assert facts.port_entry(service, 5000, container(deployment()))["port"] == 80
    assert facts.port_entry(service, 8080, container(deployment())) is None


@pytest.mark.parametrize(
    ("ingress", "address"),
    [([{"ip": "10.0.0.1"}], "10.0.0.1"), ([{"hostname": "a.b"}], "a.b"), ([{"ip": "::1"}], "[::1]"), (None, "")],
)
def test_load_balancer_address(ingress, address):
    assert facts.load_balancer_address({"status": {"loadBalancer": {"ingress": ingress}}}) == address
