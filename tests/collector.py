# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log collector as a module: it is no package, and has in its image what it imports of the collection."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load() -> ModuleType:
    beside = ModuleType("flaskops_observability")
    beside.__path__ = [str(ROOT / "plugins/module_utils")]
    sys.modules[beside.__name__] = beside
    spec = importlib.util.spec_from_file_location("log_collector", ROOT / "in_cluster/log_collector/collector.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
