# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every ready pod serves what Prometheus is to count: requests, durations, exceptions."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from urllib.parse import quote

from ...kube.transport import ApiError, message_of
from .. import queries
from ..facts import is_ready, samples, spread
from ..result import Result, failed, ok, skipped
from ..run import Run, reached

# What the exporter puts its prefix before.
REQUESTS, DURATION, EXCEPTIONS = "http_request_total", "http_request_duration_seconds", "http_request_exceptions_total"
# The rows of this link.
ROWS = ("metric requests", "metric duration", "metric exceptions")
STARTED = "process_start_time_seconds"  # of the one process that a page is about; a page of several has none
UNREACHED = "the API server gets no answer from it: "
READS = 4  # of a page, with a request of our own before each
AGAIN = 10  # pods whose page is read so often, or one on each node where these are more; another's is read once


def prefixed(prefix: str, *names: str) -> tuple[str, ...]:
    """Names of the exporter as a page has them."""
    return tuple(f"{prefix}_{name}" if prefix else name for name in names)


def declared(text: str, name: str) -> bool:
    """Whether a HELP or TYPE line names this metric; OpenMetrics omits a counter's _total there."""
    names = {name, name.removesuffix("_total")}
    return any(
        line.startswith(("# HELP ", "# TYPE ")) and len(line.split()) > 2 and line.split()[2] in names
        for line in text.splitlines()
    )


def judge(pages: dict[str, str], problems: dict[str, str], prefix: str = "flask") -> list[Result]:
    """Request count, duration and exceptions on the metrics page of every ready pod.

    pages maps a pod to its text; problems maps a pod to the reason why its page could not be read.
    """
    links = ROWS
    pods = len(pages) + len(problems)
    if not pods:
        return [failed(link, "no ready pod to read from", "no ready pod of the app") for link in links]
    if problems:
        cause = "; ".join(f"{pod}: {why}" for pod, why in sorted(problems.items()))
        evidence = f"metrics page read from {len(pages)} of {pods} ready pods"
        return [failed(link, evidence, cause) for link in links]

    requests, duration, exceptions = prefixed(prefix, REQUESTS, DURATION, EXCEPTIONS)
    wanted = {links[0]: (requests,), links[1]: tuple(duration + part for part in ("_count", "_sum"))}
    results = []
    for link, names in wanted.items():
        found = {pod: samples(text, names) for pod, text in pages.items()}
        missing = {pod: [n for n in names if n not in sums] for pod, sums in found.items()}
        missing = {pod: absent for pod, absent in missing.items() if absent}
        if missing:
            cause = "; ".join(f"{pod} serves no {' and no '.join(absent)}" for pod, absent in sorted(missing.items()))
            results.append(failed(link, f"found on {pods - len(missing)} of {pods} pods", cause))
            continue
        total = sum(sums[names[0]] for sums in found.values())
        results.append(ok(link, f"{names[0]} is {total:g} over {pods} pods"))

    link = links[2]
    thrown = {pod: samples(text, (exceptions,)).get(exceptions) for pod, text in pages.items()}
    silent = [pod for pod, count in thrown.items() if count is None and not declared(pages[pod], exceptions)]
    # In several processes a metric is declared only once it has a value; such a page also has no python_info.
    unknown = [pod for pod in silent if not samples(pages[pod], ("python_info",))]
    if len(silent) > len(unknown):
        cause = f"{', '.join(sorted(set(silent) - set(unknown)))}: {exceptions} is neither served nor declared"
        results.append(failed(link, f"found on {pods - len(silent)} of {pods} pods", cause))
    elif unknown:
        results.append(skipped(link, f"{exceptions} appears in a multi-process exporter only after a first exception"))
    else:
        count = sum(value or 0 for value in thrown.values())
        results.append(ok(link, f"{exceptions} is {count:g} over {pods} pods" if count else f"{exceptions} declared, none yet"))
    return results


def torn(texts: list[str], prefix: str = "flask") -> str:
    """Why a pod's page, read several times, is not one page of all its workers; empty where nothing says so."""
    (requests,) = prefixed(prefix, REQUESTS)
    read = [samples(text, (requests, STARTED)) for text in texts]
    for before, after in pairwise(read):
        if after.get(requests, 0.0) < before.get(requests, 0.0):
            what = f"{requests} went back from {before[requests]:g} to {after.get(requests, 0.0):g}"
        elif STARTED in before and STARTED in after and before[STARTED] != after[STARTED]:
            what = "two processes answer in turn"
        else:
            continue
        return f"{what}: one page for each worker, because the workers have no common registry (PROMETHEUS_MULTIPROC_DIR)"
    return ""


