# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a line that a pod writes to the search, on the cluster that `site.yml` has made and with whichever shipper it has.

That is Fluent Bit where `make test FLUENT_BIT_IMAGE_ARCHIVE=...` names its image, else the collector of the embedded chart.
What only Fluent Bit can show is skipped without it, and counted at the end of the run.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from kubernetes import client

from tests.harness import LONG, ROOT, Cluster, playbook, start_program, until

sys.path.insert(0, str(ROOT / "tests/bench"))
import loss

NAMESPACE, APP = "log-suite", "log-writer"
CONTRACT = {"namespace", "app", "container", "cluster", "level"}
WITHOUT_FLUENT_BIT = "the image of Fluent Bit is not at hand: FLUENT_BIT_IMAGE_ARCHIVE names an archive of it"


@pytest.fixture(scope="module")
def logs(cluster: Cluster) -> Iterator[loss.Cluster]:
    def revive() -> None:
        done = playbook("site.yml", "--tags", "cluster")
        assert done.returncode == 0, done.stdout[-2000:]

    found = loss.Cluster(cluster.api, "victoria-logs/victoria-logs", "", f"{cluster.context}-node", revive)
    yield found
    loss.remove_namespace(found)
    # verify blames an agent that is killed again and again, rightly: the tests after these get one that never was.
    killed = found.pod().metadata.name
    found.evict()

    def replaced() -> bool:
        pod = found.pod()
        return pod.metadata.name != killed and all(status.ready for status in pod.status.container_statuses or [])

    until(replaced, 120, "a new log agent", passing=(loss.LossError,))


@pytest.fixture(scope="module")
def writer(cluster: Cluster, logs: loss.Cluster) -> Iterator[Callable[..., str]]:
    """Have a pod log what a Python program prints; the pod's name."""
    cluster.core.create_namespace({"metadata": {"name": NAMESPACE}})
    yield lambda program, labels=None: start_program(
        cluster, NAMESPACE, program, {"app": APP} if labels is None else labels, logs.image()
    )
    cluster.core.delete_namespace(NAMESPACE)


@pytest.fixture
def fluent_bit(logs: loss.Cluster) -> loss.Cluster:
    if "fluent-bit" not in logs.shipper:
        pytest.skip(WITHOUT_FLUENT_BIT)
    return logs


def test_an_application_s_line_is_found_within_five_seconds(cluster: Cluster, logs: loss.Cluster) -> None:
    """The median of 20 requests to the reference application, from the request to the answer, and the labels of each."""
    address, seconds = cluster.address("flask-app", "flask-app"), []
    for _ in range(20):
        request = uuid.uuid4().hex
        begin = time.monotonic()
        urllib.request.urlopen(urllib.request.Request(f"http://{address}/", headers={"X-Request-ID": request}), timeout=10).read()
        query = f'{{namespace="flask-app",app="flask-app"}} request_id:="{request}"'
        found = until(lambda query=query: logs.lines(query), 30, "the line's arrival", 0.1)
        seconds.append(time.monotonic() - begin)
        labels, text = found[0]
        assert json.loads(text)["request_id"] == request
        contract = {"namespace": "flask-app", "app": "flask-app", "container": "flask-app", "cluster": cluster.context}
        assert {key: labels[key] for key in CONTRACT} == {**contract, "level": "info"}
        assert labels["pod"].startswith("flask-app-") and labels["stream"] in ("stdout", "stderr") and labels["node"]
    median = statistics.median(seconds)
    print(f"\n{logs.shipper}: from the request to the line found: median {median:.2f} s, slowest {max(seconds):.2f} s of 20")
    assert median < 5


def test_streams_have_the_labels_of_the_contract_and_no_others(logs: loss.Cluster) -> None:
    rows = logs.query('_time:1h {namespace="flask-app"} | uniq by (_stream)')
    streams = [set(re.findall(r'(\w+)="', row["_stream"])) for row in rows]
    assert streams and all(stream == CONTRACT for stream in streams)


def test_fields_of_a_json_line_are_searched(logs: loss.Cluster, writer: Callable[..., str]) -> None:
    word = uuid.uuid4().hex
    writer(f"import json; [print(json.dumps(dict(level='ERROR', message='{word}', size=n, deep=dict(key=n)))) for n in (1, 20)]")
    stream = f'{{namespace="{NAMESPACE}",app="{APP}",level="error"}} {word}'
    query = f'{stream} | unpack_json from _msg | filter message:="{word}" size:>10 deep.key:=20'
    ((_labels, text),) = until(lambda: logs.lines(query), 60, "the line's arrival")
    assert json.loads(text) == {"level": "ERROR", "message": word, "size": 20, "deep": {"key": 20}}


