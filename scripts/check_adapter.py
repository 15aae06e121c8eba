#!/usr/bin/env python3
"""Loads an adapter directory that gptjc wrote with PEFT, and its trainer_state.json with transformers.

    python check_adapter.py MODEL_DIR ADAPTER_DIR

Ran with torch 2.15.0, transformers 4.57.6, peft 0.21.2.
"""
import sys

from peft import PeftModel
from transformers import AutoModelForCausalLM, TrainerState

model_dir, adapter_dir = sys.argv[1:]
base = AutoModelForCausalLM.from_pretrained(model_dir)
model = PeftModel.from_pretrained(base, adapter_dir)
trained = {name: p for name, p in model.named_parameters() if "lora_" in name}
largest = max(p.detach().abs().max().item() for name, p in trained.items() if "lora_B" in name)
assert largest > 0, "lora_B is all zero: nothing was trained, or the adapter's tensors were not found"
state = TrainerState.load_from_json(f"{adapter_dir}/trainer_state.json")
print(f"PEFT loads {len(trained)} tensors, largest element of a lora_B {largest:.3e}")
print(f"transformers reads the state after step {state.global_step} of {state.max_steps}: {state.log_history[-1]}")
