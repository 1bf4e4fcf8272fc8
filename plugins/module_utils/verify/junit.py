# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as JUnit XML, which every pipeline shows: one test case for each link."""

from __future__ import annotations

import datetime
import re
import xml.etree.ElementTree as ET
from typing import Any

# What XML 1.0 has no way to write.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _plain(text: str) -> str:
    return FORBIDDEN.sub("?", text)


def render(results: list[dict[str, Any]], name: str, namespace: str) -> str:
    """One test suite for an app; a broken link is a failure, one that was skipped is skipped here too.

    :param results: as :func:`chain.verify` gives them.
    """
    statuses = [result["status"] for result in results]
    suite = ET.Element(
        "testsuite",
        name=f"verify {namespace}/{name}",
        tests=str(len(results)),
        failures=str(statuses.count("failed")),
        errors="0",
        skipped=str(statuses.count("skipped")),
        # The links are followed side by side: the slowest one is the time of all.
        time=f"{max((result['seconds'] for result in results), default=0):.3f}",
        timestamp=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    for result in results:
        case = ET.SubElement(
            suite, "testcase", classname=f"verify.{namespace}.{name}", name=result["link"], time=f"{result['seconds']:.3f}"
        )
        if result["status"] == "failed":
            failure = ET.SubElement(case, "failure", type="broken link", message=_plain(result["cause"]))
            lines = [("evidence", result["evidence"]), ("follows from", result["follows"]), ("next", result["next_command"])]
            failure.text = _plain("\n".join(f"{title}: {text}" for title, text in lines if text))
        elif result["status"] == "skipped":
            ET.SubElement(case, "skipped", message=_plain(result["evidence"]))
        if result["query"]:
            output = f"asked: {result['query']}\ncame back: {result['evidence']}"
            ET.SubElement(case, "system-out").text = _plain(output)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
