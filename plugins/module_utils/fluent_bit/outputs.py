# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs of role fluent_bit: their typed options, and each one as the plugin's own keys. Private to this collection."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

TLS_FOLDER = "/fluent-bit/tls"  # certificate authorities, from the ConfigMap
SECRET_FOLDER = "/fluent-bit/secret"  # client certificates, from the Secret

Spec = dict[str, dict[str, Any]]

COMMON: Spec = {
    "type": {"type": "str", "required": True},
    "name": {"type": "str"},
    "namespaces": {"type": "list", "elements": "str", "default": []},
    "buffer_limit": {"type": "str"},
    "options": {"type": "dict", "default": {}},
}
TLS: Spec = {"tls_verify": {"type": "bool", "default": True}, "tls_ca": {"type": "str"}}
SERVER: Spec = {
    **TLS,
    "host": {"type": "str", "required": True},
    "tls": {"type": "bool", "default": False},
    "tls_certificate_secret": {"type": "str"},
    "tls_key_secret": {"type": "str"},
    "username": {"type": "str"},
    "password_secret": {"type": "str"},
}
# A bulk's rejected items are retried without an end unless the retries have one; a chunk that used them up is kept on disk.
# 5000 retries, at most 15 s apart, outlast about half a day of outage.
SEARCH: Spec = {
    **SERVER,
    "port": {"type": "int", "default": 9200},
    "path": {"type": "str"},
    "index": {"type": "str", "default": "logs-kubernetes-default"},
    "daily_index": {"type": "bool", "default": False},
    "retry_limit": {"type": "int", "default": 5000},
}
SPECS: dict[str, Spec] = {
    "loki": {
        **COMMON,
        **SERVER,
        "port": {"type": "int", "default": 3100},
        "tenant": {"type": "str"},
        "bearer_token_secret": {"type": "str"},
        "retry_limit": {"type": "int", "default": 0},
    },
    "victoria_logs": {
        **COMMON,
        **SERVER,
        "port": {"type": "int", "default": 9428},
        "path": {"type": "str", "default": ""},
        "tenant": {"type": "str"},
        "bearer_token_secret": {"type": "str"},
        "retry_limit": {"type": "int", "default": 0},
    },
    "cloudwatch_logs": {
        **COMMON,
        **TLS,
        "region": {"type": "str", "required": True},
        "log_group": {"type": "str"},
        "log_group_per_namespace": {"type": "bool", "default": False},
        "log_group_class": {"type": "str", "choices": ["STANDARD", "INFREQUENT_ACCESS"]},
        "log_stream_prefix": {"type": "str", "default": ""},
        "create_group": {"type": "bool", "default": True},
        "kms_key": {"type": "str"},
        "retention_days": {"type": "int", "default": 30},
        "role_arn": {"type": "str"},
        "external_id": {"type": "str"},
        "endpoint": {"type": "str"},
        "sts_endpoint": {"type": "str"},
        "port": {"type": "int", "default": 443},
        "retry_limit": {"type": "int", "default": 0},
    },
    "es": {**COMMON, **SEARCH, "api_key_secret": {"type": "str"}},
    "opensearch": {
        **COMMON,
        **SEARCH,
        "aws_region": {"type": "str"},
        "aws_service": {"type": "str", "choices": ["es", "aoss"], "default": "es"},
        "role_arn": {"type": "str"},
        "external_id": {"type": "str"},
    },
    "http": {
        **COMMON,
        **SERVER,
        "port": {"type": "int", "default": 80},
        "uri": {"type": "str", "default": "/"},
        "format": {"type": "str", "choices": ["json", "json_lines", "json_stream", "msgpack"], "default": "json_lines"},
        "bearer_token_secret": {"type": "str"},
        "retry_limit": {"type": "int", "default": 0},
    },
}
REQUIRED_TOGETHER = [("username", "password_secret"), ("tls_certificate_secret", "tls_key_secret")]

# What every record consists of when it reaches an output, in addition to the message. `docs/logging.md` explains the fields.
FIELDS = ["namespace", "app", "container", "cluster", "level", "pod", "node", "stream", "request_id", "data"]
LABELS = ["namespace", "app", "container", "cluster", "level"]
METADATA = ["pod", "node", "stream", "request_id"]


class OptionError(Exception):
    """What is wrong with an output's options, in one sentence."""


