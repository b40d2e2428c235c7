#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Makes the bundled Fashion-MNIST model anew with the program alone, and the log of doing so:
#   sh tools/train_bundled_model.sh [DATASET]
# About half an hour on 2 cores. DATASET: where Debian's dataset-fashion-mnist puts the IDX files.
set -eu
cd "$(dirname "$0")/.."
. tools/packages.sh
# shellcheck disable=SC2086 # one word a package
install_packages $build_packages dataset-fashion-mnist
data=${1:-/usr/share/datasets/fashion-mnist}
out=models/fashion-mnist
work=build/bundled-model
epsilon=0.1

[ -f build/build.ninja ] || meson setup build -Dtests=false --buildtype=release
meson compile -C build
mkdir -p "$work" "$out/test-256"

run()
{
    echo "\$ carso $*"
    build/src/carso "$@"
}

{
    run train-classifier "$data" --architecture small-cnn --width 1 --epsilon $epsilon --pgd-steps 5 --step-size 0.035 \
        --ramp 3 --epochs 10 --batch 128 --learning-rate 0.05 --warm-up 1 --weight-decay 2e-4 --seed 1 --quiet \
        --output "$work/classifier.safetensors"
    run train "$work/classifier.safetensors" "$data" --condition-size 128 --latent-size 32 --seed-channels 128 \
        --epsilon $epsilon --pgd-steps 40 --step-size 0.01 --adversarial-fraction 0.5 --epochs 8 --batch 128 \
        --by-step --mean-loss --warm-up 1 --plateau 4 --annealing 3 --learning-rate 2e-3 --learning-rate-end 2e-5 \
        --beta-start 1 --beta-full 3 --seed 1 --quiet --output "$work/model.safetensors"
} 2>&1 | tee "$work/training.log"

cp "$work/model.safetensors" "$out/model.safetensors"
cp "$work/training.log" "$out/training.log"

# The first 256 test images, as IDX files of their own.
images=256
{
    printf '\000\000\010\003\000\000\001\000\000\000\000\034\000\000\000\034'
    gunzip -c "$data/t10k-images-idx3-ubyte.gz" | tail -c +17 | head -c $((images * 784))
} | gzip -9n >"$out/test-256/t10k-images-idx3-ubyte.gz"
{
    printf '\000\000\010\001\000\000\001\000'
    gunzip -c "$data/t10k-labels-idx1-ubyte.gz" | tail -c +9 | head -c $images
} | gzip -9n >"$out/test-256/t10k-labels-idx1-ubyte.gz"
ls -l "$out"
