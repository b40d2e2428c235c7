#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds libcarso with all of its tests in build-test/ and runs them: sh tools/test.sh [argument of 'meson test']...
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
# shellcheck disable=SC2086 # one word a package
install_packages $build_packages g++ cmake check dataset-fashion-mnist mandoc python3 python3-venv python3-pip python3-numpy python3-matplotlib \
    python3-torch

[ -f build-test/build.ninja ] || meson setup build-test -Dtests=true --buildtype=release --werror
meson compile -C build-test
# Threads that sleep while they wait for one another lose a little time on a quiet machine, those that spin lose most of it on a busy one.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
meson test -C build-test --print-errorlogs "$@"
