#!/usr/bin/env python3
"""Adapters there and back: gptjc's in PEFT, and PEFT's in gptjc.

    python check_adapter.py make GPTJC DIR       gptjc trains an adapter for each way to name modules (no PyTorch needed)
    python check_adapter.py read DIR             PEFT reads them: same modules, same loss, same count of parameters
    python check_adapter.py continue GPTJC DIR   PEFT writes adapters; gptjc starts from them, and takes the same steps

`read` runs with any version of PEFT that reads what `make` wrote. All of it is on the small model of
tests/golden/plain, in f32, without dropout. Ran with torch 2.15.0, transformers 4.57.6, peft 0.21.2; `read` also with
0.6.2 and transformers 4.35.2, which know no rsLoRA and no all-linear.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "tests/golden/plain"
MODEL = GOLDEN / "model"
BATCHES = GOLDEN / "batches.safetensors"
RATE = 1e-2
STEPS = 3

# Flags for gptjc, and the same settings for PEFT's LoraConfig.
CASES = {
    "default": ("", {}),
    "names": ("--lora_target_modules q_proj,v_proj,k_proj,out_proj", {"target_modules": ["q_proj", "v_proj", "k_proj", "out_proj"]}),
    "blanks": ("--lora_target_modules q_proj fc_in", {"target_modules": ["q_proj", "fc_in"]}),
    "regex": (r"--lora_target_modules .*\.(q|v)_proj|.*\.fc_out", {"target_modules": r".*\.(q|v)_proj|.*\.fc_out"}),
    "regex_layer": (r"--lora_target_modules .*\.h\.1\.attn\..*_proj", {"target_modules": r".*\.h\.1\.attn\..*_proj"}),
    "mixed": (
        r"--lora_target_modules .*\.0\.mlp\.fc_in|.*k_proj",
        {"target_modules": r".*\.0\.mlp\.fc_in|.*k_proj"},
    ),
    "whole_name": (
        "--lora_target_modules transformer.h.0.attn.q_proj,mlp.fc_out",
        {"target_modules": ["transformer.h.0.attn.q_proj", "mlp.fc_out"]},
    ),
    "all_linear": ("--lora_target_modules all-linear", {"target_modules": "all-linear"}),
    "layers": (
        "--lora_target_modules q_proj,v_proj --layers_to_transform 1",
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    ),
    "layers_pattern": (
        "--lora_target_modules fc_in,k_proj --layers_to_transform 0 --layers_pattern h",
        {"target_modules": ["fc_in", "k_proj"], "layers_to_transform": 0, "layers_pattern": "h"},
    ),
    "rslora": ("--use_rslora --lora_rank 3 --lora_alpha 7", {"use_rslora": True, "r": 3, "lora_alpha": 7}),
}


def gptjc(program, out, more):
    """Trains into `out`; returns what was printed, and the losses of the steps."""
    line = f"{program} train --model {MODEL} --train-tokens {BATCHES} --output-dir {out} --overwrite-output-dir " \
        f"--precision f32 --lora-dropout 0 --logging-steps 1 --lr-scheduler-type constant"
    done = subprocess.run(line.split() + more.split(), capture_output=True, text=True)
    assert done.returncode == 0, f"{more}\n{done.stdout}{done.stderr}"
    log = json.loads((Path(out) / "trainer_state.json").read_text())["log_history"]
    return done.stdout, [entry["loss"] for entry in log if "loss" in entry]


def make(program, directory):
    found = {}
    for name, (flags, _) in CASES.items():
        out = Path(directory) / name
        said, _ = gptjc(program, out, f"--max-steps {STEPS} --learning-rate {RATE} {flags}")
        # A step at rate 0 says the loss of what was trained, on the first batch.
        _, [loss] = gptjc(program, Path(directory) / "at_rest", f"--adapter {out} --max-steps 1 --learning-rate 0")
        found[name] = {"loss": loss, "trainable": re.search("trainable params: .*", said)[0]}
        print(f"{name}: loss {loss}, {found[name]['trainable']}")
    (Path(directory) / "cases.json").write_text(json.dumps(found, indent=1))


def batches():
    import torch
    from safetensors.torch import load_file

    tensors = load_file(BATCHES)
    return [{key: tensors[key][step].to(torch.int64) for key in tensors} for step in range(STEPS)]


def base():
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(MODEL).to(torch.float32).eval()


def adapted(model):
    """Names of the modules with an adapter, as in the base model."""
    names = {name.split(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}
    return {name.removeprefix("base_model.model.") for name in names}


def loss_of(model, batch):
    import torch

    with torch.no_grad():
        return model(**batch).loss.item()


def close(found, expected, bound, what):
    distance = abs(found - expected) / abs(expected)
    assert distance <= bound, f"{what}: {found} for {expected}: {distance:.1e}"
    return distance


def lora_config(settings):
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **{"r": 8, "lora_alpha": 16, "lora_dropout": 0.0, **settings})


def read(directory):
    import peft
    import torch
    import transformers
    from peft import PeftModel, get_peft_model

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    batch = batches()[0]
    plain = loss_of(base(), batch)
    for name, expected in json.loads((Path(directory) / "cases.json").read_text()).items():
        try:
            model = PeftModel.from_pretrained(base(), Path(directory) / name, is_trainable=True).eval()
        except TypeError as error:  # rsLoRA came with PEFT 0.7
            assert name == "rslora", error
            print(f"{name}: this PEFT does not have it: {error}")
            continue
        loss = loss_of(model, batch)
        distance = close(loss, expected["loss"], 1e-6, f"{name}: loss")
        assert abs(loss - plain) > 1e-4, f"{name}: the adapter changes nothing"
        trainable, total = model.get_nb_trainable_parameters()
        line = f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {100 * trainable / total:.4f}"
        assert line == expected["trainable"], f"{name}: {line}, gptjc says {expected['trainable']}"
        said = ""
        try:
            fresh = get_peft_model(base(), lora_config(CASES[name][1]))
        except (TypeError, ValueError) as error:  # settings that are newer than this PEFT
            said = f"; this PEFT cannot make it itself: {str(error).splitlines()[0]}"
        else:
            assert adapted(fresh) == adapted(model), f"{name}: {adapted(model)}, PEFT selects {adapted(fresh)}"
        print(f"{name}: {len(adapted(model))} modules, loss {loss} within {distance:.1e}{said}")
    try:
        state = transformers.TrainerState.load_from_json(str(Path(directory) / "names/trainer_state.json"))
        print(f"transformers reads the state after step {state.global_step}: {state.log_history[-1]}")
    except TypeError as error:
        print(f"transformers does not read the state: {error}")


def continue_(program, directory):
    import torch
    from peft import get_peft_model

    steps = batches()
    for name, (_, settings) in CASES.items():
        model = get_peft_model(base(), lora_config({"target_modules": ["q_proj", "v_proj"], **settings}))
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                torch.nn.init.normal_(parameter, std=0.05)
        start = Path(directory) / f"peft_{name}"
        model.save_pretrained(start)
        flags = f"--adapter {start} --max-steps {STEPS} --learning-rate {RATE}"
        _, found = gptjc(program, Path(directory) / f"went_on_{name}", flags)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
        distances = []
        for step, batch in enumerate(steps):
            loss = model(**batch).loss
            distances.append(close(found[step], loss.item(), 2e-5, f"{name}, step {step}"))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        print(f"{name}: {STEPS} steps from PEFT's adapter, losses within {max(distances):.1e}")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or ["help"]
    commands = {"make": make, "read": read, "continue": continue_}
    if command not in commands:
        sys.exit(__doc__)
    commands[command](*arguments)
