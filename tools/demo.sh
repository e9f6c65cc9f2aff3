#!/usr/bin/env bash
# Serves the example models and lets each answer over HTTP, streamed, from a cold start.
# usage: tools/demo.sh path/to/troupe
set -euo pipefail
troupe=${1:?usage: tools/demo.sh path/to/troupe}
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
server=
finish() {
  [ -n "$server" ] && kill -TERM "$server" 2>/dev/null && wait "$server" 2>/dev/null
  rm -rf "$scratch"
}
trap finish EXIT

"$troupe" serve --no-hub-cache --port 0 --port-file "$scratch/port" "$root/examples/models" \
  >"$scratch/out" 2>"$scratch/log" &
server=$!
for _ in $(seq 200); do
  [ -s "$scratch/port" ] && break
  kill -0 "$server" 2>/dev/null || { cat "$scratch/out" "$scratch/log" >&2; exit 1; }
  sleep 0.02
done
[ -s "$scratch/port" ] || { echo "the server did not say its port:" >&2; cat "$scratch/log" >&2; exit 1; }
url=http://127.0.0.1:$(cat "$scratch/port")
cat "$scratch/out"

ask() { # model question
  printf '\n\033[1m%s\033[0m  > %s\n' "$1" "$2"
  "$troupe" run --url "$url" --verbose --temperature 0 --max-tokens 120 "$1" "$2"
}
ask stories-llama "Tell me a short story about a fox."
ask stories-llama "What is Troupe?"
ask arith-qwen "What is 7 + 5?"
ask parrot-mistral "Tell me a short story about a robot."

printf '\nHow long each model took to load, slowest first:\n'
curl -sS "$url/admin/models" | python3 -c '
import json, sys
for m in sorted(json.load(sys.stdin)["data"], key=lambda m: -m["load_seconds"]):
    print("  %-16s %-8s %6.1f MiB  loaded in %6.1f ms" % (m["id"], m["state"], m["weight_bytes"] / 2**20, m["load_seconds"] * 1e3))'
printf '\nServe them yourself:  %s serve examples/models\n' "${troupe#"$root"/}"
