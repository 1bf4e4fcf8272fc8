# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The app's routes are there, and each receiver took what Alertmanager sent it last."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import Any

from ...kube.transport import ApiError
from .. import queries
from ..deliveries import FEATURE, Deliveries, Key, Refusal, ago, by_key, concerns, read_log
from ..notification import NOBODY, bare
from ..result import Result, failed, ok, skipped
from ..routing import integrations, outcomes
from ..run import Run
from ..stack import OPERATOR, Stack, files_of
from . import alert_routes, promise

LINK = "receivers"
QUERIES = ("receivers", "receivers_refused", "receivers_took", "receivers_gave_up")
UNCOUNTED = "Prometheus has no counters of Alertmanager, so it is not known whether its receivers take notifications"
SLACK = 300.0  # seconds of the log before the failure that the counters report: they are read now and then
RECENT = 600.0  # seconds for which a line of the log counts by itself: no counter tells when it is over
LIMITS = f"told by integration alone, because Alertmanager runs without its feature {FEATURE}"


def look(run: Run) -> list[Result]:
    stack = run.stack
    if gone := run.settled(partial(_gone, run)):
        # Where nobody counts, nothing was refused as far as anybody knows, and nothing taken.
        return [skipped(LINK, UNCOUNTED) if result.cause == UNCOUNTED else result for result in gone]
    # Asked once: it looks back for days, and what failed is not mended by looking again.
    asked = {name: queries.filled(name, namespace=stack.alerting) for name in QUERIES}
    known, refused, took, gave_up = (by_key(stack.query(expr)) for expr in asked.values())
    return [
        _judged(stack, Deliveries(set(known), refused, took, gave_up)).asked(
            f"GET {_configs(run)}; PromQL {'; '.join(asked.values())}"
        )
    ]


def _configs(run: Run) -> str:
    return f"{OPERATOR}/v1alpha1/namespaces/{run.target.namespace}/alertmanagerconfigs"


def _gone(run: Run) -> list[Result]:
    """What must be there before anything can be said of receivers."""
    stack, path, counted = run.stack, _configs(run), queries.filled(QUERIES[0], namespace=run.stack.alerting)
    try:
        there = run.get(path).get("items", [])
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        there = None
    gone = [] if there is None else stack.gone("AlertmanagerConfig", there)
    if gone:
        cause = f"the AlertmanagerConfig {gone[0]}, with the routes and inhibitions of the app, is gone"
        command = run.target.kubectl("get", "alertmanagerconfigs")
        return [failed(LINK, "no AlertmanagerConfig", cause, f"GET {path}", command)]
    return [] if stack.query(counted) else [failed(LINK, "no counters", UNCOUNTED, f"PromQL {counted}")]


def _judged(stack: Stack, record: Deliveries) -> Result:
    now, namespace = time.time(), stack.app.namespace
    broken, partly, others = record.broken(namespace), _several(stack, record.partly(namespace)), []
    if broken or partly:
        reached = _reached(stack.run)
        others = [key for key in (*broken, *partly) if _is_strange(key.receiver, reached)]
        broken, partly = [key for key in broken if key not in others], {k: n for k, n in partly.items() if k not in others}
    # What counts by integration alone hides a receiver behind another one, which the log alone tells apart.
    windows = [now - record.failed[key] + SLACK for key in broken]
    windows += [now - record.gave_up[key] + SLACK for key in partly] + ([] if record.by_name else [RECENT])
    log, _why = read_log(stack, max(windows)) if windows else ([], "")
    if record.by_name:
        problems = [problem(key, now - record.failed[key], log) for key in broken]
        problems += [
            f"one of {count} integrations of {key} failed {ago(now - record.gave_up[key])}{words_of(key, log)}"
            for key, count in partly.items()
        ]
    else:
        problems = suspects(record, broken, [each for each in log if concerns(each.key.receiver, namespace)], now)
    limits = [] if record.by_name else [LIMITS]
    if others:
        limits.append(f"of others, which no alert of ours reaches, {', '.join(map(str, others[:4]))} failed")
    if problems:
        command = stack.alertmanager_log()
        evidence = "; ".join([f"{len(problems)} of {len(record.known)} refuse what they are sent", *limits])
        return failed(LINK, evidence, "; ".join(problems[:4]), next_command=command)
    notifying = record.notifying(namespace) if record.by_name else _kinds(stack)
    untried = [key for key in notifying or [] if key not in record.took]
    names = ", ".join(map(str, untried[:4])) if notifying is not None else "any receiver, as far as is known,"
    if (untried and untried == notifying) or (notifying is None and not record.took):
        return skipped(LINK, f"nothing was sent to {names} within three days; verify_receivers sends them something")
    count = f"{len(record.took) or 'none'} took something within three days"
    said = count if record.took or record.failed else "none has had anything to take yet"
    tried = [f"not tried: {names}"] if untried else []
    none = f"no {'other ' if others else ''}receiver refuses what Alertmanager sends"
    return ok(LINK, "; ".join([f"{none}, and {said}", *tried, *limits]))


