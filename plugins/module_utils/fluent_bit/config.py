# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Fluent Bit configuration of role fluent_bit, as data. Private to this collection.

Options are the role's variables without their prefix. A value that decides whether lines can get lost has its reason beside it;
the reasons come from the plugins' source (fluent/fluent-bit v5.1.1) and from loss tests on a real cluster.
"""

from __future__ import annotations

from typing import Any

from .. import log_lines
from . import outputs

LOGS = "/var/log/pods"
STATE = "/fluent-bit/state"  # the host's folder, as the container sees it
TAG = "kube"
TAG_PARSER = "kubernetes_tag"
PATH_PARSER = "pod_path"
COUNTERS = "line_counters"
PYTHON_PARSER = "python_traceback"
LEVEL_PARSERS = [f"level_{form}" for form in log_lines.LEVEL]
REQUEST_ID_PARSER = "request_id_json"
RESERVED_PARSERS = [TAG_PARSER, PATH_PARSER, PYTHON_PARSER, *LEVEL_PARSERS, REQUEST_ID_PARSER]

Plugin = dict[str, Any]


def service(options: Plugin, port: int) -> Plugin:
    """Return the section `service`; `port` is that of the metrics."""
    return {
        "flush": 1,
        "grace": 20,
        "log_level": options["log_level"],
        "http_server": True,
        "http_listen": "0.0.0.0",
        "http_port": port,
        "storage.path": f"{STATE}/chunks",
        "storage.sync": "normal",
        "storage.metrics": True,
        "storage.max_chunks_up": 128,
        # The default of 5M drains what an outage left too slowly.
        "storage.backlog.mem_limit": "64M",
        # A chunk that a backend refuses permanently, or whose retries are used up, is kept below STATE/chunks/rejected.
        "storage.keep.rejected": True,
        "storage.rejected.path": "rejected",
        "storage.rejected.limit": options["rejected_limit"],
        # The default lets a retry wait for up to 2000 s after the backend has come back.
        "scheduler.base": 1,
        "scheduler.cap": 15,
    }


def _tail(name: str, options: Plugin) -> Plugin:
    """Return what makes a tail input lose nothing."""
    return {
        "name": "tail",
        "alias": name,
        "db": f"{STATE}/{name}.db",
        "db.locking": True,
        "db.sync": "normal",
        # Without it whatever is in a file before the agent sees it first is skipped.
        "read_from_head": True,
        "refresh_interval": 2,
        # A rotated file is followed until it is deleted. After this time the plugin would forget its offset, find the file
        # again and read it a second time.
        "rotate_wait": "365d",
        "buffer_chunk_size": "128k",
        "buffer_max_size": "1M",
        "storage.type": "filesystem",
        "storage.pause_on_chunks_overlimit": options["buffer_policy"] == "pause",
    }


def pod_input(options: Plugin) -> Plugin:
    """Return the input that reads the logs of all pods."""
    own = f"{LOGS}/{options['namespace']}_{options['name']}-?????_*"
    excluded = [f"{LOGS}/{name}_*" for name in sorted(options["excluded_namespaces"])]
    entry = {
        **_tail("pods", options),
        # The last asterisk is for rotated files (0.log.20260131-120000): a rotation while the agent is away loses nothing.
        # kubelet compresses older ones; `.tmp` is one that it is compressing.
        "path": f"{LOGS}/*/*/*.log*",
        "exclude_path": ",".join(["*.gz", "*.tmp", own, *excluded]),
        "tag": f"{TAG}.<namespace_name>_<pod_name>_<container_name>",
        "tag_regex": rf"^{LOGS}/(?<namespace_name>[^_/]+)_(?<pod_name>[^_/]+)_[^_/]+/(?<container_name>[^/]+)/[0-9]+\.log",
        "multiline.parser": "cri",
        "path_key": "path",
    }
    if options["multiline_parsers"]:
        parsers = [PYTHON_PARSER if name == "python" else name for name in options["multiline_parsers"]]
        # As a processor, and not as a filter: there it hands a finished record straight to the input's own chunk, while a filter
        # keeps every line in an emitter's memory first, where a killed agent loses it.
        entry["processors"] = {
            "logs": [
                {
                    "name": "multiline",
                    "multiline.parser": ",".join(parsers),
                    "multiline.key_content": "log",
                    "flush_ms": 1000,
                    "emitter_storage.type": "filesystem",
                }
            ]
        }
    return entry


def host_input(log: Plugin, options: Plugin) -> Plugin:
    """Return an input for files of the node itself."""
    entry = {
        **_tail(f"host_{log['name']}", options),
        "path": ",".join(log["paths"]),
        "exclude_path": "*.gz,*.tmp",
        "tag": f"host.{log['name']}",
        "key": "log",
        "truncate_long_lines": True,
    }
    if log.get("parser"):
        entry["parser"] = log["parser"]
    return entry


def filters(options: Plugin) -> list[Plugin]:
    """Return the filters that give every record the fields of `outputs.FIELDS` and a message."""
    common = {"name": "parser", "match": "*", "key_name": "log", "preserve_key": True, "reserve_data": True}
    found: list[Plugin] = [
        # The names come from the path: while the API server does not answer, the kubernetes filter adds nothing at all.
        {**common, "match": f"{TAG}.*", "key_name": "path", "preserve_key": False, "parser": PATH_PARSER},
        {
            "name": "kubernetes",
            "alias": "kubernetes",
            "match": f"{TAG}.*",
            "kube_tag_prefix": f"{TAG}.",
            "regex_parser": TAG_PARSER,
            "merge_log": options["merge_json"],
            # Under a key of their own the application's fields can't overwrite ours.
            "merge_log_key": "data",
            "keep_log": True,
            "k8s-logging.parser": options["heed_annotations"],
            "k8s-logging.exclude": options["heed_annotations"],
            "labels": True,
            "annotations": False,
            # The default of 32k is less than many pods' specifications, whose labels would be missing then.
            "buffer_size": 0,
            # The default never forgets, so that the pod of a StatefulSet would keep the labels of its predecessor.
            "kube_meta_cache_ttl": "10m",
        },
        {"name": "nest", "match": f"{TAG}.*", "operation": "lift", "nested_under": "kubernetes", "add_prefix": "kubernetes_"},
        {"name": "nest", "match": f"{TAG}.*", "operation": "lift", "nested_under": "kubernetes_labels", "add_prefix": "label_"},
        {
            "name": "modify",
            "match": f"{TAG}.*",
            # The first name that exists wins.
            "rename": [
                "label_app app",
                "label_app.kubernetes.io/name app",
                "label_k8s-app app",
            ],
            "copy": "container app",
            "remove_wildcard": ["kubernetes_", "label_"],
            "remove": ["time", "_p"],
        },
    ]
    for log in options["host_logs"]:
        # The label contract holds for the node's own files too.
        fields = ["namespace node", f"app {log['name']}", f"container {log['name']}", "pod ${NODE_NAME}"]
        found.append({"name": "modify", "match": f"host.{log['name']}", "set": fields})
    found.append({**common, "parser": LEVEL_PARSERS})
    found.append({**common, "parser": REQUEST_ID_PARSER})
    found += _levels()
    found.append(
        {
            "name": "modify",
            "match": "*",
            "add": "level unknown",
            "set": [f"cluster {options['cluster_label']}", "node ${NODE_NAME}"],
            "hard_rename": "log message",
        }
    )
    return found


def _levels() -> list[Plugin]:
    """Return the filters by which a level is one of five, or unknown."""
    found: list[Plugin] = []
    for level, names in log_lines.LEVELS.items():
        condition = f"Key_value_matches level ^(?i:{names})$"
        found.append({"name": "modify", "match": "*", "condition": condition, "set": f"level {level}"})
    known = "|".join(log_lines.LEVELS)
    traceback = ["Key_does_not_exist level", "Key_value_matches log ^Traceback"]
    found.append({"name": "modify", "match": "*", "condition": traceback, "set": "level error"})
    # Five levels and no more: a label must not take whatever an application calls its level.
    found.append(
        {"name": "modify", "match": "*", "condition": f"Key_value_does_not_match level ^({known})$", "set": "level unknown"}
    )
    return found


def counters() -> list[Plugin]:
    """Return the filters that count lines and tracebacks, which the log alerts of role app_monitoring read.

    No label may grow: a series is never forgotten.
    """
    common = {
        "name": "log_to_metrics",
        "match": "*",
        "tag": COUNTERS,
        "metric_mode": "counter",
        "metric_namespace": "flaskops",
        "metric_subsystem": "log",
        # Without it each line costs as much as fifty with it.
        "flush_interval_sec": 1,
    }
    lines = {**common, "metric_name": "lines_total", "metric_description": "Lines by application and level"}
    traced = {**common, "metric_name": "tracebacks_total", "metric_description": "Python tracebacks by application"}
    return [
        lines | {"emitter_name": f"{COUNTERS}_lines", "label_field": ["namespace", "app", "level"]},
        traced
        | {
            "emitter_name": f"{COUNTERS}_tracebacks",
            "label_field": ["namespace", "app"],
            "regex": r"message Traceback \(most recent call last\)",
        },
    ]


def _onigmo(regex: str) -> str:
    """A regular expression of `log_lines` as Fluent Bit's engine has it."""
    return "^" + regex.replace("(?P<", "(?<")


