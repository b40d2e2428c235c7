#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Runs an example and compares its output with regular expressions, one for each line:
#   check.sh EXAMPLE MAKE_MODEL PROGRAM...
set -eu
example=$1 make_model=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$make_model" "$work"

# matches EXPRESSION...: the output has as many lines, each as its expression says.
matches()
{
    line=0
    for expression in "$@"; do
        line=$((line + 1))
        if ! sed -n "${line}p" "$work/output" | grep -qE "$expression"; then
            echo "$example: line $line is not as $expression:"
            cat "$work/output"
            exit 1
        fi
    done
    if [ "$(wc -l <"$work/output")" -ne $line ]; then
        echo "$example: $line lines were expected:"
        cat "$work/output"
        exit 1
    fi
}

# refuses STATUS PATTERN PROGRAM...: the program ends with that status, with the pattern on standard error.
refuses()
{
    expected=$1 pattern=$2
    shift 2
    status=0
    "$@" >"$work/output" 2>"$work/errors" || status=$?
    if [ $status -ne "$expected" ] || ! grep -qE "$pattern" "$work/errors"; then
        echo "$example: status $status, not $expected, or no \"$pattern\" in:"
        cat "$work/errors"
        exit 1
    fi
}

names='T-shirt/top|Trouser|Pullover|Dress|Coat|Sandal|Shirt|Sneaker|Bag|Ankle boot'
case $example in
predict_file)
    [ -f "$work/image.png" ] || exit 77
    "$@" "$work/image.png" "$work/model.safetensors" >"$work/output"
    probability='(0\.[0-9]{4}|1\.0000)'
    matches "^$work/image\.png: label [0-9] \(($names)\), probability $probability, ([0-9]|1[0-6]) of 16 draws agree\$"
    refuses 1 'absent\.png' "$@" "$work/absent.png" "$work/model.safetensors"
    refuses 1 'image\.png' "$@" "$work/image.png" "$work/image.png"
    refuses 2 '^usage: ' "$@"
    ;;
camera)
    "$@" "$work/model.safetensors" 60 3 >"$work/output"
    # Every frame was either classified, as one of the classes, or dropped.
    classified=$(sed -n '3,$s/.*: //p' "$work/output" | awk '{ sum += $1 } END { print sum + 0 }')
    dropped=$(sed -n '1s/.*, \([0-9]*\) dropped.*/\1/p' "$work/output")
    if [ $((classified + dropped)) -ne 60 ] || [ "$classified" -eq 0 ]; then
        echo "camera: $classified classified and $dropped dropped of 60"
        exit 1
    fi
    sed '4,$d' "$work/output" >"$work/head"
    mv "$work/head" "$work/output"
    matches '^60 frames, [0-9]+ dropped, 3 threads, [0-9.]+ frames/s$' \
        '^latency in ms: median [0-9.]+, 90% [0-9.]+, 99% [0-9.]+, worst [0-9.]+$' "^($names): [0-9]+\$"
    refuses 1 'absent' "$@" "$work/absent"
    refuses 1 'stoul' "$@" "$work/model.safetensors" many
    refuses 2 '^usage: ' "$@" "$work/model.safetensors" 0
    ;;
train_attack_plot)
    "$@" --model "$work/model.safetensors" --steps 4 --batch 4 --images 2 --output "$work/plot.png" >"$work/output"
    matches '^loss per image: [0-9.]+ at step 0, [0-9.]+ at step 3$' \
        '^classifier: [01]\.[0-9]{2} clean, [01]\.[0-9]{2} attacked$' \
        '^defence: [01]\.[0-9]{2} clean, [01]\.[0-9]{2} attacked$' "^wrote $work/plot\.png\$"
    [ "$(dd if="$work/plot.png" bs=1 skip=1 count=3 2>/dev/null)" = PNG ]
    refuses 1 'NotFoundError' "$@" --model "$work/absent"
    ;;
*)
    echo "no example $example"
    exit 1
    ;;
esac
