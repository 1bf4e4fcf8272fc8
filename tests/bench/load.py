# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Constant load on an application while its pods are replaced: `python -m tests.bench.load`.

Load sends the requests and counts the answers; Workload replaces pods and waits. Tests use both, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client, config, watch

from . import common

NEW, KEPT = "new", "keep-alive"


@dataclass
class Counts:
    """What became of the requests of one phase over one kind of connection."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return sum(number for status, number in self.statuses.items() if 200 <= status < 300)

    @property
    def other(self) -> int:
        return self.statuses.total() - self.answered

    @property
    def lost(self) -> int:
        return self.sent - self.answered


class Load:
    """A constant load of GET requests from a thread, as a context manager.

    It is an open loop: requests start by the clock, whether earlier ones were answered or not, so a stall is seen by every
    request that falls into it. `rate` requests a second go over a new connection each, and as many again over `connections`
    kept-alive ones, each of which is used every `connections / rate` seconds.
    No request is repeated: what was not answered with 2xx within `timeout` seconds is lost.
    """

    def __init__(self, url: str, rate: float = 100, connections: int = 200, timeout: float = 10) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: %s\r\n\r\n"
        self._request = {NEW: (request % "close").encode(), KEPT: (request % "keep-alive").encode()}
        self._rate, self._timeout = rate, timeout
        self._places: deque[Connection | None] = deque([None] * connections)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="load")
        self.failures: list[str] = []
        self._phases: list[tuple[str, float, dict[str, Counts]]] = []
        self._end = 0.0

    def __enter__(self) -> Load:
        self.phase("start")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def phase(self, name: str) -> None:
        """Count the requests that are sent from now on under this name."""
        self._phases.append((name, time.monotonic(), {NEW: Counts(), KEPT: Counts()}))

    @property
    def lost(self) -> int:
        """Requests without a 2xx answer; read it after the load has ended."""
        return sum(counts.lost for _name, _start, both in self._phases for counts in both.values())

    def report(self) -> str:
        """The table of all phases and the first failures; read it after the load has ended."""
        rows = []
        ends = [start for _name, start, _both in self._phases[1:]] + [self._end]
        for (name, start, both), end in zip(self._phases, ends, strict=True):
            for kind, counts in both.items():
                if not counts.sent:
                    continue
                times = sorted(counts.seconds) or [0.0]
                errors = ", ".join(f"{number} {error}" for error, number in counts.errors.items()) or "0"
                p99, worst = (1000 * times[int(len(times) * share)] for share in (0.99, 1 - 1e-9))
                rate = counts.sent / max(end - start, 1e-3)
                numbers = [counts.sent, counts.answered, counts.other, errors, counts.lost]
                rows.append([name, kind, f"{end - start:.1f}", *numbers, f"{rate:.0f}", f"{p99:.0f}", f"{worst:.0f}"])
        head = ["phase", "connection", "seconds", "sent", "2xx", "other", "errors", "lost", "req/s", "p99 ms", "max ms"]
        return "\n".join([common.table(head, rows), *self.failures])

    async def _main(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        await asyncio.gather(self._pace(NEW, tasks), self._pace(KEPT, tasks))
        self._end = time.monotonic()
        await asyncio.gather(*tasks)
        for connection in self._places:
            if connection:
                connection.transport.close()

    async def _pace(self, kind: str, tasks: set[asyncio.Task[None]]) -> None:
        start, number = time.monotonic(), 0
        while not self._stop.is_set():
            task = asyncio.create_task(self._one(kind))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            await asyncio.sleep(max(0.0, start + number / self._rate - time.monotonic()))

    async def _one(self, kind: str) -> None:
        name, _start, both = self._phases[-1]
        counts = both[kind]
        counts.sent += 1
        begin = time.monotonic()
        problem = ""
        try:
            async with asyncio.timeout(self._timeout):
                status = await self._exchange(kind)
            counts.statuses[status] += 1
            if not 200 <= status < 300:
                problem = f"status {status}"
        except TimeoutError:
            problem = f"no answer in {self._timeout:g} s"
            counts.errors[problem] += 1
        except EOFError:
            problem = "closed before the answer was complete"
            counts.errors[problem] += 1
        except (OSError, ValueError) as error:
            problem = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            counts.errors[problem] += 1
        seconds = time.monotonic() - begin
        counts.seconds.append(seconds)
        if problem and len(self.failures) < 20:
            now = time.time()
            clock = f"{time.strftime('%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
            self.failures.append(f"{clock} {name}, {kind} connection: {problem} after {seconds:.3f} s")

    async def _exchange(self, kind: str) -> int:
        """One request and its whole answer; the status."""
        # The place that was used longest ago: every kept-alive connection has its turn, `connections / rate` seconds apart.
        in_turn = kind == KEPT and bool(self._places)
        connection = self._places.popleft() if in_turn else None
        keep = False
        try:
            if connection is None or connection.closed:
                _transport, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
            status, keep = await connection.ask(self._request[kind])
            return status
        finally:
            keep = keep and in_turn
            if connection and not keep:
                connection.transport.close()
            if in_turn:
                self._places.append(connection if keep else None)


class Connection(asyncio.Protocol):
    """An HTTP connection for one request at a time. As in any good client it ends at once when the server ends it."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.closed = False
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bool]] | None = None

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bool]]:
        """Send a request; the answer is its status, and whether the connection may be used again."""
        self._received, self._answer = b"", asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or not self._answer or self._answer.done():
            return
        status, *lines = head.decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if "content-length" not in headers:
            self._answer.set_exception(ValueError("an answer without Content-Length"))
        elif len(body) >= int(headers["content-length"]):
            self._answer.set_result((int(status.split()[1]), headers.get("connection") != "close"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or EOFError())


class Workload:
    """A Deployment with a Service of its name, and ways to replace its pods."""

    def __init__(self, api: Any, namespace: str = "flask-app", name: str = "flask-app", timeout: int = 120) -> None:
        self._core: Any = client.CoreV1Api(api)
        self._apps: Any = client.AppsV1Api(api)
        self.namespace, self.name, self.timeout = namespace, name, timeout
        self._selector = f"app={name}"

    @property
    def url(self) -> str:
        """The address of the Service's load balancer."""
        service = self._core.read_namespaced_service(self.name, self.namespace)
        return f"http://{service.status.load_balancer.ingress[0].ip}:{service.spec.ports[0].port}/"

    def image(self) -> str:
        """The image of the first container."""
        return str(self._apps.read_namespaced_deployment(self.name, self.namespace).spec.template.spec.containers[0].image)

    def pods(self) -> list[str]:
        """The names of all pods, also of those that are being deleted."""
        return sorted(pod.metadata.name for pod in self._list().items)

    def restart(self) -> None:
        """Begin a rollout of new pods of the same image, as `kubectl rollout restart` does."""
        stamp = {"kubectl.kubernetes.io/restartedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        self._apps.patch_namespaced_deployment(self.name, self.namespace, body)

    def evict(self, pod: str) -> None:
        """Ask for a pod's eviction, as `kubectl drain` does: again for as long as the disruption budget forbids it."""
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace=self.namespace))
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                self._core.create_namespaced_pod_eviction(pod, self.namespace, body)
                return
            except client.ApiException as error:
                if error.status != 429 or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)  # the API has no watch for "an eviction is allowed now"

    def wait(self, gone: Set[str] = frozenset()) -> None:
        """Wait until these pods are gone and all others are ready, as many as the Deployment asks for.

        Raises TimeoutError, with the state of the pods, after the timeout.
        """
        replicas = self._apps.read_namespaced_deployment(self.name, self.namespace).spec.replicas
        listed = self._list()
        pods: dict[str, Any] = {pod.metadata.name: pod for pod in listed.items}

        def settled() -> bool:
            return not gone & pods.keys() and len(pods) == replicas and all(_ready(pod) for pod in pods.values())

        if settled():
            return
        stream = watch.Watch()
        for event in stream.stream(
            self._core.list_namespaced_pod,
            self.namespace,
            label_selector=self._selector,
            resource_version=listed.metadata.resource_version,
            timeout_seconds=self.timeout,
        ):
            pod = event["object"]
            if event["type"] == "DELETED":
                pods.pop(pod.metadata.name, None)
            else:
                pods[pod.metadata.name] = pod
            if settled():
                stream.stop()
                return
        state = ", ".join(f"{name} {'ready' if _ready(pod) else 'not ready'}" for name, pod in pods.items())
        raise TimeoutError(f"The pods of {self.name} are not {replicas} ready ones after {self.timeout} s: {state}.")

    def _list(self) -> Any:
        return self._core.list_namespaced_pod(self.namespace, label_selector=self._selector)


