{{/* Names, labels, and where things are. */}}

{{/* The release's, and the alias where the chart is part of another one, perhaps twice. */}}
{{- define "tfcluster.name" -}}
{{- $alias := ternary "" (printf "-%s" .Chart.Name) (eq .Chart.Name "tfcluster") -}}
{{ .Values.fullnameOverride | default (printf "%s%s" .Release.Name $alias) }}
{{- end }}

{{/* What Pods are selected by: those of this cluster or job, of which a release may have several. It never changes. */}}
{{- define "tfcluster.selector" -}}
app.kubernetes.io/instance: {{ include "tfcluster.name" . | quote }}
app.kubernetes.io/part-of: tfcluster
{{- end }}

{{/* Labels of an object: (list $ "component"), and more as a third. The chart's own stand over them, and all over extraLabels. */}}
{{- define "tfcluster.labels" -}}
{{- $more := dict }}{{ if gt (len .) 2 }}{{ $more = index . 2 | default dict }}{{ end }}
{{- toYaml (merge (include "tfcluster.ownLabels" . | fromYaml) $more ((index . 0).Values.extraLabels | default dict)) }}
{{- end }}

{{- define "tfcluster.ownLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: tfcluster
{{ include "tfcluster.selector" $ }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of a Pod: (list $ "component" labels). KubeRay selects the head by app.kubernetes.io/name: not ours to set. */}}
{{- define "tfcluster.podLabels" -}}
{{- $ := index . 0 -}}
{{- $own := dict "app.kubernetes.io/component" (index . 1) -}}
{{- toYaml (merge (include "tfcluster.selector" $ | fromYaml) $own (index . 2 | default dict) ($.Values.extraLabels | default dict)) }}
{{- end }}

{{/* Metadata of an object: (list $ "name" "component"), and annotations of its own as a fourth. */}}
{{- define "tfcluster.metadata" -}}
{{- $ := index . 0 -}}
name: {{ index . 1 }}
namespace: {{ $.Release.Namespace }}
labels:
  {{- include "tfcluster.labels" (list $ (index . 2)) | nindent 2 }}
{{- $own := dict }}{{ if gt (len .) 3 }}{{ $own = index . 3 | default dict }}{{ end }}
{{- with merge (dict) $own ($.Values.extraAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tfcluster.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "tfcluster.serviceAccount" -}}
{{- $account := .Values.serviceAccount -}}
{{- if $account.create -}}
{{ $account.name | default (include "tfcluster.name" .) }}
{{- else -}}
{{ $account.name | default "default" }}
{{- end -}}
{{- end }}

{{/* The Secret with the token: as KubeRay calls it, the end of a long name, beginning with a letter. */}}
{{- define "tfcluster.tokenSecret" -}}
{{ .Values.auth.secretName | default (regexReplaceAll "^[^a-z]" (include "tfcluster.name" . | trunc -50) "r") }}
{{- end }}

{{/* Name of the claim for runs, or nothing. */}}
{{- define "tfcluster.claim" -}}
{{- $claim := .Values.storage.claim | default dict -}}
{{- if $claim.create -}}
{{ $claim.name | default (printf "%s-runs" (include "tfcluster.name" .)) }}
{{- else -}}
{{ $claim.name | default "" }}
{{- end -}}
{{- end }}

{{/* The chart's place for runs, or nothing. */}}
{{- define "tfcluster.storage" -}}
{{- if .Values.storage.uri -}}
{{ .Values.storage.uri }}
{{- else if include "tfcluster.claim" . -}}
{{ .Values.storage.mountPath }}
{{- end -}}
{{- end }}

{{/* Where the job's runs go: its own place where that means the same on every node, else the chart's. */}}
{{- define "tfcluster.jobStorage" -}}
{{- $own := (include "tfcluster.job" . | fromJson).storage | default "" -}}
{{- if or (contains "://" $own) (hasPrefix "/" $own) -}}
{{ $own }}
{{- else -}}
{{ include "tfcluster.storage" . }}
{{- end -}}
{{- end }}

{{/* What TensorBoard shows. */}}
{{- define "tfcluster.boardStorage" -}}
{{- if eq .Values.mode "cluster" }}{{ include "tfcluster.storage" . }}{{ else }}{{ include "tfcluster.jobStorage" . }}{{ end -}}
{{- end }}

{{/* Worker groups by name, without those that are null. */}}
{{- define "tfcluster.groups" -}}
{{- $groups := dict -}}
{{- range $name, $group := .Values.workerGroups }}{{ if $group }}{{ $_ := set $groups $name $group }}{{ end }}{{ end -}}
{{- toYaml $groups }}
{{- end }}

{{/* Whether a Ray cluster is made: a job may run on one that is there. */}}
{{- define "tfcluster.hasCluster" -}}
{{- if or (eq .Values.mode "cluster") (not .Values.rayJob.clusterName) }}true{{ end -}}
{{- end }}

{{/* Labels by which queues find the RayCluster or RayJob. */}}
{{- define "tfcluster.queueLabels" -}}
{{- with .Values.queue -}}
{{- if eq .scheduler "kueue" }}
kueue.x-k8s.io/queue-name: {{ .name }}
{{- else if eq .scheduler "volcano" }}
volcano.sh/queue-name: {{ .name }}
{{- else if eq .scheduler "yunikorn" }}
{{- /* To YuniKorn Pods with the same id are one application, in whichever namespace they are. */}}
yunikorn.apache.org/app-id: {{ printf "%s-%s" (include "tfcluster.name" $) $.Release.Namespace | trunc 63 | trimSuffix "-" }}
yunikorn.apache.org/queue: {{ .name }}
ray.io/gang-scheduling-enabled: "true"
{{- end }}
{{- end }}
{{- with .Values.head.priorityClassName }}
{{- if eq $.Values.queue.scheduler "volcano" }}
ray.io/priority-class-name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Metadata of the RayCluster, RayJob or RayCronJob. */}}
{{- define "tfcluster.crMetadata" -}}
name: {{ include "tfcluster.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "tfcluster.labels" (list . .Values.mode (include "tfcluster.queueLabels" . | fromYaml)) | nindent 2 }}
{{- with .Values.extraAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
