#!/usr/bin/env bash
# Runs every benchmark of a build and prints their tables behind the machine's name.
# usage: tools/bench.sh build/release [google benchmark arguments]
set -euo pipefail
build=${1:?usage: tools/bench.sh build/release}
shift
root=$(cd "$(dirname "$0")/.." && pwd)
printf 'machine: %s, %s threads, %s\n' \
  "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" \
  "$(free -h | awk '/^Mem:/ {print $2}') memory"
for bench in "$build"/bin/*_bench; do
  case "${bench##*/}" in load_bench | eviction_bench) continue ;; esac # no Google benchmarks
  printf '\n%s\n' "${bench##*/}"
  "$bench" "$@"
done
printf '\ntroupe bench\n'
"$build/bin/troupe" bench smollm2-135m qwen2.5-0.5b --dtype bf16,int8,int4
printf '\neviction_bench\n'
"$build/bin/eviction_bench"
printf '\nload_bench (on the disk of the build)\n'
"$build/bin/load_bench" "$build" 1 3
printf '\nserve_bench\n'
python3 "$root/tests/bench/serve_bench.py" "$build/bin/troupe"
printf '\npull_bench\n'
python3 "$root/tests/bench/pull_bench.py" "$build/bin/troupe"
