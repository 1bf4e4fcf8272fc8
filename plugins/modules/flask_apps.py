# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# The one specification of an application: types, defaults and meaning. The action of this name reads it.
DOCUMENTATION = r"""
module: flask_apps
short_description: Read the descriptions of a host's applications
version_added: 0.1.0
author: flaskops (@flaskops)
description:
  - Checks the list of a host's applications, and returns each one with every option set. Changes nothing.
  - An option that an application does not set comes from O(defaults), and else has the default below. Mappings are merged key by
    key, lists are taken as they are.
  - A variable of a role that would have no effect, because the list decides, is refused with the key to use.
  - This is an action; there is no module that runs on a host.
options:
  defaults:
    description: What all applications of the host have in common, with the options of O(apps) but C(name).
    type: dict
    default: {}
  deploy:
    description:
      - Refuse of each application what the role C(flask_app) would refuse, so that it is said before the
        first one is built or deployed.
      - An application without C(image) counts as one whose image is built.
    type: bool
    default: false
  apps:
    description: The applications.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the application, of its objects, and value of the label C(app). Of at most 46 characters.
        type: str
        required: true
      state:
        description: >-
          Whether the application is installed, or removed with its monitoring, its scheduled verification and its outside checks.
        type: str
        choices: [present, absent]
        default: "present"
      namespace:
        description: Namespace of the application; empty for one with its name.
        type: str
        default: ""
      create_namespace:
        description:
          - Create the namespace, with the restricted Pod Security level, if it is missing.
          - A namespace that exists and does not carry the label C(app.kubernetes.io/managed-by=flaskops) is left as it
            is.
        type: bool
        default: true
      adopt:
        description:
          - Take over objects that somebody else made and that have the application's names. Without it they are refused.
          - It changes nothing with C(state=absent), which never removes what is somebody else's.
        type: bool
        default: false
      labels:
        description: Labels of every object of the application, of its monitoring and of its scheduled verification, and of
            their pods, but not of the namespace, which others may share. Values become text.
        type: dict
        default: {}
      annotations:
        description: Annotations of every object of the application, but not of pods and the namespace. Values become text.
        type: dict
        default: {}
      pod_labels:
        description: Further labels of the pods of the application and of its scheduled verification. Values become text.
        type: dict
        default: {}
      pod_annotations:
        description: Annotations of the pods of the application and of its scheduled verification. Values become text.
        type: dict
        default: {}
      image:
        description: Image of the application; without one it is built from C(source), or from C(requirements) alone.
        type: str
        default: ""
      image_pull_policy:
        description: When the image is pulled.
        type: str
        choices: [IfNotPresent, Always, Never]
        default: "IfNotPresent"
      image_pull_secrets:
        description: Names of Secrets in the namespace with credentials for the image's registry, and for that of the
            scheduled verification's image.
        type: list
        elements: str
        default: []
      source:
        description: Folder of the source tree; may be empty when C(wsgi) and C(requirements) are set.
        type: str
        default: ""
      folder:
        description: Folder of the application inside the source, such as V(services/web). The image has the whole source, so
            that what the application installs may be beside it (V(../../libs/common)).
        type: str
        default: ""
      wsgi:
        description:
          - The app as gunicorn names it, for example V(httpbin:app).
          - When empty, the tree's own Containerfile is used, and where it has none the app is found as C(flask run)
            finds it, by reading the tree.
        type: str
        default: ""
      wrap:
        description: In a generated image, add C(/health), JSON request logs and metrics on port 9200 to the app.
        type: bool
        default: true
      requirements:
        description: Python requirements of a generated image, in addition to the tree's requirements.txt. Each is a line of such
            a file, so that V(-r requirements/prod.txt) names another one of the tree.
        type: list
        elements: str
        default: []
      extras:
        description: Extras of the project (C(optional-dependencies)) that a generated image has too.
        type: list
        elements: str
        default: []
      groups:
        description: Dependency groups of the project that a generated image has too; with Pipenv its categories.
        type: list
        elements: str
        default: []
      server_requirements:
        description: Python requirements of what serves the app in a generated image; one that the app itself names is not
            installed over it.
        type: list
        elements: str
        default: ["gunicorn==27.0.1", "prometheus-client==0.26.0", "blinker==1.9.0"]
      repository:
        description: Name of the image that is built, without its tag; empty for C(localhost/<name>).
        type: str
        default: ""
      base_image:
        description: Base image, handed to the build as BASE_IMAGE and RUNTIME_IMAGE. When empty it is
            C(docker.io/library/python) with the Python that C(requires-python) or C(.python-version) asks for, else
            3.13, and C(-slim-bookworm).
        type: str
        default: ""
      packages:
        description: Debian packages that are in a generated image, such as V(libpq5).
        type: list
        elements: str
        default: []
      build_packages:
        description: Debian packages for the stage that installs a generated image's Python packages, such as V(gcc), V(libpq-
            dev) or V(git).
        type: list
        elements: str
        default: []
      containerfile:
        description: Containerfile of your own, a path in the source; one at its root needs no option.
        type: str
        default: ""
      target:
        description: Stage of your own Containerfile to build; the last one when empty.
        type: str
        default: ""
      build_args:
        description: Build arguments; they stay visible in the image, so they must not hold secrets. In a generated image they
            are in the environment of its installation. One that a Containerfile of your own has no ARG for is refused.
        type: dict
        default: {}
      build_secrets:
        description: Secrets of the build by their ids, each a text or a mapping with C(src), the file that has it; no layer,
            command line or output has them. For a generated image C(pip.conf), C(uv.toml) and C(netrc) are such files,
            and another name in capitals is a variable of the installation's environment, such as
            C(PIP_EXTRA_INDEX_URL). A Containerfile of your own mounts each by C(RUN --mount=type=secret,id=...).
        type: dict
        default: {}
      exclude:
        description: Further patterns of what is neither hashed nor built, as in a C(.dockerignore); one without a slash is a
            name in any folder. One that begins with V(!) brings back what is skipped by default, for example V(!.env).
        type: list
        elements: str
        default: []
      replicas:
        description:
          - Number of pods. A PodDisruptionBudget is made for more than one.
          - Where a HorizontalPodAutoscaler, a ScaledObject of KEDA or another autoscaler sets the number, the live
            number stays.
          - With null the role leaves the number to others in any case. Kubernetes starts a new Deployment with 1 pod
            then.
          - With V(0) the role C(verify) expects no pods, and nobody asks the health check.
        type: raw
        default: 2
      autoscale:
        description:
          - Makes a HorizontalPodAutoscaler, which sets the number of pods in the place of C(replicas). That is C(min), by
            default 2, to C(max), so many that on average they use C(cpu) percent, by default 80, of the CPU that they
            request.
          - It needs the cluster's metrics-server. Without the option the autoscaler is removed, and C(replicas) counts
            again.
          - Refused where another autoscaler sets the number already, such as a ScaledObject of KEDA.
        type: dict
        default: {}
        suboptions:
          min:
            description: Number of pods at least; 2 where it is not set. A new Deployment starts with it.
            type: int
          max:
            description: Number of pods at most; it must be set.
            type: int
          cpu:
            description: Share of the requested CPU that the pods are to use on average, in percent; 80 where it is not set.
            type: int
      port:
        description: Port on which the application answers requests and C(health_path).
        type: int
        default: 5000
      scheme:
        description:
          - How the application answers at C(port); V(https) where it speaks TLS itself.
          - The probes and the Service's port (C(appProtocol)) say so, and by that port the Probe, verify, drill and outside
            checks know it. C(probe_module) has to accept the certificate, which the blackbox exporter asks of
            C(<name>.<namespace>.svc).
        type: str
        choices: [http, https]
        default: "http"
      path:
        description: >-
          Path that the verification's own request asks for, and the drill's steady probe ten times a second. Any answer below 500
          will do; give another path where the first page fails by design. Empty is V(/), or a page that the app lacks where V(/)
          fails.
        type: str
        default: "/"
      metrics_port:
        description: Port on which the application serves its metrics; may equal C(port).
        type: int
        default: 9200
      metrics_path:
        description: Path of the metrics; noted on the Service of the metrics port as the annotation C(flaskops/metrics-path).
        type: str
        default: "/metrics"
      health_path:
        description: >-
          Path of the health check, which the probes of the pods, the blackbox exporter and the outside providers ask. A generated
          image answers there.
        type: str
        default: "/health"
      health_port:
        description:
          - Port on which C(health_path) is answered, where it is another one than C(port); V(0) for that.
          - It has a Service of its own then, C(<name>-health), so that no load balancer serves it. By default the outside
            check asks C(path) then.
        type: int
        default: 0
      probes:
        description:
          - What is to differ in C(livenessProbe), C(readinessProbe) and C(startupProbe), in Kubernetes' words, such as
            C(timeoutSeconds). It is merged into the probes that ask C(health_path); another way to ask, such as
            C(tcpSocket), takes the place of C(httpGet). There is no probe that is null.
        type: dict
        default: {}
      environment:
        description: Environment variables of the application; values become text, and what is null is not set.
        type: dict
        default: {}
      secret_environment:
        description: Names of Secrets in the namespace whose keys become environment variables.
        type: list
        elements: str
        default: []
      config_map_environment:
        description: Names of ConfigMaps in the namespace whose keys become environment variables. Where a Secret has the same
            key, that counts.
        type: list
        elements: str
        default: []
      volumes:
        description:
          - Folders and files in the application's container, each with C(mountPath) and one source in Kubernetes' words,
            such as C(emptyDir) for a folder that can be written to, C(configMap), C(secret) or C(persistentVolumeClaim).
          - C(subPath) mounts one file or folder of it, C(readOnly) keeps it as it is, and C(name) is its name, by default
            made of the path. The same source of the same C(name) is one volume at several places.
        type: list
        elements: dict
        default: []
      resources:
        description: Resource requests and limits of the container.
        type: dict
        default: {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
      start_timeout:
        description:
          - Seconds that the application may take to start, for one that needs more than about 30. A startup probe holds
            the others back so long.
          - With V(0) there is no startup probe, unless C(probes) has one.
        type: int
        default: 0
      tmp_size:
        description: How much C(/tmp) holds, which is where uploads go; a pod that writes more is evicted.
        type: str
        default: "64Mi"
      pod_overrides:
        description:
          - Merged into the pod's specification, as C(kubectl patch) does. A container, volume, mount, port or variable
            of the same name is merged into the role's, and others are added. The container is named like the
            application.
          - A further container has the security context of the application's, but for what it says itself.
        type: dict
        default: {}
      migration:
        description:
          - Runs C(command), such as a migration of the database, as one Job before anything of the application is changed.
            It has the image, environment, volumes and account of the application.
          - It runs once for each image and configuration. Where it fails, or takes longer than C(timeout) seconds, by default
            600, the run ends with its last log lines, what is deployed serves on, and the next run tries again.
            While one of another version runs, none is started.
          - Further containers of C(pod_overrides) are not in its pod, but init containers are, such as a sidecar with
            C(restartPolicy=Always).
        type: dict
        default: {}
        suboptions:
          command:
            description: The command, each word by itself; it must be set.
            type: list
            elements: str
          timeout:
            description: Seconds that the command may take; 600 where it is not set.
            type: int
      workers:
        description:
          - Other processes of the application, such as those that work off a queue. Each is a Deployment of the same image with
            the application's environment, volumes, account and C(pod_overrides), and has alerts of its own.
          - No Service, monitor, budget or autoscaler of the application leads to their pods; their log lines have the
            application's name, and theirs as the container's.
          - A worker that is no longer listed is removed.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Its name, with which its Deployment is called C(<application>-<name>). Its container is called so too.
            type: str
            required: true
          command:
            description: The command, each word by itself.
            type: list
            elements: str
            required: true
          replicas:
            description: Number of pods; 1 where it is not set. An autoscaler of yours sets it as it does the application's.
            type: int
          probe:
            description: >-
              A command that ends with 0 while the worker is well, asked every 30 seconds; a worker that fails it three times is
              restarted. Without one it is restarted when it ends.
            type: list
            elements: str
          resources:
            description: What is to differ in the application's C(resources).
            type: dict
      service_type:
        description: Type of the Service.
        type: str
        choices: [ClusterIP, NodePort, LoadBalancer]
        default: "ClusterIP"
      service_annotations:
        description: Annotations of the Service, such as those that make a cloud's load balancer internal. Values become text.
        type: dict
        default: {}
      service_load_balancer_class:
        description: The Service's C(loadBalancerClass), which Kubernetes lets nobody change afterwards; empty for the
            cluster's own.
        type: str
        default: ""
      service_ports:
        description:
          - Ports of the Service, in Kubernetes' words; each leads to C(port) where it has no C(targetPort). Outside checks
            ask the first one.
          - Empty for the port C(http) 80, or C(https) 443 with C(scheme=https).
        type: list
        elements: dict
        default: []
      hosts:
        description:
          - Names by which users reach the application, each with C(name), C(path) where it is not V(/), and C(tls_secret), the
            Secret of its certificate. They make an Ingress, or an HTTPRoute with C(gateway).
          - The row C(route) of verify follows each of them to the application's pods, and outside checks ask them.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The host name, such as V(shop.example.com); V(*.example.com) for all of a domain.
            type: str
            required: true
          path:
            description: Path below which the application answers; V(/) where it is not set. The application gets it as it is.
            type: str
          tls_secret:
            description: Secret in the namespace with the certificate of an Ingress. It must exist, or C(tls_issuer) makes it; its
                name is C(<name>-tls) then, where it is not set. Without both the host has no TLS.
            type: str
      ingress_class:
        description: Class of the Ingress of C(hosts); empty for the cluster's default.
        type: str
        default: ""
      ingress_annotations:
        description: Annotations of the Ingress or HTTPRoute of C(hosts), such as those by which a controller is set. Values
            become text.
        type: dict
        default: {}
      tls_issuer:
        description: Issuer of cert-manager that makes the certificates of C(hosts), with C(name), and C(kind) where it is no
            C(ClusterIssuer).
        type: dict
        default: {}
        suboptions:
          name:
            description: Name of the issuer; it must be set.
            type: str
          kind:
            description: Its kind, V(ClusterIssuer) or V(Issuer); the former where it is not set.
            type: str
      gateway:
        description:
          - Gateway to which the HTTPRoute of C(hosts) is attached, in the place of an Ingress, with C(name), and perhaps
            C(namespace) and C(section), the name of a listener. It ends TLS, so that neither C(tls_secret) nor C(tls_issuer) may
            be set.
          - Refused where the cluster lacks the definitions of the Gateway API.
        type: dict
        default: {}
        suboptions:
          name:
            description: Name of the Gateway; it must be set.
            type: str
          namespace:
            description: Its namespace; that of the application where it is not set.
            type: str
          section:
            description: Name of one of its listeners; any that takes the host where it is not set.
            type: str
      network_policy:
        description: Admit only traffic to the application's port and where else the Service leads, and from
            C(network_policy_metrics_from) to its metrics port and a health port of its own.
        type: bool
        default: true
      network_policy_metrics_from:
        description: NetworkPolicy peers that may read the metrics, and ask a health port of its own; by default any pod of the
            cluster, and nothing from outside it.
        type: list
        elements: dict
        default: [{"namespaceSelector": {}}]
      metrics_prefix:
        description: The exporter's C(defaults_prefix), empty for C(NO_PREFIX). Another one than V(flask) is renamed to it while
            scraping.
        type: str
        default: "flask"
      scrape_interval:
        description: How often the metrics are read, such as V(15s); empty for what the Prometheus object says.
        type: str
        default: ""
      sample_limit:
        description: A page of more series than this is refused as a whole, which fires C(FlaskTargetDown); V(0) for no limit.
        type: int
        default: 5000
      probe:
        description: Ask the health check through the blackbox exporter.
        type: bool
        default: true
      probe_interval:
        description: How often the health check is asked.
        type: str
        default: "15s"
      probe_module:
        description: Module of the blackbox exporter.
        type: str
        default: "http_2xx"
      public_url:
        description: Address of the health check outside the cluster, such as V(https://shop.example.com/health), which is asked
            too; V(hosts) for that of the first of C(hosts) that is one name.
        type: str
        default: ""
      alerts:
        description:
          - For each alert that is to differ, some of C(threshold), C(window), C(for), C(severity) and C(enabled).
          - The alerts and their defaults are in docs/alerts.md.
        type: dict
        default: {}
      min_errors:
        description: Fewer 5xx answers than this within the window fire no error alert, and fewer slow ones no alert on the
            burn rate of slow requests.
        type: int
        default: 3
      min_requests:
        description: Fewer requests than this within the window fire no latency alert.
        type: int
        default: 10
      slo:
        description: Share of requests that must not fail within 30 days, such as V(0.999); with it the burn rate alerts exist.
            V(0) for none.
        type: float
        default: 0
      slo_latency:
        description: Share of requests that must be answered within C(slo_latency_seconds) in 30 days, such as V(0.99); with
            it the alerts on the burn rate of slow requests exist. V(0) for none.
        type: float
        default: 0
      slo_latency_seconds:
        description: What a request may take that is not slow. It must be the bound of a bucket of the exporter's histogram;
            those of the exporter itself are .005 .01 .025 .05 .075 .1 .25 .5 .75 1 2.5 5 7.5 10. C(FlaskMetricsAbsent) fires
            where no bucket has this bound.
        type: float
        default: 0.5
      literal_error_rate:
        description:
          - Install C(HighErrorRate) as the literal C(rate(http_requests_total{status=~"5.."}[5m]) > 0.05), and scrape
            the counter under that name too.
          - Not the default, because it counts errors a second of each series, and no share of the requests.
        type: bool
        default: false
      extra_rules:
        description: Alerting and recording rules of your own, as in a Prometheus rule file. Mark texts with double braces as
            C(!unsafe).
        type: list
        elements: dict
        default: []
      runbook_url:
        description: Folder of the runbooks that the alerts link to.
        type: str
        default: "https://github.com/flaskops/observability/blob/main/docs/runbooks"
      receivers:
        description:
          - Who is notified of this application's alerts, in addition to those whom the stack tells.
          - The AlertmanagerConfig with them, and with the inhibitions, needs an Alertmanager whose selector takes it.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            type: str
            required: true
            description: Name of the receiver.
          type:
            type: str
            required: true
            choices: [webhook, email, slack, pagerduty, teams, none]
            description: Kind of the receiver; V(none) drops what it gets.
          severities:
            type: list
            elements: str
            choices: [critical, warning, info]
            description: Severities that it is notified of; all by default.
          secret:
            type: dict
            description: >-
              Secret with the address of a webhook, Slack or a Teams workflow, PagerDuty's routing key, or a
              mail account's password.
            suboptions:
              name:
                type: str
                required: true
                description: Name of the Secret.
              key:
                type: str
                required: true
                description: Key in the Secret.
          url:
            type: str
            description: Address of a webhook that needs no credentials; no message shows it.
          channel:
            type: str
            description: Slack's channel.
          to:
            type: str
            description: Address that mail goes to.
          from:
            type: str
            description: Address that mail comes from.
          smarthost:
            type: str
            description: Host and port of the mail server.
          username:
            type: str
            description: Account at the mail server; C(from) by default.
          send_resolved:
            type: bool
            description: Tell when an alert is over too; true by default.
          settings:
            type: dict
            description:
              - Further settings of the integration, as Alertmanager's configuration names them, merged last.
              - A credential among them is C(name) and C(key) of a Secret; one that is written out is refused.
      group_wait:
        description: How long a first alert waits for others of the application, for C(receivers).
        type: str
        default: "30s"
      group_interval:
        description: How long a further alert of the application waits.
        type: str
        default: "5m"
      repeat_interval:
        description: When a receiver is told again of what still fires.
        type: str
        default: "4h"
      log_check:
        description: Whether a request's C(X-Request-ID) must be found in the app's log; switch off for an app that logs no
            request id.
        type: bool
        default: true
      external_checks:
        description: >-
          What the outside providers watch, each as in C(checks) of M(flaskops.observability.external_checks), with C(path) beside
          it. By default it is one check of C(health_path), or of C(path) where C(health_port) is another one than C(port).
        type: list
        elements: dict
        default: [{}]
      verify:
        description: What the role C(verify) does with the application.
        type: dict
        default: {}
        suboptions:
          alert_check:
            description:
              - Whether a test alert is sent from Prometheus through Alertmanager to the alert inbox and back.
              - It is skipped where its rule or its route is not installed, so that it never reaches whoever is on
                duty.
            type: bool
            default: true
          notified_severities:
            description:
              - Severities of which each alert must reach a receiver that notifies somebody; else the row C(alert routes) is
                broken.
              - Set it to an empty list where nobody is to be notified, as on a cluster for trials.
            type: list
            elements: str
            choices: [critical, warning, info]
            default: [critical, warning]
          schedule:
            description: Seconds from one verification to the next by a Deployment C(<name>-verify) in the app's
                namespace; V(0) installs none. It asks no outside service, and a backend with credentials only where
                C(verify_schedule_secret) has them. Each run writes 20 numbered lines, and asks every backend for them.
            type: int
            default: 0
          schedule_alerts:
            description: C(for) and C(severity) of the alerts C(VerifyLinkBroken), C(VerifyStale), C(LogLinesMissing),
                C(LogLinesLate) and C(LogLinesDouble), and C(window) of the last three, where they differ; a broken link
                is told after twice C(verify.schedule).
            type: dict
            default: {}
          schedule_resources:
            description: Requests and limits of the scheduled verification's pod.
            type: dict
            default: {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}}
      drill:
        description: What the role C(drill) does with the application.
        type: dict
        default: {}
        suboptions:
          error_path:
            description: A path of the app that is answered with 5xx; causes errors where the app has no fault switches.
            type: str
            default: ""
          slow_path:
            description: A path of the app that takes longer than a second; causes latency where the app has no fault switches.
            type: str
            default: ""
          dependency:
            description: Host name of something the app needs, which C(dependency_timeout) makes unreachable for its pods.
            type: str
            default: ""
          memory_limit:
            description: Memory limit at which the app can't run, for C(oom) without fault switches.
            type: str
            default: "16Mi"
          request_timeout:
            description: Seconds after which a request of the steady probe is lost.
            type: float
            default: 5.0
          objectives:
            description: Seconds within which something must have happened; C(page) is the first alert at its receiver, in
                scenarios that hurt users.
            type: dict
            default: {"page": 180}
          own_scenarios:
            description: Scenarios of your own, each a patch of one object that is taken back afterwards.
            type: list
            elements: dict
            default: []
            suboptions:
              name:
                description: Name of the scenario.
                type: str
                required: true
              title:
                description: What happens, in a few words.
                type: str
                required: true
              kind:
                description: Kind of the object.
                type: str
                choices: [Deployment, StatefulSet, Service]
                required: true
              object:
                description: Name of the object.
                type: str
                required: true
              namespace:
                description: Namespace of the object, where it is not the app's.
                type: str
              patch:
                description: Strategic merge patch of the object.
                type: dict
                required: true
              alerts:
                description: Names of the alerts that should notice.
                type: list
                elements: str
              seconds:
                description: Seconds that the fault lasts at least; 30 where it is not set.
                type: int
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
"""

