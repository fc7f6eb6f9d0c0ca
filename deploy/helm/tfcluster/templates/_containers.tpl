{{/* What the API server or the kubelet would refuse of containers: volumes that clash, mounts of none, requests above limits. */}}

{{- define "tfcluster.validateVolumes" -}}
{{- $names := include "tfcluster.ownVolumeNames" . | fromJsonArray -}}
{{- $mountable := list "tmp" "home" -}}
{{- range .Values.extraVolumes -}}
{{- if hasKey . "hostPath" -}}
{{- include "tfcluster.refuse" (list "a Pod would see files of its node" (printf "hostPath in extraVolumes, %s" .name) "use a claim, a CSI volume or an emptyDir") -}}
{{- end -}}
{{- if has .name $names -}}
{{- include "tfcluster.refuse" (list "two volumes have the same name, or the chart has one of it" (printf "%s in extraVolumes" .name) "give it another name") -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- $mountable = append $mountable .name -}}
{{- end -}}
{{- $owners := include "tfcluster.ownPaths" . | fromJson -}}
{{- range .Values.extraVolumeMounts -}}
{{- if not (has .name $mountable) -}}
{{- include "tfcluster.refuse" (list "a volume is mounted that no Pod has" (printf "%s at %s in extraVolumeMounts" .name .mountPath) "add it to extraVolumes, or mend its name") -}}
{{- end -}}
{{- include "tfcluster.addPath" (list $owners .mountPath .name) -}}
{{- end -}}
{{- end }}

{{/* Names of the chart's volumes, but of tmp and home, which the values may bring. */}}
{{- define "tfcluster.ownVolumeNames" -}}
{{- $names := list -}}
{{- if include "tfcluster.claim" . }}{{ $names = append $names "storage" }}{{ end -}}
{{- if include "tfcluster.hasCluster" . -}}
{{- $names = append $names "shared-mem" -}}
{{- if ne .Values.mode "cluster" }}{{ $names = append $names "job" }}{{ end -}}
{{- if .Values.autoscaling.enabled }}{{ $names = append $names "api-token" }}{{ end -}}
{{- end -}}
{{- toJson $names }}
{{- end }}

{{/* Who mounts something where, of the chart's own. */}}
{{- define "tfcluster.ownPaths" -}}
{{- $owners := dict -}}
{{- range include "tfcluster.ownMounts" . | fromYamlArray }}{{ include "tfcluster.addPath" (list $owners .mountPath .name) }}{{ end -}}
{{- if include "tfcluster.hasCluster" . -}}
{{- include "tfcluster.addPath" (list $owners "/dev/shm" "shared-mem") -}}
{{- if ne .Values.mode "cluster" -}}
{{- range $file := append (keys (.Values.files | default dict)) (include "tfcluster.jobFile" .) | uniq }}{{ include "tfcluster.addPath" (list $owners (printf "/job/%s" $file) "job") }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if include "tfcluster.claim" . }}{{ include "tfcluster.addPath" (list $owners .Values.storage.mountPath "storage") }}{{ end -}}
{{- toJson $owners }}
{{- end }}

{{/* Notes who mounts something at a path, where nobody else may: (list owners path name). */}}
{{- define "tfcluster.addPath" -}}
{{- $owners := index . 0 -}}
{{- $path := index . 1 | trimSuffix "/" -}}
{{- if hasKey $owners $path -}}
{{- include "tfcluster.refuse" (list "two volumes are mounted at the same place" (printf "%s: %s and %s" $path (get $owners $path) (index . 2)) "mount one of them elsewhere: extraVolumeMounts, storage.mountPath or home") -}}
{{- end -}}
{{- $_ := set $owners $path (index . 2) -}}
{{- end }}

{{/* Containers of the values, which stand in Pods of head and workers. */}}
{{- define "tfcluster.validateContainers" -}}
{{- $mountable := list "shared-mem" -}}
{{- range include "tfcluster.volumes" . | fromYamlArray }}{{ $mountable = append $mountable .name }}{{ end -}}
{{- $names := list "ray-head" "ray-worker" "autoscaler" -}}
{{- range $place := list "extraInitContainers" "extraContainers" -}}
{{- range $container := get $.Values $place | default list -}}
{{- $where := printf "%s, %s" $place $container.name -}}
{{- if has $container.name $names -}}
{{- include "tfcluster.refuse" (list "two containers have the same name, or the Pod has one of it" $where "give it another name") -}}
{{- end -}}
{{- $names = append $names $container.name -}}
{{- $paths := dict -}}
{{- range $container.volumeMounts -}}
{{- if not (has .name $mountable) -}}
{{- include "tfcluster.refuse" (list "a volume is mounted that no Pod has" (printf "%s at %s in %s" .name .mountPath $where) "add it to extraVolumes, or mend its name") -}}
{{- end -}}
{{- include "tfcluster.addPath" (list $paths .mountPath .name) -}}
{{- end -}}
{{- $variables := list -}}
{{- range $container.env -}}
{{- if has .name $variables -}}
{{- include "tfcluster.refuse" (list "a container has a variable twice" (printf "%s in %s" .name $where) "delete one of them") -}}
{{- end -}}
{{- $variables = append $variables .name -}}
{{- end -}}
{{- include "tfcluster.refuseRequests" (list $where ($container.resources | default dict)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Requests above limits, which come about where values give one of them and the chart has a default for the other. */}}
{{- define "tfcluster.validateRequests" -}}
{{- $places := dict "rayJob.submitter" .Values.rayJob.submitter.resources -}}
{{- if include "tfcluster.hasCluster" . -}}
{{- $_ := set $places "head" .Values.head.resources -}}
{{- range $name, $group := include "tfcluster.groups" . | fromYaml }}{{ $_ := set $places (printf "workerGroups.%s" $name) $group.resources }}{{ end -}}
{{- if .Values.autoscaling.enabled }}{{ $_ := set $places "autoscaling" .Values.autoscaling.resources }}{{ end -}}
{{- end -}}
{{- if .Values.tensorboard.enabled }}{{ $_ := set $places "tensorboard" .Values.tensorboard.resources }}{{ end -}}
{{- range $place, $resources := $places }}{{ include "tfcluster.refuseRequests" (list $place $resources) }}{{ end -}}
{{- end }}

{{/* (list "place" resources) */}}
{{- define "tfcluster.refuseRequests" -}}
{{- $place := index . 0 -}}
{{- $limits := (index . 1).limits | default dict -}}
{{- range $name, $request := (index . 1).requests -}}
{{- if hasKey $limits $name -}}
{{- $limit := get $limits $name -}}
{{- if gt (include "tfcluster.quantity" $request | float64) (include "tfcluster.quantity" $limit | float64) -}}
{{- include "tfcluster.refuse" (list "a container requests more than its limit" (printf "%s: %s %v of %v" $place $name $request $limit) "give both in its resources; of what is left out the chart has a default") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
