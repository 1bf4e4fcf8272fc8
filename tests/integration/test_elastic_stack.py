# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""elastic_stack on the real cluster, with the operator's own definitions and without the operator.

No package registry carries Elasticsearch, Kibana or the operator. So the API server judges the objects by the definitions of
ECK 3.5.0 from FLASKOPS_SPECS, and where the role has to talk to both programs a pod of `tests/fakes/elastic.py` stands in, behind
the Services, Secrets and states that the operator would make.

The tests from `test_check_mode_on_an_empty_cluster` on go on where the one before ended.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.elastic import ElasticServer
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError
from kubernetes import client

from tests.harness import LONG, ROOT, Cluster, Run, playbook, refusals, run_role, until, watched_role

sys.path.insert(0, str(ROOT))
from tests.fakes.certificates import certificate

SPECS = os.environ.get("FLASKOPS_SPECS")
pytestmark = LONG
NAMESPACE, OPERATOR, GRAFANA = "elastic-test", "elastic-test-operator", "elastic-test-grafana"
NAME = "logs"
# The $ comes first, so that the password is found in what Grafana gets of it too, which is $$ and the rest.
SHIPPER, READER, ELASTIC = "canary-shipper-3b9e", "$canary-reader-8c21", "canary-elastic-77d0"
KINDS = [
    ("elasticsearch.k8s.elastic.co/v1", "Elasticsearch"),
    ("kibana.k8s.elastic.co/v1", "Kibana"),
    ("stackconfigpolicy.k8s.elastic.co/v1alpha1", "StackConfigPolicy"),
]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no cluster": ({"kubeconfig": ""}, "No cluster was named"),
    "state": ({"state": "here"}, "present, absent"),
    "namespace": ({"namespace": "Elastic"}, "use at most 63 lower-case letters"),
    "operator's namespace": ({"operator_namespace": "a_b"}, "elastic_stack_operator_namespace is 'a_b'"),
    "operator": ({"operator": "maybe"}, "install, existing"),
    "release": ({"release_name": "9"}, "a letter first"),
    "name": ({"name": "Logs"}, "elastic_stack_name is 'Logs'"),
    "version": ({"version": "latest"}, "write a version like 9.5.0"),
    "old version": ({"version": "8.11.0"}, "8.14.0 or newer"),
    "nodes": ({"nodes": 0}, "use one or more of each"),
    "copies without nodes": ({"nodes": 1, "index_replicas": 1}, "a copy needs a node of its own"),
    "size": ({"storage_size": "much"}, "write a size like 20Gi"),
    "index with an asterisk": ({"index": "logs-*"}, "no asterisk"),
    "retention": ({"retention": "a month"}, "write days or hours, like 30d"),
    "application twice": (
        {"apps": [{"namespace": "a", "app": "b"}, {"namespace": "a", "app": "b"}]},
        "names an application twice",
    ),
    "application without a name": ({"apps": [{"namespace": "a"}]}, "app"),
    "short password": ({"reader_password": "12345"}, "shorter than the 6 characters"),
    "cluster that does not answer": ({}, "can't be reached"),
}


COMBINATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no-users": {"elastic_stack_shipper_password": "", "elastic_stack_reader_password": ""},
    "own-certificate": {"elastic_stack_tls_secret": "mine"},
    "three-nodes": {"elastic_stack_nodes": 3, "elastic_stack_storage_class": "fast", "elastic_stack_mmap": True},
    "images": {
        "elastic_stack_elasticsearch_image": "m.test/es:9.5.0",
        "elastic_stack_kibana_image": "m.test/kb:9.5.0",
    },
    "policy": {"elastic_stack_config_policy": True, "elastic_stack_retention": "12h"},
    "overrides": {
        "elastic_stack_elasticsearch_overrides": {"podDisruptionBudget": {"spec": {"maxUnavailable": 1}}},
        "elastic_stack_kibana_overrides": {"config": {"server.publicBaseUrl": "https://logs.example.com"}},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elastic_stack")


@pytest.fixture(scope="module")
def chart(folder: Path) -> Path:
    """A chart in the place of the operator's: it brings the definitions, as that one does, and nothing that needs an image."""
    if not SPECS:
        pytest.skip("FLASKOPS_SPECS is not set: the operator's definitions are not at hand")
    path = folder / "eck-operator"
    (path / "templates").mkdir(parents=True)
    (path / "Chart.yaml").write_text("apiVersion: v2\nname: eck-operator\nversion: 3.5.0\n")
    (path / "values.yaml").write_text("word: hello\npodSecurityContext: {runAsNonRoot: true}\n")
    for file in Path(SPECS).glob("eck-3.5.0.*.crd.yaml"):
        definition = yaml.safe_load(file.read_text())
        definition["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep"
        assert "{{" not in file.read_text()
        (path / "templates" / file.name).write_text(yaml.safe_dump(definition))
    template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: elastic-operator}\n"
    # As with the operator's own chart, it is the role that brings what the restricted Pod Security level asks for.
    template += 'data: {word: {{ required "word" .Values.word | quote }}, '
    template += 'profile: {{ required "seccompProfile" (.Values.podSecurityContext.seccompProfile).type | quote }}}\n'
    (path / "templates/config.yaml").write_text(template)
    return path


@pytest.fixture(scope="module")
def variables(cluster: Cluster, folder: Path, chart: Path) -> Iterator[dict[str, Any]]:
    """The role's variables. Whatever a failed test left behind is removed in the end."""
    found: dict[str, Any] = {
        "elastic_stack_kubeconfig": str(cluster.kubeconfig),
        "elastic_stack_context": cluster.context,
        "elastic_stack_namespace": NAMESPACE,
        "elastic_stack_operator_namespace": OPERATOR,
        "elastic_stack_chart_ref": str(chart),
        "elastic_stack_name": NAME,
        "elastic_stack_wait": False,
        "elastic_stack_wait_timeout": 120,
        "elastic_stack_apps": [{"namespace": "flask-app", "app": "flask-app"}],
        "elastic_stack_shipper_password": SHIPPER,
        "elastic_stack_reader_password": READER,
        "elastic_stack_grafana_namespace": GRAFANA,
    }
    yield found
    run(
        folder,
        found,
        "-e",
        "elastic_stack_state=absent",
        "-e",
        '{"elastic_stack_remove_data": true, "elastic_stack_remove_crds": true}',
    )
    for name in {GRAFANA, NAMESPACE} & cluster.namespaces():
        cluster.core.delete_namespace(name)


def run(folder: Path, variables: dict[str, Any], *args: str) -> Run:
    return run_role("elastic_stack", folder, variables, *args)


def live(cluster: Cluster, kind: str) -> dict[str, Any] | None:
    (version,) = [version for version, known in KINDS if known == kind]
    return Objects(cluster.api).get({"apiVersion": version, "kind": kind, "metadata": {"name": NAME, "namespace": NAMESPACE}})


def test_wrong_options_end_in_one_sentence(tmp_path: Path) -> None:
    cases = {name: {f"elastic_stack_{key}": value for key, value in options.items()} for name, (options, _) in WRONG.items()}
    for name, text in refusals("elastic_stack", tmp_path, cases).items():
        assert WRONG[name][1] in text, f"{name}: {text}"
        assert "12345" not in text


def test_chart_that_can_not_be_had(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    """On the local cluster it is skipped, elsewhere refused; nothing is left either way."""
    nowhere = {**variables, "elastic_stack_chart_ref": "", "elastic_stack_chart_version": "0.0.0-nowhere"}
    done = run(folder, {**nowhere, "elastic_stack_local_cluster": cluster.context})
    assert done.changed == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("elastic_stack: ")]
    assert "skipped, because the chart eck-operator can't be pulled" in line and line.endswith("in elastic_stack_chart_ref.")
    assert "skipped: True" in done.stdout
    error = run(folder, {**nowhere, "elastic_stack_local_cluster": ""}).error
    assert "The chart eck-operator can't be pulled" in error and "set elastic_stack_chart_ref" in error
    assert not {NAMESPACE, OPERATOR} & cluster.namespaces()


def test_cluster_without_the_operator_is_refused(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    error = run(folder, {**variables, "elastic_stack_operator": "existing"}).error
    assert "the cluster knows no Elasticsearch, Kibana, StackConfigPolicy: install the ECK operator first" in error
    assert not {NAMESPACE, OPERATOR} & cluster.namespaces()


def test_values_that_the_chart_refuses_change_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert (
        "can't take the values of release elastic-operator"
        in run(folder, {**variables, "elastic_stack_values": {"word": ""}}).error
    )
    assert not {NAMESPACE, OPERATOR} & cluster.namespaces()


def test_check_mode_on_an_empty_cluster(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables, "--check").changed == 3  # the operator's namespace, its release, and the objects
    assert not {NAMESPACE, OPERATOR} & cluster.namespaces()


def test_converge_twice(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    done = run(folder, variables)
    # The operator's namespace, its release, the namespace, the credentials and the objects.
    assert done.changed == 3
    assert "because elastic_stack_wait is false" in done.stdout
    assert run(folder, variables).changed == 0
    assert run(folder, variables, "--check").changed == 0
    assert {NAMESPACE, OPERATOR} <= cluster.namespaces()


def test_an_existing_operator_is_used(folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, {**variables, "elastic_stack_operator": "existing", "elastic_stack_chart_ref": ""}).changed == 0


def test_objects_are_what_the_operator_knows(cluster: Cluster) -> None:
    """TLS is on, the users are in the file realm, and the definitions of the operator dropped nothing."""
    elasticsearch, kibana = live(cluster, "Elasticsearch"), live(cluster, "Kibana")
    assert elasticsearch and kibana and live(cluster, "StackConfigPolicy") is None
    spec = elasticsearch["spec"]
    assert spec["auth"] == {
        "fileRealm": [{"secretName": "logs-user-shipper"}, {"secretName": "logs-user-reader"}],
        "roles": [{"secretName": "logs-roles"}],
    }
    assert (
        "selfSignedCertificate" not in json.dumps(spec.get("http", {}))
        and spec["volumeClaimDeletePolicy"] == "DeleteOnScaledownOnly"
    )
    (nodes,) = spec["nodeSets"]
    assert nodes["count"] == 1 and nodes["config"] == {"node.store.allow_mmap": False}
    assert nodes["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert kibana["spec"]["elasticsearchRef"] == {"name": "logs"}
    context = kibana["spec"]["podTemplate"]["spec"]["securityContext"]
    assert context["runAsNonRoot"] is True and context["seccompProfile"] == {"type": "RuntimeDefault"}
    secret = cluster.core.read_namespaced_secret("logs-user-shipper", NAMESPACE)
    assert secret.type == "kubernetes.io/basic-auth" and set(secret.data) == {"username", "password", "roles"}
    roles = yaml.safe_load(base64.b64decode(cluster.core.read_namespaced_secret("logs-roles", NAMESPACE).data["roles.yml"]))
    assert roles["flaskops-shipper"]["indices"] == [
        {"names": ["logs-kubernetes-*"], "privileges": ["auto_configure", "create_doc"]}
    ]


def test_every_option_reaches_the_objects(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    pem, key = certificate(f"{NAME}-es-http.{NAMESPACE}.svc", f"{NAME}-kb-http.{NAMESPACE}.svc")
    given = {
        **variables,
        "elastic_stack_tls_secret": "mine",
        "elastic_stack_version": "9.5.3",
        "elastic_stack_elasticsearch_image": "mirror.example.com/elasticsearch:9.5.3",
        "elastic_stack_kibana_image": "mirror.example.com/kibana:9.5.3",
        "elastic_stack_nodes": 3,
        "elastic_stack_kibana_replicas": 2,
        "elastic_stack_storage_class": "fast",
        "elastic_stack_mmap": True,
        "elastic_stack_config_policy": True,
        "elastic_stack_retention": "90d",
        "elastic_stack_elasticsearch_overrides": {"updateStrategy": {"changeBudget": {"maxUnavailable": 1}}},
        "elastic_stack_kibana_overrides": {"config": {"server.publicBaseUrl": "https://logs.example.com"}},
    }
    assert "needs the Secret mine with the key ca.crt and tls.crt and tls.key" in run(folder, given).error
    data = {"ca.crt": pem, "tls.crt": pem, "tls.key": key}
    cluster.core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "mine"}, "stringData": data})
    assert run(folder, given).changed == 1
    elasticsearch, kibana, policy = (live(cluster, kind) for _version, kind in KINDS)
    assert elasticsearch and kibana and policy
    spec = elasticsearch["spec"]
    assert spec["http"]["tls"] == {"certificate": {"secretName": "mine"}} and spec["version"] == "9.5.3"
    assert (
        spec["image"] == "mirror.example.com/elasticsearch:9.5.3"
        and spec["updateStrategy"]["changeBudget"]["maxUnavailable"] == 1
    )
    assert spec["nodeSets"][0]["count"] == 3 and spec["nodeSets"][0]["config"] == {"node.store.allow_mmap": True}
    assert spec["nodeSets"][0]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    assert kibana["spec"]["count"] == 2 and kibana["spec"]["config"] == {"server.publicBaseUrl": "https://logs.example.com"}
    template = policy["spec"]["elasticsearch"]["indexTemplates"]["composableIndexTemplates"]["logs-kubernetes"]["template"]
    assert template["lifecycle"] == {"data_retention": "90d"}
    # Two nodes more: each shard gets a copy.
    assert template["settings"]["index"]["number_of_replicas"] == "1"
    assert policy["spec"]["resourceSelector"]["matchLabels"].items() <= elasticsearch["metadata"]["labels"].items()
    assert run(folder, variables).changed == 1  # the objects, among which the policy goes
    assert live(cluster, "StackConfigPolicy") is None


def refused(objects: Objects, item: dict[str, Any]) -> str:
    """What the API server has against an object, judged strictly: it would drop what a definition does not know."""
    query = {"fieldManager": "test", "force": "true", "dryRun": "All", "fieldValidation": "Strict"}
    try:
        objects.request("PATCH", str(objects.path(item)), query, item, "application/apply-patch+yaml")
    except ApiError as error:
        return str(error)
    return ""


def test_operator_s_definitions_know_every_key(cluster: Cluster, tmp_path: Path, variables: dict[str, Any]) -> None:
    """The objects as the role renders them, for several sets of options; one host is one set."""
    defaults = yaml.safe_load((ROOT / "roles/elastic_stack/defaults/main.yml").read_text())
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {name: {**shared, **defaults, **variables, **options} for name, options in COMBINATIONS.items()}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (tmp_path / "templates").symlink_to(ROOT / "roles/elastic_stack/templates")
    tasks = [
        {"ansible.builtin.include_vars": {"file": str(ROOT / "roles/elastic_stack/vars/main.yml")}},
        {
            "ansible.builtin.copy": {
                "content": "{{ lookup('ansible.builtin.template', 'objects.yml.j2') }}",
                "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}.yml",
                "mode": "0600",
            }
        },
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    assert playbook(str(tmp_path / "play.yml"), inventory=("-i", str(tmp_path / "hosts.yml"))).changed == len(hosts)
    objects, kinds = Objects(cluster.api), set()
    for name in hosts:
        found = list(yaml.safe_load_all((tmp_path / f"{name}.yml").read_text()))
        kinds |= {item["kind"] for item in found}
        assert [refused(objects, item) for item in found] == [""] * len(found), name
    assert kinds == {"Namespace", "Secret", "Elasticsearch", "Kibana", "StackConfigPolicy"}
    kibana = next(item for item in found if item["kind"] == "Kibana")
    kibana["spec"]["replicas"] = 2
    # Server-side apply judges before the strict check of unknown fields does.
    assert ".spec.replicas: field not declared in schema" in refused(objects, kibana), "nothing would ever be found"


def test_programs_that_do_not_get_ready_are_named(folder: Path, variables: dict[str, Any]) -> None:
    given = {**variables, "elastic_stack_wait": True, "elastic_stack_wait_timeout": 2}
    error = run(folder, given).error
    assert f"Elasticsearch {NAMESPACE}/logs was not looked at by the operator yet and Kibana" in error and "after 2 s" in error


@pytest.fixture(scope="module")
def stand_in(cluster: Cluster, variables: dict[str, Any]) -> ElasticServer:
    """Do what the operator would: both programs behind their Services, their Secrets, and the states. A way to ask them."""
    hosts = [f"{NAME}-{part}-http.{NAMESPACE}.svc" for part in ("es", "kb")]
    pem, key = certificate(*hosts)
    core = cluster.core
    for part in ("es", "kb"):
        core.create_namespaced_secret(
            NAMESPACE, {"metadata": {"name": f"{NAME}-{part}-http-certs-public"}, "stringData": {"ca.crt": pem, "tls.crt": pem}}
        )
    core.create_namespaced_secret(
        NAMESPACE, {"metadata": {"name": f"{NAME}-es-elastic-user"}, "stringData": {"elastic": ELASTIC}}
    )
    core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "fake"}, "stringData": {"tls.crt": pem, "tls.key": key}})
    program = {"elastic.py": (ROOT / "tests/fakes/elastic.py").read_text()}
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "fake"}, "data": program})
    image = cluster.apps.read_namespaced_deployment("flask-app", "flask-app").spec.template.spec.containers[0].image
    command = ["python3", "/fake/elastic.py", "--certificate=/tls/tls.crt", "--key=/tls/tls.key"]
    command += [f"--user=elastic:{ELASTIC}", f"--user=flaskops-shipper:{SHIPPER}", "--port=9200", "--port=5601"]
    spec = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "fake",
                "image": image,
                "command": command,
                "readinessProbe": {"tcpSocket": {"port": 5601}, "periodSeconds": 1},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "fake", "mountPath": "/fake"}, {"name": "tls", "mountPath": "/tls"}],
            }
        ],
        "volumes": [{"name": "fake", "configMap": {"name": "fake"}}, {"name": "tls", "secret": {"secretName": "fake"}}],
    }
    core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "fake", "labels": {"app": "fake"}}, "spec": spec})
    for part, port in (("es", 9200), ("kb", 5601)):
        body = {"metadata": {"name": f"{NAME}-{part}-http"}, "spec": {"selector": {"app": "fake"}, "ports": [{"port": port}]}}
        core.create_namespaced_service(NAMESPACE, body)
    objects = Objects(cluster.api)
    for kind, status in (("Elasticsearch", {"phase": "Ready", "health": "green"}), ("Kibana", {"health": "green"})):
        item = live(cluster, kind)
        assert item
        path = f"{objects.path(item)}/status"
        body = {"status": {**status, "observedGeneration": item["metadata"]["generation"]}}
        objects.request("PATCH", path, None, body, "application/merge-patch+json")
    if GRAFANA not in cluster.namespaces():
        core.create_namespace({"metadata": {"name": GRAFANA}})

    def ready() -> bool:
        pod = core.read_namespaced_pod("fake", NAMESPACE)
        return any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or [])

    until(ready, 60, "the readiness of the programs' stand-in")
    return ElasticServer(cluster.api, NAMESPACE, f"{NAME}-es-http", pem, ELASTIC)


