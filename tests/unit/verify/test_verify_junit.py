# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as a pipeline reads them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.flaskops.observability.plugins.module_utils.verify import chain, junit, result


def test_one_case_for_each_link() -> None:
    broken = result.failed("endpoint", "0 of 2", "leads to \x00 <nowhere> & back", "GET /x", "kubectl get")
    after = result.failed("health", "nothing", "refused", "GET /health", "kubectl get")
    found = [result.ok("node", "1 of 1", "GET /nodes"), broken, after, result.skipped("loki", "not installed")]
    found[0].seconds, found[1].seconds = 0.5, 2
    chain.explain(found)
    suite = ET.fromstring(junit.render([result.as_dict() for result in found], "shop", "web"))
    counts = {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped", "time")}
    wanted = {"name": "verify web/shop", "tests": "4", "failures": "2", "errors": "0", "skipped": "1", "time": "2.000"}
    assert counts == wanted
    node, endpoint, health, loki = suite
    assert {case.get("classname") for case in suite} == {"verify.web.shop"}
    assert [case.get("name") for case in suite] == ["node", "endpoint", "health", "loki"]
    assert [child.tag for child in node] == ["system-out"]
    assert node.findtext("system-out") == "asked: GET /nodes\ncame back: 1 of 1"
    (failure, _output) = endpoint
    assert failure.get("message") == "leads to ? <nowhere> & back"
    assert failure.text == "evidence: 0 of 2\nnext: kubectl get"
    assert "follows from: endpoint" in (health.findtext("failure") or "")
    assert [(child.tag, child.get("message")) for child in loki] == [("skipped", "not installed")]
