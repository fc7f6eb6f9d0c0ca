#!/usr/bin/env bash
# What the image must be able to do, run inside it with this folder at /mnt: as user 1000, who may write to /tmp and home only.
set -euo pipefail
say() { printf '\n== %s\n' "$*"; }

say "the user, and what is not there"
id
[ "$(id -u)" = 1000 ]
! touch /opt/tfcluster/anything 2>/dev/null || { echo "the root file system can be written"; exit 1; }
for command in cc gcc ld strip uv; do
  ! command -v "$command" || { echo "$command was left behind"; exit 1; }
done

say "versions"
tfcluster --version
ray --version
python - <<'PYTHON'
import getpass, importlib.metadata, json, os, sys
import kubernetes, ray, tensorflow as tf, tf_keras
assert getpass.getuser() == "tfcluster" and os.path.expanduser("~") == os.environ["HOME"]
assert os.path.exists(tf.__cached__) and os.path.exists(json.__cached__), "bytecode was not compiled"
assert importlib.metadata.version("tensorflow") == tf.__version__
print("Python", sys.version.split()[0], "· TensorFlow", tf.__version__, "· built for CUDA:", tf.test.is_built_with_cuda())
if tf.test.is_built_with_cuda():
    print("GPUs", tf.config.list_physical_devices("GPU"), tf.sysconfig.get_build_info())
PYTHON

say "a job of two workers"
cp -r /mnt ~/job && cd ~/job
tfcluster plan job.yaml
tfcluster run job.yaml
tfcluster status

say "Ray as KubeRay starts it, and a job handed to it"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=only-for-this-try-0123456789abcdef
healthy() { # as KubeRay's probes ask
  python -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:52365/api/healthz", timeout=5).read().decode())'
}
ray start --head --num-cpus=2 --dashboard-agent-listen-port=52365 --disable-usage-stats --block >head.log 2>&1 &
head=$!
trap 'kill $head 2>/dev/null; wait' EXIT
for _ in $(seq 60); do
  if ray health-check --address 127.0.0.1:6379 && healthy; then break; fi 2>/dev/null
  kill -0 $head || { cat head.log; exit 1; }
  sleep 1
done
healthy
tfcluster submit job.yaml --address http://127.0.0.1:8265 --wait

say "all of it works"
