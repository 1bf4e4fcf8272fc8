# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages in a real browser, Chromium without a window.

``PYTHONPATH=collections python -m tests.browser FOLDER`` draws the pictures of the documentation.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
OPTIONS += ("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars")
FRAME = "<!DOCTYPE html><title></title><style>body{margin:0}iframe{border:0;display:block}</style>"
# Asks each frame how much wider its content is than itself.
MEASURE = """<script>addEventListener("load", () => { document.title = [...document.querySelectorAll("iframe")].map(f => {
const e = f.contentDocument.documentElement; return e.scrollWidth - e.clientWidth; }).join(","); });</script>"""


@contextmanager
def served(pages: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The pages on a port of this machine: the address, and a list of the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chromium(*arguments: str) -> str:
    """What the browser prints; a browser of its own each time, which ends with the call."""
    assert CHROMIUM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def overflows(page: str, widths: tuple[int, ...]) -> tuple[list[int], list[str]]:
    """By how many pixels the page is too wide for each width, and the paths the browser asked for."""
    frames = "".join(f'<iframe src="/page" width="{width}" height="600"></iframe>' for width in widths)
    with served({"/": FRAME.replace("<title>", '<link rel="icon" href="data:,"><title>') + frames + MEASURE, "/page": page}) as (
        at,
        asked,
    ):
        printed = chromium("--dump-dom", at)
    found = re.search("<title>(.*?)</title>", printed)
    assert found and found[1], printed[:500]
    return [int(width) for width in html.unescape(found[1]).split(",")], asked


def draw(page: str, to: Path, width: int, height: int, place: str = "") -> None:
    """A picture of the page, from the element with the id *place* on."""
    frame = f'<iframe src="/page#{place}" width="{width}" height="{height}"></iframe>'
    with served({"/": FRAME + frame, "/page": page}) as (at, _asked):
        chromium(f"--window-size={width},{height}", f"--screenshot={to.absolute()}", at)


if __name__ == "__main__":
    from tests.unit.drill.test_report import report_of
    from tests.unit.pages.test_inbox_page import page_of as inbox_page
    from tests.unit.pages.test_verification_page import page_of as verification_page

    folder = Path(sys.argv[1])
    sample = report_of("sample")["html"]
    draw(sample, folder / "drill-report.png", 1040, 1680)
    draw(sample, folder / "drill-timeline.png", 1040, 935, "scenario-6")
    draw(verification_page("sample"), folder / "verification.png", 1040, 1060)
    draw(inbox_page("sample"), folder / "alert-inbox.png", 1040, 760)
