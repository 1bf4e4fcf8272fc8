# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images the objects of a chart run; the objects are shaped as those of the upstream charts."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.helm.chart import full_name, images


def pod(*images: str, **metadata: object) -> dict[str, object]:
    spec = {
        "initContainers": [{"name": "i", "image": images[-1]}],
        "containers": [{"name": "c", "image": each} for each in images],
    }
    return {"kind": "Deployment", "metadata": {"name": "d", **metadata}, "spec": {"template": {"spec": spec}}}


def test_images_of_pods_kinds_of_an_operator_and_its_arguments() -> None:
    operator = pod("quay.io/o/operator:v1", labels={"app": "operator"})
    operator["spec"]["template"]["spec"]["containers"][0]["args"] = [  # type: ignore[index]
        "--prometheus-config-reloader=quay.io/o/reloader:v1",
        "--thanos-default-base-image=quay.io/thanos/thanos:v1",
    ]
    prometheus = {"kind": "Prometheus", "metadata": {"name": "p"}, "spec": {"image": "quay.io/p/prometheus:v3-distroless"}}
    hook = pod("ghcr.io/c/certgen:1", labels={"app": "admission-create"}, annotations={"helm.sh/hook": "pre-install,pre-upgrade"})
    test = pod("docker.io/bats/bats:1", annotations={"helm.sh/hook": "test"})
    grafana = pod("docker.io/g/grafana:1", "quay.io/k/sidecar:1", labels={"app.kubernetes.io/name": "grafana"})
    crd = {"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"image": "nothing:1"}}
    texts = [yaml.safe_dump_all(each) for each in ([operator, prometheus, hook], [test, grafana, crd, None])]
    assert images("---\n".join(texts)) == {
        "docker.io/g/grafana:1": ["grafana"],
        "ghcr.io/c/certgen:1": ["hook"],
        "quay.io/k/sidecar:1": ["grafana"],
        "quay.io/o/operator:v1": ["operator"],
        "quay.io/o/reloader:v1": ["operator"],
        "quay.io/p/prometheus:v3-distroless": ["p"],
    }


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("victoriametrics/victoria-logs:v1.52.0", "docker.io/victoriametrics/victoria-logs:v1.52.0"),
        ("localhost/app:1", "localhost/app:1"),
        ("registry.test:5000/a/b", "registry.test:5000/a/b:latest"),
        ("quay.io/a/b@sha256:0", "quay.io/a/b@sha256:0"),
    ],
)
def test_names_are_full(image: str, full: str) -> None:
    assert full_name(image) == full