def test_long_lines_and_tracebacks_are_one_record(logs: loss.Cluster, writer: Callable[..., str]) -> None:
    """containerd cuts at 16 KiB, and both streams write at once."""
    pod = writer(
        "import sys, traceback\n"
        "print('long ' + 'x' * 100_000 + ' end')\n"
        "print('wrong ' + 'y' * 100_000 + ' end', file=sys.stderr)\n"
        "try:\n    {}['key']\n"
        "except KeyError:\n    traceback.print_exc()\n"
    )
    query = f'{{namespace="{NAMESPACE}",app="{APP}"}} pod:="{pod}"'
    found = until(lambda: len(got := logs.lines(query)) >= 3 and got, 60, "the lines' arrival")
    texts = sorted(text for _, text in found)
    assert len(texts) == 3
    assert texts[1] == "long " + "x" * 100_000 + " end" and texts[2] == "wrong " + "y" * 100_000 + " end"
    assert texts[0].startswith("Traceback") and texts[0].endswith("KeyError: 'key'")
    assert [labels["level"] for labels, text in found if text.startswith("Traceback")] == ["error"]


def test_label_of_a_pod_without_the_label_app(logs: loss.Cluster, writer: Callable[..., str]) -> None:
    for labels, app in (({"app.kubernetes.io/name": "shop"}, "shop"), ({}, "main")):
        pod = writer("print('hello')", labels)
        query = f'{{namespace="{NAMESPACE}"}} pod:="{pod}"'
        ((found, _),) = until(lambda query=query: logs.lines(query), 60, "the line's arrival")
        assert found["app"] == app


def test_counters_are_exact(cluster: Cluster, logs: loss.Cluster, writer: Callable[..., str]) -> None:
    """100,000 lines of 5 applications in 5 levels and 100 tracebacks, as the log agent's page counts them for Prometheus."""
    if "collector" not in logs.shipper:
        pytest.skip("Fluent Bit's counters are read by hand")

    def counted() -> dict[str, dict[str, float]]:
        pod, found = logs.pod().metadata, defaultdict[str, dict[str, float]](dict)
        _status, page = logs.raw.fetch(f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}:9102/proxy/metrics")
        series = rf'^flaskops_log_(\w+)_total{{namespace="{NAMESPACE}",app="(counted-\d)"(?:,level="(\w+)")?}} (\d+)$'
        for name, app, level, value in re.findall(series, page, re.M):
            found[app][level or name] = float(value)
        return found

    program = (
        "import time, traceback\n"
        "for n in range(4000):\n"
        "    for level in ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'):\n"
        "        print(level, n)\n"
        "for n in range(20):\n"
        "    try:\n        1 / 0\n"
        "    except ZeroDivisionError:\n        traceback.print_exc()\n"
        "    print('INFO next', flush=True)\n"
        "    time.sleep(0.05)\n"
    )
    apps = [f"counted-{number}" for number in range(5)]
    for app in apps:
        writer(program, {"app": app})
    wanted = {"debug": 4000, "info": 4020, "warning": 4000, "error": 4020, "critical": 4000, "unknown": 0, "tracebacks": 20}
    until(lambda: counted() == dict.fromkeys(apps, wanted), 120, f"the counters {wanted} of each application")


def lost(logs: loss.Cluster, fault: str) -> None:
    lines, padding = loss.sizes(fault, 100_000, 5_000, 100)
    result = loss.measure(logs, fault, lines, 5_000, padding, logs.image())
    print(f"\n{logs.shipper}: {result}")
    assert not result.missing
    assert "collector" not in logs.shipper or not result.duplicates
    assert result.written >= 1000, "the fault came before there was anything to lose"


def test_no_line_is_lost_when_agent_and_back_end_are_killed(logs: loss.Cluster) -> None:
    lost(logs, "kill" if "fluent-bit" in logs.shipper else "both_killed")


# The node last: it takes everything with it.
@LONG
@pytest.mark.parametrize("fault", ["kill", "store_kill", "evict", "outage", "outage_and_kill", "rotation", "node_kill"])
def test_no_line_is_lost(logs: loss.Cluster, fault: str) -> None:
    if fault == "store_kill" and "fluent-bit" in logs.shipper:
        pytest.skip("VictoriaLogs has no write-ahead log, and Fluent Bit sends each line once")
    lost(logs, fault)


def test_fluent_bit_runs_and_counts(cluster: Cluster, fluent_bit: loss.Cluster) -> None:
    """Ready on every node, its configuration accepted by itself, and nothing dropped after the loss test."""
    daemon_set = cluster.apps.read_namespaced_daemon_set(fluent_bit.shipper, fluent_bit.shipper_namespace)
    assert daemon_set.status.number_ready == daemon_set.status.desired_number_scheduled >= 1
    (check,) = fluent_bit.pod().status.init_container_statuses
    assert check.state.terminated.exit_code == 0
    name, path = f"{fluent_bit.shipper}:metrics", "api/v2/metrics/prometheus"
    text = client.CoreV1Api(cluster.api).connect_get_namespaced_service_proxy_with_path(name, fluent_bit.shipper_namespace, path)
    counted = {line.split("{")[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("fluentbit_output_")}
    assert counted["fluentbit_output_proc_records_total"] > 0
    assert counted.get("fluentbit_output_dropped_records_total", 0) == 0
