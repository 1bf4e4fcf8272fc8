# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages without anything to do, beside Helm and kubectl doing the same: `python -m tests.bench.noop`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from kubernetes import client, config

from . import chain, common

RUNS = 5
# The tags of site.yml that are timed, with the goals: seconds, and times what is typed by hand.
STAGES: dict[str, tuple[float | None, float]] = {"app,monitoring,logging": (15.0, 2.0), "monitoring": (None, 1.0)}
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"
OURS = "app.kubernetes.io/managed-by=flaskops"
KINDS = (
    "namespaces,deployments,daemonsets,services,serviceaccounts,poddisruptionbudgets,networkpolicies,secrets,configmaps,"
    "servicemonitors,probes,prometheusrules,alertmanagerconfigs"
)
DEFINITIONS = "monitoring.coreos.com"
HERE = "counted"  # the names in the kubeconfig of the relay
MONITORING = "monitoring"  # the namespace of the stack


def program(name: str, component: str) -> str:
    """The machine's own program, else the one that the roles use."""
    found = shutil.which(name) or next((str(path) for path in (CACHE / "bin").glob(f"{component}-*/{name}")), "")
    if not found:
        raise common.StepFailed(f"There is no {name} on this machine, though the stages have run: look into {CACHE}/bin.")
    return found


def ask(*words: str) -> Any:
    """Run a program that answers in JSON."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise common.StepFailed(f"'{' '.join(words)}' failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def of_monitoring(item: dict[str, Any]) -> bool:
    """Whether the stage monitoring makes an object: the stack's, the application's monitoring, and the operator's definitions."""
    meta = item["metadata"]
    if meta.get("labels", {}).get("app.kubernetes.io/part-of") == "flaskops-app-monitoring" or DEFINITIONS in meta["name"]:
        return True
    return str(meta.get("namespace") or meta["name"]).startswith(MONITORING)


def objects(kubectl: list[str]) -> list[dict[str, Any]]:
    """The objects of all stages as they would be written in a file."""
    found = ask(*kubectl, "get", KINDS, "--all-namespaces", f"--selector={OURS}", "--output=json")["items"]
    definitions = ask(*kubectl, "get", "customresourcedefinitions", "--output=json")["items"]
    found += [item for item in definitions if DEFINITIONS in item["metadata"]["name"]]
    for item in found:
        meta = item["metadata"]
        item["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
        item.pop("status", None)
    return list(found)


def folder(chart: str) -> Path:
    """Where a chart lies, named with its version as `helm list` does: in this project, or where the role has pulled it."""
    for file in (*(common.ROOT / "charts").glob("*/Chart.yaml"), *(CACHE / "charts").glob("*/*/Chart.yaml")):
        found = yaml.safe_load(file.read_text())
        if f"{found['name']}-{found['version']}" == chart:
            return file.parent
    raise common.StepFailed(f"The chart {chart} is neither in this project nor in {CACHE}/charts.")


def by_hand(kubectl: list[str], helm: list[str]) -> dict[str, dict[str, list[str]]]:
    """What a careful person would type for each of STAGES: the names of the commands and their words."""
    releases: dict[str, tuple[str, list[str]]] = {}
    for release in ask(*helm, "list", "--all-namespaces", "--output=json"):
        name, place = release["name"], ["--namespace", release["namespace"]]
        values = common.LOGS / f"values-{name}.json"
        values.write_text(json.dumps(ask(*helm, *place, "get", "values", name, "--output=json")))
        words = [*helm, *place, "upgrade", "--install", name, str(folder(release["chart"])), "--values", str(values)]
        releases[f"helm {name}"] = release["namespace"], words
    if len(releases) < 2:
        raise common.StepFailed(f"The releases are {', '.join(releases)}: expected those of the stack at least.")
    every = objects(kubectl)
    found = {}
    for stage in STAGES:
        chosen = [item for item in every if stage != MONITORING or of_monitoring(item)]
        file = common.LOGS / f"objects-{stage.replace(',', '-')}.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": chosen}))
        commands = {name: words for name, (place, words) in releases.items() if stage != MONITORING or place == MONITORING}
        apply = [*kubectl, "apply", "--server-side", "--force-conflicts", "--filename", str(file)]
        found[stage] = commands | {f"kubectl apply of {len(chosen)} objects": apply}
    return found


