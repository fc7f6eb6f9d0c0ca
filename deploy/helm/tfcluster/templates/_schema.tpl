{{/* A job that comes as text is looked into here, by the schema that Helm has for one among the values. */}}

{{- define "tfcluster.validateJobText" -}}
{{- if kindIs "string" .Values.job -}}
{{- $job := include "tfcluster.job" . | fromJson -}}
{{- $todo := "mend job.yaml, see docs/spec.md, and give it by --set-file job=job.yaml" -}}
{{- if hasKey $job "Error" -}}
{{- include "tfcluster.refuse" (list "the text of the job is no mapping in YAML" (get $job "Error" | toString | replace "\n" " " | include "tfcluster.shown") $todo) -}}
{{- end -}}
{{- $schema := .Files.Get "job.schema.json" | fromJson -}}
{{- with include "tfcluster.mismatch" (list "job" $job $schema $schema.definitions) -}}
{{- include "tfcluster.refuse" (list "the text of the job is no valid one" (include "tfcluster.shown" .) $todo) -}}
{{- end -}}
{{- else -}}
{{- include "tfcluster.refuseLargeNumbers" (list "job" .Values.job) -}}
{{- end -}}
{{- end }}

{{/* What does not fit a schema of draft-07, as far as that of a job goes, or nothing: (list "place" value schema definitions). */}}
{{- define "tfcluster.mismatch" -}}
{{- $place := index . 0 -}}
{{- $value := index . 1 -}}
{{- $schema := index . 2 -}}
{{- $all := index . 3 -}}
{{- $types := dict "map" "object" "slice" "array" "string" "string" "bool" "boolean" "float64" "number" "invalid" "null" -}}
{{- $type := get $types (kindOf $value) -}}
{{- $wanted := get $schema "type" | default $type -}}
{{- $found := list -}}
{{- if hasKey $schema "$ref" -}}
{{- $found = append $found (include "tfcluster.mismatch" (list $place $value (get $all (get $schema "$ref" | base)) $all)) -}}
{{- else if hasKey $schema "anyOf" -}}
{{- $each := list -}}
{{- range $schema.anyOf }}{{ $each = append $each (include "tfcluster.mismatch" (list $place $value . $all)) }}{{ end -}}
{{- if not (has "" $each) -}}
{{- /* That of a part, such as a key of a mapping, says more. */}}
{{- range $each }}{{ if not (hasPrefix (printf "%s is " $place) .) }}{{ $found = append $found . }}{{ end }}{{ end -}}
{{- $found = append $found (printf "%s is %v, none of what it may be" $place $value) -}}
{{- end -}}
{{- else if and (ne $type $wanted) (not (and (eq $type "boolean") (eq $wanted "string"))) (not (and (eq $type "number") (eq $wanted "integer"))) -}}
{{- /* To Helm a word such as y is true, to the launcher it is text. */}}
{{- $found = append $found (printf "%s is %v, no %s" $place $value $wanted) -}}
{{- else if eq $type "object" -}}
{{- $names := dig "propertyNames" "enum" list $schema -}}
{{- $more := ternary (get $schema "additionalProperties") true (hasKey $schema "additionalProperties") -}}
{{- range $schema.required }}{{ if not (hasKey $value .) }}{{ $found = append $found (printf "%s is without %s" $place .) }}{{ end }}{{ end -}}
{{- range $key, $part := $value -}}
{{- $inner := get ($schema.properties | default dict) $key -}}
{{- if and (not $inner) (or (and $names (not (has $key $names))) (and (kindIs "bool" $more) (not $more))) -}}
{{- $found = append $found (printf "%s.%s is an unknown key" $place $key) -}}
{{- else if or $inner (kindIs "map" $more) -}}
{{- $found = append $found (include "tfcluster.mismatch" (list (printf "%s.%s" $place $key) $part ($inner | default $more) $all)) -}}
{{- end -}}
{{- end -}}
{{- else if eq $type "array" -}}
{{- $fewest := $schema.minItems | default 0 | int -}}
{{- if or (lt (len $value) $fewest) (and $schema.maxItems (gt (len $value) ($schema.maxItems | int))) -}}
{{- $found = append $found (printf "%s is of %d parts" $place (len $value)) -}}
{{- end -}}
{{- range $i, $part := $value -}}
{{- $inner := $schema.items -}}
{{- if kindIs "slice" $inner }}{{ $inner = ternary (index $inner (min $i (sub (len $inner) 1))) dict (lt $i (len $inner)) }}{{ end -}}
{{- if $inner }}{{ $found = append $found (include "tfcluster.mismatch" (list (printf "%s[%d]" $place $i) $part $inner $all)) }}{{ end -}}
{{- end -}}
{{- else if eq $type "number" -}}
{{- $low := and (hasKey $schema "minimum") (lt $value (get $schema "minimum" | toString | float64)) -}}
{{- $high := and (hasKey $schema "maximum") (gt $value (get $schema "maximum" | toString | float64)) -}}
{{- if or $low $high (and (eq $wanted "integer") (ne $value (floor $value))) }}{{ $found = append $found (printf "%s is %v" $place $value) }}{{ end -}}
{{- else if and (eq $type "string") $schema.pattern -}}
{{- if not (regexMatch $schema.pattern $value) }}{{ $found = append $found (printf "%s is %v" $place $value) }}{{ end -}}
{{- end -}}
{{- $choices := $schema.enum | default list -}}
{{- if hasKey $schema "const" }}{{ $choices = list $schema.const }}{{ end -}}
{{- if and $choices (not (has $value $choices)) (not (and (eq $type "boolean") (eq $wanted "string"))) -}}
{{- $found = append $found (printf "%s is %v, none of %s" $place $value (join ", " $choices)) -}}
{{- end -}}
{{- append (without $found "") "" | first -}}
{{- end }}

{{/* Helm makes every number of a file of values a float, so whole ones from 2^53 on may be others by now: (list "place" value). */}}
{{- define "tfcluster.refuseLargeNumbers" -}}
{{- $place := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $part := $value }}{{ include "tfcluster.refuseLargeNumbers" (list (printf "%s.%s" $place $key) $part) }}{{ end -}}
{{- else if kindIs "slice" $value -}}
{{- range $i, $part := $value }}{{ include "tfcluster.refuseLargeNumbers" (list (printf "%s[%d]" $place $i) $part) }}{{ end -}}
{{- else if kindIs "float64" $value -}}
{{- if or (ge $value 9007199254740992.0) (le $value -9007199254740992.0) -}}
{{- include "tfcluster.refuse" (list "Helm may have changed a number of 2^53 or more" (printf "%s %.0f" $place $value) "give the job as text, which it leaves alone: --set-file job=job.yaml") -}}
{{- end -}}
{{- end -}}
{{- end }}
