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
{{- $secret := list }}
{{- with $.Values.storage.secretName }}{{ $secret = list (dict "secretRef" (dict "name" .)) }}{{ end }}
{{- include "tfcluster.variables" (list $ (index . 1) $secret) }}
{{- end }}

{{/* Variables of all containers, and more of one: (list $ variables sources). */}}
{{- define "tfcluster.variables" -}}
{{- $ := index . 0 -}}
env:
  {{- include "tfcluster.distinct" (concat (include "tfcluster.user" $ | fromYamlArray) ($.Values.extraEnv | default list) (index . 1)) | nindent 2 }}
{{- with concat (index . 2) ($.Values.extraEnvFrom | default list) }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Variables, each once: the last one of a name, which is the most particular, where the first one stood. */}}
{{- define "tfcluster.distinct" -}}
{{- $last := dict -}}
{{- $names := list -}}
{{- range . }}{{ $_ := set $last .name . }}{{ $names = append $names .name }}{{ end -}}
{{- $kept := list -}}
{{- range uniq $names }}{{ $kept = append $kept (get $last .) }}{{ end -}}
{{- toYaml $kept }}
{{- end }}

{{/* What is mounted where runs are: the two folders that may be written, the storage, and what the values add. */}}
{{- define "tfcluster.mounts" -}}
{{ include "tfcluster.plainMounts" . }}
{{- if include "tfcluster.claim" . }}
- {name: storage, mountPath: {{ .Values.storage.mountPath }}}
{{- end }}
{{- end }}

{{- define "tfcluster.volumes" -}}
{{ include "tfcluster.plainVolumes" . }}
{{- with include "tfcluster.claim" . }}
- {name: storage, persistentVolumeClaim: {claimName: {{ . }}}}
{{- end }}
{{- end }}

{{/* The same of Pods that see no run: the submitter and the test. */}}
{{- define "tfcluster.plainMounts" -}}
{{- toYaml (concat (include "tfcluster.ownMounts" . | fromYamlArray) (.Values.extraVolumeMounts | default list)) }}
{{- end }}

{{- define "tfcluster.plainVolumes" -}}
{{- $brought := list }}{{ range .Values.extraVolumes }}{{ $brought = append $brought .name }}{{ end -}}
{{- $own := list -}}
{{- range list "tmp" "home" }}{{ if not (has . $brought) }}{{ $own = append $own (dict "name" . "emptyDir" dict) }}{{ end }}{{ end -}}
{{- toYaml (concat $own (.Values.extraVolumes | default list)) }}
{{- end }}

{{/* The two folders that may be written, but where the values mount something there. */}}
{{- define "tfcluster.ownMounts" -}}
{{- $taken := list }}{{ range .Values.extraVolumeMounts }}{{ $taken = append $taken (trimSuffix "/" .mountPath) }}{{ end -}}
{{- $own := list -}}
{{- range $name, $path := dict "tmp" "/tmp" "home" .Values.home -}}
{{- if not (has $path $taken) }}{{ $own = prepend $own (dict "name" $name "mountPath" $path) }}{{ end -}}
{{- end -}}
{{- toYaml $own }}
{{- end }}

{{/* What is mounted at these two, whoever mounts it. */}}
{{- define "tfcluster.writableMounts" -}}
{{- $found := include "tfcluster.ownMounts" . | fromYamlArray -}}
{{- range .Values.extraVolumeMounts -}}
{{- if has (trimSuffix "/" .mountPath) (list "/tmp" $.Values.home) }}{{ $found = append $found . }}{{ end -}}
{{- end -}}
{{- toYaml $found }}
{{- end }}

{{/* Folders of the storage and of extra volumes, which all Pods see alike; one of a Pod's own is none. */}}
{{- define "tfcluster.sharedFolders" -}}
{{- $own := dict -}}
{{- range .Values.extraVolumes }}{{ if or (hasKey . "emptyDir") (hasKey . "ephemeral") }}{{ $_ := set $own .name true }}{{ end }}{{ end -}}
{{- $shared := list -}}
{{- if include "tfcluster.claim" . }}{{ $shared = list .Values.storage.mountPath }}{{ end -}}
{{- range .Values.extraVolumeMounts }}{{ if not (hasKey $own .name) }}{{ $shared = append $shared .mountPath }}{{ end }}{{ end -}}
{{- join ":" $shared }}
{{- end }}

