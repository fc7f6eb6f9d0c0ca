{{/* The spec of a RayCluster, also that of a RayJob's. */}}

{{- define "tfcluster.rayCluster" -}}
rayVersion: {{ .Values.rayVersion | quote }}
{{- if .Values.auth.enabled }}
authOptions:
  mode: token
  {{- with .Values.auth.secretName }}
  secretName: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.gcsFaultTolerance }}
{{- if .redisAddress }}
gcsFaultToleranceOptions:
  redisAddress: {{ .redisAddress | quote }}
  {{- range $field, $given := dict "redisPassword" .passwordSecret "redisUsername" .usernameSecret }}
  {{- $secret := $given | default dict }}
  {{- if $secret.name }}
  {{ $field }}:
    valueFrom: {secretKeyRef: {name: {{ $secret.name }}, key: {{ $secret.key }}}}
  {{- end }}
  {{- end }}
  {{- with .externalStorageNamespace }}
  externalStorageNamespace: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
enableInTreeAutoscaling: true
autoscalerOptions:
  {{- include "tfcluster.autoscaler" . | nindent 2 }}
{{- end }}
headGroupSpec:
  rayStartParams:
    {{- /* Tasks belong to the workers; the launcher of a job takes no CPU of Ray's. */}}
    {{- merge (dict) .Values.head.rayStartParams (dict "num-cpus" "0" "num-gpus" "0") | toYaml | nindent 4 }}
  template:
    {{- include "tfcluster.rayPod" (dict "root" . "component" "head" "group" .Values.head) | nindent 4 }}
{{- with include "tfcluster.groups" . | fromYaml }}
workerGroupSpecs:
  {{- range $name, $group := . }}
  {{- $bounds := include "tfcluster.bounds" (list $ $group) | fromYaml }}
  - groupName: {{ $name }}
    {{- toYaml $bounds | nindent 4 }}
    {{- if not (kindIs "invalid" $group.idleTimeoutSeconds) }}
    idleTimeoutSeconds: {{ $group.idleTimeoutSeconds | int }}
    {{- end }}
    rayStartParams:
      {{- toYaml ($group.rayStartParams | default dict) | nindent 6 }}
    template:
      {{- include "tfcluster.rayPod" (dict "root" $ "component" "worker" "group" $group) | nindent 6 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* How many workers a group has, at least and at most: (list $ group). */}}
{{- define "tfcluster.bounds" -}}
{{- $ := index . 0 -}}
{{- $group := index . 1 -}}
{{- $scales := $.Values.autoscaling.enabled -}}
{{- $replicas := ternary 1 $group.replicas (kindIs "invalid" $group.replicas) | int -}}
{{- $fewest := ternary 0 $replicas $scales -}}
minReplicas: {{ ternary $fewest $group.minReplicas (kindIs "invalid" $group.minReplicas) | int }}
replicas: {{ $replicas }}
maxReplicas: {{ ternary $replicas $group.maxReplicas (kindIs "invalid" $group.maxReplicas) | int }}
{{- end }}

{{- define "tfcluster.autoscaler" -}}
{{- with .Values.autoscaling -}}
version: {{ .version }}
idleTimeoutSeconds: {{ .idleTimeoutSeconds | int }}
upscalingMode: {{ .upscalingMode }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
env:
  {{- include "tfcluster.user" . | nindent 2 }}
volumeMounts:
  - {name: api-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- include "tfcluster.writableMounts" . | nindent 2 }}
{{- end }}
