# SPDX-License-Identifier: BSD-2-Clause
# Installs the build into a folder of its own, somewhere else than its prefix. Sourced: stage.sh reads
#   BUILD_ROOT, PREFIX, LIBDIR and MESON from the environment, and sets
#   work (removed at the end), installed (the new prefix), libraries (its folder of libraries).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2086 # a command
$MESON install -C "$BUILD_ROOT" --no-rebuild --quiet --destdir "$work/stage" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
installed=$work/moved
mv "$work/stage$PREFIX" "$installed"
libraries=$installed/$LIBDIR
# As a packager does who moves a tree: the prefix is named once, all else is relative to it.
sed -i "s|^prefix=.*|prefix=$installed|" "$libraries/pkgconfig/carso.pc"

fail()
{
    echo "$*"
    exit 1
}

# needs FILE LIBRARY: whether the dynamic loader will look for it.
needs()
{
    readelf -d "$1" | grep -q "NEEDED.*\[$2\]"
}

# check_application KIND PROGRAM: runs it; "shared" must need libcarso.so.0, "static" must not.
check_application()
{
    case $1 in
    shared) needs "$2" libcarso.so.0 || fail "$2 does not need libcarso.so.0" ;;
    static) ! needs "$2" 'libcarso\.so.*' || fail "$2 needs the shared library" ;;
    esac
    output=$(LD_LIBRARY_PATH="$libraries" "$2") || fail "$2 failed"
    echo "$output" | grep -qE '^[0-8] of 8 draws agree$' || fail "$2 said: $output"
}
