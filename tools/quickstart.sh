#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Builds an optimised libcarso in build/ and shows the defence at work: sh tools/quickstart.sh [option of 'carso demo']...
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
# shellcheck disable=SC2086 # one word a package
install_packages $build_packages

[ -f build/build.ninja ] || meson setup build -Dtests=false --buildtype=release
meson compile -C build
# Threads that sleep while they wait for one another lose a little time on a quiet machine, those that spin lose most of it on a busy one.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
build/src/carso demo "$@"
