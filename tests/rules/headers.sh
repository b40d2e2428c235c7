#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Each public header compiles alone, as C11 and as C++17, without a warning: headers.sh SOURCE_ROOT C-COMPILER [C++-COMPILER]
set -eu
root=$1 c_compiler=$2 cpp_compiler=${3:-}
for header in "$root"/include/carso/*.h; do
    $c_compiler -x c -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only -I"$root/include" "$header"
    if [ -n "$cpp_compiler" ]; then
        $cpp_compiler -x c++ -std=c++17 -pedantic -Wall -Wextra -Werror -fsyntax-only -I"$root/include" "$header"
    fi
done
for header in "$root"/include/carso/*.hpp; do
    if [ -n "$cpp_compiler" ] && [ -f "$header" ]; then
        $cpp_compiler -x c++ -std=c++17 -pedantic -Wall -Wextra -Werror -fsyntax-only -I"$root/include" "$header"
    fi
done
