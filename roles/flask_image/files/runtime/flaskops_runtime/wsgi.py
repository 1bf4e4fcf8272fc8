# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WSGI target of gunicorn: the application that FLASK_IMAGE_WSGI names, with the layer around it."""

import os

from . import logs, number
from .layer import Layer, keep_files
from .target import load

before = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
try:
    loaded = load(os.environ["FLASK_IMAGE_WSGI"])
finally:
    logs.keep_gunicorn()
keep_files(before)
app = Layer(loaded, threads=number("THREADS", 8, 1, 256))
