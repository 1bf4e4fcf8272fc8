# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils._files import write_whole
from ..module_utils.drill import report
from ..module_utils.verify import queries
from ..modules.drill import ARGUMENTS
from ..plugin_utils.cluster_action import take_from_role

display = Display()
JOURNAL, DOCUMENT = "journal.jsonl", "drill.json"
FILES = {"html": "drill.html", "markdown": "drill.md", "json": DOCUMENT}
LOOK = 0.5  # seconds


class ActionModule(ActionBase):
    """Runs the module, shows its journal meanwhile, since a module alone is silent until its end, and writes the report."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        take_from_role(self, {name: name for name in ARGUMENTS}, task_vars or {})
        over = threading.Event()
        given = self._task.args.get("report")
        folder = Path(given).expanduser() if given else None
        journal = folder / JOURNAL if folder else None
        if journal:
            journal.unlink(missing_ok=True)
        previous = read(folder / DOCUMENT) if folder else None
        # The playbook may be killed with nobody left to tell this process, which would drill on.
        threading.Thread(target=self._watch, args=(journal, os.getppid(), over), daemon=True).start()
        try:
            args = {**self._task.args, "queries": queries.QUERIES}
            result: dict[str, Any] = self._execute_module(module_args=args, task_vars=task_vars)
        finally:
            over.set()
        if folder and "summary" in result:
            problem = write(folder, previous)
            if problem and not result.get("failed"):
                result |= {"failed": True, "msg": problem}
        return result

    def _watch(self, journal: Path | None, parent: int, over: threading.Event) -> None:
        # A signal that came to this thread would not wake the one that has to hand it on to the module.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        shown = 0
        while not over.wait(LOOK):
            if os.getppid() != parent:
                os._exit(1)  # the module sees that its pipe has no reader, and restores
            try:
                lines = journal.read_text(encoding="utf-8").splitlines() if journal else []
            except OSError:
                continue
            for line in lines[shown:]:
                try:
                    text = words(json.loads(line))
                except ValueError:
                    break  # half a line
                shown += 1
                if text:
                    display.display(text)


def read(path: Path) -> dict[str, Any] | None:
    """The document of a drill; None where there is none, or it was cut off."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(folder: Path, previous: dict[str, Any] | None) -> str:
    """Make the report of the document that the module wrote; what stands in the way, in one sentence, or empty."""
    try:
        # Not the module's result, in which Ansible has put stars for whatever looks like a secret.
        current = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        for kind, text in report.render(current, previous).items():
            write_whole(folder / FILES[kind], text)
    except OSError as error:
        return f"The report can't be written to {folder} ({error.strerror}): choose another folder."
    return ""


def words(entry: dict[str, Any]) -> str:
    """A line of the journal for people; empty for what they need not see."""
    name = f"{entry.get('scenario') or 'drill'}: "
    if "observer" in entry:
        return f"{name}{entry['after']:7.1f} s  {entry['observer']} {entry['event']}"
    if "status" in entry:
        return name + entry["status"].replace("_", " ") + (f": {entry['reason']}" if entry.get("reason") else "")
    if entry.get("event") == "inject":
        return f"{name}{entry['how']}"
    if entry.get("event") == "wait":
        return f"{name}waits for the end of {', '.join(entry['alerts'])}, which was there before (a few minutes at most)"
    if entry.get("event") == "restored":
        return f"{name}{'restored' if entry['ok'] else 'NOT RESTORED'}: {entry['evidence']}"
    if entry.get("event") == "lines":
        arrived = entry["answered"] - entry["missing"]
        return f"{name}the lines of {arrived} of {entry['answered']} answered requests have arrived"
    if entry.get("event") == "dead-man" and entry["skipped"]:
        skipped = entry["skipped"]
        return f"{name}no dead man's switch waits in the cluster ({skipped}); after kill -9, run it with drill_state=restored"
    return ""
