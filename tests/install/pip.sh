#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The Python package, installed by pip and used with the installed library: pip.sh SOURCE_ROOT PYTHON
. "$(dirname "$0")/stage.sh"
root=$1 python=$2
unset CARSO_LIBRARY PYTHONPATH
if ! "$python" -c 'import setuptools, wheel, pip' 2>/dev/null; then
    echo "pip, setuptools or wheel is missing"
    exit 77
fi
# setuptools builds beside its sources.
cp -r "$root/bindings/python" "$work/python"
PIP_CONFIG_FILE=/dev/null "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-index \
    --no-deps --no-build-isolation --target "$work/site" "$work/python" >"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
[ -f "$work/site/carso/py.typed" ] || fail "py.typed was not installed"
cd "$work"
cat >application.py <<'SCRIPT'
import importlib.metadata
import numpy
import carso
from carso._library import library

assert importlib.metadata.version("carso") == carso.version(), carso.version()
assert library._name == "libcarso.so.0", library._name
classifier = carso.Model.create(channels=1, image_height=28, image_width=28)
model = classifier.add_purifier(condition_size=24, latent_size=8, seed_channels=16)
prediction = model.predict_robust(numpy.zeros((28, 28), numpy.uint8))
print(prediction.agreement[0], "of", prediction.draws, "draws agree")
print(carso.__file__)
SCRIPT
output=$(LD_LIBRARY_PATH="$libraries" PYTHONPATH="$work/site" "$python" application.py)
echo "$output" | grep -qE '^[0-8] of 8 draws agree$' || fail "said: $output"
echo "$output" | grep -qF "$work/site/carso/" || fail "not the installed package: $output"
