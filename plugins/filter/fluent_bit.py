# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fluent_bit
short_description: Check the options of role fluent_bit and make the configuration from them
version_added: 0.1.0
author:
  - flaskops (@flaskops)
description:
  - Tells what is wrong with the options, and makes the Fluent Bit configuration and what the DaemonSet needs for it.
  - No secret is part of the input or the result; credentials are references to keys of a Secret.
options:
  _input:
    description:
      - The variables of role P(flaskops.observability.fluent_bit#role) without their prefix.
      - Instead of C(fluent_bit_secrets) it has C(secret_keys), all its keys, and C(empty_secrets), those without a value.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the configuration
  ansible.builtin.debug:
    msg: "{{ (options | flaskops.observability.fluent_bit).agents[0].config | to_nice_yaml(sort_keys=false) }}"
"""

RETURN = r"""
_value:
  description: The problems, and where there are none, the configuration.
  type: dict
  contains:
    problems:
      description: What is wrong, one sentence each.
      type: list
      elements: str
    agents:
      description:
        - The containers, one for each output, each with its C(name), the C(port) of its metrics and that port's C(port_name).
        - C(counters_port) is where the first one shows its counters of lines; V(0) for the others, which do not count.
        - C(config) is the configuration, as it goes into C(file); C(environment) are the environment variables.
        - C(has_authority) is whether the container reads a certificate authority.
        - C(secret_files) are the keys of the Secret that it reads as files.
      type: list
      elements: dict
    configs:
      description: The configurations as texts, by file name.
      type: dict
    secret_keys:
      description: Keys of the Secret that the containers read.
      type: list
      elements: str
    authorities:
      description: Certificate authorities, by file name.
      type: dict
    backends:
      description: Where each output sends to, without credentials; C(login) is whether it has some.
      type: list
      elements: dict
    log_groups:
      description: Log groups of CloudWatch that must be made before the log agent runs.
      type: list
      elements: dict
    datasources:
      description: Grafana's data sources for CloudWatch, without credentials.
      type: list
      elements: dict
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

from ..module_utils.fluent_bit import checks, config


def fluent_bit(options: Any) -> dict[str, Any]:
    """Return the problems and, where there are none, everything that the role's templates need."""
    if not isinstance(options, dict):
        raise AnsibleFilterError("The filter fluent_bit needs the role's options as a mapping: see the role's vars/main.yml.")
    found = checks.problems(options)
    if found:
        return {"problems": found}
    agents = config.agents(options, options["existing_secret"] or f"{options['name']}-credentials")
    return {
        "problems": [],
        "agents": agents,
        "configs": {agent["file"]: written(agent["config"]) for agent in agents},
        "secret_keys": sorted({key for agent in agents for key in secret_keys(agent)}),
        "authorities": config.authorities(options),
        "backends": config.backends(options),
        "log_groups": config.log_groups(options),
        "datasources": config.datasources(options),
    }


def written(settings: Any) -> str:
    """A configuration as the text of its file."""
    return str(yaml.dump(json.loads(json.dumps(settings)), indent=2, width=10000, sort_keys=False, allow_unicode=True))


def secret_keys(agent: dict[str, Any]) -> Iterator[str]:
    """The keys of the Secret that a container reads, as files and as variables."""
    yield from agent["secret_files"]
    for variable in agent["environment"]:
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if reference:
            yield reference["key"]


class FilterModule:
    """The collection's filter for role fluent_bit."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"fluent_bit": fluent_bit}