def stored(server: ElasticServer) -> dict[str, Any]:
    """What the stand-in has in store."""
    found: dict[str, Any] = server.request("GET", "/state")
    return found


def waiting(variables: dict[str, Any]) -> dict[str, Any]:
    return {**variables, "elastic_stack_wait": True}


def test_programs_are_set_up_and_repaired(folder: Path, variables: dict[str, Any], stand_in: ElasticServer) -> None:
    given = waiting(variables)
    assert run(folder, given, "--check").changed == 2  # what is in the programs, and Grafana's data source
    assert stored(stand_in)["writes"] == []
    assert run(folder, given).changed == 2
    state = stored(stand_in)
    template = state["templates"]["logs-kubernetes"]
    assert template["index_patterns"] == ["logs-kubernetes-*"] and template["template"]["lifecycle"]["data_retention"] == "30d"
    saved = {item["id"]: item for item in state["saved"]}
    assert set(saved) == {"logs-kubernetes", "logs-kubernetes-flask-app-flask-app"}
    source = json.loads(saved["logs-kubernetes-flask-app-flask-app"]["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])
    assert source["query"] == {"language": "kuery", "query": 'namespace: "flask-app" and app: "flask-app"'}
    assert run(folder, given).changed == 0
    assert run(folder, given, "--check").changed == 0
    stand_in.request("PUT", "/_index_template/logs-kubernetes", {"index_patterns": ["logs-kubernetes-*"], "data_stream": {}})
    assert run(folder, given, "--check").changed == 1
    assert run(folder, given).changed == 1
    assert stored(stand_in)["templates"]["logs-kubernetes"]["template"] == template["template"]


def test_retention_reaches_the_lines_that_are_there(folder: Path, variables: dict[str, Any], stand_in: ElasticServer) -> None:
    """The shipper may write, to a data stream that its first line makes."""
    shipper = ElasticServer(stand_in.core.api_client, NAMESPACE, f"{NAME}-es-http", stand_in.authority, SHIPPER)
    shipper.headers["Authorization"] = "Basic " + base64.b64encode(f"flaskops-shipper:{SHIPPER}".encode()).decode()
    lines = '{"create":{"_index":"logs-kubernetes-default"}}\n{"message":"hello"}\n'
    assert shipper.request("POST", "/_bulk", lines.encode(), "application/x-ndjson")["errors"] is False
    assert stored(stand_in)["streams"]["logs-kubernetes-default"]["lifecycle"]["data_retention"] == "30d"
    given = {**waiting(variables), "elastic_stack_retention": "7d"}
    assert run(folder, given).changed == 1
    assert stored(stand_in)["streams"]["logs-kubernetes-default"]["lifecycle"]["data_retention"] == "7d"
    assert run(folder, given).changed == 0


def test_grafana_has_a_data_source_that_verifies(cluster: Cluster, stand_in: ElasticServer) -> None:
    (secret,) = cluster.core.list_namespaced_secret(GRAFANA, label_selector="grafana_datasource=1").items
    (source,) = yaml.safe_load(base64.b64decode(secret.data["elasticsearch.yaml"]))["datasources"]
    assert source["url"] == f"https://logs-es-http.{NAMESPACE}.svc:9200" and source["jsonData"]["tlsAuthWithCACert"] is True
    assert source["secureJsonData"] == {"basicAuthPassword": READER.replace("$", "$$"), "tlsCACert": stand_in.authority}
    assert "${__value.raw}" in source["jsonData"]["dataLinks"][0]["url"]


def test_secrets_are_nowhere_else(cluster: Cluster, folder: Path, variables: dict[str, Any], stand_in: ElasticServer) -> None:
    """Not in the output at -vvv with differences, not in any process's arguments, not in any object but the Secrets."""
    given = waiting(variables)
    given["elastic_stack_shipper_password"], given["elastic_stack_reader_password"] = f"{SHIPPER}-2", f"{READER}-2"
    text, arguments = watched_role("elastic_stack", folder, given)
    assert "changed=3" in text, "changed passwords must change both Secrets, the data source, and the retention of before"
    everything = json.dumps([live(cluster, kind) for _version, kind in KINDS])
    everything += json.dumps(cluster.api.sanitize_for_serialization(cluster.core.list_namespaced_config_map(NAMESPACE).items))
    for canary in (SHIPPER, READER, f"{SHIPPER}-2", f"{READER}-2", ELASTIC):
        for secret in (canary, base64.b64encode(canary.encode()).decode()):
            assert secret not in text and secret not in everything
            # The stand-in's own command has the first passwords.
            assert not [line for line in arguments if secret in line and "/fake/elastic.py" not in line]
    stored_password = cluster.core.read_namespaced_secret("logs-user-shipper", NAMESPACE).data["password"]
    assert base64.b64decode(stored_password).decode() == f"{SHIPPER}-2"


def test_drift_is_repaired(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    run(folder, variables)
    objects, item = Objects(cluster.api), live(cluster, "Kibana")
    assert item
    objects.request("PATCH", str(objects.path(item)), None, {"spec": {"count": 5}}, "application/merge-patch+json")
    cluster.core.delete_namespaced_secret("logs-user-reader", NAMESPACE)
    cluster.core.patch_namespaced_config_map("elastic-operator", OPERATOR, {"data": {"word": "drift"}})
    assert run(folder, variables, "--check").changed == 2
    item = live(cluster, "Kibana")
    assert item and item["spec"]["count"] == 5, "check mode changed the cluster"
    assert run(folder, variables).changed == 2
    item = live(cluster, "Kibana")
    assert item and item["spec"]["count"] == 1
    assert cluster.core.read_namespaced_config_map("elastic-operator", OPERATOR).data["word"] == "hello"
    assert run(folder, variables).changed == 0


def test_a_user_that_is_not_wanted_any_more_goes(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    given = {**variables, "elastic_stack_reader_password": ""}
    assert run(folder, given).changed == 1  # the Elasticsearch that names it, and what goes
    names = {secret.metadata.name for secret in cluster.core.list_namespaced_secret(NAMESPACE).items}
    assert "logs-user-shipper" in names and "logs-user-reader" not in names
    assert not cluster.core.list_namespaced_secret(GRAFANA, label_selector="grafana_datasource=1").items
    item = live(cluster, "Elasticsearch")
    assert item and item["spec"]["auth"]["fileRealm"] == [{"secretName": "logs-user-shipper"}]


def test_the_operator_stays_for_others(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    """One of a kind that the role uses, and one of a kind that it does not."""
    objects = Objects(cluster.api)
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "beats.beat.k8s.elastic.co"},
        "spec": {
            "group": "beat.k8s.elastic.co",
            "scope": "Namespaced",
            "names": {"kind": "Beat", "listKind": "BeatList", "plural": "beats", "singular": "beat"},
            "versions": [{"name": "v1beta1", "served": True, "storage": True, "schema": schema}],
        },
    }
    definitions = client.ApiextensionsV1Api(cluster.api)
    definitions.create_custom_resource_definition(definition)

    def established() -> bool:
        found = definitions.read_custom_resource_definition("beats.beat.k8s.elastic.co").status.conditions or []
        return any(item.type == "Established" and item.status == "True" for item in found)

    until(established, 30, "the kind Beat")
    others = [
        {"apiVersion": KINDS[1][0], "kind": "Kibana", "metadata": {"name": "other", "namespace": GRAFANA}},
        {"apiVersion": "beat.k8s.elastic.co/v1beta1", "kind": "Beat", "metadata": {"name": "ship", "namespace": GRAFANA}},
    ]
    for other in others:
        # A fresh one knows the new kind.
        objects = Objects(cluster.api)
        objects.apply({**other, "spec": {"version": "9.5.0"}}, "test")
        done = run(folder, variables, "-e", "elastic_stack_state=absent")
        metadata: Any = other["metadata"]
        assert (
            f"the operator stays, because it looks after {other['kind']} {metadata['namespace']}/{metadata['name']} of others"
            in " ".join(done.stdout.split())
        )
        assert OPERATOR in cluster.namespaces() and live(cluster, "Elasticsearch") is None
        objects.request("DELETE", str(objects.path(other)))
    definitions.delete_custom_resource_definition("beats.beat.k8s.elastic.co")


def test_absent_leaves_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    """The definitions go when they are asked for by name, with the operator's release they stay."""
    absent = ("-e", "elastic_stack_state=absent")
    # A namespace in which somebody else's pod runs would stay.
    cluster.core.delete_namespaced_pod("fake", NAMESPACE)
    assert run(folder, variables, *absent).changed > 0
    assert run(folder, variables, *absent).changed == 0
    assert not {NAMESPACE, OPERATOR} & cluster.namespaces()
    definitions = client.ApiextensionsV1Api(cluster.api)
    names = {item.metadata.name for item in definitions.list_custom_resource_definition().items}
    assert "elasticsearches.elasticsearch.k8s.elastic.co" in names
    everything = (*absent, "-e", '{"elastic_stack_remove_crds": true}')
    assert run(folder, variables, *everything).changed == 1
    assert run(folder, variables, *everything).changed == 0
    names = {item.metadata.name for item in definitions.list_custom_resource_definition().items}
    assert not [name for name in names if name.endswith(".k8s.elastic.co")]
