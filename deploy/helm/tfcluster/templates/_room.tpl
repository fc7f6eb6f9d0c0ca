{{/* Whether the groups of workers, at their largest, hold the job, as far as that is known before Ray places it. */}}

{{- define "tfcluster.validateRoom" -}}
{{- $todo := "raise replicas or maxReplicas, or resources and gpus, of a group in workerGroups" -}}
{{- $placement := (include "tfcluster.job" . | fromJson).placement | default "pack" -}}
{{- $groups := dict -}}
{{- $have := dict -}}
{{- $pods := 0 -}}
{{- range $name, $group := include "tfcluster.groups" . | fromYaml -}}
{{- $most := (include "tfcluster.bounds" (list $ $group) | fromYaml).maxReplicas | int -}}
{{- $offers := include "tfcluster.offers" $group | fromYaml -}}
{{- $pods = add $pods $most -}}
{{- $_ := set $groups $name (dict "pods" $most "offers" $offers) -}}
{{- include "tfcluster.addAmounts" (list $have $offers $most) -}}
{{- end -}}
{{- $want := dict -}}
{{- $tasks := 0 -}}
{{- range $role, $asked := include "tfcluster.roles" . | fromYaml -}}
{{- $slots := 0 -}}
{{- range $groups -}}
{{- $each := include "tfcluster.fits" (list $asked.asks .offers) | int -}}
{{- if eq $placement "strict_spread" }}{{ $each = min $each 1 }}{{ end -}}
{{- $slots = add $slots (mul .pods $each) -}}
{{- end -}}
{{- if lt ($slots | int64) ($asked.tasks | int64) -}}
{{- include "tfcluster.refuse" (list (printf "the groups of workers hold too few tasks of role %s" $role) (printf "%d tasks of %s, room for %d" ($asked.tasks | int) (include "tfcluster.amountsText" (list $asked.asks $asked.asks)) ($slots | int)) $todo) -}}
{{- end -}}
{{- $tasks = add $tasks $asked.tasks -}}
{{- include "tfcluster.addAmounts" (list $want $asked.asks $asked.tasks) -}}
{{- end -}}
{{- if not (include "tfcluster.fits" (list $want $have) | int) -}}
{{- include "tfcluster.refuse" (list "the groups of workers do not hold the whole job" (printf "the job wants %s, they have %s" (include "tfcluster.amountsText" (list $want $want)) (include "tfcluster.amountsText" (list $have $want))) $todo) -}}
{{- end -}}
{{- include "tfcluster.validateStrict" (dict "placement" $placement "groups" $groups "want" $want "tasks" $tasks "pods" $pods) -}}
{{- end }}

{{- define "tfcluster.validateStrict" -}}
{{- $want := .want -}}
{{- $held := false -}}
{{- $seen := list -}}
{{- range $name, $group := .groups -}}
{{- if and $group.pods (include "tfcluster.fits" (list $want $group.offers) | int) }}{{ $held = true }}{{ end -}}
{{- $seen = append $seen (printf "a Pod of %s has %s" $name (include "tfcluster.amountsText" (list $group.offers $want))) -}}
{{- end -}}
{{- if and (eq .placement "strict_pack") (not $held) -}}
{{- include "tfcluster.refuse" (list "placement strict_pack needs one Pod that holds every task" (printf "the job wants %s; %s" (include "tfcluster.amountsText" (list $want $want)) (join "; " $seen)) "set job.placement=pack, or raise resources and gpus of a group in workerGroups") -}}
{{- end -}}
{{- if and (eq .placement "strict_spread") (gt .tasks .pods) -}}
{{- include "tfcluster.refuse" (list "placement strict_spread needs a Pod for every task" (printf "%d tasks, %d Pods" .tasks .pods) "set job.placement=spread, or raise replicas or maxReplicas of a group in workerGroups") -}}
{{- end -}}
{{- end }}

{{/* What each role asks for: its tasks, and amounts of one. */}}
{{- define "tfcluster.roles" -}}
{{- $job := include "tfcluster.job" . | fromJson -}}
{{- $roles := dict -}}
{{- range $role, $given := $job.roles -}}
{{- $settings := ternary $given (dict "replicas" $given) (kindIs "map" $given) -}}
{{- $own := dict "CPU" (ternary 1 $settings.cpus (kindIs "invalid" $settings.cpus)) "GPU" ($settings.gpus | default 0) "memory" (include "tfcluster.size" $settings.memory) -}}
{{- $asks := include "tfcluster.amounts" (merge (dict) ($settings.resources | default dict) $own) | fromYaml -}}
{{- $_ := set $roles $role (dict "tasks" (ternary 1 $settings.replicas (kindIs "invalid" $settings.replicas) | int) "asks" $asks) -}}
{{- end -}}
{{- $one := dict "tasks" 1 "asks" (include "tfcluster.amounts" (dict "CPU" 1) | fromYaml) -}}
{{- $trains := false -}}
{{- range $role := list "chief" "worker" }}{{ if get (get $roles $role | default dict) "tasks" }}{{ $trains = true }}{{ end }}{{ end -}}
{{- if and (eq ($job.strategy | default "none") "parameter_server") (not (hasKey $roles "chief")) }}{{ $_ := set $roles "chief" $one }}{{ end -}}
{{- if and (ne ($job.strategy | default "none") "parameter_server") (not $trains) }}{{ $_ := set $roles "worker" $one }}{{ end -}}
{{- toYaml $roles }}
{{- end }}

