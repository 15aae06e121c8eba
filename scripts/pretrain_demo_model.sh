#!/usr/bin/env bash
# Makes a small model for demo/model from nothing: data of the made-up world, a random checkpoint, pretraining, bf16.
#
#   scripts/pretrain_demo_model.sh WORK [GPTJC]
#
# WORK is a directory to make; GPTJC the program (default: gptjc on the PATH). The model is left in WORK/model, beside the
# data it was made from. Same instruction set, same bits: neither threads nor memory change them.
#
# No model that it made is good enough to stand in the repository yet; see docs/world.md.
set -euo pipefail

work=${1:?usage: pretrain_demo_model.sh WORK [GPTJC]}
gptjc=${2:-gptjc}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$here/../demo/model/config.json

mkdir "$work"
"$gptjc" synth-data -o "$work/data" --documents 300000 --seed 42
# The deviation suits the width: 0.02 is made for models that are ten times as wide, and learns several times slower here.
"$gptjc" synth --config "$config" --std 0.06 --seed 42 -o "$work/random"
cp "$work/data/tokenizer.json" "$work/random/"
"$gptjc" train --model "$work/random" --trainable all \
  --train-file "$work/data/text.txt" --document-separator line --packing segments --max-seq-length 256 \
  --per-device-train-batch-size 8 --num-train-epochs 1 --seed 42 \
  --learning-rate 4e-3 --warmup-steps 50 --adam-beta2 0.98 --precision bf16 \
  --logging-steps 100 --output-dir "$work/trained"
cp "$work/data/tokenizer.json" "$work/trained/"
"$gptjc" convert --model "$work/trained" --dtype bf16 -o "$work/model"
