# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus makes of an alert's labels on its way to Alertmanager. Source: Prometheus' packages notifier and relabel."""

from __future__ import annotations

import re
from typing import Any

from .routing import Labels

Json = dict[str, Any]
REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\}|(\$))")


def rules_of(config: Json) -> list[Json]:
    """The rules that every alert passes; those of one of several Alertmanagers are not among them.

    :param config: as Prometheus has loaded it.
    """
    alerting = config.get("alerting") or {}
    places = alerting.get("alertmanagers") or []
    own = places[0].get("alert_relabel_configs") or [] if len(places) == 1 else []
    return [*(alerting.get("alert_relabel_configs") or []), *own]


def relabeled(labels: Labels, rules: list[Json]) -> Labels | None:
    """The labels that arrive; None where the alert is dropped whatever its unknown labels are."""
    for rule in rules:
        action = str(rule.get("action", "replace")).lower()
        if action in ("labeldrop", "labelkeep"):
            kept = {k: v for k, v in labels.known.items() if _takes(rule, k) is not (action == "labeldrop")}
            labels = Labels(kept, labels.open)
        elif action in ("keep", "drop"):
            if _takes(rule, _joined(rule, labels)) is (action == "drop"):
                return None
        elif action not in ("keepequal", "dropequal"):
            labels = _changed(rule, labels, action)
    return labels


def _joined(rule: Json, labels: Labels) -> str | None:
    """The text that a rule is about; None where it is not known."""
    values = [labels.value(name) for name in rule.get("source_labels") or []]
    return None if None in values else str(rule.get("separator", ";")).join(value or "" for value in values)


def _takes(rule: Json, text: str | None) -> bool | None:
    return Labels({"": text}).holds("", "=~", str(rule.get("regex", ".*")))


def _changed(rule: Json, labels: Labels, action: str) -> Labels:
    """What a rule that writes a label makes of them; of a value that would have to be computed nothing is known."""
    if action == "labelmap":
        return Labels(dict(labels.known), open=True)
    text, name = _joined(rule, labels), str(rule.get("target_label", ""))
    taken = _takes(rule, text) if action == "replace" else True
    if taken is False:
        return labels
    if REFERENCE.search(name):
        return Labels(dict(labels.known), open=True)
    value = _expanded(rule, text) if taken and action == "replace" else None
    found = {**labels.known, name: value}
    return Labels({k: v for k, v in found.items() if v != ""}, labels.open)


def _expanded(rule: Json, text: str | None) -> str | None:
    """The new value of a label; None where it is not known."""
    given = str(rule.get("replacement", "$1"))
    if not REFERENCE.search(given):
        return given
    match = re.fullmatch(str(rule.get("regex", "(.*)")), text, re.DOTALL) if text is not None else None
    if not match:
        return None
    try:
        return REFERENCE.sub(
            lambda m: "$" if m[3] else match[int(name) if (name := m[1] or m[2]).isdigit() else name] or "", given
        )
    except IndexError:  # no such group: Go takes it for empty
        return None
