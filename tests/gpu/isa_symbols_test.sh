#!/bin/sh
# Fails if an object file of the wide instruction sets defines a symbol that the linker may share
# with other files: the copy it keeps could then crash machines that lack those instructions.
# (DW.ref.* is a pointer for exception tables, not code.)
# Usage: isa_symbols_test.sh OBJECT...
[ $# -gt 0 ] || { echo "no object files given" >&2; exit 1; }
for object in "$@"; do
  symbols=$(nm --defined-only "$object") || exit 1
  shared=$(printf '%s\n' "$symbols" | grep -E ' [WVu] ' | grep -v ' V DW\.ref\.' | c++filt)
  if [ -n "$shared" ]; then
    printf '%s shares symbols with other files:\n%s\n' "$object" "$shared" >&2
    exit 1
  fi
done
