#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What the libraries export: symbols.sh SHARED STATIC SOURCE_ROOT [update]
# The list in tests/rules/symbols.txt pins the interface; with "update" it is written anew.
set -eu
shared=$1 static=$2 root=$3
list=$root/tests/rules/symbols.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

nm -D --defined-only "$shared" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort >"$work/exported"
if [ "${4:-}" = update ]; then
    cp "$work/exported" "$list"
fi
if ! diff -u "$list" "$work/exported"; then
    echo "the exported symbols differ from tests/rules/symbols.txt; a symbol may be added, never removed (docs/abi.md)"
    exit 1
fi
# AddressSanitizer adds a marker of its own to each global.
nm -g --defined-only "$static" | awk 'NF == 3 { print $3 }' | grep -vE '^(carso_|cso_|__odr_asan[.])' >"$work/foreign" || true
if [ -s "$work/foreign" ]; then
    echo "symbols of the static library without the prefix carso_ or cso_:"
    cat "$work/foreign"
    exit 1
fi
# Every function that a header declares is there.
grep -hoE '\bcarso_[a-z0-9_]+\(' "$root"/include/carso/*.h | tr -d '(' | LC_ALL=C sort -u >"$work/declared"
if ! LC_ALL=C comm -23 "$work/declared" "$work/exported" | awk '{ print; found = 1 } END { exit found }'; then
    echo "declared in include/carso, and not exported (see above)"
    exit 1
fi
