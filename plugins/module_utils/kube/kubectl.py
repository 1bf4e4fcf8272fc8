# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of kubectl for people. Private to this collection; its interface can change at any time."""

from __future__ import annotations

import os


def kubectl(kubeconfig: str, context: str) -> list[str]:
    """The words with which a command begins.

    :param kubeconfig: a path, or several as in KUBECONFIG, which the option would take for one file; empty for kubectl's choice.
    """
    if os.pathsep in kubeconfig:
        command = ["env", f"KUBECONFIG={kubeconfig}", "kubectl"]
    else:
        command = ["kubectl", *(["--kubeconfig", kubeconfig] if kubeconfig else [])]
    return [*command, *(["--context", context] if context else [])]
