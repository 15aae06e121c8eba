#!/usr/bin/env bash
# Makes the small model of demo/model from nothing: data of the made-up world, a random checkpoint, three lessons, bf16.
#
#   scripts/pretrain_demo_model.sh WORK [GPTJC]
#
# WORK is a directory to make; GPTJC the program (default: gptjc on the PATH). The model is left in WORK/model, beside the
# data it was made from. Same instruction set, same bits: neither threads nor memory change them. demo/model was made with
# AVX512-BF16, in half an hour on two cores that others used as well.
set -euo pipefail

work=${1:?usage: pretrain_demo_model.sh WORK [GPTJC]}
gptjc=${2:-gptjc}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$here/../demo/model/config.json

# lesson FROM TO STEPS RATE FILE [FLAGS]: goes on with WORK/FROM, and leaves WORK/TO.
lesson() {
  local from=$1 to=$2 steps=$3 rate=$4 file=$5
  shift 5
  "$gptjc" train --model "$work/$from" --trainable all --train-file "$work/data/$file" "$@" \
    --packing segments --max-seq-length 256 --per-device-train-batch-size 8 --num-train-epochs 100 \
    --max-steps "$steps" --learning-rate "$rate" --warmup-steps 50 --adam-beta2 0.98 --seed 42 --precision bf16 \
    --logging-steps 100 --save-strategy no --output-dir "$work/$to"
  cp "$work/data/tokenizer.json" "$work/$to/"
}

mkdir "$work"
"$gptjc" synth-data -o "$work/data" --documents 60000 --notes 200000 --exercises 900000 --seed 42
# The deviation suits the width: 0.02 is made for models that are ten times as wide, and learns several times slower here.
"$gptjc" synth --config "$config" --std 0.06 --seed 42 -o "$work/random"
cp "$work/data/tokenizer.json" "$work/random/"
# Text first, where every token is learnt: a model that has not learnt there to look back for who was named takes the
# facts about anybody for facts about everybody, and is slow to unlearn it.
lesson random text 1500 4e-3 text.txt --document-separator line
lesson text notes 3500 2e-3 notes.jsonl
lesson notes sentences 12000 2e-3 exercises.jsonl
"$gptjc" convert --model "$work/sentences" --dtype bf16 -o "$work/model"
