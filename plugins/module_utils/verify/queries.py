# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify and the drill ask Prometheus themselves: the queries of the file beside this one."""

from __future__ import annotations

from pathlib import Path
from string import Template

import yaml

FILE = Path(__file__).with_name("queries.yml")
# Ansible sends a module no file but Python: the action drill hands its module these, and there this is empty until then.
QUERIES: dict[str, str] = yaml.safe_load(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def filled(query: str, /, **values: str) -> str:
    """A query with its names filled in, as PromQL.

    :param query: its key in the file.
    :raises KeyError: when there is no such query, or a name of it is missing.
    """
    return Template(QUERIES[query]).substitute(values)
