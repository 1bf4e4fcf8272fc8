"""Gunicorn in a generated image: app on PORT (5000), metrics of all workers on METRICS_PORT (9200), every line JSON."""

import json
import logging
import os
import tempfile
import time

# set before any worker imports prometheus_client; /tmp is the only writable folder
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="prometheus."))

bind = f"0.0.0.0:{os.environ.get('PORT', '5000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = int(os.environ.get("GUNICORN_THREADS", "4"))
worker_tmp_dir = "/tmp"
# Longer than the 60 seconds for which load balancers usually keep an idle connection.
keepalive = 75
# Its default place is not writable here.
control_socket_disable = True


class JsonFormatter(logging.Formatter):
    """Gunicorn's own lines with the keys of a request's line."""

    def format(self, record):
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": message,
        }
        line.update(getattr(record, "request_fields", {}))
        return json.dumps(line)


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["out"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["out"], "propagate": False}},
}


def when_ready(server):
    """Serve the metrics of all workers from the parent."""
    try:
        from prometheus_client import CollectorRegistry, multiprocess, start_http_server
    except ImportError:
        return
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    start_http_server(int(os.environ.get("METRICS_PORT", "9200")), registry=registry)


def child_exit(server, worker):
    """Forget the gauges of a worker that is gone."""
    try:
        from prometheus_client import multiprocess
    except ImportError:
        return
    multiprocess.mark_process_dead(worker.pid)
