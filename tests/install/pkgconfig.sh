#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Applications built with pkg-config, shared and static: pkgconfig.sh C-COMPILER [C++-COMPILER]
. "$(dirname "$0")/stage.sh"
command -v pkg-config >/dev/null || exit 77
here=$(cd "$(dirname "$0")" && pwd)
c_compiler=$1 cpp_compiler=${2:-}
PKG_CONFIG_PATH=$libraries/pkgconfig
export PKG_CONFIG_PATH
cd "$work"

trimmed()
{
    pkg-config "$@" carso | sed 's/ *$//'
}

# Nothing but include folders, ours first: pkg-config adds those of the private packages.
trimmed --cflags | grep -qE "^-I$installed/include( -I/[^ ]+)*\$" || fail "--cflags: $(pkg-config --cflags carso)"
[ "$(trimmed --libs)" = "-L$libraries -lcarso" ] || fail "--libs: $(pkg-config --libs carso)"
[ "$(trimmed --modversion)" = "$(sed -n 's/^Version: //p' "$PKG_CONFIG_PATH/carso.pc")" ] || fail "--modversion"
for flag in $(pkg-config --static --cflags --libs carso); do
    case $flag in
    -I* | -L* | -l* | -pthread | -fopenmp | -Wl,-rpath,/usr/*) ;;
    *) fail "--static gives $flag" ;;
    esac
done

# build KIND FLAGS...: each language.
build()
{
    kind=$1
    shift
    # shellcheck disable=SC2086,SC2046 # words
    $c_compiler -std=c11 -Wall -Wextra -pedantic -Werror "$here/application.c" -o c_$kind \
        $(pkg-config "$@" --cflags --libs carso)
    check_application $kind ./c_$kind
    if [ -n "$cpp_compiler" ]; then
        # shellcheck disable=SC2086,SC2046 # words
        $cpp_compiler -std=c++17 -Wall -Wextra -pedantic -Werror "$here/application.cpp" -o cpp_$kind \
            $(pkg-config "$@" --cflags --libs carso)
        check_application $kind ./cpp_$kind
    fi
}

build shared
# The linker takes the static library where there is no other.
rm "$libraries"/libcarso.so*
build static --static