def _config(stack: Stack) -> dict[str, Any]:
    return stack.alertmanager_config(stack.alertmanager(stack.alertmanagers()))


def _kinds(stack: Stack) -> list[Key] | None:
    """The integrations of the receivers that would notify somebody, as they are counted without the receivers' names.

    None where Alertmanager does not say them.
    """
    try:
        items = stack.alertmanagers()  # of one without an operator nobody knows the receivers
        found = integrations(stack.alertmanager_config(stack.alertmanager(items))) if items else {}
    except ApiError:
        return None
    told = [(name, kinds) for name, kinds in found.items() if bare(name) not in NOBODY]
    return sorted({Key("", kind) for name, kinds in told if concerns(name, stack.app.namespace) for kind in kinds})


def _reached(run: Run) -> set[str] | None:
    """The receivers that an alert of the app may reach by the loaded routes, or one of the stack where a run promised that.

    None where that can't be told.
    """
    stack = run.stack
    try:
        maps, everywhere = promise.read(run)
        promised = not everywhere or any(promise.owner_of(item).startswith("kube_prometheus_stack.") for item in maps)
        files = (*files_of(stack.rules_of_ours()), *([f"{stack.namespace}-"] if promised else []))
        _loaded, ours = alert_routes.alerts(run, files)
        config = _config(stack)
    except ApiError:
        return None
    possible = [ways for alert in ours for ways in outcomes(config.get("route") or {}, alert.labels)]
    return {way.receiver for ways in possible for way in ways} or None


def _is_strange(receiver: str, reached: set[str] | None) -> bool:
    """Whether no alert of ours reaches a receiver of the cluster's that has a name of somebody else's."""
    return reached is not None and "/" not in receiver and receiver not in reached | NOBODY | {""}


def _several(stack: Stack, keys: list[Key]) -> dict[Key, int]:
    """Of receivers those that have several integrations of the type, with their number."""
    if not keys:
        return {}
    kinds = {name: Counter(found) for name, found in integrations(_config(stack)).items()}
    counts = {key: kinds.get(key.receiver, Counter())[key.integration] for key in keys}
    return {key: count for key, count in counts.items() if count > 1}


def words_of(key: Key, log: list[Refusal]) -> str:
    """The last words of who refused, as far as the log has them."""
    return "".join([f": {each}" for each in log if each.key == key][-1:])


def problem(key: Key, seconds: float, log: list[Refusal]) -> str:
    """What is wrong with a receiver."""
    return f"{key} failed {ago(seconds)} and has taken nothing since{words_of(key, log)}"


def suspects(record: Deliveries, broken: list[Key], log: list[Refusal], now: float) -> list[str]:
    """What is wrong where the counters name no receiver: the log has those that failed lately, or when their integration did."""

    def counts(refusal: Refusal) -> bool:
        of_all = Key("", refusal.key.integration)
        return refusal.at >= now - RECENT or (of_all in broken and refusal.at >= record.failed[of_all] - SLACK)

    last = {each.key: each for each in log if counts(each)}
    named = {key.integration for key in last}
    return [f"{each.key} failed {ago(now - each.at)}: {each}" for each in last.values()] + [
        problem(key, now - record.failed[key], []) for key in broken if key.integration not in named
    ]
