# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the name of an application to what serves its requests, and to the Flask applications inside it."""

from __future__ import annotations

import errno
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.errors import AppImportError
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

    :raises TargetError: where it can't be imported or made, with the cause and what to change.
    """
    try:
        found = import_app(name)
        return made(name, found) if inspect.isroutine(found) else found
    except TargetError:
        raise
    except SystemExit as error:
        # gunicorn would start its worker again for ever.
        raise TargetError(
            f"The application {name} ends while it is imported (exit status {error.code}):"
            " read why above, and set what it asks for by flask_app_environment."
        ) from error
    except AppImportError as error:
        raise TargetError(f"{name} names no application ({str(error).rstrip('.')}): correct flask_image_wsgi.") from error
    except Exception as error:
        raise TargetError(_reason(name, error)) from error


def _reason(name: str, error: Exception) -> str:
    """Why an application can't be imported."""
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return (
            f"The application {name} writes to {error.filename}, and the root file system is read-only:"
            " mount a volume there by flask_app_volumes, or have it write below /tmp."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        if f"{name.partition(':')[0]}.".startswith(f"{error.name}."):
            return (
                f"The image has no module {error.name}: correct flask_image_wsgi,"
                " or name the module's folder by flask_image_folder."
            )
        return (
            f"The application {name} needs the module {error.name}, which is not installed:"
            " add its package to the tree's requirements, or to flask_image_requirements."
        )
    frames = traceback.extract_tb(error.__traceback__)
    elsewhere = (sys.prefix, sys.base_prefix, "<", __file__)
    frame = ([one for one in frames if not one.filename.startswith(elsewhere)] or frames)[-1]
    file, line = (error.filename, error.lineno) if isinstance(error, SyntaxError) else (frame.filename, frame.lineno)
    said = error.msg if isinstance(error, SyntaxError) else error
    return (
        f"The application {name} fails while it is imported ({type(error).__name__} in {file}, line {line}: {said}):"
        " mend it there, or set what it asks for by flask_app_environment."
    )


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
