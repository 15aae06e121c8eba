"""Writes the files in torch/: state dicts by torch.save, in the zip format and in the one of torch 1.5 and older.

    python make_torch_files.py

They were made with torch 2.15.0. Every tensor is small, and shows one thing that state dicts can have: each type,
a window with an offset, two names of one storage, a scalar, a parameter, the buffers of old checkpoints.
strided.bin has a transposed tensor, module.bin a whole module: both are refused.
"""
from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent / "torch"


def state_dict():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8 - 1
    tied = torch.tensor([0.5, -2.0, 3.25])
    state = OrderedDict()
    state["transformer.wte.weight"] = base
    state["transformer.h.0.ln_1.weight"] = torch.tensor([1.0, 1.001, -65504.0, 6e-8], dtype=torch.float16)
    state["transformer.h.0.attn.bias"] = torch.tril(torch.ones(3, 3, dtype=torch.uint8)).view(1, 1, 3, 3)
    state["transformer.h.1.attn.bias"] = torch.tril(torch.ones(3, 3, dtype=torch.bool)).t()
    state["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e9)
    state["transformer.h.0.attn.q_proj.weight"] = base[1:3].to(torch.bfloat16)
    state["rows_of_wte"] = base[1:3]
    state["tied.one"] = tied
    state["tied.other"] = tied
    state["parameter"] = torch.nn.Parameter(torch.tensor([[7.0]]))
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.empty(0, 3)
    for dtype in (torch.float64, torch.int64, torch.int32, torch.int16, torch.int8):
        state[f"other.{dtype}"] = torch.tensor([1, 2]).to(dtype)
    state._metadata = OrderedDict({"": {"version": 1}})
    return state


def main():
    HERE.mkdir(exist_ok=True)
    state = state_dict()
    torch.save(state, HERE / "zip.bin")
    torch.save(state, HERE / "zip_protocol_4.bin", pickle_protocol=4)
    torch.save(state, HERE / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.ones(2, 3).t()}, HERE / "strided.bin")
    torch.save(torch.nn.Linear(2, 3), HERE / "module.bin")


if __name__ == "__main__":
    main()
