#!/usr/bin/env python3
"""Checks an export directory with other people's tools: onnx.checker, Optimum and a transformers pipeline.

    python scripts/check_export.py ONNX_DIR --model MODEL_DIR [--adapter ADAPTER_DIR]

The reference is the model in transformers, merged with its adapter by PEFT. Random prompts of different lengths, padded
on the left, must give the same logits (unmasked slots, within --tolerance) and the same greedy answers through
ORTModelForCausalLM and through a text-generation pipeline. A directory without a tokenizer gets one with a word a token.

Ran with Python 3.11.7 and, from PyPI: onnx 1.23.2, onnxruntime 1.32.0, optimum 2.3.0, optimum-onnx 0.1.0,
transformers 4.57.6, peft 0.21.2, torch 2.15.0.
"""
import argparse
import os
import sys

import onnx
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, pipeline


def reference_model(model_dir, adapter_dir):
    """The merged model in transformers; an adapter directory may also hold a whole model."""
    if adapter_dir and not os.path.exists(os.path.join(adapter_dir, "adapter_config.json")):
        model_dir, adapter_dir = adapter_dir, None
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if adapter_dir:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter_dir).merge_and_unload()
    return model.eval()


def tokenizer_for(directory, vocabulary, eos):
    """The directory's tokenizer, or one that writes token 7 as `t7`."""
    if os.path.exists(os.path.join(directory, "tokenizer_config.json")):
        tokenizer = AutoTokenizer.from_pretrained(directory)
    else:
        from tokenizers import Tokenizer, models, pre_tokenizers

        words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(vocabulary)}, unk_token="t0"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"t{eos}")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def check_logits(exported, reference, ids, mask, tolerance):
    """Largest difference of the logits over unmasked slots."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    inputs = dict(input_ids=ids, attention_mask=mask, position_ids=positions)
    with torch.no_grad():
        expected = reference(**inputs).logits
    found = exported(**inputs).logits
    worst = (found - expected)[mask.bool()].abs().max().item()
    if not worst <= tolerance:
        sys.exit(f"logits differ by {worst:.3g}, more than {tolerance:.3g}")
    print(f"logits: largest difference {worst:.3g}")


def check_answers(exported, reference, tokenizer, ids, mask, new_tokens):
    """Greedy answers by Optimum's model and by a pipeline over it are those of the reference."""
    how = dict(max_new_tokens=new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    expected = reference.generate(ids, attention_mask=mask, **how)
    found = exported.generate(input_ids=ids, attention_mask=mask, **how)
    if not torch.equal(found, expected):
        sys.exit(f"ORTModelForCausalLM generates\n{found}\nexpected\n{expected}")
    print(f"ORTModelForCausalLM: the same {new_tokens} tokens for {len(ids)} prompts")

    prompts = [tokenizer.decode(row[keep.bool()]) for row, keep in zip(ids, mask)]
    run = lambda model: pipeline("text-generation", model=model, tokenizer=tokenizer)(prompts, batch_size=len(prompts), **how)
    expected, found = run(reference), run(exported)
    if found != expected:
        sys.exit(f"the pipeline writes\n{found}\nexpected\n{expected}")
    print(f"pipeline: the same {len(prompts)} texts, the first ends in {found[0][0]['generated_text'][-40:]!r}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("onnx_dir")
    arguments.add_argument("--model", required=True, help="Hugging Face directory of the base model")
    arguments.add_argument("--adapter", help="PEFT directory, or directory of a whole trained model")
    arguments.add_argument("--tolerance", type=float, default=2e-5)
    arguments.add_argument("--new-tokens", type=int, default=5)
    arguments = arguments.parse_args()

    onnx.checker.check_model(os.path.join(arguments.onnx_dir, "model.onnx"), full_check=True)
    print("onnx.checker: full check passed")

    reference = reference_model(arguments.model, arguments.adapter)
    exported = ORTModelForCausalLM.from_pretrained(arguments.onnx_dir, use_cache=True, use_io_binding=False)
    config = reference.config
    tokenizer = tokenizer_for(arguments.onnx_dir, config.vocab_size, config.eos_token_id)

    generator = torch.Generator().manual_seed(1)
    lengths = [12, 3, 7, 1]
    ids = torch.randint(0, min(config.vocab_size, len(tokenizer)) - 1, (len(lengths), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, -length:] = 1
    ids[mask == 0] = tokenizer.pad_token_id
    check_logits(exported, reference, ids, mask, arguments.tolerance)
    check_answers(exported, reference, tokenizer, ids, mask, arguments.new_tokens)


if __name__ == "__main__":
    main()
