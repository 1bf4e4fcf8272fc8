# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gunicorn's threaded worker with a thread of its own for the health check.

A client that sends or reads slowly holds a thread. Where all are held, the health check would wait behind them, and Kubernetes
would start a pod again that does its work. A request's first bytes say which of the two it is, before a thread is chosen.
"""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from .layer import HEALTH

FIRST = re.compile(rb"(GET|HEAD) " + re.escape(HEALTH.encode()) + rb"[ ?]")
SAID_EVERY = 60  # seconds


class HealthFirstWorker(ThreadWorker):
    def init_process(self) -> None:
        self.health_pool = ThreadPoolExecutor(1, "health")
        self.waiting = 0  # requests that have or want a thread
        self.said = 0.0
        super().init_process()

    def enqueue_req(self, conn: Any) -> None:
        head = b""
        if not (conn.parser and conn.parser.unreader.buf.getvalue()):
            try:
                head = conn.sock.recv(len(HEALTH) + 8, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                # Nothing was sent yet: no thread waits for it.
                conn.sock.setblocking(False)
                conn.timeout = time.monotonic() + self.cfg.keepalive
                self.pending_conns.append(conn)
                self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
                return
            except OSError:
                pass  # its thread finds that out too
        is_health = bool(FIRST.match(head))
        pool = self.health_pool if is_health else self.tpool
        self.waiting += not is_health
        future = pool.submit(self.handle, conn)
        future.add_done_callback(partial(self.method_queue.defer, self.done, conn, is_health))
        if self.waiting > self.cfg.threads and is_health:
            self.say_held()

    def done(self, conn: Any, is_health: bool, future: Any) -> None:
        self.waiting -= not is_health
        self.finish_request(conn, future)

    def say_held(self) -> None:
        """Tell once a minute that requests wait, since the health check does not notice it."""
        now = time.monotonic()
        if now - self.said > SAID_EVERY:
            self.said = now
            self.log.warning(
                "%s requests wait while others hold all %s threads: clients that send or read slowly, or slow requests;"
                " a larger THREADS serves more of them at once.",
                self.waiting - self.cfg.threads,
                self.cfg.threads,
            )


# An older gunicorn, which an application may have pinned, has another way to wait for a client.
worker_class: Any = HealthFirstWorker if hasattr(ThreadWorker, "on_pending_socket_readable") else "gthread"
