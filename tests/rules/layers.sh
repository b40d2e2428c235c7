#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The arrows between the parts of the house point one way (docs/architecture.md): layers.sh SOURCE_ROOT
set -eu
cd "$1"
failed=0

# forbid FILES-PATTERN REGULAR-EXPRESSION WHAT: no #include that matches in these files.
forbid()
{
    # shellcheck disable=SC2086 # a list of folders
    found=$(find $1 -name '*.[ch]' -exec grep -nHE "#include *[<\"]$2" {} + || true)
    if [ -n "$found" ]; then
        echo "$3:"
        echo "$found"
        failed=1
    fi
}

forbid "src examples include bindings" '(base|graph|model|attack|train|data|api|evaluate|lib|backends)/' 'outside of the library only include/carso may be used'
forbid "lib include src examples" '(oneapi|dnnl|cblas|openblas|cuda|cudnn|omp\.h)' 'a vendor header outside of backends/'
forbid "include" '(jansson|zlib|png|jpeglib)' 'a third-party header in the public interface'
forbid "backends/reference" 'backends/(onednn|cudnn)' 'a backend that uses another'
forbid "backends/onednn" 'backends/(reference|cudnn)' 'a backend that uses another'
forbid "backends" '(graph|model|attack|train|data|api|evaluate)/' 'a backend that uses what lies above it'
forbid "lib/base" '(graph|model|attack|train|data|api|evaluate)/' 'lib/base uses what lies above it'
forbid "lib/graph" '(model|attack|train|data|api|evaluate)/' 'lib/graph uses what lies above it'
forbid "lib/model" '(attack|train|data|api|evaluate)/' 'lib/model uses what lies above it'
forbid "lib/data" '(graph|model|attack|train|evaluate)/' 'lib/data uses what lies beside it'
forbid "lib/attack" '(train|data|evaluate)/' 'lib/attack uses what lies above it'
forbid "lib/api lib/train" 'evaluate/' 'lib/evaluate stands above all else'
forbid "lib/evaluate" '(train|data)/' 'lib/evaluate uses what lies beside it'
forbid "lib" 'backends/(reference|onednn|cudnn)' 'lib knows no backend'

# Nothing in the library prints, ends the process or asserts.
found=$(grep -nHE '(^|[^a-z_.>])(printf|puts|putchar|abort|exit|_exit|assert|perror) *\(' lib/*/*.[ch] backends/*.[ch] backends/*/*.[ch] || true)
if [ -n "$found" ]; then
    echo "the library may neither print nor end the process:"
    echo "$found"
    failed=1
fi
exit $failed
