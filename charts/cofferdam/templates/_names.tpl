{{- define "cofferdam.labels" -}}
app.kubernetes.io/name: cofferdam
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{- define "cofferdam.selector" -}}
app.kubernetes.io/name: cofferdam
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "cofferdam.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:cofferdam-operator
{{- end -}}
{{/* Namespaces in which nothing is ever injected, as a JSON list. */}}
{{- define "cofferdam.systemNamespaces" -}}
{{ concat (list .Release.Namespace "kube-system" "kube-public" "kube-node-lease") .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end -}}
{{/* Images that our containers may have, as a list in CEL. */}}
{{- define "cofferdam.images" -}}
[{{ range $index, $image := prepend .Values.policies.additionalImages .Values.image.name }}{{ if $index }}, {{ end }}{{ $image | squote }}{{ end }}]
{{- end -}}
{{/* Users that make the pods of Jobs, as a list in CEL. */}}
{{- define "cofferdam.jobControllers" -}}
[{{ range $index, $user := .Values.policies.jobControllers }}{{ if $index }}, {{ end }}{{ $user | squote }}{{ end }}]
{{- end -}}
