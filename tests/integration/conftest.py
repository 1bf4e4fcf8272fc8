# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shared cluster of the integration tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster that `molecule converge` has made."""
    path = os.environ.get("CLUSTER_KUBECONFIG")
    assert path, "CLUSTER_KUBECONFIG is not set; run these tests by `molecule test`."
    return Cluster(Path(path), os.environ.get("CLUSTER_CONTEXT", "flaskops-test"))
