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

{{/* The job as JSON: numbers such as 1e-07 are text to many a reader of YAML. */}}
{{- define "tfcluster.jobDocument" -}}
{{- $storage := include "tfcluster.jobStorage" . -}}
{{- $given := dict "name" (include "tfcluster.name" .) -}}
{{- toPrettyJson (merge (dict "storage" $storage) .Values.job $given) }}
{{- end }}

{{/*
What Ray runs. The text passes two shells, so it has no variables and no double quotes. Code of a working_dir lies in
the current folder, where the spec must be too. Where the cluster is not ours the spec comes along as text.
*/}}
{{- define "tfcluster.entrypoint" -}}
{{- $spec := "cat /job/job.json" -}}
{{- if .Values.rayJob.clusterName }}{{ $spec = printf "echo %s | base64 -d" (include "tfcluster.jobDocument" . | fromJson | toJson | b64enc) }}{{ end -}}
{{- $run := printf "%s > tfcluster-job.json && exec tfcluster run tfcluster-job.json" $spec -}}
{{- if .Values.runtimeEnv.working_dir -}}
sh -c '{{ $run }}'
{{- else if .Values.rayJob.clusterName -}}
sh -c 'cd $(mktemp -d) && {{ $run }}'
{{- else -}}
tfcluster run /job/job.json
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
