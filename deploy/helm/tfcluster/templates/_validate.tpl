{{/* Combinations that KubeRay or tfcluster would refuse later, refused here: what happened · the value seen · what to do. */}}

{{- define "tfcluster.validate" -}}
{{- $isJob := ne .Values.mode "cluster" -}}
{{- include "tfcluster.validateName" . -}}
{{- include "tfcluster.validateJobText" . -}}
{{- include "tfcluster.validateStorage" . -}}
{{- include "tfcluster.validateSecrets" . -}}
{{- include "tfcluster.validateVolumes" . -}}
{{- include "tfcluster.validateContainers" . -}}
{{- include "tfcluster.validateRequests" . -}}
{{- include "tfcluster.validateQueue" . -}}
{{- if include "tfcluster.hasCluster" . }}{{ include "tfcluster.validateCluster" . }}{{ end -}}
{{- if $isJob -}}
{{- include "tfcluster.validateJob" . -}}
{{- include "tfcluster.validateRayJob" . -}}
{{- include "tfcluster.validateFiles" . -}}
{{- if not .Values.rayJob.clusterName }}{{ include "tfcluster.validateRoom" . }}{{ end -}}
{{- end -}}
{{- include "tfcluster.validateMode" . -}}
{{- end }}

{{/* (list "what happened" "the value seen" "what to do") */}}
{{- define "tfcluster.refuse" -}}
{{- fail (printf "%s · %v · %s" (index . 0) (index . 1) (index . 2)) -}}
{{- end }}

