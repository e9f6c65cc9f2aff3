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
python=python3
[ -x "$root/build/bench-venv/bin/python" ] && python=$root/build/bench-venv/bin/python
disk=$build/bench-models
mkdir -p "$disk"
printf '\ntiers_bench\n'
python3 "$root/tests/bench/tiers_bench.py" "$build/bin" "$disk" --python "$python"
printf '\ncoldstart_bench\n'
python3 "$root/tests/bench/coldstart_bench.py" "$build/bin/troupe" "$disk" --gigabytes 1.2
printf '\nforesight_bench\n'
python3 "$root/tests/bench/foresight_bench.py" "$build/bin/troupe" "$disk" --rounds 8
if [ "$(id -u)" = 0 ]; then # may hold the disk to a rate, which takes its moods out of the ratios
  printf '\nthe same on a disk of 500 and of 250 MB/s\n'
  python3 "$root/tests/bench/tiers_bench.py" "$build/bin" "$disk" --python "$python" --disk-mbps 500
  python3 "$root/tests/bench/coldstart_bench.py" "$build/bin/troupe" "$disk" --gigabytes 1.2 \
    --disk-mbps 500
  python3 "$root/tests/bench/foresight_bench.py" "$build/bin/troupe" "$disk/large" --gigabytes 1.2 \
    --rounds 8 --disk-mbps 250
fi
printf '\ndraft_bench\n'
"$python" "$root/tests/bench/draft_bench.py" "$build/bin/troupe" "$disk" # wants numpy and gguf
printf '\nremote_bench\n'
python3 "$root/tests/bench/remote_bench.py" "$build/bin/troupe" "$disk"
printf '\nshared_fetch_bench\n'
python3 "$root/tests/bench/shared_fetch_bench.py" "$build/bin/troupe" "$disk"
printf '\nload_kills\n'
python3 "$root/tests/bench/load_kills.py" "$build/bin/troupe" "$disk"
printf '\n10,000 damages\n'
DAMAGES=10000 "$build/bin/pipeline_test" --gtest_brief=1 --gtest_filter='damage_soak*'
printf '\nfirst_read_bench\n'
python3 "$root/tests/bench/first_read_bench.py" "$build/bin/troupe" "$disk"
printf '\nserve_bench\n'
python3 "$root/tests/bench/serve_bench.py" "$build/bin/troupe"
printf '\npull_bench\n'
python3 "$root/tests/bench/pull_bench.py" "$build/bin/troupe"
