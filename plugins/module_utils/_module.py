# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules with secrets where their specification can't say so. Private to this collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def texts(value: Any) -> Iterator[str]:
    """The texts in a value of any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str) and value:
        yield value


class MaskingModule(AnsibleModule):  # type: ignore[misc]
    """A module with secrets inside lists and dictionaries, which it hides in its output and in the journal.

    Ansible writes such an option to the journal as Python does, and knows its secrets only as they are.
    secrets_in: called with the options, which may be malformed; gives the texts that no specification tells to be secret.
    """

    def __init__(self, secrets_in: Callable[[dict[str, Any]], Iterable[str]] | None = None, **options: Any) -> None:
        self._secrets_in = secrets_in
        super().__init__(**options)

    def _learn(self) -> None:
        if self._secrets_in:
            self.no_log_values.update(self._secrets_in(self.params))
        self.no_log_values.update([repr(text)[1:-1] for text in self.no_log_values if isinstance(text, str)])

    def _log_invocation(self) -> None:
        self._learn()
        super()._log_invocation()

    def _return_formatted(self, kwargs: dict[str, Any]) -> None:
        self._learn()
        super()._return_formatted(kwargs)
