{{/* Which values are secrets, which are refused; and texts without them. */}}

{{/* Secrets stand in Secrets: what is written here ends in objects that many may read. */}}
{{- define "tfcluster.validateSecrets" -}}
{{- $lists := dict "extraEnv" .Values.extraEnv "head.env" (.Values.head.env | default list) -}}
{{- range $name, $group := include "tfcluster.groups" . | fromYaml }}{{ $_ := set $lists (printf "workerGroups.%s.env" $name) ($group.env | default list) }}{{ end -}}
{{- range $place, $variables := $lists -}}
{{- range $variables -}}
{{- if and .value (include "tfcluster.isSecret" .name) -}}
{{- include "tfcluster.refuse" (list "a secret is written out" (printf "%s in %s" .name $place) "put it into a Secret and name it: valueFrom.secretKeyRef, extraEnvFrom or storage.secretName") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $job := include "tfcluster.job" . | fromJson -}}
{{- $maps := dict "runtimeEnv.env_vars" ((.Values.runtimeEnv | default dict).env_vars | default dict) "job.runtime_env.env_vars" (dig "runtime_env" "env_vars" dict $job) -}}
{{- range $role, $settings := $job.roles }}{{ if kindIs "map" $settings }}{{ $_ := set $maps (printf "job.roles.%s.env" $role) ($settings.env | default dict) }}{{ end }}{{ end -}}
{{- range $place, $variables := $maps -}}
{{- range $name, $value := $variables -}}
{{- if include "tfcluster.isSecret" $name -}}
{{- include "tfcluster.refuse" (list "a secret is written out" (printf "%s in %s" $name $place) "put it into a Secret and name it: extraEnv with valueFrom.secretKeyRef, extraEnvFrom or storage.secretName") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $place, $value := merge (dict "job" $job) (omit .Values "files" "extraObjects") }}{{ include "tfcluster.refusePasswords" (list $place $value) }}{{ end -}}
{{- if kindIs "string" .Values.job -}}
{{- range splitList "\n" .Values.job }}{{ include "tfcluster.refusePasswords" (list "job" (trim .)) }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Whether a variable of that name holds a secret, by the pattern of cluster/secrets.py, and not where one lies. */}}
{{- define "tfcluster.isSecret" -}}
{{- $names := "SECRET|PASSWORD|PASSWD|PASSPHRASE|_PASS$|_PWD$|TOKEN$|(ACCESS|API|AUTH)_?TOKENS$|_KEY$|(API|ACCESS|PRIVATE|AUTH|ENCRYPTION|SIGNING)_?KEYS?$|(GITHUB|GITLAB|GH)_PAT$|CONNECTION_STRING$" -}}
{{- if and (regexMatch (printf "(?i)%s" $names) .) (not (regexMatch "(?i)_(id|file|path)$" .)) }}true{{ end -}}
{{- end }}

{{/* Refuses a password in any text of a value: (list "place" value). */}}
{{- define "tfcluster.refusePasswords" -}}
{{- $place := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $part := $value }}{{ include "tfcluster.refusePasswords" (list (printf "%s.%s" $place $key) $part) }}{{ end -}}
{{- else if kindIs "slice" $value -}}
{{- range $i, $part := $value }}{{ include "tfcluster.refusePasswords" (list (printf "%s[%d]" $place $i) $part) }}{{ end -}}
{{- else if kindIs "string" $value -}}
{{- $rest := include "tfcluster.withoutReferences" $value -}}
{{- if or (regexMatch (include "tfcluster.password" .) $rest) (regexMatch (include "tfcluster.secretOption" .) $rest) -}}
{{- include "tfcluster.refuse" (list "a password is written out" (printf "%s %s" $place (include "tfcluster.shown" $value)) "give it by a Secret: storage.secretName, extraEnvFrom or gcsFaultTolerance.passwordSecret") -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A text less passwords that are $(NAME), by which Kubernetes has a variable that may come from a Secret stand in another. */}}
{{- define "tfcluster.withoutReferences" -}}
{{- $name := `\$\([-._A-Za-z][-._A-Za-z0-9]*\)` -}}
{{ regexReplaceAll (printf `(client_secret|sig)=%s(&|\s|$)` $name) (regexReplaceAll (printf ":%s@" $name) . "@") "${2}" }}
{{- end }}

{{/*
The patterns of cluster/locations.py. The password in scheme://user:password@host, also one whose / was not written as
%2F; a port's number is none. Go has no negative lookahead, so what may follow the digits is spelled out.
*/}}
{{- define "tfcluster.password" -}}
{{ `(://[^/@:\s]*):[0-9]*(?:[^/@0-9\s][^@\s]*)?@` }}
{{- end }}

{{/* Options of a URI that are passwords: a client's on Azure, a signature. */}}
{{- define "tfcluster.secretOption" -}}
{{ `([?&](?:client_secret|sig)=)[^&\s]*` }}
{{- end }}

{{/* A text as others may see it. */}}
{{- define "tfcluster.shown" -}}
{{ regexReplaceAll (include "tfcluster.secretOption" .) (regexReplaceAll (include "tfcluster.password" .) . "${1}:***@") "${1}***" }}
{{- end }}