def parsers(options: Plugin) -> list[Plugin]:
    """Return the parsers: ours first."""
    own = [
        (TAG_PARSER, r"^(?<namespace_name>[^_]+)_(?<pod_name>[^_]+)_(?<container_name>[^_]+)$"),
        (PATH_PARSER, rf"^{LOGS}/(?<namespace>[^_/]+)_(?<pod>[^_/]+)_[^_/]+/(?<container>[^/]+)/"),
        *((f"level_{form}", _onigmo(regex)) for form, regex in log_lines.LEVEL.items()),
        (REQUEST_ID_PARSER, _onigmo(log_lines.REQUEST_ID)),
    ]
    found: list[Plugin] = [{"name": name, "format": "regex", "regex": regex} for name, regex in own]
    for given in options["parsers"]:
        found.append({key: value for key, value in given.items() if value not in (None, "")})
    return found


def multiline_parsers() -> list[Plugin]:
    """Return the parser that makes one record of a Python traceback.

    The built-in one breaks at the marker lines (`~~~^^^`) of Python 3.11 and later, at chained exceptions and at groups of them.
    """
    entry = {
        "name": PYTHON_PARSER,
        "type": "regex",
        "flush_timeout": 1000,
        "key_content": "log",
        "key_group": "stream",
        "rules": [
            {"state": state or "start_state", "regex": f"/{_onigmo(regex)}/", "next_state": following}
            for state, regex, following in log_lines.TRACEBACK
        ],
    }
    return [entry]


