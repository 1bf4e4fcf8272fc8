# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a log line says of itself: its level, its request, and whether it belongs to a traceback. Private to this collection.

Fluent Bit's configuration is made of it, and the log collector's image has it too, so it needs only Python and imports nothing.
The regular expressions are searched from the beginning of a line. What Fluent Bit's engine and Python's write in two ways is
avoided, but for the names of groups, which are Python's.
"""

from __future__ import annotations

# level: what applications call it, as a regular expression without regard to case
LEVELS = {
    "debug": "debug|trace|verbose|d",
    "info": "info|information|notice|i",
    "warning": "warn|warning|w",
    "error": "error|err|severe|e",
    "critical": "critical|crit|fatal|panic|alert|emerg|emergency|f",
}
# Where a line has its level; the first that fits counts.
LEVEL = {
    "json": r'\s*\{.*?"(?:level|levelname|severity|log\.level)"\s*:\s*"(?P<level>[A-Za-z]+)"',
    "klog": r"(?P<level>[IWEF])[0-9]{4} [0-9]{2}:[0-9]{2}:",
    "logfmt": r'.{0,60}?\blevel="?(?P<level>[A-Za-z]+)',
    # Near the start of the line, so that a word of the message is not taken for its level.
    "text": r"[^{]{0,60}?\b(?P<level>TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b",
}
REQUEST_ID = r'\s*\{.*?"request_id"\s*:\s*"(?P<request_id>[^"]+)"'
# The lines of a Python traceback: a state, what may follow, and the state after it. The first line has the state START.
START = ""
TRACEBACK = (
    (START, r"Traceback \(most recent call last\):", "frame"),
    (START, r"\s+\+ Exception Group Traceback \(most recent call last\):", "group"),
    ("group", r"\s+\S", "group"),
    ("frame", r"\s+\S", "frame"),
    ("frame", r"[A-Za-z_][\w.]*(?::|$)", "error"),
    ("error", r"$", "gap"),
    ("gap", r"(?:During handling of the above exception|The above exception was the direct cause)", "chain"),
    ("chain", r"$", "again"),
    ("again", r"Traceback \(most recent call last\):", "frame"),
)