def look(run: Run) -> list[Result]:
    pages: dict[str, list[str]] = {}
    problems: dict[str, str] = {}
    ready = [pod for pod in run.pods if is_ready(pod)]
    names = [pod["metadata"]["name"] for pod in ready]
    again = spread(ready, AGAIN)
    if names:
        with ThreadPoolExecutor(max_workers=min(8, len(names))) as pool:
            reads = [READS if pod in again else 1 for pod in ready]
            for name, (texts, problem) in zip(names, pool.map(partial(_pages, run), names, reads), strict=True):
                if problem:
                    problems[name] = problem
                else:
                    pages[name] = texts
    shut = {pod: why.removeprefix(UNREACHED) for pod, why in problems.items() if why.startswith(UNREACHED)}
    stored = _stored(run, shut) if shut else {}
    problems = {pod: why for pod, why in problems.items() if pod not in stored}
    if shut and run.stack.absent and len(shut) == len(names) and not any("refused" in why for why in shut.values()):
        why = f"the API server can't reach port {run.target.metrics_port}, which a NetworkPolicy may block: {min(shut.values())}"
        return [skipped(link, why) for link in ROWS]
    query = f"GET {run.pod_path('POD', run.target.metrics_port)}{run.target.metrics_path}, {READS} times"
    query += f" of {len(again)} of them" if len(again) < len(ready) else ""
    if stored:
        query += f"; PromQL {_stored_query(run)}"
    found = judge({pod: texts[-1] for pod, texts in pages.items()} | stored, problems, run.target.metrics_prefix)
    for result in found if stored else []:
        port = run.target.metrics_port
        result.evidence += f"; {', '.join(sorted(stored))} by Prometheus, because the API server can't reach port {port}"
        result.evidence += f" ({shut[min(stored)]})"
    torn_ones = [f"{pod}: {why}" for pod, texts in sorted(pages.items()) if (why := torn(texts, run.target.metrics_prefix))]
    if torn_ones and not problems:
        found[0] = failed(found[0].link, f"metrics page of {len(pages)} pods read {READS} times", "; ".join(torn_ones))
    return [result.asked(query) for result in found]


def _pages(run: Run, pod: str, reads: int) -> tuple[list[str], str]:
    """The texts of a pod's page, read so often with a request of our own before each, and why one could not be read."""
    target = run.target
    texts: list[str] = []
    page = run.pod_path(pod, target.metrics_port) + quote("/" + target.metrics_path.lstrip("/"))
    try:
        for _read in range(reads):
            # Before the first too: the exporter shows its series only after a request.
            run.cluster.fetch(run.pod_path(pod, target.port) + run.path, None, run.request_seconds())
            status, text, said = reached(run, page)
            if said:
                return texts, f"{UNREACHED}{said}"
            if status != 200:
                return texts, f"metrics page answered {status} {message_of(text)}".strip()
            texts.append(text)
    except ApiError as error:
        return texts, str(error)
    return texts, ""


def _stored_query(run: Run) -> str:
    return queries.filled("stored", namespace=run.target.namespace, name=run.target.name)


def _stored(run: Run, pods: Iterable[str]) -> dict[str, str]:
    """Pages of those pods that Prometheus reads, made of what it stores: a NetworkPolicy may let it in and nobody else."""
    if run.stack.absent:
        return {}
    try:
        series = run.stack.query(_stored_query(run))
    except ApiError:
        return {}  # so nothing is known but that the API server has no way
    found: dict[str, list[str]] = {}
    for item in series:
        (name,) = prefixed(run.target.metrics_prefix, item["metric"]["__name__"].removeprefix("flask_"))
        found.setdefault(item["metric"].get("pod", ""), []).append(f"{name} {item['value'][1]}")
    return {pod: "\n".join(lines) for pod, lines in found.items() if pod in pods}


def next_command(run: Run) -> str:
    return run.target.kubectl("port-forward", f"deployment/{run.target.name}", str(run.target.metrics_port))
