# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small filters with which roles and playbooks turn one mapping into another."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.observability.plugins.filter.mirrored import mirrored
from ansible_collections.flaskops.observability.plugins.filter.package_folder import package_folder


def test_a_mirror_replaces_the_address_of_its_component_alone() -> None:
    components = {"helm": {"version": "4.0.0", "base": "https://helm.test"}, "etcd": {"version": "3.6.5"}}
    found = mirrored(components, {"helm": "http://mirror.test", "unknown": "http://nowhere.test"})
    assert found == {"helm": {"version": "4.0.0", "base": "http://mirror.test"}, "etcd": {"version": "3.6.5"}}
    assert components["helm"]["base"] == "https://helm.test"


def test_the_folder_of_a_package_is_found() -> None:
    assert (Path(package_folder("yaml")) / "__init__.py").is_file()
    with pytest.raises(AnsibleFilterError, match="no package nothing_of_this_name"):
        package_folder("nothing_of_this_name")