def label(given: Any, position: int) -> str:
    """Name an output the way its user finds it again."""
    name = given.get("name") or given.get("type") if isinstance(given, dict) else None
    return f"Output {name}" if name else f"Output number {position + 1}"


def read(given: Any, position: int = 0) -> dict[str, Any]:
    """Return an output's options, converted and with its type's defaults; an option that was not given is absent or None."""
    where = label(given, position)
    if not isinstance(given, dict):
        raise OptionError(f"{where} of fluent_bit_outputs is not a mapping: give it a type and its options.")
    kind = given.get("type")
    if kind not in SPECS:
        raise OptionError(f"{where} of fluent_bit_outputs has the type '{kind}': use one of {', '.join(sorted(SPECS))}.")
    spec = SPECS[kind]
    unknown = [name for name in given if name not in spec]
    if unknown:
        raise OptionError(
            f"{where} of fluent_bit_outputs has the option '{unknown[0]}', which the type {kind} does not know:"
            f" remove it, or put a key of the plugin's own under options."
        )
    given = {name: value for name, value in given.items() if value is not None}
    together = [pair for pair in REQUIRED_TOGETHER if set(pair) <= set(spec)]
    result = ArgumentSpecValidator(spec, required_together=together).validate(given)
    if result.error_messages:
        text = result.error_messages[0].rstrip(".")
        raise OptionError(f"{where} of fluent_bit_outputs can't be used: {text}.")
    read_options = dict(result.validated_parameters)
    read_options["name"] = read_options.get("name") or kind
    if read_options.get("kms_key"):
        # The plugin can't give a group a key, so the role makes it first.
        read_options["create_group"] = False
    return read_options


def container(output: dict[str, Any]) -> str:
    """Return the name of the container that ships to an output."""
    return str(output["name"]).replace("_", "-")


def is_aws(output: dict[str, Any]) -> bool:
    """Return whether an output logs in to AWS."""
    return output["type"] == "cloudwatch_logs" or bool(output.get("aws_region"))


def variable(key: str) -> str:
    """Return the environment variable that carries a key of the Secret."""
    return "SECRET_" + re.sub(r"[^A-Z0-9]", "_", key.upper())


def secret_keys(output: dict[str, Any]) -> list[str]:
    """Return the keys of the Secret that an output's environment needs."""
    return [str(output[n]) for n in ("password_secret", "bearer_token_secret", "api_key_secret") if output.get(n)]


def secret_files(output: dict[str, Any]) -> list[str]:
    """Return the keys of the Secret that an output reads as files."""
    return [str(output[n]) for n in ("tls_certificate_secret", "tls_key_secret") if output.get(n)]


def _reference(key: str) -> str:
    return "${" + variable(key) + "}"


def _tls(output: dict[str, Any]) -> dict[str, Any]:
    if output["type"] != "cloudwatch_logs" and not output["tls"]:
        return {}
    keys: dict[str, Any] = {"tls.verify": output["tls_verify"]}
    if output["type"] != "cloudwatch_logs":  # which always uses TLS, and refuses to be told so
        keys |= {"tls": True, "tls.verify_hostname": output["tls_verify"]}
    if output.get("tls_ca"):
        keys["tls.ca_file"] = f"{TLS_FOLDER}/{output['name']}.crt"
    if output.get("tls_certificate_secret"):
        keys["tls.crt_file"] = f"{SECRET_FOLDER}/{output['tls_certificate_secret']}"
        keys["tls.key_file"] = f"{SECRET_FOLDER}/{output['tls_key_secret']}"
    return keys


