# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one fake by hand: python -m tests.fakes uptimerobot --port 8090 --token-file token.txt"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from . import FAKES, Request


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description="A fake provider of external checks on 127.0.0.1.")
    parser.add_argument("provider", choices=sorted(FAKES))
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--token-file", type=Path, required=True, help="file whose text is the accepted token")
    parser.add_argument("--plan", choices=["free", "paid"], default="paid")
    parser.add_argument("--rate-limit", action="store_true", help="answer 429 beyond the plan's rate")
    parser.add_argument("--probe", action="store_true", help="fetch the checks' URLs and set their status")
    parser.add_argument("--probe-interval", type=float, help="seconds between probes, instead of each check's interval")
    options = parser.parse_args()
    token = options.token_file.read_text().strip()
    if not token:
        parser.error(f"{options.token_file} is empty: write the token to it")
    with FAKES[options.provider](
        token,
        port=options.port,
        plan=options.plan,
        rate_limit=options.rate_limit,
        probe=options.probe,
        probe_interval=options.probe_interval,
        strict=False,
    ) as fake:

        def show(request: Request) -> None:
            print(f"{request} {request.status}", flush=True)

        fake.on_request = show
        fake.on_change = lambda key, status: print(f"check {key} {status}", flush=True)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        print(fake.url, flush=True)  # whoever reads this may end us at once
        stop.wait()


if __name__ == "__main__":
    main()
