# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles do with the user of a kubeconfig: they act as whom it says, as kubectl does, or are refused as it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.client import api_client
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import KubeCluster

from tests.api_rig import Rig
from tests.harness import ROOT, Run, inventory_of, playbook
from tests.toolchain import programs

# What a role would need to get further than to be refused.
ROLES: dict[str, dict[str, Any]] = {
    "flask_app": {"flask_app_name": "shop", "flask_app_namespace": "shop", "flask_app_image": "localhost/shop:1"},
    "kube_prometheus_stack": {"kube_prometheus_stack_alert_inbox": False},
    "app_monitoring": {"app_monitoring_name": "shop", "app_monitoring_namespace": "shop"},
    "elastic_stack": {"elastic_stack_shipper_password": "shipper-1"},
    "fluent_bit": {"fluent_bit_outputs": [{"type": "loki", "host": "loki.loki.svc", "port": 3100}]},
    "loki": {},
    "victoria_logs": {},
    "external_checks": {
        "external_checks_environment_name": "test",
        "external_checks_providers": [{"provider": "uptimerobot", "api_token": "x"}],
        "external_checks_checks": [{"name": "shop", "namespace": "shop"}],
    },
    "verify": {"verify_name": "shop", "verify_namespace": "shop"},
    "drill": {"drill_name": "shop", "drill_namespace": "shop", "drill_environment_name": "test", "drill_confirm": "shop"},
}
EVERYTHING = (
    "/api/v1/namespaces",
    "/api/v1/secrets",
    "/api/v1/configmaps",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/daemonsets",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
)


