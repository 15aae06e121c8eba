#!/usr/bin/env python3
"""Checks a directory that `gptjc merge` wrote with transformers and PEFT.

    python scripts/check_merge.py MERGED_DIR --model MODEL_DIR --adapter ADAPTER_DIR [--golden CASE_DIR]

The merged directory must open in transformers without a missing or an unexpected tensor, with the dtype that its
config.json says, and give the logits of the model merged by PEFT (within --tolerance, in f32). With --golden, a
directory of tests/golden, also the recorded `merged_logits` of its first batch, over the slots that are not padding.

Ran with Python 3.11.7 and, from PyPI: transformers 4.57.6, peft 0.21.2, torch 2.15.0, safetensors 0.8.0.
"""
import argparse
import os
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def open_merged(directory):
    """The model with the dtype of its config.json, and every tensor where it belongs."""
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype="auto", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            sys.exit(f"{kind}: {sorted(info[kind])}")
    print(f"transformers opens it: {sum(p.numel() for p in model.parameters())} parameters of {model.dtype}")
    return model.eval()


def logits(model, ids, mask):
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, position_ids=positions).logits.float()


def check(what, found, expected, mask, tolerance):
    worst = (found - expected)[mask.bool()].abs().max().item()
    print(f"logits against {what}: largest difference {worst:.3g}")
    if not worst <= tolerance:
        sys.exit(f"that is more than {tolerance:.3g}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("merged_dir")
    arguments.add_argument("--model", required=True, help="Hugging Face directory of the base model")
    arguments.add_argument("--adapter", required=True, help="PEFT directory")
    arguments.add_argument("--golden", help="directory with batches.safetensors and expected.safetensors")
    arguments.add_argument("--tolerance", type=float, default=1e-5)
    arguments = arguments.parse_args()

    merged = open_merged(arguments.merged_dir).float()
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    reference = PeftModel.from_pretrained(base, arguments.adapter).merge_and_unload().eval()

    ids = torch.randint(0, merged.config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    check("PEFT's merge_and_unload", logits(merged, ids, mask), logits(reference, ids, mask), mask, arguments.tolerance)
    if arguments.golden:
        batch = load_file(os.path.join(arguments.golden, "batches.safetensors"))
        expected = load_file(os.path.join(arguments.golden, "expected.safetensors"))["merged_logits"]
        ids, mask = batch["input_ids"][0], batch["attention_mask"][0]
        check("the golden case", logits(merged, ids, mask), expected, mask, arguments.tolerance)


if __name__ == "__main__":
    main()
