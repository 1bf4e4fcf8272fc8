# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gunicorn's settings in a generated image; the README of the role flask_image lists the environment variables.

The application's own gunicorn.conf.py is heeded: its hooks run after these, and its settings count, but for those of the server's
ports, logs and folders.
"""

import contextlib
import logging
import os
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from flaskops_runtime import number, state_dir

host = os.environ.get("HOST", "0.0.0.0")
port = number("PORT", 5000, 1, 65535)
metrics_port = number("METRICS_PORT", 9200, 1, 65535)
drain_seconds = number("DRAIN_SECONDS", 5, 0, 120)
if port == metrics_port:
    raise SystemExit(f"PORT and METRICS_PORT are both {port}; give the metrics a port of their own.")

try:
    state_dir().mkdir(parents=True, exist_ok=True)
except OSError as error:
    raise SystemExit(
        f"The directory {state_dir()} cannot be made ({error.strerror}); set FLASKOPS_STATE_DIR to a writable one."
    ) from error
draining = state_dir() / "draining"
for link in (Path("instance"), Path(sys.prefix, "var")):
    if link.is_symlink():  # the image has it for Flask's instance folder
        link.readlink().mkdir(exist_ok=True)


def metrics_folder(workers: int) -> Path | None:
    """The folder of the metrics where they are in files: those of several workers, and of who names one for it.

    prometheus_client chooses its kind of value at import, so this comes before it.
    """
    # prometheus_client still takes the old name, in small letters.
    given = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or os.environ.get("prometheus_multiproc_dir", "")  # noqa: SIM112
    if workers == 1 and not given:
        return None
    folder = Path(given or state_dir() / "prometheus")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(
            f"PROMETHEUS_MULTIPROC_DIR is {folder}, which cannot be made ({error.strerror}): name a folder below /tmp, or none."
        ) from error
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


metrics_folder(number("WEB_CONCURRENCY", 1, 1, 64))
own_file = Path("gunicorn.conf.py").resolve()
own = runpy.run_path(str(own_file)) if own_file.is_file() and own_file != Path(__file__).resolve() else {}
workers = number("WEB_CONCURRENCY", own.get("workers", 1), 1, 64)
multiprocess_dir = metrics_folder(workers)
worker_class = own.get("worker_class", "gthread")
# sync is one request at a time, which the threaded worker does too; that one answers the health check meanwhile.
threads = number("THREADS", own.get("threads", 1 if worker_class == "sync" else 8), 1, 256)
os.environ["THREADS"] = str(threads)  # for the layer, which counts them
if worker_class not in ("sync", "gthread"):
    os.environ.setdefault("STUCK_SECONDS", "0")  # others have no threads that could all be stuck
graceful_timeout = number("GRACEFUL_TIMEOUT", own.get("graceful_timeout", 20), 1, 600)
timeout = own.get("timeout", 60)
# Longer than the 60 seconds for which load balancers usually keep an idle connection.
keepalive = own.get("keepalive", 75)
bind = f"{host}:{port}"
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
control_socket_disable = True
# Its other settings and hooks touch nothing of ours.
for name in (
    *("max_requests", "max_requests_jitter", "worker_connections", "limit_request_line", "limit_request_fields", "preload_app"),
    *("limit_request_field_size", "forwarded_allow_ips", "secure_scheme_headers", "raw_env"),
    *(
        "post_fork",
        "pre_exec",
        "post_request",
        "worker_int",
        "worker_abort",
        "worker_exit",
        "nworkers_changed",
        "on_exit",
        "on_reload",
    ),
):
    if name in own:
        globals()[name] = own[name]

from flaskops_runtime import logs, memory
from flaskops_runtime.worker import worker_class as threaded
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

worker_class = threaded if worker_class in ("sync", "gthread") else worker_class
loglevel = os.environ.get("LOG_LEVEL", "info").lower()
logconfig_dict = logs.config(loglevel.upper())
logging.captureWarnings(True)

log = logging.getLogger("flaskops.gunicorn")


class Metrics(MultiProcessCollector):
    """The metrics of all workers.

    A worker makes its file before it fills it. The client can't read an empty one (its issue 1199), and one that stays, because
    the worker was killed just then, would take the metrics of all workers away until the pod starts again.
    """

    def __init__(self, registry: CollectorRegistry, folder: Path) -> None:
        super().__init__(registry, str(folder))
        self.folder = folder

    def collect(self) -> Any:
        return self.merge([str(file) for file in self.folder.glob("*.db") if filled(file)])


def filled(file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return file.stat().st_size > 0
    return False


class MetricsHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class MetricsServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def serve_metrics(listener: socket.socket, registry: CollectorRegistry) -> None:
    """Serve /metrics from a thread, on a socket that is already bound."""
    server = MetricsServer((host, metrics_port), MetricsHandler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = host, metrics_port
    server.setup_environ()
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def then(name: str, *given: Any) -> None:
    """Run the application's own hook of this name."""
    if name in own:
        own[name](*given)


def on_starting(server: Any) -> None:
    draining.unlink(missing_ok=True)
    for left in multiprocess_dir.glob("*.db") if multiprocess_dir else ():
        left.unlink(missing_ok=True)
    # The master keeps the socket, so a worker that is replaced never leaves the port closed.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server.metrics_listener = socket.create_server((host.strip("[]"), metrics_port), family=family)
    except OSError as error:
        raise SystemExit(
            f"The metrics port {metrics_port} cannot be opened ({error.strerror}); set METRICS_PORT to a free port."
        ) from error
    then("on_starting", server)


def when_ready(server: Any) -> None:
    if multiprocess_dir:
        registry = CollectorRegistry()
        Metrics(registry, multiprocess_dir)
        serve_metrics(server.metrics_listener, registry)
    threading.Thread(target=memory.watch, args=(log,), name="memory", daemon=True).start()

    until = 0.0

    def handle_term() -> None:
        """First fail the health check and go on serving, then stop as gunicorn does."""
        nonlocal until
        if not until:
            until = time.monotonic() + drain_seconds
            log.info("Draining for %s seconds before the workers stop.", drain_seconds)
            try:
                draining.touch()
            except OSError as error:
                log.error("The file %s cannot be written (%s), so the health check stays ok.", draining, error.strerror)
            timer = threading.Timer(drain_seconds, server.SIG_QUEUE.put_nowait, [signal.SIGTERM])
            timer.daemon = True
            timer.start()
        elif time.monotonic() >= until:
            raise StopIteration

    server.handle_term = handle_term
    then("when_ready", server)


def pre_fork(server: Any, worker: Any) -> None:
    worker.metrics_listener = server.metrics_listener
    then("pre_fork", server, worker)


def post_worker_init(worker: Any) -> None:
    if not multiprocess_dir:
        serve_metrics(worker.metrics_listener, REGISTRY)
    then("post_worker_init", worker)


def pre_request(worker: Any, req: Any) -> None:
    # Kubernetes leads only new connections to other pods. Kept-alive ones are told to go while the pod drains: a worker that
    # stops gives them 2 seconds, and a request that is on its way when it closes them then is lost.
    if draining.exists():
        req.force_close()
    then("pre_request", worker, req)


def child_exit(server: Any, worker: Any) -> None:
    if multiprocess_dir:
        mark_process_dead(worker.pid)
    then("child_exit", server, worker)
