{{- define "fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: loki
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The image's reference; without a tag the chart refuses to render. */}}
{{- define "image" -}}
{{ .registry }}/{{ .repository }}:{{ required (printf "The chart has no default for the tag of %s: give one." .repository) .tag }}
{{- end -}}

{{/* What the restricted Pod Security level asks of a container. */}}
{{- define "restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "restrictedPod" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Loki's configuration: one process, its ring in memory, everything below /var/loki. */}}
{{- define "config" -}}
{{- $base := `
auth_enabled: false
analytics: {reporting_enabled: false}
server: {http_listen_port: 3100, grpc_listen_port: 9095, log_level: warn}
common:
  path_prefix: /var/loki
  replication_factor: 1
  instance_addr: 127.0.0.1
  ring: {kvstore: {store: inmemory}}
  storage:
    filesystem: {chunks_directory: /var/loki/chunks, rules_directory: /var/loki/rules}
schema_config:
  configs:
    - from: "2024-04-01"
      store: tsdb
      object_store: filesystem
      schema: v13
      index: {prefix: loki_index_, period: 24h}
ingester:
  # There is nobody whom it could disturb by being ready at once.
  lifecycler: {min_ready_duration: 0s, final_sleep: 0s}
  wal: {enabled: true, dir: /var/loki/wal, flush_on_shutdown: true}
query_range: {align_queries_with_step: true}
` | fromYaml -}}
{{- mergeOverwrite $base (deepCopy .Values.loki.structuredConfig) | toYaml -}}
{{- end -}}
