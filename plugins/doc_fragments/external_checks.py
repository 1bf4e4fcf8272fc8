# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules for external checks document alike."""

from __future__ import annotations


class ModuleDocFragment:
    # How the API is reached.
    DOCUMENTATION = r"""
options:
  api_timeout:
    description: Seconds to wait for one answer of the API.
    type: int
    default: 30
  api_retries:
    description:
      - How often a request that failed for a passing reason is repeated, after 1, 2, 4, ... seconds or as long as the
        provider asks for.
      - A request to create something is never repeated blindly; where its reply was lost, the module looks for the check first.
    type: int
    default: 4
  api_max_wait:
    description:
      - Seconds that one run may spend waiting, for rate limits and between repeated requests, before it fails.
      - Requests that the provider refuses for their number are repeated until this is used up.
    type: int
    default: 900
  validate_certs:
    description: Whether the API's certificate must be valid.
    type: bool
    default: true
  ca_path:
    description: File with certificates of authorities to trust, for a proxy or a server of your own.
    type: path
notes:
  - The module talks to the provider from the host that it runs on, which mostly is C(localhost).
  - Proxies are taken from the environment, as E(HTTPS_PROXY).
"""

    # One check.
    CHECK = r"""
options:
  state:
    description:
      - V(present) creates the check or changes it, and leaves it running or paused as it is.
      - V(started) and V(paused) do so as well, and start or pause it.
      - V(absent) deletes the check with its history.
    type: str
    choices: [present, started, paused, absent]
    default: present
  name:
    description:
      - Name of the check. It is found by this exact name among the checks with the tag C(flaskops-<environment>).
      - Spaces before and after it are skipped.
      - With O(id), the name that the check is given.
    type: str
  environment:
    description:
      - The checks that this module makes have the tag C(flaskops-<environment>), and only checks that have it are found by
        O(name).
      - Lower-case letters, digits and dashes.
    type: str
    default: default
  url:
    description: Full address that is checked. Needed where the check does not exist yet.
    type: str
  interval:
    description:
      - Seconds between two checks; V(300) for a new check where this is not set.
      - What the account's plan does not allow is refused by the provider, whose words are shown.
    type: int
  request_headers:
    description: Headers of the request, all of them, as name and value. An empty mapping removes them.
    type: dict
  secret_request_headers:
    description: Further headers of the request whose values are never shown.
    type: dict
  http_username:
    description: User name for the address; an empty one removes the login.
    type: str
  http_password:
    description: Password for the address.
    type: str
  update_password:
    description:
      - What the provider never shows can't be compared. V(on_create) sends it only with a new check;
        V(always) sends it each time, and then each time is a change.
    type: str
    choices: [on_create, always]
    default: on_create
  keyword:
    description: Text to look for in the answer; an empty one ends this.
    type: str
  keyword_match:
    description: Whether the answer is good when it has the O(keyword) or when it does not have it.
    type: str
    choices: [contains, not_contains]
  tags:
    description:
      - All tags of the check, beside the one that marks it as ours.
      - A check that is found by O(id) and lacks that tag becomes one of ours when the tag is named here.
    type: list
    elements: str
  recreate:
    description:
      - Delete the check with its history and create it again, where the provider can't change an option of it.
      - Where the provider refuses the new one, it stays deleted, the failure says so, and the next run creates it.
    type: bool
    default: false
notes:
  - An option that is not set is not managed. Nothing is sent or compared for it, and what somebody set at the provider stays.
  - A list is compared without regard to its order, and replaced as a whole.
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
  diff_mode:
    support: full
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
    details:
      - Secrets are masked.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    details:
      - Except with O(update_password=always).
"""

    # Reading checks.
    INFO = r"""
options:
  name:
    description: Only checks of this exact name.
    type: str
  environment:
    description: Only checks with the tag C(flaskops-<environment>), that is, those which the module for one check made for it.
    type: str
"""

    READ_ONLY = r"""
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying target.
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    description: Returns details on what has changed (or possibly needs changing in check mode), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
"""

    UPTIMEROBOT = r"""
options:
  api_token:
    description: API key, sent as a bearer token; E(UPTIMEROBOT_API_KEY) where it is not set.
    type: str
    required: true
  api_url:
    description: Address of the API.
    type: str
    default: https://api.uptimerobot.com/v3
attributes:
  action_group:
    support: full
    description: Use C(group/flaskops.observability.uptimerobot) in C(module_defaults) to set defaults for this module.
    membership:
      - flaskops.observability.uptimerobot
"""

    PINGDOM = r"""
options:
  api_token:
    description: API token; E(PINGDOM_API_TOKEN) where it is not set.
    type: str
    required: true
  api_url:
    description: Address of the API.
    type: str
    default: https://api.pingdom.com/api/3.1
attributes:
  action_group:
    support: full
    description: Use C(group/flaskops.observability.pingdom) in C(module_defaults) to set defaults for this module.
    membership:
      - flaskops.observability.pingdom
"""

    STATUSCAKE = r"""
options:
  api_token:
    description: API token; E(STATUSCAKE_API_TOKEN) where it is not set.
    type: str
    required: true
  api_url:
    description: Address of the API.
    type: str
    default: https://api.statuscake.com/v1
attributes:
  action_group:
    support: full
    description: Use C(group/flaskops.observability.statuscake) in C(module_defaults) to set defaults for this module.
    membership:
      - flaskops.observability.statuscake
"""