def _ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return pod.metadata.deletion_timestamp is None and any(c.type == "Ready" and c.status == "True" for c in conditions)


def rolled_out(load: Load, workload: Workload) -> None:
    """Replace all pods by a rollout under the load, until the old ones are gone."""
    load.phase("rollout")
    old = set(workload.pods())
    workload.restart()
    workload.wait(old)


def evicted(load: Load, workload: Workload) -> None:
    """Evict each pod in turn under the load, each after the one before was replaced."""
    pods = workload.pods()
    for number, pod in enumerate(pods, 1):
        load.phase(f"eviction {number} of {len(pods)}")
        workload.evict(pod)
        workload.wait({pod})


def bench_workload() -> Workload:
    """The application in the benchmark's cluster."""
    return Workload(config.new_client_from_config(str(common.KUBECONFIG), context=common.HOST))


def main() -> int:
    """Make the cluster, replace pods under load in both ways, print the counts, and remove the cluster."""
    print(f"Requests lost while pods are replaced ({common.machine()})")
    try:
        common.playbook("load up", "site.yml", "--tags", "cluster,image,app")
        workload = bench_workload()
        workload.wait()
        with tempfile.TemporaryDirectory() as folder:
            source = ["-e", f"bench_source={common.changed_app(Path(folder))}"]
            common.playbook("load image", "site.yml", "--tags", "image", *source)
            before, old = workload.image(), set(workload.pods())
            with Load(workload.url) as load:
                load.phase("rollout")
                common.playbook("load rollout", "site.yml", "--tags", "app", *source)
                workload.wait(old)
                evicted(load, workload)
        after = workload.image()
        print(f"\nA rollout from {before} to {after}, then the eviction of every pod\n")
        print(f"{load.report()}\n\nlost: {load.lost} (goal: 0)\n")
        common.playbook("load down", "playbooks/teardown.yml")
        if before == after:
            raise common.StepFailed(f"The image {after} was not replaced: read {common.LOGS}/load-rollout.log.")
        common.remove_image(after)
    except (common.StepFailed, common.EngineError, client.ApiException, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if load.lost else 0


if __name__ == "__main__":
    sys.exit(main())
