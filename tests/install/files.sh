#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# What is installed, and that it stands alone: files.sh SOURCE_ROOT
. "$(dirname "$0")/stage.sh"
root=$1

[ "$(readlink "$libraries/libcarso.so")" = libcarso.so.0 ] || fail "libcarso.so is no link to libcarso.so.0"
[ -f "$libraries/libcarso.a" ] || fail "no libcarso.a"
readelf -d "$libraries/libcarso.so" | grep -q 'SONAME.*\[libcarso.so.0\]' || fail "the soname is not libcarso.so.0"

(cd "$root/include/carso" && ls -- *.h *.hpp) | LC_ALL=C sort >"$work/headers"
ls "$installed/include/carso" | LC_ALL=C sort | diff - "$work/headers" ||
    fail "the installed headers are not those of include/carso"
[ "$(ls "$installed/include")" = carso ] || fail "something else is in include"

head -1 "$installed/share/man/man1/carso.1" | grep -q '^\.' || fail "no manual page"
grep -q '^\.TH' "$installed/share/man/man1/carso.1" || fail "the manual page has no title"
if command -v mandoc >/dev/null 2>&1; then
    mandoc -T utf8 "$installed/share/man/man1/carso.1" | grep -q predict || fail "mandoc does not show the manual page"
fi
LD_LIBRARY_PATH=$libraries "$installed/bin/carso" help >"$work/help" || fail "the program does not run"
grep -q predict "$work/help" || fail "the program has no help"

# Neither the build nor the sources are looked into.
for file in "$libraries/libcarso.so" "$installed/bin/carso"; do
    if readelf -d "$file" | grep -E 'R(UN)?PATH' | grep -qF -e "$BUILD_ROOT" -e "$root" -e ORIGIN; then
        fail "$file has a run path into the build"
    fi
done
if grep -rlIF -e "$BUILD_ROOT" -e "$root" "$installed"; then
    fail "these files name the build or the sources"
fi
