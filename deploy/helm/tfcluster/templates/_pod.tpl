{{/* Pods: what all of them share, and those of Ray. */}}

{{/* Who a Pod runs as; no token of the API server is mounted. */}}
{{- define "tfcluster.podSettings" -}}
serviceAccountName: {{ include "tfcluster.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "tfcluster.containerSettings" -}}
image: {{ include "tfcluster.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{/* A user whom no image need know. */}}
{{- define "tfcluster.user" -}}
- {name: HOME, value: {{ .Values.home }}}
- {name: USER, value: tfcluster}
{{- end }}

{{/* Variables of containers that run the user's code, or read what it wrote: (list $ more). */}}
{{- define "tfcluster.env" -}}
{{- $ := index . 0 -}}
env:
  {{- include "tfcluster.user" $ | nindent 2 }}
  {{- with concat $.Values.extraEnv (index . 1 | default list) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $secret := list }}
{{- with $.Values.storage.secretName }}{{ $secret = list (dict "secretRef" (dict "name" .)) }}{{ end }}
{{- with concat $secret $.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What is mounted everywhere: the two folders that may be written, and the storage. */}}
{{- define "tfcluster.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: {{ .Values.home }}}
{{- if include "tfcluster.claim" . }}
- {name: storage, mountPath: {{ .Values.storage.mountPath }}}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tfcluster.volumes" -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
{{- with include "tfcluster.claim" . }}
- {name: storage, persistentVolumeClaim: {claimName: {{ . }}}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where a Pod may run. */}}
{{- define "tfcluster.placement" -}}
{{- $keys := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" -}}
{{- $settings := dict -}}
{{- range $key := append $keys "terminationGracePeriodSeconds" -}}
{{- with get $ $key }}{{ $_ := set $settings $key . }}{{ end -}}
{{- end -}}
{{- with $settings }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Resources of a Ray container, with its GPUs, which Kubernetes counts as limits. */}}
{{- define "tfcluster.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus }}
{{- $gpus := dict (.gpuResource | default "nvidia.com/gpu") (int .gpus) -}}
{{- range $kind := list "limits" "requests" }}{{ $_ := set $resources $kind (merge $gpus (get $resources $kind | default dict)) }}{{ end -}}
{{- end -}}
{{ toYaml $resources }}
{{- end }}

{{/* The template of a Ray Pod: (dict "root" $ "component" "head" "group" settings). */}}
{{- define "tfcluster.rayPod" -}}
{{- $ := .root -}}
{{- $group := .group -}}
{{- $isHead := eq .component "head" -}}
metadata:
  labels:
    {{- include "tfcluster.podLabels" (list $ .component $group.labels) | nindent 4 }}
  {{- with merge (dict) ($group.annotations | default dict) $.Values.extraAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "tfcluster.podSettings" $ | nindent 2 }}
  {{- with include "tfcluster.placement" $group }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "tfcluster.restartPolicy" . }}
  restartPolicy: {{ . }}
  {{- end }}
  {{- with $.Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ray-{{ .component }}
      {{- include "tfcluster.containerSettings" $ | nindent 6 }}
      {{- /* Ray gives a job that is stopped 3 s, which a launcher may need more than. */}}
      {{- $stop := ternary (list (dict "name" "RAY_JOB_STOP_WAIT_TIME_S" "value" "30")) list $isHead }}
      {{- include "tfcluster.env" (list $ (concat $stop ($group.env | default list))) | nindent 6 }}
      ports:
        {{- if $isHead }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: client, containerPort: 10001}
        - {name: as-metrics, containerPort: 44217}
        - {name: dash-metrics, containerPort: 44227}
        {{- end }}
        - {name: metrics, containerPort: 8080}
      resources:
        {{- include "tfcluster.resources" $group | nindent 8 }}
      {{- range $probe := list "livenessProbe" "readinessProbe" }}
      {{- with get $group $probe }}
      {{ $probe }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      volumeMounts:
        - {name: shared-mem, mountPath: /dev/shm}
        {{- if and $isHead (ne $.Values.mode "cluster") }}
        - {name: job, mountPath: /job/job.json, subPath: job.json, readOnly: true}
        {{- range $path, $_ := $.Values.files }}
        - {name: job, mountPath: {{ printf "/job/%s" $path | quote }}, subPath: {{ include "tfcluster.fileKey" $path | quote }}, readOnly: true}
        {{- end }}
        {{- end }}
        {{- include "tfcluster.mounts" $ | nindent 8 }}
    {{- with $.Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: shared-mem
      emptyDir: {medium: Memory, sizeLimit: {{ $group.sharedMemory | default $group.resources.limits.memory }}}
    {{- if and $isHead (ne $.Values.mode "cluster") }}
    - {name: job, configMap: {name: {{ include "tfcluster.name" $ }}-job}}
    {{- end }}
    {{- if and $isHead $.Values.autoscaling.enabled }}
    {{- include "tfcluster.tokenVolume" $ | nindent 4 }}
    {{- end }}
    {{- include "tfcluster.volumes" $ | nindent 4 }}
{{- end }}

{{/* Never, where KubeRay asks for it: version 2 of the autoscaler, and a submitter beside the head. */}}
{{- define "tfcluster.restartPolicy" -}}
{{- $values := .root.Values -}}
{{- $sidecar := and (ne $values.mode "cluster") (eq $values.rayJob.submissionMode "SidecarMode") (eq .component "head") -}}
{{- if or $sidecar (and $values.autoscaling.enabled (eq $values.autoscaling.version "v2")) -}}
Never
{{- else -}}
{{ .group.restartPolicy | default "" }}
{{- end -}}
{{- end }}

{{/* A file's key in the ConfigMap: keys have no slashes. */}}
{{- define "tfcluster.fileKey" -}}
{{ . | replace "/" ".." }}
{{- end }}

{{/* The token of the API server, for the autoscaler's container alone. */}}
{{- define "tfcluster.tokenVolume" -}}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