def _server(output: dict[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {"host": output["host"], "port": output["port"], **_tls(output)}
    if output.get("username"):
        keys |= {"http_user": output["username"], "http_passwd": _reference(output["password_secret"])}
    return keys


def _loki(output: dict[str, Any], cluster: str) -> dict[str, Any]:
    keys = {
        **_server(output),
        "labels": ",".join(f"{name}=${name}" for name in LABELS),
        "structured_metadata": ",".join(f"{name}=${name}" for name in METADATA),
        # Only the message is left of the record, and Loki gets it as the application wrote it.
        "remove_keys": ",".join(FIELDS),
        "drop_single_key": "raw",
        "line_format": "json",
        "compress": "gzip",
        "workers": 2,
    }
    if output.get("tenant"):
        keys["tenant_id"] = output["tenant"]
    if output.get("bearer_token_secret"):
        keys["bearer_token"] = _reference(output["bearer_token_secret"])
    return keys


def _victoria_logs(output: dict[str, Any], cluster: str) -> dict[str, Any]:
    # By Loki's protocol lines keep their nanoseconds, and may have 2 MiB by VictoriaLogs' own defaults.
    # Else a JSON line would be taken apart, and one without `_msg` would lose its text.
    uri = f"{output['path'].rstrip('/')}/insert/loki/api/v1/push?disable_message_parsing=1"
    return {**_loki(output, cluster), "uri": uri}


def log_group(output: dict[str, Any], cluster: str) -> str:
    """Return the log group of an output to CloudWatch, from options that `read` returned."""
    return str(output.get("log_group") or f"/kubernetes/{cluster}")


def _cloudwatch(output: dict[str, Any], cluster: str) -> dict[str, Any]:
    group = log_group(output, cluster)
    prefix = output["log_stream_prefix"]
    keys = {
        "region": output["region"],
        "log_group_name": group,
        # Where a template can't be filled the plugin falls back to this prefix and the tag.
        "log_stream_prefix": f"{prefix}other.",
        # After a variable the plugin takes a full stop or a comma, nothing else.
        "log_stream_template": f"{prefix}$namespace.$pod.$container",
        "auto_create_group": output["create_group"],
        "auto_retry_requests": True,
        "workers": 1,
        **_tls(output),
    }
    if output["log_group_per_namespace"]:
        keys["log_group_template"] = f"{group}/$namespace"
    if output["create_group"]:
        keys["log_retention_days"] = output["retention_days"]
        if output.get("log_group_class"):
            keys["log_group_class"] = output["log_group_class"]
    if output.get("endpoint"):
        keys |= {"endpoint": output["endpoint"], "port": output["port"]}
    return keys | {name: output[name] for name in ("role_arn", "external_id", "sts_endpoint") if output.get(name)}


def _search(output: dict[str, Any], cluster: str) -> dict[str, Any]:
    keys = {
        **_server(output),
        "suppress_type_name": True,
        "replace_dots": True,
        "time_key": "@timestamp",
        "time_key_nanos": True,
        "trace_error": True,
        # Must hold the answer to a whole bulk, or its failures can't be told.
        "buffer_size": "5M",
        "compress": "gzip",
        "workers": 2,
    }
    if output["daily_index"]:
        keys |= {"logstash_format": True, "logstash_prefix": output["index"]}
    else:
        keys |= {"logstash_format": False, "index": output["index"]}
    if output.get("path"):
        keys["path"] = output["path"]
    if output.get("api_key_secret"):
        keys["http_api_key"] = _reference(output["api_key_secret"])
    if output.get("aws_region"):
        keys |= {"aws_auth": True, "aws_region": output["aws_region"], "aws_service_name": output["aws_service"]}
        keys |= {f"aws_{name}": output[name] for name in ("role_arn", "external_id") if output.get(name)}
    return keys


def _http(output: dict[str, Any], cluster: str) -> dict[str, Any]:
    keys = {
        **_server(output),
        "uri": output["uri"],
        "format": output["format"],
        "json_date_key": "time",
        "json_date_format": "iso8601",
        "log_response_payload": False,
        "compress": "gzip",
        "workers": 2,
    }
    if output.get("bearer_token_secret"):
        keys["header"] = f"Authorization Bearer {_reference(output['bearer_token_secret'])}"
    return keys


PLUGINS = {
    "loki": _loki,
    "victoria_logs": _victoria_logs,
    "cloudwatch_logs": _cloudwatch,
    "es": _search,
    "opensearch": _search,
    "http": _http,
}


def render(output: dict[str, Any], cluster: str, buffer_limit: str) -> dict[str, Any]:
    """Return one entry of the configuration's outputs, from options that `read` returned."""
    # The plugin is called as the type, but for the one that speaks Loki's protocol.
    plugin = "loki" if output["type"] == "victoria_logs" else output["type"]
    keys: dict[str, Any] = {"name": plugin, "alias": output["name"]}
    if output["namespaces"]:
        names = "|".join(re.escape(name) for name in sorted(output["namespaces"]))
        keys["match_regex"] = rf"^kube\.({names})_"
    else:
        keys["match"] = "*"
    keys |= PLUGINS[output["type"]](output, cluster)
    keys["retry_limit"] = output["retry_limit"] or "no_limits"
    keys["storage.total_limit_size"] = output.get("buffer_limit") or buffer_limit
    return keys | output["options"]
