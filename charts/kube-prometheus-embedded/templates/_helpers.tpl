{{- define "fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 26 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of every object. */}}
{{- define "labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: kube-prometheus-stack
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
release: {{ .Release.Name }}
{{- end -}}

{{/* The image's reference; without a tag the chart refuses to render. */}}
{{- define "image" -}}
{{ .image.registry }}/{{ .image.repository }}:{{ required (printf "The chart has no default for the tag of %s: give one." .image.repository) .image.tag }}
{{- end -}}

{{/* What the restricted Pod Security level asks of a container. */}}
{{- define "restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* A selector of the Prometheus object: everything, or what carries the label of this release. */}}
{{- define "selector" -}}
{{- if .all -}} {} {{- else -}} {matchLabels: {release: {{ .release | quote }}}} {{- end -}}
{{- end -}}

{{/* On which nodes a pod may be: the values nodeSelector and tolerations of its part. */}}
{{- define "placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
