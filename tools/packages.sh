#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs the Debian packages that are missing, as root or through sudo. Sourced by the other scripts:
#   install_packages PACKAGE...

install_packages()
{
    missing=
    for package in "$@"; do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed'; then
            missing="$missing $package"
        fi
    done
    [ -z "$missing" ] && return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "These Debian packages are needed, and there is no apt-get here to install them:$missing" >&2
        return 1
    fi
    echo "Installing:$missing" >&2
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "Neither root nor sudo is available; install these yourself:$missing" >&2
            return 1
        fi
        as_root=sudo
    fi
    $as_root apt-get update -q >&2 || return 1
    # shellcheck disable=SC2086 # one word a package
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
}

# dpkg-dev: meson asks it for the folder that libraries belong into.
build_packages="gcc libc6-dev dpkg-dev meson ninja-build pkg-config libdnnl-dev libopenblas-openmp-dev libjansson-dev libpng-dev libjpeg-dev zlib1g-dev"
