#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Applications built with CMake, shared and static: cmake.sh C-COMPILER [C++-COMPILER]
. "$(dirname "$0")/stage.sh"
for program in cmake pkg-config ninja; do
    command -v $program >/dev/null || exit 77
done
here=$(cd "$(dirname "$0")" && pwd)
CC=$1
export CC
set -- "$1" "${2:-}"
if [ -n "$2" ]; then
    CXX=$2
    export CXX
fi
cmake -S "$here/cmake" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$installed" -DSOURCES="$here" \
    -DWITH_CPP="$([ -n "$2" ] && echo ON || echo OFF)" >"$work/log" 2>&1 &&
    cmake --build "$work/build" >>"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
check_application shared "$work/build/c_shared"
check_application static "$work/build/c_static"
if [ -n "$2" ]; then
    check_application shared "$work/build/cpp_shared"
    check_application static "$work/build/cpp_static"
fi