EXAMPLES = r"""
- name: Read the applications
  flaskops.observability.flask_apps:
    apps:
      - name: shop
        source: /home/me/shop
        health_path: /healthz
        alerts: {HighErrorRate: {threshold: 0.01}}
      - name: api
        image: registry.example.com/api:1.4
    defaults: {replicas: 3}
  register: applications

- name: Deploy each application
  ansible.builtin.include_role:
    name: flaskops.observability.flask_app
  vars:
    flask_app_name: "{{ app.name }}"
    flask_app_namespace: "{{ app.namespace }}"
    flask_app_image: "{{ app.image }}"
    flask_app_port: "{{ app.port }}"
    flask_app_health_path: "{{ app.health_path }}"
    flask_app_replicas: "{{ app.replicas }}"
  loop: "{{ applications.apps }}"
  loop_control: {loop_var: app, label: "{{ app.name }}"}
"""

RETURN = r"""
apps:
  description: The applications, each with every option. Not shown, since an environment may hold secrets.
  returned: success
  type: list
  elements: dict
listed:
  description: Namespace and name of each application, those that are to be absent too.
  returned: success
  type: list
  elements: str
  sample: [shop/shop, web/api]
places:
  description: C(namespace) and C(app) of each application that is not to be absent.
  returned: success
  type: list
  elements: dict
"""