{{/* Those in which what is written outlives the Pod. Of volumes that a CSI driver makes for a Pod, the few that are shares. */}}
{{- define "tfcluster.lastingFolders" -}}
{{- $fleeting := list "emptyDir" "ephemeral" "configMap" "secret" "projected" "downwardAPI" "image" "gitRepo" -}}
{{- $shares := `^(gcsfuse\.csi\.storage\.gke\.io|(blob|file)\.csi\.azure\.com|(nfs|smb)\.csi\.k8s\.io)$` -}}
{{- $lasting := dict -}}
{{- range $volume := .Values.extraVolumes -}}
{{- range $kind, $source := omit $volume "name" -}}
{{- $settings := ternary $source dict (kindIs "map" $source) -}}
{{- $lasts := and (not (has $kind $fleeting)) (not $settings.readOnly) (or (ne $kind "csi") (regexMatch $shares (toString $settings.driver))) -}}
{{- if $lasts }}{{ $_ := set $lasting $volume.name true }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $found := list -}}
{{- if include "tfcluster.claim" . }}{{ $found = list .Values.storage.mountPath }}{{ end -}}
{{- range .Values.extraVolumeMounts }}{{ if and (hasKey $lasting .name) (not .readOnly) }}{{ $found = append $found .mountPath }}{{ end }}{{ end -}}
{{- join ":" $found }}
{{- end }}

{{/* Where a Pod may run. */}}
{{- define "tfcluster.placement" -}}
{{- $keys := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" -}}
{{- $settings := dict -}}
{{- range $key := $keys -}}
{{- with get $ $key }}{{ $_ := set $settings $key . }}{{ end -}}
{{- end -}}
{{- with $settings }}{{ toYaml . }}{{ end }}
{{- end }}

{{/*
Seconds between SIGTERM and SIGKILL: the tasks' own, 10 where no job is known, and 30 in which Ray drains its node.
*/}}
{{- define "tfcluster.patience" -}}
{{- $stop := dig "timeouts" "stop" 10 (include "tfcluster.job" . | fromJson) -}}
{{- add (include "tfcluster.seconds" $stop | int) 30 }}
{{- end }}

{{/* Whole seconds, rounded up, of a duration such as 90, 90s or 1h30m. */}}
{{- define "tfcluster.seconds" -}}
{{- $seconds := 0.0 -}}
{{- if kindIs "string" . -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- range regexFindAll "[0-9.]+\\s*[a-z]+" (lower .) -1 -}}
{{- $seconds = addf $seconds (mulf (regexFind "[0-9.]+" . | float64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- else -}}
{{- $seconds = float64 . -}}
{{- end -}}
{{- ceil $seconds | int }}
{{- end }}

{{/* Resources of a Ray container, with its GPUs, which Kubernetes counts as limits. */}}
{{- define "tfcluster.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus }}
{{- $name := .gpuResource | default "nvidia.com/gpu" -}}
{{- $count := int .gpus -}}
{{- range $kind := list "limits" "requests" }}{{ $_ := set $resources $kind (merge (dict $name $count) (get $resources $kind | default dict)) }}{{ end -}}
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
  {{- with merge (dict) ($group.annotations | default dict) ($.Values.extraAnnotations | default dict) }}
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
  {{- $grace := $group.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ ternary (include "tfcluster.patience" $) $grace (kindIs "invalid" $grace) | int }}
  {{- with $.Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ray-{{ .component }}
      {{- include "tfcluster.containerSettings" $ | nindent 6 }}
      {{- $own := list }}
      {{- if $isHead }}
      {{- /* Ray gives a job that is stopped 3 s, which a launcher may need more than. */}}
      {{- $own = list (dict "name" "RAY_JOB_STOP_WAIT_TIME_S" "value" (include "tfcluster.patience" $)) }}
      {{- end }}
      {{- with include "tfcluster.sharedFolders" $ }}
      {{- $own = append $own (dict "name" "TFCLUSTER_SHARED_FOLDERS" "value" .) }}
      {{- end }}
      {{- include "tfcluster.env" (list $ (concat $own ($group.env | default list))) | nindent 6 }}
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
        {{- $file := include "tfcluster.jobFile" $ }}
        - {name: job, mountPath: /job/{{ $file }}, subPath: {{ $file }}, readOnly: true}
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
