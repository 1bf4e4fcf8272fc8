# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why series that a rule asks for may be missing on a healthy cluster: a closed list, each entry with its reason.

What is not here is not known to be quiet. An entry belongs here when the program that serves a series is known to serve it only
after something happened, or only where something exists.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

# The series begin with what they count. The patterns are of whole names.
BORN = {
    r"flask_http_request_exceptions_total": "the application has raised no exception yet",
    r"flask_http_request_(total|duration_seconds_(bucket|count|sum))": "no request was answered yet",
    r"kube_pod_(init_)?container_status_((waiting|terminated|last_terminated)_reason|last_terminated_(exitcode|timestamp))": (
        "no container waits or has been terminated"
    ),
    r"kube_pod_(status_reason|status_unschedulable|deletion_timestamp)": "no pod is in that state",
    r"kube_pod_container_resource_(limits|requests)": "no pod asks for resources or limits them",
    r"kube_pod_spec_volumes_persistentvolumeclaims_(info|readonly)": "no pod has a volume claim",
    r"kube_node_spec_taint": "no node has a taint",
    r"kube_(job_(failed|complete|status_(failed|succeeded|completion_time)|spec_active_deadline_seconds)|job_complete)": (
        "no Job has ended so"
    ),
    r"kube_cronjob_(status_last_(schedule|successful)_time|next_schedule_time)": "no CronJob was due yet",
    r"kube_(namespace_status_condition|namespace_deletion_timestamp|deployment_deletion_timestamp)": "nothing is being deleted",
    r"kube_service_(spec_external_ip|status_load_balancer_ingress)": "no Service has an outside address",
    r"kubelet_evictions|kubelet_(certificate_manager_client|server)_expiration_renew_errors": "the kubelet has met none",
    r"kubelet_certificate_manager_(client|server)_ttl_seconds": "the kubelet does not renew its certificate",
    r"aggregator_unavailable_apiservice(_total)?|apiserver_request_terminations_total": "the API server has met none",
    r"apiserver_client_certificate_expiration_seconds_(bucket|count|sum)": "nobody logs in with a certificate",
    r"alertmanager_cluster_(failed_peers|members|health_score|peers_joined_total)": "Alertmanager has no peers",
    r"container_cpu_cfs_(periods|throttled_periods|throttled_seconds)_total": "no container has a limit of CPU",
    r"prometheus_sd_refresh_(failures_total|duration_(histogram_)?seconds(_bucket|_count|_sum)?)": (
        "Prometheus finds no target by a discovery that it repeats"
    ),
    r"flaskops_verify_lines_(missing|late|double)_total": "a scheduled verification has not counted it yet",
    r"flaskops_verify_(link_ok|link_follows|last_run_timestamp_seconds|errors_total)": "no scheduled verification has ended yet",
    r"flaskops_log_(tracebacks|lines)_total": "no such line was logged yet",
    r"loki_discarded_samples_total": "Loki has refused no line",
    r"vl_(rows_dropped|too_long_lines_skipped)_total": "VictoriaLogs has dropped no line",
    r"log_collector_(rejected_records_total|spool_oldest_seconds)": "the log collector has met none",
    r"fluentbit_output_(dropped_records|retries_failed|errors|retries)_total": "Fluent Bit has met none",
    r"fluentbit_output_chunk_available_capacity_percent|fluentbit_input_ingestion_paused": "Fluent Bit buffers in memory",
    r"ALERTS(_FOR_STATE)?": "no alert fires",
}
_HARDWARE = "no node has what this collector of the node exporter reads, or it is off"
_COLLECTORS = (
    "arp bcache bonding btrfs cooling_device cpu_core_throttles cpu_guest cpu_package_throttles cpu_scaling disk drbd edac"
    " entropy ethtool fibrechannel filefd hwmon infiniband ipvs md mountstats netstat nf_conntrack nfs nfsd nvme power_supply"
    " pressure rapl schedstat sockstat softnet systemd tape textfile thermal_zone timex udp_queues vmstat wifi xfs zfs"
)
# Series that are there together or not at all, by a pattern of how they begin.
FAMILIES = {
    "kubelet_volume_stats_": "no pod has a volume claim",
    "kubelet_certificate_": "the kubelet does not renew its certificate",
    # The few that it counts without a place to write to are not of the family.
    "prometheus_remote_storage_(?!(samples|histograms|exemplars)_in_total|highest_timestamp_in_seconds|string_interner_)": (
        "Prometheus writes nowhere else"
    ),
    **{f"node_{collector}_": _HARDWARE for collector in _COLLECTORS.split()},
}
# What the rules of the roles ask of programs that an installation may go without.
OPTIONAL = {
    "loki_": "no Loki is scraped",
    "vl_": "no VictoriaLogs is scraped",
    "vm_": "no VictoriaMetrics is scraped",
    "fluentbit_": "no Fluent Bit is scraped",
    "log_collector_": "no log collector is scraped",
    "flaskops_": "no scheduled verification and no log agent is scraped",
    "probe_": "nothing is probed",
    "http_requests_total": "no request was answered yet",
}
# kube-state-metrics has series for each object of a kind: where a cluster has no such object there are none. By the plural that
# its option --resources has.
KINDS = {
    "certificatesigningrequest": "certificatesigningrequests",
    "configmap": "configmaps",
    "cronjob": "cronjobs",
    "daemonset": "daemonsets",
    "deployment": "deployments",
    "endpoint": "endpoints",
    "endpointslice": "endpointslices",
    "horizontalpodautoscaler": "horizontalpodautoscalers",
    "ingress": "ingresses",
    "ingressclass": "ingressclasses",
    "job": "jobs",
    "lease": "leases",
    "limitrange": "limitranges",
    "mutatingwebhookconfiguration": "mutatingwebhookconfigurations",
    "networkpolicy": "networkpolicies",
    "persistentvolume": "persistentvolumes",
    "persistentvolumeclaim": "persistentvolumeclaims",
    "poddisruptionbudget": "poddisruptionbudgets",
    "replicaset": "replicasets",
    "replicationcontroller": "replicationcontrollers",
    "resourcequota": "resourcequotas",
    "secret": "secrets",
    "statefulset": "statefulsets",
    "storageclass": "storageclasses",
    "validatingwebhookconfiguration": "validatingwebhookconfigurations",
    "volumeattachment": "volumeattachments",
}
# Labels that say where something happens; and those of them whose values are there before anything happens.
LASTING = ("namespace", "job")
PLACES = (*LASTING, "pod", "container", "instance", "node", "app", "deployment", "service")
# It serves these only for labels and annotations that its options name.
ALLOWED = re.compile(r"kube_[a-z]+_(labels|annotations)")