@contextlib.contextmanager
def counted(kubeconfig: Path) -> Iterator[tuple[Path, Counter[str]]]:
    """A kubeconfig that leads to the same cluster by this process, which counts the requests: reads, dry runs and writes."""
    api = config.new_client_from_config(str(kubeconfig), context=common.HOST)
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            dry = "dryRun=All" in urlsplit(self.path).query
            kind = "read" if self.command in ("GET", "HEAD") else "dry run" if dry else "write"
            with lock:
                seen[kind] += 1
            sent = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")}
            pool = api.rest_client.pool_manager
            reply = pool.request(self.command, api.configuration.host + self.path, headers=sent, body=body, redirect=False)
            self.send_response(reply.status)
            for name in ("Content-Type", "Warning"):
                if name in reply.headers:
                    self.send_header(name, reply.headers[name])
            self.send_header("Content-Length", str(len(reply.data)))
            self.end_headers()
            self.wfile.write(reply.data)

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_words: Any) -> None:
            """Nothing: the counts say it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = {"cluster": HERE, "user": HERE}
    file = common.LOGS / "counted-kubeconfig"
    file.write_text(
        json.dumps(
            {
                "clusters": [{"name": HERE, "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": HERE, "user": {}}],
                "contexts": [{"name": common.HOST, "context": entry}],
                "current-context": common.HOST,
            }
        )
    )
    try:
        yield file, seen
    finally:
        server.shutdown()
        server.server_close()


def again(stage: str, *words: str) -> float:
    """The seconds of a stage that has nothing to do."""
    seconds, output = common.playbook(f"{stage.replace(',', ' ')} again", "site.yml", "--tags", stage, *words)
    if not re.search(r"changed=0 .*failed=0", output):
        raise common.StepFailed(f"A run with nothing to do changed something: read its log in {common.LOGS}.")
    return seconds


def main() -> int:
    """Make the cluster with all stages, time both ways by turns, print the ratios and the requests, and remove the cluster."""
    print(f"The stages without anything to do ({common.machine()})")
    rows: list[list[str]] = []
    try:
        common.playbook("all up", "site.yml", "--tags", "cluster,image,app,monitoring,logging")
        where = ["--kubeconfig", str(common.KUBECONFIG)]
        kubectl = [program("kubectl", "kubernetes"), *where, "--context", common.HOST]
        commands = by_hand(kubectl, [program("helm", "helm"), *where, "--kube-context", common.HOST])
        ours: dict[str, list[float]] = {stage: [] for stage in STAGES}
        theirs: dict[str, dict[str, list[float]]] = {stage: {name: [] for name in commands[stage]} for stage in STAGES}
        for _ in range(RUNS):
            for stage in STAGES:
                ours[stage].append(again(stage))
                for name, words in commands[stage].items():
                    theirs[stage][name].append(common.run(name, words)[0])
        for stage, (limit, goal) in STAGES.items():
            with counted(common.KUBECONFIG) as (kubeconfig, seen):
                again(stage, "-e", f"cluster_kubeconfig={kubeconfig}")
            pairs = list(zip(ours[stage], zip(*theirs[stage].values(), strict=True), strict=True))
            ratio = statistics.median(our / sum(hand) for our, hand in pairs)
            wanted = f"at most {limit:.0f} s" if limit else "-"
            requests = ", ".join(f"{seen[kind]} {kind}s" for kind in ("read", "dry run", "write"))
            rows.append([stage, f"{statistics.median(ours[stage]):.1f} s", wanted, f"0 changed, median of {RUNS}; {requests}"])
            for name, seconds in theirs[stage].items():
                rows.append([f"  {name}", f"{statistics.median(seconds):.1f} s", "-", ""])
            rows.append(["  ratio", f"{ratio:.2f}", f"at most {goal}", "stages : Helm and kubectl"])
        rows += chain.rows(RUNS)
        common.playbook("all down", "playbooks/teardown.yml")
    except (common.StepFailed, common.EngineError, client.ApiException, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if rows:
            print("\n" + common.table(["step", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
