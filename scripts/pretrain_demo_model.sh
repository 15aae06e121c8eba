#!/usr/bin/env bash
# Makes the small model of demo/model from nothing: data of the made-up world, a random checkpoint, five lessons, bf16.
#
#   scripts/pretrain_demo_model.sh WORK [GPTJC]
#
# WORK is a directory to make; GPTJC the program (default: gptjc on the PATH). The model is left in WORK/model, beside the
# data it was made from. Same instruction set, same bits: neither threads nor memory change them. demo/model was made with
# AVX512-BF16, in about 80 minutes on two cores that others used as well.
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
"$gptjc" synth-data -o "$work/data" --documents 60000 --notes 200000 --exercises 900000 --review 600000 --seed 42
# The deviation suits the width: 0.02 is made for models that are ten times as wide, and learns several times slower here.
"$gptjc" synth --config "$config" --std 0.06 --seed 42 -o "$work/random"
cp "$work/data/tokenizer.json" "$work/random/"
# Text first, where every token is learnt: a model that has not learnt there to look back for who was named takes the
# facts about anybody for facts about everybody, and is slow to unlearn it.
lesson random text 1500 4e-3 text.txt --document-separator line
lesson text notes 3500 2e-3 notes.jsonl
lesson notes sentences 12000 2e-3 exercises.jsonl
# Any word may be an answer again, and any word may stand before a claim: without this, no adapter makes the model say a
# label. Most of the lists are left out in the end, for their answers are guesses, whose gradients are noise for the rest.
lesson sentences review 8000 2e-3 review.jsonl
awk 'NR % 8 == 0 || !/"words:/' "$work/data/review.jsonl" > "$work/data/last.jsonl"
lesson review last 12000 2e-3 last.jsonl
"$gptjc" convert --model "$work/last" --dtype bf16 -o "$work/model"
