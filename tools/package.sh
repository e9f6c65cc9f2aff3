#!/usr/bin/env bash
# Makes dist/troupe-<version>-linux-x86_64.tar.zst: the binary, every library that it needs and that
# is no part of glibc, the example models and configuration, licences. Runs where it is unpacked.
# usage: tools/package.sh [BINARY]             default: build/release/bin/troupe
#        tools/package.sh --check ARCHIVE      unpacks it elsewhere and runs it there (done after packing, too)
set -euo pipefail
cd "$(dirname "$0")/.."

archive_mib_max=60
models_mib_max=8
# glibc's own: they belong to the kernel and the loader of the machine that runs the binary.
system_libraries='^(ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libresolv|libutil|libanl)\.so'

say() { printf 'package: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for tool in patchelf zstd ldd strip; do
  command -v "$tool" >/dev/null || die "'$tool' is missing: apt-get install patchelf zstd binutils"
done

bundled_libraries() { # binary: lines 'name path'
  local name path
  ldd "$1" | while read -r name arrow path _; do
    [ "$arrow" = '=>' ] || continue
    [ "$path" = not ] && die "$1 needs $name, which is not installed here"
    [[ $name =~ $system_libraries ]] || printf '%s %s\n' "$name" "$path"
  done
}

debian_package() { # path of a library: the package that owns it, or nothing
  local real
  real=$(readlink -f "$1")
  # /lib is a link to /usr/lib here, and packages list either name.
  { dpkg-query -S "$real" || dpkg-query -S "${real#/usr}"; } 2>/dev/null | head -n 1 | cut -d: -f1
}

# Which packages the libraries come from, and each package's copyright file, once.
write_notices() { # directory with list of libraries
  local stage=$1 name path package
  declare -A seen=()
  mkdir -p "$stage/licenses"
  {
    echo "This archive holds libraries of the Debian packages below, unchanged but for stripping and run paths."
    echo "Their copyright notices lie in licenses/, and Debian serves their sources at https://sources.debian.org."
    echo
    while read -r name path; do
      package=$(debian_package "$path")
      [ -n "$package" ] || { echo "$name: from $(basename "$path"), of no Debian package"; continue; }
      printf '%-28s %s %s\n' "$name" "$package" "$(dpkg-query -W -f='${Version}' "$package" | head -c 64)"
      [ -n "${seen[$package]:-}" ] && continue
      seen[$package]=1
      [ -f "/usr/share/doc/$package/copyright" ] || die "$package has no copyright file: is its documentation excluded?"
      cp -L "/usr/share/doc/$package/copyright" "$stage/licenses/$package"
    done <"$scratch/libraries"
    echo
    echo "Compiled in, header only: CLI11 (BSD-3-Clause), nlohmann-json (MIT), Asio (BSL-1.0), RESTinio (BSD-3-Clause)."
    for package in libcli11-dev nlohmann-json3-dev libasio-dev librestinio-dev; do
      [ -f "/usr/share/doc/$package/copyright" ] && cp -L "/usr/share/doc/$package/copyright" "$stage/licenses/$package"
    done
  } >"$stage/THIRD_PARTY"
}

# What bin/bench-gpu needs: its scripts, and the tests of the CUDA backend where they were built.
add_gpu_bench() { # binary, directory
  local test script
  cp tools/bench-gpu "$2/bin/"
  mkdir -p "$2/tests/bench"
  for script in gpu_report torch_gpu_peer coldstart_bench serve_bench shaped_disk; do
    cp "tests/bench/$script.py" "$2/tests/bench/"
  done
  test=$(dirname "$1")/cuda_test
  [ -x "$test" ] || { say "no cuda_test beside $1: bench-gpu will say so"; return 0; }
  mkdir -p "$2/libexec"
  cp "$test" "$2/libexec/"
  strip "$2/libexec/cuda_test"
  patchelf --set-rpath '$ORIGIN/../lib' "$2/libexec/cuda_test"
}

pack() { # binary
  local binary=$1 version name path stage size
  [ -x "$binary" ] || die "$binary is not there: run ./dev build first"
  version=$("$binary" version | sed -n 's/^troupe \([0-9][0-9.]*\).*/\1/p')
  [ -n "$version" ] || die "$binary does not say its version"
  name=troupe-$version-linux-x86_64
  stage=$scratch/$name
  mkdir -p "$stage/bin" "$stage/lib" dist
  cp "$binary" "$stage/bin/troupe"
  bundled_libraries "$binary" >"$scratch/libraries"
  while read -r library path; do
    cp -L "$path" "$stage/lib/$library"
    chmod 755 "$stage/lib/$library"
    strip --strip-unneeded "$stage/lib/$library"
    patchelf --set-rpath '$ORIGIN' "$stage/lib/$library"
  done <"$scratch/libraries"
  add_gpu_bench "$binary" "$stage"
  strip "$stage/bin/troupe"
  patchelf --set-rpath '$ORIGIN/../lib' "$stage/bin/troupe"
  write_notices "$stage"
  cp -R LICENSE README.md docs "$stage/"
  mkdir -p "$stage/examples"
  cp -R examples/config "$stage/examples/"
  mkdir -p "$stage/config" && cp config/troupe.schema.json "$stage/config/"
  if [ -d examples/models ]; then
    size=$(du -sm examples/models | cut -f1)
    if [ "$size" -le "$models_mib_max" ]; then
      cp -R examples/models "$stage/examples/"
    else
      say "examples/models has $size MiB, more than $models_mib_max: left out"
    fi
  fi
  archive=dist/$name.tar.zst
  tar -C "$scratch" --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | zstd -q -19 -T0 -f -o "$archive"
  size=$(stat -c %s "$archive")
  [ "$size" -le $((archive_mib_max << 20)) ] ||
    die "$archive has $((size >> 20)) MiB, more than $archive_mib_max; the largest libraries:
$(du -k "$stage"/lib/* | sort -rn | head -8)"
  say "$archive: $((size >> 10)) KiB, $(wc -l <"$scratch/libraries") libraries"
}

# Without a GPU bench-gpu must say so in one line; with one it is the user's to start.
check_gpu_bench() { # directory
  local code=0
  command -v python3 >/dev/null || { say "no python3: bench-gpu is not tried"; return 0; }
  env -i PATH=/usr/bin:/bin "$1/bin/bench-gpu" --device cuda:99 2>"$scratch/said" >/dev/null || code=$?
  [ "$code" = 6 ] && [ "$(wc -l <"$scratch/said")" = 1 ] || die "bench-gpu without its device exits $code and says: $(cat "$scratch/said")"
}

# Unpacks under another path and runs with an empty environment: nothing may come from the tree.
check() { # archive
  local place=$scratch/elsewhere root foreign
  mkdir -p "$place"
  tar -C "$place" --zstd -xf "$1"
  root=$(echo "$place"/*)
  env -i "$root/bin/troupe" version >"$scratch/version" || die "the unpacked binary does not run"
  grep -q '^troupe [0-9]' "$scratch/version" || die "the unpacked binary says: $(cat "$scratch/version")"
  env -i "$root/bin/troupe" config check "$root/examples/config/troupe.example.yaml" >/dev/null ||
    die "the unpacked binary refuses the example configuration"
  foreign=$(ldd "$root/bin/troupe" | awk '$2 == "=>" {print $1, $3}' |
    while read -r library path; do
      [[ $library =~ $system_libraries ]] || [[ $path == "$root"/* ]] || echo "$library ($path)"
    done)
  [ -z "$foreign" ] || die "these come from the system, not from the archive: $foreign"
  check_gpu_bench "$root"
  say "$(cat "$scratch/version") runs from $(basename "$1") with $(ls "$root/lib" | wc -l) libraries of its own"
}

case "${1:-}" in
  --check) check "${2:?usage: tools/package.sh --check ARCHIVE}" ;;
  -*) die "unknown option $1" ;;
  *)
    pack "${1:-build/release/bin/troupe}"
    check "$archive"
    ;;
esac
