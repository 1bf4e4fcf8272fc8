# Copyright (c) 2026, flaskops
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One way to a Kubernetes API client. Private to this collection."""

from __future__ import annotations

import os
import typing as t

CONNECT_TIMEOUT = 5


class KubeError(Exception):
    """What is wrong, where, and what to do, in one sentence."""


def describe(kubeconfig: str, context: str) -> str:
    """Name a cluster the way its user named it."""
    parts = []
    if kubeconfig:
        parts.append(f"kubeconfig {kubeconfig}")
    if context:
        parts.append(f"context {context}")
    return " and ".join(parts)


def first_line(error: object) -> str:
    """Return the first line of an error, without a closing full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__


def api_client(kubeconfig: str, context: str) -> t.Any:
    """Return a kubernetes.client.ApiClient for a reachable API, or raise KubeError."""
    if not kubeconfig and not context:
        raise KubeError("No cluster was named: set kubeconfig, context, or both.")
    try:
        import urllib3.exceptions
        import yaml
        from kubernetes import client, config
    except ImportError as exc:
        raise KubeError(
            f"The Python package kubernetes can't be imported ({first_line(exc)}):"
            " install it for the interpreter that runs Ansible."
        ) from exc

    path = os.path.expanduser(kubeconfig)
    if path and not os.path.isfile(path):
        raise KubeError(f"The kubeconfig {kubeconfig} does not exist: give the path of a readable file.")
    where = describe(kubeconfig, context)

    configuration = client.Configuration()
    try:
        config.load_kube_config(config_file=path or None, context=context or None, client_configuration=configuration)
    except config.ConfigException as exc:
        raise KubeError(f"The {where} can't be used ({first_line(exc)}): name a context that the kubeconfig holds.") from exc
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise KubeError(f"The {where} can't be read ({first_line(exc)}): check the file's content and permissions.") from exc

    configuration.retries = 1
    api = client.ApiClient(configuration)
    try:
        client.VersionApi(api).get_code(_request_timeout=CONNECT_TIMEOUT)
    except client.ApiException as exc:
        if exc.status == 401:
            raise KubeError(
                f"The API at {configuration.host} refuses the credentials of {where}: renew them in the kubeconfig."
            ) from exc
        if exc.status != 403:  # 403: reachable, and /version is none of this account's business
            raise KubeError(
                f"The API at {configuration.host} ({where}) answers {exc.status} {exc.reason}: check the cluster's health."
            ) from exc
    except (urllib3.exceptions.HTTPError, OSError) as exc:
        cause = first_line(getattr(exc, "reason", exc)).split("): ", 1)[-1]
        raise KubeError(
            f"The API at {configuration.host} ({where}) can't be reached ({cause}):"
            " check that the cluster runs and the address is right."
        ) from exc
    return api
