# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Grafana's data sources point at answers."""

from __future__ import annotations

import re
from urllib.parse import urlencode, urlsplit

from ...kube.transport import message_of
from ...monitoring.paths import service_path
from .. import log_stores
from ..facts import scalar
from ..result import Result, failed, ok, skipped
from ..run import Run

# What says that a data source is there, by Grafana's name of its type.
ALIVE = {
    "prometheus": "/api/v1/status/buildinfo",
    "alertmanager": "/api/v2/status",
    "loki": log_stores.STORES["loki"].alive,
    "victoriametrics-logs-datasource": log_stores.STORES["victoria_logs"].alive,
}


def look(run: Run) -> list[Result]:
    link, selector, stack = "data sources", "grafana_datasource", run.stack
    path = f"/api/v1/namespaces/{stack.namespace}/configmaps?{urlencode({'labelSelector': selector})}"
    maps = run.get(path).get("items", [])
    found = []
    for item in maps:
        for text in (item.get("data") or {}).values():
            # Provisioning files are lists of flat entries; a parser of YAML is not everywhere.
            for entry in re.split(r"^\s*- (?=\w+:)", text, flags=re.MULTILINE):
                kind, url = (scalar(entry, key) for key in ("type", "url"))
                if kind and "://" in url:
                    found.append((item["metadata"]["name"], kind, url))
    if not found:
        return [skipped(link, f"no data source of Grafana is provisioned in namespace {stack.namespace}")]
    seen, problems, shut = [], [], []
    for name, kind, url in found:
        parts = urlsplit(url)
        inside = re.fullmatch(r"([a-z0-9-]+)\.([a-z0-9-]+)(\.svc(\.[a-z0-9.-]+)?)?", parts.hostname or "")
        if not inside or kind not in ALIVE:
            continue
        scheme, port = ("https:", 443) if parts.scheme == "https" else ("", 80)
        base = service_path(inside[2], scheme + inside[1], parts.port or port, parts.path)
        status, text = run.cluster.fetch(base + ALIVE[kind], None, run.request_seconds())
        if status == 404 and not inside[3] and '"services' in text:
            continue  # a name of the outside world
        seen.append(f"{kind} at {url}")
        if status == 401:  # somebody is there, who takes a login that only Grafana has
            shut.append(f"{kind} at {url} asks for a login")
        elif status != 200:
            problems.append(
                f"the data source {kind} of the ConfigMap {name} points at {url}, which answers {status} {message_of(text)}"
            )
    query = f"GET {path} and each address"
    if problems:
        evidence = f"{len(seen) - len(problems)} of {len(seen)} data sources answer"
        command = stack.command("get", "configmaps", "-l", selector, "-o", "yaml")
        return [failed(link, evidence, "; ".join(problems), query, command)]
    if shut:
        return [
            skipped(link, f"{'; '.join(shut)}, so whether Grafana's is taken is not known; {len(seen) - len(shut)} others answer")
        ]
    return [ok(link, f"{', '.join(seen) or 'none inside the cluster'} answer", query)]
