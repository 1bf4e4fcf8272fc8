# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring stage without anything to do, beside Helm and kubectl doing the same: `python -m tests.bench.monitoring`."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from . import common

RUNS = 5
GOAL = 1.0
RELEASES = ("kube-prometheus-stack", "prometheus-blackbox-exporter")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops"
APP = "app.kubernetes.io/part-of=flaskops-app-monitoring"
# What the stage makes itself, beside the releases: kinds, labels, and a part of namespace and name.
OWN = (
    ("namespaces,deployments,services,secrets", "app.kubernetes.io/managed-by=flaskops", "monitoring"),
    ("servicemonitors,probes,prometheusrules,alertmanagerconfigs,configmaps", APP, ""),
    ("customresourcedefinitions", "", "monitoring.coreos.com"),
)


def program(name: str, component: str) -> str:
    """The machine's own program, else the one that the role uses."""
    found = shutil.which(name) or next((str(path) for path in (CACHE / "bin").glob(f"{component}-*/{name}")), "")
    if not found:
        raise common.StepFailed(f"There is no {name} on this machine, though the stage has run: look into {CACHE}/bin.")
    return found


def ask(*words: str) -> Any:
    """Run a program that answers in JSON."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise common.StepFailed(f"'{' '.join(words)}' failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def objects(kubectl: list[str]) -> list[dict[str, Any]]:
    """The objects of the stage as they would be written in a file."""
    found = []
    for kinds, labels, part in OWN:
        selector = [f"--selector={labels}"] if labels else []
        for item in ask(*kubectl, "get", kinds, "--all-namespaces", *selector, "--output=json")["items"]:
            meta = item["metadata"]
            if part in f"{meta.get('namespace', '')} {meta['name']}":
                item["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
                item.pop("status", None)
                found.append(item)
    return found


def folder(chart: str) -> Path:
    """Where a chart lies, named with its version as `helm list` does: in this project, or where the role has pulled it."""
    for file in (*(common.ROOT / "charts").glob("*/Chart.yaml"), *(CACHE / "charts").glob("*/*/Chart.yaml")):
        found = yaml.safe_load(file.read_text())
        if f"{found['name']}-{found['version']}" == chart:
            return file.parent
    raise common.StepFailed(f"The chart {chart} is neither in this project nor in {CACHE}/charts.")


def main() -> int:
    """Make the cluster and its monitoring, time both ways by turns, print the ratio, and remove the cluster."""
    print(f"The monitoring stage without anything to do ({common.machine()})")
    try:
        common.playbook("monitoring up", "site.yml", "--tags", "cluster,image,app,monitoring")
        where = ["--kubeconfig", str(common.KUBECONFIG)]
        kubectl = [program("kubectl", "kubernetes"), *where, "--context", common.HOST]
        helm = [program("helm", "helm"), *where, "--kube-context", common.HOST, "--namespace", "monitoring"]
        commands = {}
        for release in ask(*helm, "list", "--output=json"):
            name, chart = release["name"], str(folder(release["chart"]))
            values = common.LOGS / f"values-{name}.json"
            values.write_text(json.dumps(ask(*helm, "get", "values", name, "--output=json")))
            commands[f"helm {name}"] = [*helm, "upgrade", "--install", name, chart, "--values", str(values)]
        if len(commands) != len(RELEASES):
            raise common.StepFailed(f"The releases are {', '.join(commands)}: expected {', '.join(RELEASES)}.")
        file = common.LOGS / "objects.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(kubectl)}))
        commands["kubectl apply"] = [*kubectl, "apply", "--server-side", "--force-conflicts", "--filename", str(file)]

        ours: list[float] = []
        theirs: dict[str, list[float]] = {step: [] for step in commands}
        for _ in range(RUNS):
            seconds, output = common.playbook("monitoring again", "site.yml", "--tags", "monitoring")
            if not re.search(r"changed=0 .*failed=0", output):
                raise common.StepFailed(f"The second run changed something: read {common.LOGS}/monitoring-again.log.")
            ours.append(seconds)
            for step, command in commands.items():
                theirs[step].append(common.run(step, command)[0])
        common.playbook("monitoring down", "playbooks/teardown.yml")
    except (common.StepFailed, common.EngineError, client.ApiException, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    number = len(json.loads(file.read_text())["items"])
    parts = {step: statistics.median(times) for step, times in theirs.items()}
    ratio = statistics.median(our / sum(pair) for our, pair in zip(ours, zip(*theirs.values(), strict=True), strict=True))
    rows = [["monitoring stage again", f"{statistics.median(ours):.1f} s", "-", f"0 changed, median of {RUNS}"]]
    rows += [[step, f"{took:.1f} s", "-", f"{number} objects" if step == "kubectl apply" else ""] for step, took in parts.items()]
    rows.append(["ratio", f"{ratio:.2f}", f"below {GOAL}", "stage : Helm and kubectl"])
    print("\n" + common.table(["step", "measured", "goal", "remarks"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
