#!/usr/bin/env python3
"""Holds gptjc's logits against those of transformers, on a model of any size: 20 prompts, every token of them.

    python scripts/check_logits.py MODEL_DIR [--gptjc PROGRAM] [--precision bf16|f32] [--prompt-file FILE] [--dtype float32]

gptjc runs first, as `gptjc generate --save-logits`, and lets its memory go; then transformers reads the same directory.
In float32 GPT-J-6B takes 24 GiB in transformers; --dtype bfloat16 takes 12 and is slow on a CPU without bf16
instructions. Printed for each prompt: whether both programs make the same tokens of it, the largest and the root mean
square difference of logits, relative to the standard deviation of transformers' own, how many tokens have the same
most likely next one, and the Kullback-Leibler divergence. It fails if less than --agreement of the most likely tokens
are the same, or tokens differ.

Ran with Python 3.11.7 and, from PyPI: transformers 4.57.6, torch 2.15.0, safetensors 0.8.0.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

PROMPTS = """\
The capital of France is
Once upon a time, there was a little girl who
def fibonacci(n):
The theory of relativity was developed by
To be, or not to be,
Water boils at a temperature of
The quick brown fox jumps over
In 1969, Neil Armstrong became the first person to
import numpy as np
My favourite thing about autumn is
The mitochondria is the powerhouse of
Q: How many legs does a spider have? A:
The stock market fell sharply on Monday after
Dear Sir or Madam, I am writing to
SELECT name FROM users WHERE
La vie est belle, mais
Two plus two equals
The patient was admitted with a history of
mnli hypothesis: A man is outside. premise: A man walks his dog in the park. target:
mnli hypothesis: The room is empty. premise: Several people are talking in the room. target:
"""


def ours(arguments, prompts, directory):
    """Tokens and logits of gptjc, by prompt."""
    out = pathlib.Path(directory) / "logits.safetensors"
    line = [arguments.gptjc, "generate", "--model", arguments.model, "--precision", arguments.precision,
            "--prompt-file", str(prompts), "--max-new-tokens", "1", "--save-logits", str(out)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    tensors = load_file(out)
    return [(tensors[f"tokens.{i}"].long(), tensors[f"logits.{i}"]) for i in range(len(tensors) // 2)]


def tokenizer_of(directory):
    file = pathlib.Path(directory) / "tokenizer.json"
    if file.exists():
        return PreTrainedTokenizerFast(tokenizer_file=str(file))
    return AutoTokenizer.from_pretrained(directory)


def compare(found, expected):
    """Largest and root mean square difference over the deviation of `expected`, equal most likely tokens, divergence."""
    scale = expected.std()
    difference = (found - expected) / scale
    same = (found.argmax(-1) == expected.argmax(-1)).sum().item()
    ours, theirs = found.log_softmax(-1), expected.log_softmax(-1)
    divergence = (theirs.exp() * (theirs - ours)).sum(-1).mean().item()
    return difference.abs().max().item(), difference.square().mean().sqrt().item(), same, divergence


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a Hugging Face directory: config.json, weights, tokenizer files")
    parser.add_argument("--gptjc", default="gptjc", help="the program [default: gptjc on the PATH]")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of transformers")
    parser.add_argument("--prompt-file", help="one prompt a line [default: 20 of this script]")
    parser.add_argument("--agreement", type=float, default=0.95, help="share of equal most likely tokens asked for")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        prompts = pathlib.Path(arguments.prompt_file or pathlib.Path(directory) / "prompts.txt")
        if not arguments.prompt_file:
            prompts.write_text(PROMPTS)
        rows = ours(arguments, prompts, directory)
    tokenizer = tokenizer_of(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
    tokens = agreed = 0
    print("prompt  tokens  largest  rms      same next  divergence")
    for number, (text, (ids, found)) in enumerate(zip(prompts.read_text().splitlines() if arguments.prompt_file
                                                      else PROMPTS.splitlines(), rows)):
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
        if theirs != ids.tolist():
            sys.exit(f"prompt {number} is {ids.tolist()} for gptjc and {theirs} for transformers: {text!r}")
        with torch.no_grad():
            expected = model(input_ids=ids[None]).logits[0].float()
        largest, rms, same, divergence = compare(found, expected)
        print(f"{number:6}  {len(ids):6}  {largest:.5f}  {rms:.5f}  {same:4}/{len(ids):<4}  {divergence:.2e}")
        tokens, agreed = tokens + len(ids), agreed + same
    print(f"{agreed} of {tokens} most likely next tokens are the same ({100 * agreed / tokens:.2f} %)")
    if agreed < arguments.agreement * tokens:
        sys.exit(f"fewer than {100 * arguments.agreement:.0f} %")


main()