_CODES = [str(code) for code in range(100, 600)]
_REASONS = (
    "CrashLoopBackOff ImagePullBackOff ErrImagePull ErrImageNeverPull InvalidImageName ContainerCreating PodInitializing"
    " CreateContainerConfigError CreateContainerError RunContainerError OOMKilled Error Completed ContainerCannotRun"
    " DeadlineExceeded BackoffLimitExceeded Evicted NodeLost NodeAffinity Shutdown UnexpectedAdmissionError StartError"
)
_STATUSES = (
    "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted"
    " FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated"
)
_LEVELS = "trace debug info notice warn warning error err critical crit fatal alert emergency panic"
_METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS LIST WATCH CONNECT APPLY"
# Labels whose values come with events: those that a label may get one day. None means that nobody can list them.
COMING: dict[str, list[str] | None] = {
    **dict.fromkeys(("status", "code", "status_code", "http_code", "response_code", "http_status"), _CODES),
    "grpc_code": _STATUSES.split(),
    "reason": _REASONS.split(),
    "severity": ["critical", "warning", "info", "none", "page", "error", "high", "low"],
    "alertstate": ["pending", "firing"],
    "level": _LEVELS.split(),
    **dict.fromkeys(("method", "verb"), _METHODS.split()),
    **dict.fromkeys(("exception", "exception_type", "error", "error_type", "alertname", "result", "outcome"), None),
}


@dataclass(frozen=True)
class Coming:
    """Values of a label that come with objects.

    :param metrics: a pattern of the metrics whose label it is. :param known: what Kubernetes itself has; anybody may add others.
    """

    metrics: str
    known: tuple[str, ...]
    why: str