def run_roles(folder: Path, hosts: dict[str, tuple[str, Path]], *args: str) -> tuple[Run, dict[str, str]]:
    """Run a role with a kubeconfig for each host, all in one go; and what was said of those that failed."""
    variables = {
        name: {"role": role, f"{role}_kubeconfig": str(kubeconfig), **ROLES[role]} for name, (role, kubeconfig) in hosts.items()
    }
    tasks = [{"name": "Run it", "ansible.builtin.include_role": {"name": "flaskops.observability.{{ role }}"}}]
    (folder / "play.yml").write_text(yaml.safe_dump([{"name": "Roles", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = playbook(str(folder / "play.yml"), *args, inventory=inventory_of(folder, variables))
    return done, dict(re.findall(r"^fatal: \[([\w-]+)\]: FAILED! => (.*(?:\n .*)*)", done.stdout, re.MULTILINE))


def test_no_role_is_forgotten() -> None:
    assert set(ROLES) == {path.name for path in (ROOT / "roles").iterdir()} - {"flask_image", "local_cluster"}


def test_every_role_is_refused_as_whom_the_kubeconfig_names(rig: Rig, tmp_path: Path) -> None:
    user = {"token": rig.tokens["admin"], "as": "nobody"}
    kubeconfig = rig.kubeconfig("as-nobody", user)
    before = rig.versions(*EVERYTHING)
    done, failures = run_roles(tmp_path, {role.replace("_", "-"): (role, kubeconfig) for role in ROLES})
    assert rig.versions(*EVERYTHING) == before
    assert set(failures) == {name.replace("_", "-") for name in ROLES}, done.stdout[-5000:]
    for role, text in failures.items():
        assert re.search(r'User \\?"nobody\\?" cannot|user "nobody"|403', text), (role, text)


def test_groups_and_all_else_of_a_user_are_sent(rig: Rig) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    user = {
        "token": rig.tokens["admin"],
        "as": "ann",
        "as-uid": "7",
        "as-groups": ["one", "two"],
        "as-user-extra": {"example.com/scope": ["a", "b"]},
    }
    api = api_client(str(rig.kubeconfig("as-ann", user)), "")
    found = Objects(api).request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body, kind="application/json")
    seen = found["status"]["userInfo"]
    assert (seen["username"], seen["uid"]) == ("ann", "7")
    assert set(seen["groups"]) == {"one", "two", "system:authenticated"}
    assert seen["extra"] == {"example.com/scope": ["a", "b"]}
    status, text = KubeCluster(api).send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    assert status == 201 and '"ann"' in text


def test_roles_act_for_groups_and_all_else_of_a_user(rig: Rig, tmp_path: Path) -> None:
    """Only one of the groups may do it, so all were sent; check mode asks the server all the same."""
    user = {"token": rig.tokens["admin"], "as": "ann", "as-groups": ["others", "system:masters"]}
    users = {
        "masters": user,
        "others": user | {"as-groups": ["others"]},
        "as-uid": user | {"as-uid": "7"},
        "as-user-extra": user | {"as-user-extra": {"scope": ["a"]}},
    }
    hosts = {name: ("flask_app", rig.kubeconfig(name, item)) for name, item in users.items()}
    _done, failures = run_roles(tmp_path, hosts, "--check")
    assert set(failures) == {"others"}
    assert "403" in failures["others"]


def test_what_kubernetes_core_can_not_send_is_refused(rig: Rig, tmp_path: Path) -> None:
    """By the tasks with which the roles begin that use it."""
    user = {"token": rig.tokens["admin"], "as": "ann", "as-groups": ["system:masters"]}
    users = {"as-uid": user | {"as-uid": "7"}, "as-user-extra": user | {"as-user-extra": {"scope": ["a"]}}}
    hosts = {
        name: {"__cluster_kubeconfig": str(rig.kubeconfig(name, item)), "__cluster_context": ""} for name, item in users.items()
    }
    tasks = [{"ansible.builtin.include_tasks": str(ROOT / "tasks/cluster.yml")}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = playbook(str(tmp_path / "play.yml"), inventory=inventory_of(tmp_path, hosts))
    assert done.stdout.count("failed=1 ") == len(users)
    for key in users:
        assert f"sets {key}, which kubernetes.core can't send" in " ".join((done.stdout + done.stderr).split())


def test_helm_acts_as_whom_the_kubeconfig_names(rig: Rig) -> None:
    kubeconfig = rig.kubeconfig("helm-as-nobody", {"token": rig.tokens["admin"], "as": "nobody"})
    words = [programs("helm") / "helm", "--kubeconfig", kubeconfig, "list", "--namespace", "default"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode and 'User "nobody" cannot list' in done.stderr


def test_a_token_is_trimmed_and_never_shown(rig: Rig, tmp_path: Path) -> None:
    """In our own modules, in those of kubernetes.core, and in Helm."""
    token = rig.tokens["admin"]
    (tmp_path / "token").write_text(f"{token}\n\n")
    users = {"token": {"token": f"{token}\n"}, "file": {"tokenFile": str(tmp_path / "token")}}
    hosts = {}
    for name, user in users.items():
        kubeconfig = str(rig.kubeconfig(f"line-break-{name}", user))
        assert KubeCluster(api_client(kubeconfig, "")).fetch("/api/v1/namespaces")[0] == 200
        hosts[name] = {"__cluster_kubeconfig": kubeconfig, "__cluster_context": ""}
    helm = {"binary_path": str(programs("helm") / "helm"), "release_name": "none", "release_namespace": "default"}
    tasks = [
        {"ansible.builtin.include_tasks": str(ROOT / "tasks/cluster.yml")},
        {"kubernetes.core.k8s_info": {"api_version": "v1", "kind": "Namespace", "name": "default"}, "register": "found"},
        {"ansible.builtin.assert": {"that": "found.resources[0].metadata.name == 'default'"}},
        {"kubernetes.core.helm_info": helm},
    ]
    defaults = {f"group/kubernetes.core.{name}": f"{{{{ __cluster_access.{name} }}}}" for name in ("k8s", "helm")}
    play = {"hosts": "all", "gather_facts": False, "module_defaults": defaults, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = playbook(str(tmp_path / "play.yml"), "-vvv", "--diff", inventory=inventory_of(tmp_path, hosts))
    assert done.changed == 0
    assert token not in done.stdout + done.stderr
