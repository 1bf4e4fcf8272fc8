{{- define "fullname" -}}
{{- .Values.server.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: victoria-logs
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* How upstream labels the server. */}}
{{- define "selector" -}}
app.kubernetes.io/name: victoria-logs-single
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{/* The image's reference; without a tag the chart refuses to render. */}}
{{- define "image" -}}
{{ .registry }}/{{ .repository }}:{{ required (printf "The chart has no default for the tag of %s: give one." .repository) .tag }}
{{- end -}}

{{/* Not empty where the server speaks TLS. */}}
{{- define "tls" -}}
{{- if (first .Values.server.http | default dict).tls }}yes{{- end -}}
{{- end -}}

{{- define "nodeNamespace" -}}
{{- required "Give nodeStorage.namespace, whose Pod Security level allows host paths." .Values.nodeStorage.namespace -}}
{{- end -}}

{{/* On which nodes the server may be, and so its folder. */}}
{{- define "placement" -}}
{{- with .Values.server.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.server.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
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