def _read(options: Plugin) -> list[Plugin]:
    return [outputs.read(given, position) for position, given in enumerate(options["outputs"])]


def build(options: Plugin, output: Plugin, port: int, counters_port: int = 0) -> Plugin:
    """Return the whole configuration of the agent that sends to one output, as `outputs.read` returned it.

    :param counters_port: where it shows its counters of lines; 0 for an agent that does not count.
    """
    config: Plugin = {"service": service(options, port), "parsers": parsers(options)}
    if "python" in options["multiline_parsers"]:
        config["multiline_parsers"] = multiline_parsers()
    config["pipeline"] = {
        "inputs": [pod_input(options), *(host_input(log, options) for log in options["host_logs"])],
        "filters": filters(options),
        "outputs": [outputs.render(output, options["cluster_label"], options["buffer_limit"])],
    }
    if counters_port:
        config["pipeline"]["filters"] += counters()
        shown = {"name": "prometheus_exporter", "match": COUNTERS, "host": "0.0.0.0", "port": counters_port}
        config["pipeline"]["outputs"].append(shown)
    return config


def _environment(options: Plugin, output: Plugin, secret: str) -> list[Plugin]:
    """Return a container's environment variables, in Kubernetes' form; credentials are references to keys of the Secret."""
    variables = {outputs.variable(key): key for key in outputs.secret_keys(output)}
    if options["aws_static_keys"] and outputs.is_aws(output):
        variables |= {"AWS_ACCESS_KEY_ID": "aws-access-key-id", "AWS_SECRET_ACCESS_KEY": "aws-secret-access-key"}
    found: list[Plugin] = [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}]
    for name, key in sorted(variables.items()):
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return found


