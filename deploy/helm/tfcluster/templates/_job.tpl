{{/* The spec of a RayJob, also that of a RayCronJob's. */}}

{{- define "tfcluster.rayJob" -}}
{{- $job := .Values.rayJob -}}
entrypoint: {{ include "tfcluster.entrypoint" . | quote }}
submissionMode: {{ $job.submissionMode }}
{{- if $job.deletionRules }}
deletionStrategy:
  deletionRules:
    {{- toYaml $job.deletionRules | nindent 4 }}
{{- else if and $job.shutdownAfterJobFinishes (not $job.clusterName) }}
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ ternary 300 $job.ttlSecondsAfterFinished (kindIs "invalid" $job.ttlSecondsAfterFinished) | int }}
{{- end }}
{{- /* A field that Kueue takes over, and so is left to it. */}}
{{- if $job.suspend }}
suspend: true
{{- end }}
backoffLimit: {{ $job.backoffLimit | int }}
{{- range $key := list "activeDeadlineSeconds" "preRunningDeadlineSeconds" }}
{{- with get $job $key }}
{{ $key }}: {{ . | int }}
{{- end }}
{{- end }}
{{- with .Values.runtimeEnv }}
runtimeEnvYAML: |
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq $job.submissionMode "K8sJobMode" }}
submitterConfig: {backoffLimit: {{ $job.submitter.backoffLimit | int }}}
submitterPodTemplate:
  {{- include "tfcluster.submitterPod" . | nindent 2 }}
{{- end }}
{{- if $job.clusterName }}
clusterSelector:
  ray.io/cluster: {{ $job.clusterName }}
{{- else }}
rayClusterSpec:
  {{- include "tfcluster.rayCluster" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The job as a mapping, also where it is given as text. */}}
{{- define "tfcluster.job" -}}
{{- if kindIs "string" .Values.job }}{{ include "tfcluster.line" .Values.job | fromYaml | toJson }}{{ else }}{{ toJson .Values.job }}{{ end -}}
{{- end }}

{{/* A text whose last line has an end, without which a block at the end of YAML says something else. */}}
{{- define "tfcluster.line" -}}
{{ . | trimSuffix "\n" | printf "%s\n" }}
{{- end }}

{{- define "tfcluster.jobFile" -}}
job.{{ ternary "yaml" "json" (kindIs "string" .Values.job) }}
{{- end }}

{{/*
The job with its storage, and with a name: as text, if it was given as such, else as JSON, for numbers such as 1e-07 are
text to many a reader of YAML.
*/}}
{{- define "tfcluster.jobDocument" -}}
{{- $storage := include "tfcluster.jobStorage" . -}}
{{- $name := include "tfcluster.name" . -}}
{{- if kindIs "string" .Values.job -}}
{{- $job := include "tfcluster.job" . | fromJson -}}
{{- $_ := set $job "storage" $storage -}}
{{- if not $job.name }}{{ $_ := set $job "name" $name }}{{ end -}}
{{- include "tfcluster.jobText" (list .Values.job $job) -}}
{{- else -}}
{{- toPrettyJson (merge (dict "storage" $storage) .Values.job (dict "name" $name)) }}
{{- end -}}
{{- end }}

{{/* A text of YAML that says what it said, and the storage and name of this mapping: (list text mapping). */}}
{{- define "tfcluster.jobText" -}}
{{- $text := include "tfcluster.line" (index . 0) -}}
{{- $wanted := index . 1 -}}
{{- $given := fromYaml $text -}}
{{- range $key := list "name" "storage" -}}
{{- $line := printf "%s: %s" $key (get $wanted $key | toJson) -}}
{{- if not (hasKey $given $key) }}{{ $text = printf "%s%s\n" $text $line }}
{{- else if ne (get $given $key | toJson) (get $wanted $key | toJson) }}{{ $text = regexReplaceAllLiteral (printf "(?m)^%s:.*$" $key) $text $line }}{{ end -}}
{{- end -}}
{{- if ne (fromYaml $text | toJson) ($wanted | toJson) -}}
{{- include "tfcluster.refuse" (list "the text of the job cannot be given the chart's storage and a name" (printf "storage %s, name %s" $wanted.storage $wanted.name) "write it as job.yaml is written, a key a line; or give both in it") -}}
{{- end -}}
{{ $text }}
{{- end }}

{{/*
What Ray runs. The text passes two shells, so it has no variables and no double quotes. Code of a working_dir lies in
the current folder, where the spec must be too. Where the cluster is not ours the spec comes along as text.
*/}}
{{- define "tfcluster.entrypoint" -}}
{{- $file := include "tfcluster.jobFile" . -}}
{{- $spec := printf "cat /job/%s" $file -}}
{{- if .Values.rayJob.clusterName -}}
{{- $document := include "tfcluster.jobDocument" . -}}
{{- if hasSuffix ".json" $file }}{{ $document = regexReplaceAll "\n *" $document "" }}{{ end -}}
{{- $spec = printf "echo %s | base64 -d" ($document | b64enc) -}}
{{- end -}}
{{- $run := printf "%s > tfcluster-%s && exec tfcluster run tfcluster-%s" $spec $file $file -}}
{{- if (.Values.runtimeEnv | default dict).working_dir -}}
sh -c '{{ $run }}'
{{- else if .Values.rayJob.clusterName -}}
sh -c 'cd $(mktemp -d) && {{ $run }}'
{{- else -}}
tfcluster run /job/{{ $file }}
{{- end -}}
{{- end }}

{{/* The Pod that hands the job to Ray. KubeRay fills in its command. */}}
{{- define "tfcluster.submitterPod" -}}
metadata:
  labels:
    {{- include "tfcluster.podLabels" (list . "submitter" dict) | nindent 4 }}
  {{- with .Values.extraAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "tfcluster.podSettings" . | nindent 2 }}
  {{- with include "tfcluster.placement" .Values.rayJob.submitter }}
  {{- . | nindent 2 }}
  {{- end }}
  restartPolicy: Never
  containers:
    - name: ray-job-submitter
      {{- include "tfcluster.containerSettings" . | nindent 6 }}
      {{- include "tfcluster.variables" (list . list list) | nindent 6 }}
      resources:
        {{- toYaml .Values.rayJob.submitter.resources | nindent 8 }}
      volumeMounts:
        {{- include "tfcluster.plainMounts" . | nindent 8 }}
  volumes:
    {{- include "tfcluster.plainVolumes" . | nindent 4 }}
{{- end }}
