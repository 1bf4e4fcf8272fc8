# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""verify on the real cluster: a healthy chain is never blamed, and what is broken on purpose is found and named.

Each case of tests/cases/verify breaks one thing, waits until the breakage is there, and mends it whatever happens; the next
begins when the chain is whole again. A sample of them runs in `make test`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import VerifyError
from kubernetes import client

from tests.breakage import Bench, until
from tests.harness import LONG, Cluster
from tests.verify_cases import Case, load

LIMIT = 20.0  # seconds for the whole chain, without the test alert's own way


@pytest.fixture(scope="module")
def bench() -> Bench:
    path = os.environ.get("CLUSTER_KUBECONFIG")
    assert path, "CLUSTER_KUBECONFIG is not set; run these tests by `molecule test`."
    found = Bench(Cluster(Path(path), os.environ.get("CLUSTER_CONTEXT", "flaskops-test")))
    found.whole()
    return found


def healthy_run(bench: Bench) -> tuple[float, float]:
    """The seconds of the whole chain without the test alert, and those of the alert."""
    results = bench.verify()
    assert {name: r["cause"] for name, r in results.items() if r["status"] == "failed"} == {}
    assert [name for name, r in results.items() if r["status"] == "ok" and not (r["query"] and r["evidence"])] == []
    return max(r["seconds"] for name, r in results.items() if name != "alert path"), results["alert path"]["seconds"]


@pytest.mark.parametrize("runs", [3, pytest.param(50, marks=LONG)])
def test_a_healthy_chain_is_never_blamed_and_the_whole_is_quick(
    bench: Bench, runs: int, record_property: Callable[[str, object], None]
) -> None:
    times = [healthy_run(bench) for _ in range(runs)]
    chain, alert = sorted(time for time, _ in times), sorted(time for _, time in times)
    text = f"{runs} runs: whole chain {chain[len(chain) // 2]:.1f} s (at most {chain[-1]:.1f}), "
    text += f"its test alert {alert[len(alert) // 2]:.1f} s (at most {alert[-1]:.1f}), side by side"
    print(f"\n{text}")
    record_property("verify", text)
    assert chain[-1] < LIMIT


def test_nothing_but_the_marks_is_left_behind(bench: Bench) -> None:
    marks = {"labelSelector": "app.kubernetes.io/managed-by=flaskops-verify"}
    # The cluster's own verification may be at work, and has a mark for as long.
    until("no mark is left", lambda: not bench.get("/api/v1/namespaces/flask-app/services", marks)["items"], 60)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name, marks=[] if case.sample else LONG) for case in load()])
def test_what_is_broken_is_found_and_named(bench: Bench, case: Case, record_property: Callable[[str, object], None]) -> None:
    if case.agent and case.agent != bench.agent:
        pytest.skip(f"the {bench.agent} ships the logs here, not the {case.agent}: FLUENT_BIT_IMAGE_ARCHIVE chooses")
    try:
        with case.broken(bench):
            began = time.monotonic()
            # What is broken is waited for until the end; a healthy chain needs less.
            results = bench.verify(25, **case.options)
            took = time.monotonic() - began
    finally:
        bench.whole(alert=case.link == "alert path")
    failed = {name: r for name, r in results.items() if r["status"] == "failed"}
    blamed = {name: r["cause"] for name, r in failed.items() if not r["follows"]}
    assert list(blamed) == [case.link], blamed
    result = failed[case.link]
    assert re.search(case.cause, result["cause"]), result["cause"]
    assert result["next_command"] and result["evidence"]
    text = f"{case.name}: {case.link} named in {took:.1f} s: {result['cause'][:100]}"
    followers = [name for name, r in failed.items() if r["follows"]]
    print(f"\n{text}" + (f" (and because of it {', '.join(followers)})" if followers else ""))
    record_property("mutation", text)


@LONG
def test_a_token_that_is_no_longer_valid_is_one_sentence(bench: Bench) -> None:
    core, name = bench.cluster.core, "verify-expired"
    core.create_namespaced_service_account("flask-app", {"metadata": {"name": name}})
    try:
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        token = core.create_namespaced_service_account_token(name, "flask-app", request).status.token
    finally:
        core.delete_namespaced_service_account(name, "flask-app")
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert = (
        bench.cluster.api.configuration.host,
        bench.cluster.api.configuration.ssl_ca_cert,
    )
    configuration.api_key = {"authorization": f"Bearer {token}"}
    expired = KubeCluster(client.ApiClient(configuration))

    def refused() -> str:
        try:
            verify(expired, bench.target)
        except VerifyError as error:
            return str(error)
        return ""

    message = until("the token is refused", refused, 60)
    assert re.fullmatch(r"The API server https://\S+ refuses the credentials \(.*\): renew the token or certificate\.", message)
    assert token not in message