_OWNERS = (
    *("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "Node", "Pod", "ReplicationController"),
    *("", "<none>"),  # of what nobody owns, as kube-state-metrics has it now and had it before
)
# By the label. kube-state-metrics has a value only as long as the cluster has an object with it.
OBJECTS = {
    "resource": Coming(
        r"kube_(pod_(init_)?container_resource_(limits|requests)|resourcequota|limitrange)",
        ("cpu", "memory", "ephemeral_storage", "storage", "pods"),
        "nothing on the cluster asks for such a resource or limits it",
    ),
    "owner_kind": Coming(r"kube_[a-z]+_owner", _OWNERS, "the cluster has nothing of such an owner"),
    "created_by_kind": Coming(r"kube_pod_info", _OWNERS, "the cluster has nothing of such an owner"),
    "type": Coming(
        r"kube_service_spec_type",
        ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "the cluster has no Service of such a type",
    ),
}


def of_objects(name: str, label: str) -> Coming | None:
    """What is known of a label whose values come with objects; None of any other one. :param name: the metric."""
    found = OBJECTS.get(label)
    return found if found and re.fullmatch(found.metrics, name) else None


def of_metric(name: str, names: Collection[str], ours: bool) -> str:
    """Why a metric has no series on a healthy cluster; empty where no reason is known.

    :param names: all metrics that have series. :param ours: whether a rule of this collection asks, whose programs are optional.
    """
    kind = re.match(r"kube_([a-z]+)(_|$)", name)
    if kind and kind[1] in KINDS and _served("kube_", names) and not any(re.match(rf"{kind[0]}", each) for each in names):
        return f"the cluster has no {KINDS[kind[1]]}"
    families = {**FAMILIES, **(OPTIONAL if ours else {})}
    for begin, reason in families.items():
        if re.match(begin, name) and not _served(begin, names):
            return reason
    return unborn(name)


def unborn(name: str) -> str:
    """Why a metric may have no series before something happens; empty where it has them from the start, as far as is known."""
    return next((reason for pattern, reason in BORN.items() if re.fullmatch(pattern, name)), "")


def _served(begin: str, names: Collection[str]) -> bool:
    return any(re.match(begin, name) for name in names)


def of_value(label: str, there: Collection[str]) -> list[str] | None:
    """The values that a label may get with an event, None where any may come; empty for a label that has all its values at once.

    :param there: the values that it has.
    """
    if label not in COMING:
        return []
    coming = COMING[label]
    if coming is _CODES and there and all(re.fullmatch(r"[1-5]xx", value) for value in there):
        return [f"{digit}xx" for digit in range(1, 6)]
    if label == "reason" and not any(value in (coming or ()) for value in there):
        return None  # not of a container
    return coming


def denied(workloads: list[dict[str, Any]]) -> dict[str, str]:
    """Patterns of the metrics that an exporter is told not to serve, each with the option that says so."""
    found = {}
    for item in workloads:
        for container in item["spec"]["template"]["spec"].get("containers") or []:
            exporter = next((name for name in EXPORTERS if name in f"{container.get('name')} {container.get('image')}"), "")
            for word in [*(container.get("command") or []), *(container.get("args") or [])] if exporter else []:
                option, _, value = word.partition("=")
                patterns = EXPORTERS[exporter](option, value.split(","))
                found.update(dict.fromkeys(patterns, f"{option} of {exporter}"))
    return found


def _of_objects(option: str, values: list[str]) -> list[str]:
    """What an option of kube-state-metrics omits."""
    if option in ("--metric-denylist", "--metric-blacklist"):
        return [f"^(?:{pattern})$" for pattern in values if _compiles(pattern)]
    if option in ("--metric-allowlist", "--metric-whitelist"):
        allowed = [f"(?!(?:{pattern})$)" for pattern in values if _compiles(pattern)]
        return [f"^{''.join(allowed)}kube_"] if allowed else []
    if option == "--resources":
        return [f"^kube_{kind}(_|$)" for kind, plural in KINDS.items() if plural not in values]
    return []


def _of_nodes(option: str, values: list[str]) -> list[str]:
    """What an option of the node exporter omits."""
    collector = option.removeprefix("--no-collector.")
    return [f"^node_{COLLECTORS.get(collector, f'{collector}_')}"] if collector != option and values == [""] else []


EXPORTERS = {"kube-state-metrics": _of_objects, "node-exporter": _of_nodes}
# What the series of a collector begin with, where that is not its name.
COLLECTORS = {"diskstats": "disk_", "meminfo": "memory_", "netdev": "network_", "netclass": "network_", "loadavg": "load"}


def _compiles(pattern: str) -> bool:
    try:
        return bool(pattern) and bool(re.compile(pattern))
    except re.error:  # Go's expressions are nearly Python's
        return False
