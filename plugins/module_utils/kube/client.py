# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of an API server as a kubeconfig says. Private to this collection."""

from __future__ import annotations

import os
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..credentials.guard import basic, is_token
from .transport import ApiError, Guarded, KubeCluster, KubeError, first_line

if TYPE_CHECKING:
    from .kubeconfig import Access

CONNECT_TIMEOUT = 5


def describe(kubeconfig: str, context: str) -> str:
    """Name a cluster the way its user named it."""
    parts = []
    if kubeconfig:
        parts.append(f"kubeconfig {kubeconfig}")
    if context:
        parts.append(f"context {context}")
    return " and ".join(parts)


def unconnected(kubeconfig: str, context: str) -> tuple[Access, Any]:
    """What a kubeconfig says of a context, and a kubernetes.client.ApiClient of it that has asked nothing; or raise KubeError."""
    if not kubeconfig and not context:
        raise KubeError("No cluster was named: set kubeconfig, context, or both.")
    try:
        # Reading comes before Kubernetes' package, whose import takes a second.
        from .kubeconfig import Malformed, read

        access = read(kubeconfig, context)
        from kubernetes import client, config
    except ImportError as exc:
        raise KubeError(
            f"The Python package kubernetes can't be imported ({first_line(exc)}):"
            " install it for the interpreter that runs Ansible."
        ) from exc
    except Malformed as exc:
        raise KubeError(str(exc)) from exc
    where = describe(kubeconfig, context)
    plugins = " and ".join(key for key in ("exec", "auth-provider") if key in access.user)
    configuration: Any = client.Configuration()
    configuration.retries = 1
    try:
        config.load_kube_config(
            config_file=os.pathsep.join(access.paths), context=access.context, client_configuration=configuration
        )
        if access.own_host:
            configuration.proxy = None
        configuration.refresh_api_key_hook = _refreshed(configuration, access, where)
        login = proxy_login(configuration.proxy)
        configuration.proxy_headers = {"proxy-authorization": basic(*login.partition(":")[::2])} if login else None
        api: Any = client.ApiClient(configuration)
    except KubeError:
        raise
    except Exception as exc:  # its words may quote a whole entry, or a proxy with its password
        raise KubeError(
            f"The {where} can't be used ({type(exc).__name__}):"
            f" check its {plugins or 'certificates'}, and the address of the proxy if there is one."
        ) from None
    api.rest_client.pool_manager = Guarded(api.rest_client.pool_manager, access.headers)
    return access, api


def _refreshed(configuration: Any, access: Access, where: str) -> Callable[[Any], None]:
    """What gives a configuration its token before each request; it has it already."""
    given = configuration.refresh_api_key_hook

    def refresh(current: Any) -> None:
        if given:
            given(current)  # it puts itself in this one's place, and the token of the kubeconfig as it is
            current.refresh_api_key_hook = refresh
        value = current.api_key.get("BearerToken", "")
        if access.token and "auth-provider" not in access.user:
            value = f"Bearer {access.token}"
        if value and not is_token(value.partition(" ")[2]):
            raise KubeError(f"The {where} can't be used: its user's plugin gives a token with characters that no token has.")
        if value:
            current.api_key["BearerToken"] = value

    refresh(configuration)
    return refresh


def proxy_login(proxy: str | None) -> str:
    """The user name and password in the address of an HTTP proxy, which is not sent by itself."""
    scheme, _, rest = (proxy or "").partition("://")
    login = rest.rpartition("@")[0]
    return unquote(login) if scheme in ("http", "https") else ""


def api_client(kubeconfig: str, context: str) -> Any:
    """Return a kubernetes.client.ApiClient for a reachable API, or raise KubeError."""
    _access, api = unconnected(kubeconfig, context)
    where, cluster = describe(kubeconfig, context), KubeCluster(api, retries=1)
    try:
        status, _text = cluster.fetch("/version/", seconds=CONNECT_TIMEOUT)
    except ApiError as error:
        cause = first_line(getattr(error.__cause__, "reason", error.__cause__)).split("): ", 1)[-1]
        raise KubeError(
            f"The API at {cluster.host} ({where}) can't be reached ({cause}):"
            " check that the cluster runs and the address is right."
        ) from error
    if status == 401:
        raise KubeError(f"The API at {cluster.host} refuses the credentials of {where}: renew them in the kubeconfig.")
    if status not in (200, 403):  # 403: reachable, and /version is none of this account's business
        words = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
        raise KubeError(f"The API at {cluster.host} ({where}) answers {words}: check the cluster's health.")
    return api