def agents(options: Plugin, secret: str) -> list[Plugin]:
    """Return the containers of the pod, one for each output; the options must have passed `checks.problems`.

    Outputs of one process share its chunks, of which only so many are in memory. One backend that is away soon holds them
    all, and the others get nothing (fluent/fluent-bit issues 4373 and 11370). So each output has a process of its own.
    """
    found = []
    given = _read(options)
    for position, output in enumerate(given):
        port = int(options["metrics_port"]) + position
        # Each agent reads every line, so that only one may count.
        counters_port = 0 if position else int(options["metrics_port"]) + len(given)
        found.append(
            {
                "name": outputs.container(output),
                "file": f"{output['name']}.yaml",
                "port": port,
                "port_name": f"metrics-{position}" if position else "metrics",
                "counters_port": counters_port,
                "config": build(options, output, port, counters_port),
                "environment": _environment(options, output, secret),
                "has_authority": bool(output.get("tls_ca")),
                "secret_files": sorted(set(outputs.secret_files(output))),
            }
        )
    return found


def authorities(options: Plugin) -> dict[str, str]:
    """Return the certificate authorities, by file name."""
    return {f"{output['name']}.crt": output["tls_ca"] for output in _read(options) if output.get("tls_ca")}


def backends(options: Plugin) -> list[Plugin]:
    """Return where each output sends to, for whoever looks for a line there; `login` is whether the backend asks for one."""
    found = []
    for output in _read(options):
        keys = ("type", "name", "host", "port", "tls", "index", "daily_index", "region", "log_group", "tenant")
        login = ("username", "api_key_secret", "bearer_token_secret", "aws_region")
        entry = {key: output[key] for key in keys if output.get(key)} | {"login": any(output.get(key) for key in login)}
        if output["type"] == "cloudwatch_logs":
            entry["log_group"] = outputs.log_group(output, options["cluster_label"])
        found.append(entry)
    return found


def _cloudwatch(options: Plugin) -> list[Plugin]:
    return [output for output in _read(options) if output["type"] == "cloudwatch_logs"]


def log_groups(options: Plugin) -> list[Plugin]:
    """Return the log groups that must be there before the first line, because the plugin can't make them: those with a key."""
    return [
        {
            "name": outputs.log_group(output, options["cluster_label"]),
            **{key: output[key] for key in ("region", "kms_key", "retention_days")},
        }
        for output in _cloudwatch(options)
        if output.get("kms_key")
    ]


def datasources(options: Plugin) -> list[Plugin]:
    """Return a Grafana data source for each output to CloudWatch, without credentials."""
    found = _cloudwatch(options)
    return [
        {
            "name": "CloudWatch" if len(found) == 1 else f"CloudWatch {output['name']}",
            "uid": "cloudwatch" if len(found) == 1 else f"cloudwatch-{output['name']}",
            "type": "cloudwatch",
            "access": "proxy",
            "jsonData": {
                "authType": "default",
                "defaultRegion": output["region"],
                # With a group for each namespace this is only where the others begin.
                "defaultLogGroups": [outputs.log_group(output, options["cluster_label"])],
            },
        }
        for output in found
    ]