{{- define "tfcluster.validateName" -}}
{{- $name := include "tfcluster.name" . -}}
{{- $most := get (dict "cluster" 53 "job" 47 "cron" 36) .Values.mode | int -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- include "tfcluster.refuse" (list "the name is no DNS-1035 label" $name "begin with a letter, and use only a-z, 0-9 and -: another release name, or fullnameOverride") -}}
{{- end -}}
{{- if gt (len $name) $most -}}
{{- include "tfcluster.refuse" (list (printf "the name is too long for KubeRay, which adds to it: at most %d characters in mode %s" $most .Values.mode) (printf "%s, %d" $name (len $name)) "take a shorter release name, or fullnameOverride") -}}
{{- end -}}
{{- if and .Values.tensorboard.enabled (gt (len $name) 51) -}}
{{- include "tfcluster.refuse" (list "the name is too long for TensorBoard's Service: at most 51 characters" (printf "%s, %d" $name (len $name)) "take a shorter release name, or fullnameOverride") -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateStorage" -}}
{{- $claim := include "tfcluster.claim" . -}}
{{- if and .Values.storage.uri $claim -}}
{{- include "tfcluster.refuse" (list "runs have two places" (printf "storage.uri %s and storage.claim %s" .Values.storage.uri $claim) "delete one of them") -}}
{{- end -}}
{{- if and .Values.storage.uri (not (contains "://" .Values.storage.uri)) -}}
{{- include "tfcluster.refuse" (list "storage.uri is no URI" .Values.storage.uri "write s3://, gs:// or hdfs://, or use storage.claim for a path") -}}
{{- end -}}
{{- if and .Values.tensorboard.enabled (not (include "tfcluster.boardStorage" .)) -}}
{{- include "tfcluster.refuse" (list "TensorBoard has nothing to show" "no storage" "set storage.uri or storage.claim, or tensorboard.enabled=false") -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateQueue" -}}
{{- with .Values.queue -}}
{{- if and .scheduler (not .name) -}}
{{- include "tfcluster.refuse" (list "the queue has no name" (printf "queue.scheduler %s" .scheduler) "set queue.name") -}}
{{- end -}}
{{- if and .name (not .scheduler) -}}
{{- include "tfcluster.refuse" (list "nobody would read the queue's name" (printf "queue.name %s" .name) "set queue.scheduler to kueue, volcano or yunikorn") -}}
{{- end -}}
{{- if .scheduler -}}
{{- if eq $.Values.mode "cron" -}}
{{- include "tfcluster.refuse" (list "KubeRay does not hand a RayCronJob's labels to its jobs, so no queue would see them" (printf "queue.scheduler %s in mode cron" .scheduler) "leave queue.scheduler empty, or start jobs in mode job") -}}
{{- end -}}
{{- if not (include "tfcluster.hasCluster" $) -}}
{{- include "tfcluster.refuse" (list "a job on a running cluster brings no Pods to queue" (printf "queue.scheduler %s with rayJob.clusterName %s" .scheduler $.Values.rayJob.clusterName) "leave queue.scheduler empty here; the cluster's own release has one") -}}
{{- end -}}
{{- $elastic := eq (get ($.Values.extraAnnotations | default dict) "kueue.x-k8s.io/elastic-job" | toString) "true" -}}
{{- if and (eq .scheduler "kueue") $.Values.autoscaling.enabled (not $elastic) -}}
{{- include "tfcluster.refuse" (list "Kueue admits a cluster of a fixed size" "autoscaling.enabled with queue.scheduler kueue" "set autoscaling.enabled=false, or, where Kueue has elastic jobs, kueue.x-k8s.io/elastic-job: \"true\" in extraAnnotations") -}}
{{- end -}}
{{- if and (eq .scheduler "kueue") (eq $.Values.mode "job") (not $.Values.rayJob.shutdownAfterJobFinishes) -}}
{{- include "tfcluster.refuse" (list "Kueue would never get the job's quota back" "rayJob.shutdownAfterJobFinishes false with queue.scheduler kueue" "set rayJob.shutdownAfterJobFinishes=true, without rayJob.deletionRules") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateCluster" -}}
{{- $groups := include "tfcluster.groups" . | fromYaml -}}
{{- $autoscaling := .Values.autoscaling -}}
{{- if not $groups -}}
{{- include "tfcluster.refuse" (list "there are no workers, and the head runs no tasks" "workerGroups is empty" "add a group to workerGroups") -}}
{{- end -}}
{{- if and .Values.auth.enabled (semverCompare "<2.52.0" (regexFind "^[0-9]+[.][0-9]+[.][0-9]+" .Values.rayVersion)) -}}
{{- include "tfcluster.refuse" (list "this Ray knows no tokens" (printf "rayVersion %s" .Values.rayVersion) "use Ray 2.52 or newer, or auth.enabled=false") -}}
{{- end -}}
{{- if and $autoscaling.enabled (eq (include "tfcluster.serviceAccount" .) "default") -}}
{{- include "tfcluster.refuse" (list "the autoscaler's rights would go to every Pod of the namespace" "service account default" "set serviceAccount.create=true, or serviceAccount.name") -}}
{{- end -}}
{{- include "tfcluster.validateRedis" . -}}
{{- range $place, $settings := merge (dict "head" .Values.head) $groups -}}
{{- $where := ternary "head" (printf "workerGroups.%s" $place) (eq $place "head") -}}
{{- if hasKey ($settings.rayStartParams | default dict) "labels" -}}
{{- include "tfcluster.refuse" (list "KubeRay refuses labels of Ray among its arguments" (printf "%s.rayStartParams.labels" $where) "delete it; Pods are labelled by labels") -}}
{{- end -}}
{{- if and $autoscaling.enabled (eq $autoscaling.version "v2") (ne ($settings.restartPolicy | default "Never") "Never") -}}
{{- include "tfcluster.refuse" (list "version 2 of the autoscaler replaces Pods and restarts none" (printf "%s.restartPolicy %s" $where $settings.restartPolicy) "set it to Never, or autoscaling.version=v1") -}}
{{- end -}}
{{- end -}}
{{- range $name, $group := $groups }}{{ include "tfcluster.validateGroup" (list $ $name $group) }}{{ end -}}
{{- end }}

{{- define "tfcluster.validateGroup" -}}
{{- $ := index . 0 -}}
{{- $name := index . 1 -}}
{{- $group := index . 2 -}}
{{- $bounds := include "tfcluster.bounds" (list $ $group) | fromYaml -}}
{{- if or (eq $name "head") (not (regexMatch "^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$" $name)) -}}
{{- include "tfcluster.refuse" (list "a group's name is no DNS label of at most 32 characters, or is head" $name "use a-z, 0-9 and -") -}}
{{- end -}}
{{- if or (gt ($bounds.minReplicas | int) ($bounds.replicas | int)) (gt ($bounds.replicas | int) ($bounds.maxReplicas | int)) -}}
{{- include "tfcluster.refuse" (list (printf "the bounds of workerGroups.%s contradict each other" $name) (printf "minReplicas %v, replicas %v, maxReplicas %v" $bounds.minReplicas $bounds.replicas $bounds.maxReplicas) "have minReplicas ≤ replicas ≤ maxReplicas") -}}
{{- end -}}
{{- if and (not (kindIs "invalid" $group.idleTimeoutSeconds)) (not (and $.Values.autoscaling.enabled (eq $.Values.autoscaling.version "v2"))) -}}
{{- include "tfcluster.refuse" (list "only version 2 of the autoscaler knows an idle time for each group" (printf "workerGroups.%s.idleTimeoutSeconds %v" $name $group.idleTimeoutSeconds) "set autoscaling.enabled=true and autoscaling.version=v2, or delete it") -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateRedis" -}}
{{- with .Values.gcsFaultTolerance -}}
{{- range $what, $given := dict "password" .passwordSecret "username" .usernameSecret -}}
{{- $secret := $given | default dict -}}
{{- if and $secret.name (not $.Values.gcsFaultTolerance.redisAddress) -}}
{{- include "tfcluster.refuse" (list (printf "there is a %s and no Redis" $what) (printf "gcsFaultTolerance.%sSecret.name %s" $what $secret.name) "set gcsFaultTolerance.redisAddress") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range concat (.Values.extraEnv | default list) (.Values.head.env | default list) -}}
{{- if has .name (list "RAY_REDIS_ADDRESS" "REDIS_PASSWORD" "REDIS_USERNAME") -}}
{{- include "tfcluster.refuse" (list "KubeRay sets this variable itself" (printf "%s in extraEnv or head.env" .name) "use gcsFaultTolerance") -}}
{{- end -}}
{{- if eq .name "RAY_enable_autoscaler_v2" -}}
{{- include "tfcluster.refuse" (list "KubeRay sets this variable itself" (printf "%s in extraEnv or head.env" .name) "use autoscaling.version") -}}
{{- end -}}
{{- end -}}
{{- range list "redis-password" "redis-username" -}}
{{- if hasKey $.Values.head.rayStartParams . -}}
{{- include "tfcluster.refuse" (list "KubeRay refuses what Redis wants to know among Ray's arguments" (printf "head.rayStartParams.%s" .) "use gcsFaultTolerance") -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateJob" -}}
{{- $job := include "tfcluster.job" . | fromJson -}}
{{- if not (or $job.entrypoint $job.script) -}}
{{- include "tfcluster.refuse" (list (printf "mode %s needs a job" .Values.mode) (ternary "job is empty" "job has neither entrypoint nor script" (empty $job)) "set job.entrypoint or job.script; the keys of job are those of job.yaml") -}}
{{- end -}}
{{- if and $job.entrypoint $job.script -}}
{{- include "tfcluster.refuse" (list "a job runs an entrypoint or a script" (printf "job.entrypoint %v and job.script %v" $job.entrypoint $job.script) "delete one of them") -}}
{{- end -}}
{{- $storage := include "tfcluster.jobStorage" . -}}
{{- if not $storage -}}
{{- include "tfcluster.refuse" (list "the job's runs would end with its Pods" (printf "job.storage %s, no storage.uri, no storage.claim" ($job.storage | default "./runs")) "set storage.uri or storage.claim, or a URI as job.storage") -}}
{{- end -}}
{{- if not (or (contains "://" $storage) .Values.rayJob.clusterName) -}}
{{- $mounted := include "tfcluster.lastingFolders" . -}}
{{- $found := false -}}
{{- range splitList ":" $mounted }}{{ if and . (hasPrefix (printf "%s/" (trimSuffix "/" .)) (printf "%s/" $storage)) }}{{ $found = true }}{{ end }}{{ end -}}
{{- if not $found -}}
{{- include "tfcluster.refuse" (list "the job writes where no lasting volume is mounted" (printf "job.storage %s; mounted: %s" $storage ($mounted | replace ":" ", " | default "nothing")) "set storage.claim and storage.mountPath, or leave job.storage out") -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateRayJob" -}}
{{- $job := .Values.rayJob -}}
{{- $mode := $job.submissionMode -}}
{{- if and $job.deletionRules $job.shutdownAfterJobFinishes -}}
{{- include "tfcluster.refuse" (list "deletion rules and shutdownAfterJobFinishes exclude each other" (printf "%d rules, rayJob.shutdownAfterJobFinishes true" (len $job.deletionRules)) "set rayJob.shutdownAfterJobFinishes=false, or delete the rules") -}}
{{- end -}}
{{- if and $job.suspend (not $job.shutdownAfterJobFinishes) -}}
{{- include "tfcluster.refuse" (list "only a job that is shut down when it ends can be suspended" "rayJob.suspend true, rayJob.shutdownAfterJobFinishes false" "set rayJob.shutdownAfterJobFinishes=true, or rayJob.suspend=false") -}}
{{- end -}}
{{- if and (gt ($job.ttlSecondsAfterFinished | int) 0) (not $job.shutdownAfterJobFinishes) -}}
{{- include "tfcluster.refuse" (list "a time to live needs shutdownAfterJobFinishes" (printf "rayJob.ttlSecondsAfterFinished %d" ($job.ttlSecondsAfterFinished | int)) "set rayJob.shutdownAfterJobFinishes=true, or leave it out; deletion rules have their own ttlSeconds") -}}
{{- end -}}
{{- if and $job.clusterName (not (kindIs "invalid" $job.ttlSecondsAfterFinished)) -}}
{{- include "tfcluster.refuse" (list "a job on a running cluster has no cluster of its own that could go" (printf "rayJob.ttlSecondsAfterFinished %d, rayJob.clusterName %s" ($job.ttlSecondsAfterFinished | int) $job.clusterName) "leave it out; deletion rules with DeleteSelf remove the job") -}}
{{- end -}}
{{- if and $job.clusterName (.Values.storage.claim | default dict).create -}}
{{- include "tfcluster.refuse" (list "a running cluster does not mount a claim that is made for a job" (printf "storage.claim.create, rayJob.clusterName %s" $job.clusterName) "set job.storage to a folder that its Pods mount, or use a URI") -}}
{{- end -}}
{{- if and $job.clusterName $job.suspend -}}
{{- include "tfcluster.refuse" (list "a job on a running cluster cannot be suspended" (printf "rayJob.suspend true, rayJob.clusterName %s" $job.clusterName) "set rayJob.suspend=false") -}}
{{- end -}}
{{- if gt ($job.backoffLimit | int) 0 -}}
{{- if $job.clusterName -}}
{{- include "tfcluster.refuse" (list "KubeRay does not repeat a job on a running cluster" (printf "rayJob.backoffLimit %d, rayJob.clusterName %s" ($job.backoffLimit | int) $job.clusterName) "set rayJob.backoffLimit=0; tfcluster restarts lost tasks, see job.failure") -}}
{{- end -}}
{{- if eq $mode "InteractiveMode" -}}
{{- include "tfcluster.refuse" (list "KubeRay does not repeat a job that you submit yourself" (printf "rayJob.backoffLimit %d, InteractiveMode" ($job.backoffLimit | int)) "set rayJob.backoffLimit=0") -}}
{{- end -}}
{{- end -}}
{{- if eq $mode "SidecarMode" -}}
{{- if $job.clusterName -}}
{{- include "tfcluster.refuse" (list "SidecarMode puts the submitter into a head of the job's own" (printf "rayJob.clusterName %s" $job.clusterName) "use K8sJobMode or HTTPMode") -}}
{{- end -}}
{{- if ne (.Values.head.restartPolicy | default "Never") "Never" -}}
{{- include "tfcluster.refuse" (list "SidecarMode wants a head that is not restarted" (printf "head.restartPolicy %s" .Values.head.restartPolicy) "set it to Never, or use K8sJobMode") -}}
{{- end -}}
{{- end -}}
{{- include "tfcluster.validateDeletion" . -}}
{{- end }}

{{- define "tfcluster.validateDeletion" -}}
{{- $seen := dict -}}
{{- range $i, $rule := .Values.rayJob.deletionRules -}}
{{- $condition := $rule.condition | default dict -}}
{{- $where := printf "rayJob.deletionRules[%d], %v" $i $rule.policy -}}
{{- if eq (hasKey $condition "jobStatus") (hasKey $condition "jobDeploymentStatus") -}}
{{- include "tfcluster.refuse" (list "a deletion rule has one condition" $where "give either condition.jobStatus or condition.jobDeploymentStatus") -}}
{{- end -}}
{{- if and $.Values.rayJob.clusterName (has $rule.policy (list "DeleteCluster" "DeleteWorkers")) -}}
{{- include "tfcluster.refuse" (list "a job does not delete a cluster that is not its own" $where "use DeleteSelf or DeleteNone, or leave rayJob.clusterName empty") -}}
{{- end -}}
{{- if and $.Values.autoscaling.enabled (eq $rule.policy "DeleteWorkers") -}}
{{- include "tfcluster.refuse" (list "KubeRay deletes no workers that the autoscaler has" $where "use DeleteCluster, or autoscaling.enabled=false") -}}
{{- end -}}
{{- $status := $condition.jobStatus | default $condition.jobDeploymentStatus -}}
{{- $key := printf "%s %v %v" $rule.policy $status (hasKey $condition "jobStatus") -}}
{{- if hasKey $seen $key -}}
{{- include "tfcluster.refuse" (list "two deletion rules say the same" (printf "%s on %v" $where $status) "delete one of them") -}}
{{- end -}}
{{- $_ := set $seen $key ($condition.ttlSeconds | int) -}}
{{- end -}}
{{- range $condition := list "SUCCEEDED true" "FAILED true" "Failed false" -}}
{{- $last := 0 -}}
{{- range $policy := list "DeleteWorkers" "DeleteCluster" "DeleteSelf" -}}
{{- $key := printf "%s %s" $policy $condition -}}
{{- if hasKey $seen $key -}}
{{- $seconds := get $seen $key | int -}}
{{- if lt $seconds $last -}}
{{- include "tfcluster.refuse" (list "workers go before their cluster, and that before the job" (printf "%s after %d s, what is in it after %d s" $policy $seconds $last) "raise its ttlSeconds in rayJob.deletionRules") -}}
{{- end -}}
{{- $last = $seconds -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateMode" -}}
{{- $mode := .Values.mode -}}
{{- if and (eq $mode "cluster") .Values.job -}}
{{- include "tfcluster.refuse" (list "a team's cluster runs no job of its own" "job in mode cluster" "set mode=job or mode=cron, or submit the job to the cluster: tfcluster submit") -}}
{{- end -}}
{{- if and (ne $mode "cron") .Values.cron.schedule -}}
{{- include "tfcluster.refuse" (list "only mode cron has a schedule" (printf "cron.schedule %s in mode %s" .Values.cron.schedule $mode) "set mode=cron, or delete the schedule") -}}
{{- end -}}
{{- if and (ne $mode "cron") .Values.cron.suspend -}}
{{- include "tfcluster.refuse" (list "only mode cron has a schedule" (printf "cron.suspend true in mode %s" $mode) (printf "use %s" (ternary "suspend" "rayJob.suspend" (eq $mode "cluster")))) -}}
{{- end -}}
{{- if and (eq $mode "cluster") .Values.files -}}
{{- include "tfcluster.refuse" (list "a team's cluster takes no files" (printf "%d files in mode cluster" (len .Values.files)) "delete them; tfcluster submit ships those of each job") -}}
{{- end -}}
{{- if and (ne $mode "cluster") .Values.suspend -}}
{{- include "tfcluster.refuse" (list "only a team's cluster is suspended by itself" (printf "suspend true in mode %s" $mode) (printf "use %s.suspend" (ternary "cron" "rayJob" (eq $mode "cron")))) -}}
{{- end -}}
{{- if eq $mode "cron" }}{{ include "tfcluster.validateCron" . }}{{ end -}}
{{- end }}

{{- define "tfcluster.validateCron" -}}
{{- if not .Values.cron.schedule -}}
{{- include "tfcluster.refuse" (list "mode cron needs a schedule" "cron.schedule is empty" "set it to five fields, such as 0 3 * * *") -}}
{{- end -}}
{{- if contains "TZ" .Values.cron.schedule -}}
{{- include "tfcluster.refuse" (list "KubeRay takes no time zone in the schedule" .Values.cron.schedule "use cron.timeZone") -}}
{{- end -}}
{{- include "tfcluster.validateSchedule" .Values.cron.schedule -}}
{{- with .Values.cron.timeZone -}}
{{- if not (regexMatch "^([A-Za-z][A-Za-z0-9_]*|GMT[+-]0)(/[A-Za-z0-9_+-]+)*$" .) -}}
{{- include "tfcluster.refuse" (list "cron.timeZone is no name of a time zone" . "write it like Etc/UTC or Europe/Berlin") -}}
{{- end -}}
{{- end -}}
{{- if .Values.rayJob.suspend -}}
{{- include "tfcluster.refuse" (list "each job of the schedule would be made and not start" "rayJob.suspend true in mode cron" "use cron.suspend") -}}
{{- end -}}
{{- if eq .Values.rayJob.submissionMode "InteractiveMode" -}}
{{- include "tfcluster.refuse" (list "nobody is there to submit what runs on a schedule" "rayJob.submissionMode InteractiveMode in mode cron" "use K8sJobMode") -}}
{{- end -}}
{{- end }}

{{/* A schedule as the operator reads it: five fields with numbers in their bounds, or a word. */}}
{{- define "tfcluster.validateSchedule" -}}
{{- $schedule := trim . -}}
{{- $fields := regexSplit "\\s+" $schedule -1 -}}
{{- $right := regexMatch "^@(yearly|annually|monthly|weekly|daily|midnight|hourly|every ([0-9.]+(ms|s|m|h))+)$" $schedule -}}
{{- if eq (len $fields) 5 -}}
{{- $right = true -}}
{{- range $i, $most := list 59 23 31 12 6 -}}
{{- $field := regexReplaceAll "/0*[1-9][0-9]*" (index $fields $i) "" -}}
{{- if not (regexMatch (ternary "^[0-9A-Za-z*?,-]+$" "^[0-9*?,-]+$" (gt $i 2)) $field) }}{{ $right = false }}{{ end -}}
{{- range regexFindAll "[0-9]+" $field -1 }}{{ if gt (atoi .) $most }}{{ $right = false }}{{ end }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not $right -}}
{{- include "tfcluster.refuse" (list "cron.schedule is none that KubeRay reads" . "write minute 0-59, hour 0-23, day 1-31, month 1-12 and weekday 0-6, such as 0 3 * * *, or @daily") -}}
{{- end -}}
{{- end }}

{{- define "tfcluster.validateFiles" -}}
{{- $size := len (include "tfcluster.jobDocument" .) -}}
{{- range $path, $text := .Values.files -}}
{{- $size = add $size (len $text) -}}
{{- if or (eq $path (include "tfcluster.jobFile" $)) (not (regexMatch "^[A-Za-z0-9_][-A-Za-z0-9_.]*(/[A-Za-z0-9_][-A-Za-z0-9_.]*)*$" $path)) -}}
{{- include "tfcluster.refuse" (list (printf "a file has no plain relative path, or is %s, which is the job itself" (include "tfcluster.jobFile" $)) $path "name it like train.py or package/module.py") -}}
{{- end -}}
{{- end -}}
{{- if gt $size 1000000 -}}
{{- include "tfcluster.refuse" (list "the files are too large for a ConfigMap" (printf "%d bytes" $size) "put the code into the image, or into a zip named by runtimeEnv.working_dir") -}}
{{- end -}}
{{- if and .Values.files .Values.rayJob.clusterName -}}
{{- include "tfcluster.refuse" (list "Pods that run already get no more files" (printf "%d files, rayJob.clusterName %s" (len .Values.files) .Values.rayJob.clusterName) "put the code into the image, or into a zip named by runtimeEnv.working_dir") -}}
{{- end -}}
{{- if and .Values.files (.Values.runtimeEnv | default dict).working_dir -}}
{{- include "tfcluster.refuse" (list "code comes from two places" (printf "files and runtimeEnv.working_dir %s" .Values.runtimeEnv.working_dir) "put the files into the zip, or delete runtimeEnv.working_dir") -}}
{{- end -}}
{{- end }}
