# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every loaded rule can fire: what it asks for is there, or is missing for a known reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...monitoring.names import QUIET
from ..dead import LoadedRule, RuleJudge, Standing, Verdict, Whose
from ..result import Result, failed, ok, skipped
from ..run import Run
from ..stack import file_of, files_of

LINK = "dead rules"
NAMED = 4  # findings that are written out
ADVICE = f"correct the expression, or give the alert the annotation {QUIET} with the reason why it is meant to be so"

Found = list[tuple[LoadedRule, Verdict]]


def look(run: Run) -> list[Result]:
    return run.settled(lambda: _look(run))


def next_command(run: Run) -> str:
    return str(run.target.kubectl("get", "prometheusrules", "-o", "yaml"))


def loaded(run: Run) -> list[LoadedRule]:
    """All rules that the app's Prometheus evaluates."""
    stack = run.stack
    groups = [group for data in stack.data("/api/v1/rules") for group in data["groups"]]
    return read(groups, files_of(stack.rules_of_ours()), files_of(stack.objects["prometheusrules"]))


def read(groups: list[dict[str, Any]], ours: tuple[str, ...], of_app: tuple[str, ...]) -> list[LoadedRule]:
    """The rules of groups, as the rules API of Prometheus has them, each once.

    :param ours: how the files of this collection's rules begin. :param of_app: the same of the app's namespace.
    """
    found = []
    for group in groups:
        file = file_of(group)
        whose = Whose.OURS if file.startswith(ours) else Whose.APP if file.startswith(of_app) else Whose.OTHERS
        for rule in group["rules"]:
            record = rule["name"] if rule.get("type") == "recording" else ""
            reason = str((rule.get("annotations") or {}).get(QUIET, "")).strip()
            found.append(LoadedRule(rule["name"], rule["query"], whose, record, dict(rule.get("labels") or {}), reason))
    return list({(rule.name, rule.expr, rule.whose): rule for rule in found}.values())


def _look(run: Run) -> list[Result]:
    series = run.stack.series
    series.renew()
    rules = loaded(run)
    if not rules:
        return [skipped(LINK, "no rule is loaded")]
    found = list(zip(rules, RuleJudge(series, rules).of_rules(), strict=True))
    if not any(series.trees.values()):
        return [skipped(LINK, "this Prometheus does not tell how it reads an expression, as Prometheus 3 does")]
    query = f"GET {run.stack.api}/api/v1/rules, parse_query, metadata and label values; what {len(rules)} rules select"
    return [verdict_of(found).asked(query)]


def verdict_of(found: Found) -> Result:
    """The row of all rules: those of ours and of the app's namespace fail, those of others are named."""
    by_state = {state: [(rule, verdict) for rule, verdict in found if verdict.state == state] for state in Standing}
    dead = by_state[Standing.DEAD]
    strange = [text for rule, verdict in dead if rule.whose == Whose.OTHERS for text in [worded(rule, verdict)]]
    own = [worded(rule, verdict) for rule, verdict in dead if rule.whose != Whose.OTHERS]
    evidence = f"{len(found)} rules: {len(by_state[Standing.ALIVE])} have what they need"
    if reasons := Counter(verdict.why for _rule, verdict in by_state[Standing.QUIET]):
        usual = ", ".join(f"{why} ({count})" for why, count in reasons.most_common(2))
        evidence += f", {sum(reasons.values())} are quiet: {usual}" + (" and more" if len(reasons) > 2 else "")
    if strange:
        evidence += f"; of others {len(strange)} can never fire rightly: {_some(strange)}"
    if own:
        return failed(LINK, evidence, f"{_some(own)}; {ADVICE}")
    unknown = [verdict.why for rule, verdict in by_state[Standing.UNKNOWN] if rule.whose != Whose.OTHERS]
    if unknown:
        return skipped(LINK, f"{len(unknown)} rules can't be judged: {unknown[0]}")
    return ok(LINK, evidence)


def worded(rule: LoadedRule, verdict: Verdict) -> str:
    return f"{rule.name} [{verdict.kind}]: {verdict.why}"


def _some(texts: list[str]) -> str:
    distinct = list(dict.fromkeys(texts))
    return "; ".join(distinct[:NAMED]) + (f"; and {len(distinct) - NAMED} more" if len(distinct) > NAMED else "")