{{/* What Ray offers its tasks on one Pod of a group, as KubeRay starts it. */}}
{{- define "tfcluster.offers" -}}
{{- $start := .rayStartParams | default dict -}}
{{- $limits := .resources.limits -}}
{{- $gpus := 0 -}}
{{- range $key, $count := $limits }}{{ if regexMatch "gpu$|/mig-" $key }}{{ $gpus = include "tfcluster.quantity" $count }}{{ end }}{{ end -}}
{{- $own := dict "CPU" (get $start "num-cpus" | default (include "tfcluster.quantity" $limits.cpu | float64 | ceil)) "GPU" (get $start "num-gpus" | default .gpus | default $gpus) "memory" (include "tfcluster.quantity" (get $start "memory" | default $limits.memory)) -}}
{{- include "tfcluster.amounts" (merge $own (include "tfcluster.customResources" (get $start "resources") | fromYaml)) }}
{{- end }}

{{/* Custom resources among Ray's arguments: JSON, quoted for a shell. */}}
{{- define "tfcluster.customResources" -}}
{{- $text := . | default "" | trim -}}
{{- if hasPrefix "\"" $text }}{{ $text = printf "[%s]" $text | fromJsonArray | first | toString }}{{ end -}}
{{- $found := trimAll "'" $text | default "{}" | fromJson -}}
{{- toYaml (ternary dict $found (hasKey $found "Error")) }}
{{- end }}

{{/*
Amounts by Ray's names as whole numbers: memory in bytes, the others in ten-thousandths, as Ray counts. What Ray and
KubeRay find out by themselves is left out.
*/}}
{{- define "tfcluster.amounts" -}}
{{- $amounts := dict -}}
{{- range $name, $amount := . -}}
{{- $number := float64 $amount -}}
{{- if not (regexMatch "^(node:|accelerator_type:|TPU$|neuron_cores$)" $name) }}{{ $_ := set $amounts $name (ternary $number (round (mulf $number 10000) 0) (eq $name "memory") | int64) }}{{ end -}}
{{- end -}}
{{- toYaml $amounts }}
{{- end }}

{{/* How often some amounts are in others, at most a million times: (list asks offers). */}}
{{- define "tfcluster.fits" -}}
{{- $offers := index . 1 -}}
{{- $times := 1000000 -}}
{{- range $name, $amount := index . 0 -}}
{{- if $amount }}{{ $times = min $times (div (get $offers $name | default 0 | int64) ($amount | int64)) }}{{ end -}}
{{- end -}}
{{- $times }}
{{- end }}

{{/* Adds so many times some amounts to a sum: (list sum amounts times). */}}
{{- define "tfcluster.addAmounts" -}}
{{- $sum := index . 0 -}}
{{- $times := index . 2 -}}
{{- range $name, $amount := index . 1 }}{{ $_ := set $sum $name (add (get $sum $name | default 0) (mul ($amount | int64) $times)) }}{{ end -}}
{{- end }}

{{/* Those of the amounts that are asked for, as a person reads them: (list amounts asks). */}}
{{- define "tfcluster.amountsText" -}}
{{- $amounts := index . 0 -}}
{{- $words := list -}}
{{- range $name, $asked := index . 1 -}}
{{- $amount := get $amounts $name | default 0 | int64 -}}
{{- $text := divf $amount 10000 | toString -}}
{{- if eq $name "memory" }}{{ $text = ternary (printf "%.1f GiB" (divf $amount 1073741824)) (printf "%.1f MiB" (divf $amount 1048576)) (ge $amount 1073741824) }}{{ end -}}
{{- if $asked }}{{ $words = append $words (printf "%s %s" $name $text) }}{{ end -}}
{{- end -}}
{{- join ", " $words | default "nothing" }}
{{- end }}

{{/* The number that Kubernetes means by 500m, 32Gi or 2. */}}
{{- define "tfcluster.quantity" -}}
{{- $units := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) }}
{{- end }}

{{/* Bytes of a size in a JobSpec, such as 4GiB, 500 MB or 1024; none is 0. */}}
{{- define "tfcluster.size" -}}
{{- $units := dict "" 1 "b" 1 "kb" 1e3 "mb" 1e6 "gb" 1e9 "tb" 1e12 "k" 1024 "m" 1048576 "g" 1073741824 "t" 1099511627776 -}}
{{- $text := . | default 0 | toString | lower | trim -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- $binary := get $units (regexReplaceAll "i(b?)$" $unit "") | default 1 -}}
{{- $scale := ternary $binary (get $units $unit | default 1) (contains "i" $unit) -}}
{{- mulf (trimSuffix $unit $text | trim | float64) $scale }}
{{- end }}
