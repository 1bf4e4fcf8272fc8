# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the name of an application to what serves its requests, and to the Flask applications inside it."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.util import import_app

try:
    from flask import Flask
except ModuleNotFoundError as missing:
    if missing.name != "flask":
        raise

    class Flask:  # type: ignore[no-redef]
        """In an image without Flask nothing is one of its applications."""


WSGI = Callable[..., Iterable[bytes]]
# Where a middleware keeps what it wraps: werkzeug's and most others, WhiteNoise, connexion, DispatcherMiddleware.
INSIDE = ("app", "application", "wsgi_app", "_app", "wrapped_app", "_wsgi_app", "mounts")
DEPTH = 8  # middlewares around one another


class TargetError(RuntimeError):
    """One sentence that says why there is no application, and what to do."""


def load(name: str) -> WSGI:
    """The WSGI callable of a name such as `shop:app`, `shop:create_app('prod')` or `shop:create_app`.

    :raises TargetError: where it ends the process, calls for arguments, or writes where nothing can be written.
    """
    try:
        found = import_app(name)
        return made(name, found) if inspect.isroutine(found) else found
    except SystemExit as error:
        # gunicorn would start its worker again for ever.
        raise TargetError(f"The application {name} ends while it is imported (exit status {error.code}).") from error
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise TargetError(
            f"The application {name} writes to {error.filename}, and the root file system is read-only:"
            " mount a volume there by flask_app_pod_overrides, or have it write below /tmp."
        ) from error


def made(name: str, factory: Callable[..., Any]) -> WSGI:
    """What a factory makes whose name was given without parentheses; a WSGI function is returned as it is."""
    needed = [
        one
        for one in inspect.signature(factory).parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 2:
        return factory  # environ and start_response
    if needed:
        names = ", ".join(one.name for one in needed)
        raise TargetError(f"The factory {name} needs {names}: name it with its arguments, such as {name}('...').")
    found = factory()
    if not callable(found):
        raise TargetError(f"The factory {name} returns {type(found).__name__}, which is no application: name another one.")
    return found


def flasks(outer: Any) -> list[Flask]:
    """The Flask applications in a WSGI callable, the outermost first: through middlewares and mounts."""
    found: list[Flask] = []
    seen: set[int] = set()
    layer: list[Any] = [outer]
    for _ in range(DEPTH):
        inside: list[Any] = []
        for one in layer:
            if id(one) in seen:
                continue
            seen.add(id(one))
            if isinstance(one, Flask):
                found.append(one)
                # Somebody may have put a middleware around `wsgi_app`, with other applications in it.
                inside.append(vars(one).get("wsgi_app"))
            elif inspect.ismethod(one):
                inside.append(one.__self__)
            elif inspect.isfunction(one):
                inside += [cell.cell_contents for cell in one.__closure__ or () if callable(_content(cell))]
            else:
                for name in INSIDE:
                    value = getattr(one, "__dict__", {}).get(name)
                    inside += list(value.values()) if isinstance(value, dict) else [value]
        layer = [one for one in inside if one is not None]
    return found


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return None
