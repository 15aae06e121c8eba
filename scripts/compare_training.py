#!/usr/bin/env python3
"""Fine-tunes one model by PyTorch + PEFT in f32 and by gptjc in bf16, on the same batches in the same order, from the same
adapters, and compares accuracies and loss curves.

    cargo build --release
    target/release/gptjc synth-data -o data
    python3 scripts/compare_training.py --model demo/model --train data/train.jsonl --validation data/validation_matched.jsonl -o out

Needs torch, transformers, peft and safetensors; scripts/bench_pytorch.py makes an environment that has them. For every
seed and dropout PEFT initialises the adapters and a shuffle orders the rows; both are written to files, which both
programs read. Dropout draws its own masks in each: that much differs. What is trained is asked about all validation
rows by scoring the three labels, PyTorch's in PyTorch and gptjc's by `gptjc validate` on the compiled plan.

Writes results.json, and curves.svg: losses of both, mean of every so many steps.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

LABELS = ["entailment", "neutral", "contradiction"]
TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
IGNORED = -100
HERE = pathlib.Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--validation", type=pathlib.Path, required=True)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True)
    parser.add_argument("--gptjc", type=pathlib.Path, default=HERE.parent / "target" / "release" / "gptjc")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--dropouts", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--rows", type=int, help="train on the first rows only")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def read_rows(path):
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [row for row in rows if row["gold_label"] in LABELS]


def prompt(row):
    return f"mnli hypothesis: {row['sentence2']} premise: {row['sentence1']} target:"


def encode(tokenizer, row, label, end):
    """Ids of a row with a label, and how many of them are the prompt."""
    start = tokenizer(prompt(row))["input_ids"]
    return start + tokenizer(f" {label}{end}")["input_ids"], len(start)


def batches(options, tokenizer, rows, seed):
    """Token ids, masks and labels of every optimizer step: [steps, batch, slots], padded on the right."""
    import torch

    end = "<|endoftext|>"
    examples = [encode(tokenizer, row, row["gold_label"], end) for row in rows]
    slots = max(len(ids) for ids, _ in examples)
    order = []
    generator = torch.Generator().manual_seed(seed)
    for _ in range(options.epochs):
        order += torch.randperm(len(examples), generator=generator).tolist()
    steps = len(order) // options.batch
    shape = (steps, options.batch, slots)
    ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    labels = torch.full(shape, IGNORED, dtype=torch.int64)
    for place in range(steps * options.batch):
        tokens, start = examples[order[place]]
        step, row = divmod(place, options.batch)
        ids[step, row, : len(tokens)] = torch.tensor(tokens)
        mask[step, row, : len(tokens)] = 1
        labels[step, row, start : len(tokens)] = torch.tensor(tokens[start:])
    return ids, mask, labels


def new_model(options, seed, dropout):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=dropout,
        target_modules=options.targets,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


def train_pytorch(options, model, data):
    import torch
    from transformers import get_linear_schedule_with_warmup

    ids, mask, labels = data
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, len(ids))
    model.train()
    losses = []
    for step in range(len(ids)):
        loss = model(input_ids=ids[step], attention_mask=mask[step], labels=labels[step]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 100 == 99:
            print(f"  PyTorch: step {step + 1} of {len(ids)}, loss {mean(losses[-100:]):.4f}", flush=True)
    return losses


def score_pytorch(model, tokenizer, rows):
    """Rows for which the label of the least loss is the right one."""
    import torch

    model.eval()
    right = 0
    with torch.no_grad():
        for first in range(0, len(rows), 32):
            chunk = rows[first : first + 32]
            encoded = [encode(tokenizer, row, label, "") for row in chunk for label in LABELS]
            slots = max(len(ids) for ids, _ in encoded)
            ids, mask = torch.zeros((len(encoded), slots), dtype=torch.int64), torch.zeros((len(encoded), slots), dtype=torch.int64)
            for index, (tokens, _) in enumerate(encoded):
                ids[index, : len(tokens)], mask[index, : len(tokens)] = torch.tensor(tokens), 1
            logs = torch.log_softmax(model(input_ids=ids, attention_mask=mask).logits, dim=-1)
            sums = []
            for index, (tokens, start) in enumerate(encoded):
                sums.append(sum(logs[index, at - 1, tokens[at]].item() for at in range(start, len(tokens))))
            for index, row in enumerate(chunk):
                three = sums[3 * index : 3 * index + 3]
                right += LABELS[three.index(max(three))] == row["gold_label"]
    return right


def run_gptjc(options, directory, precision, dropout, steps):
    """Trains on the same files; losses and seconds."""
    command = [options.gptjc, "train", "--model", options.model, "--train-tokens", directory / "batches.safetensors"]
    command += ["--adapter", directory / "start", "--output-dir", directory / f"gptjc-{precision}", "--overwrite-output-dir"]
    command += ["--precision", precision, "--lora-dropout", dropout, "--learning-rate", options.learning_rate]
    command += ["--max-steps", steps, "--logging-steps", 1, "--threads", options.threads]
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    seconds = time.perf_counter() - begun
    state = json.loads((directory / f"gptjc-{precision}" / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry], seconds


def score_gptjc(options, adapter, precision):
    command = [options.gptjc, "validate", "--model", options.model, "--adapter", adapter, "--precision", precision]
    command += ["--validation-file", options.validation, "--mode", "score", "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def interval(right, rows):
    """Wilson's 95 % confidence interval of a share."""
    share, z = right / rows, 1.96
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return middle - half, middle + half


def one_run(options, tokenizer, train_rows, validation_rows, seed, dropout):
    from safetensors.torch import save_file

    directory = options.output / f"seed{seed}-dropout{dropout}"
    directory.mkdir(parents=True, exist_ok=True)
    data = batches(options, tokenizer, train_rows, seed)
    names = ["input_ids", "attention_mask", "labels"]
    save_file({name: tensor.contiguous() for name, tensor in zip(names, data)}, directory / "batches.safetensors")
    model = new_model(options, seed, dropout)
    model.save_pretrained(directory / "start")
    begun = time.perf_counter()
    theirs = train_pytorch(options, model, data)
    seconds = time.perf_counter() - begun
    model.save_pretrained(directory / "pytorch")
    right = score_pytorch(model, tokenizer, validation_rows)
    ours, our_seconds = run_gptjc(options, directory, "bf16", dropout, len(theirs))
    found = score_gptjc(options, directory / "gptjc-bf16", "bf16")
    rows = len(validation_rows)
    low, high = interval(right, rows)
    result = {
        "seed": seed,
        "dropout": dropout,
        "steps": len(theirs),
        "rows": rows,
        "pytorch": {"accuracy": right / rows, "interval": [low, high], "seconds": seconds, "losses": theirs},
        "gptjc": {"accuracy": found["accuracy"], "seconds": our_seconds, "losses": ours},
    }
    inside = low <= found["accuracy"] <= high
    print(
        f"seed {seed} dropout {dropout}: PyTorch f32 {100 * right / rows:.2f} % ({100 * low:.2f} to {100 * high:.2f}), {seconds:.0f} s;"
        f" gptjc bf16 {100 * found['accuracy']:.2f} % {'inside' if inside else 'OUTSIDE'}, {our_seconds:.0f} s;"
        f" last losses {mean(theirs[-50:]):.4f} {mean(ours[-50:]):.4f}",
        flush=True,
    )
    return result


def mean(values):
    return sum(values) / max(len(values), 1)


def smooth(values, width):
    return [mean(values[at : at + width]) for at in range(0, len(values), width)]


def curves(results, path):
    """Small pictures side by side, one a run: losses on a logarithmic scale."""
    width, height, gap, columns = 300, 200, 46, max(len({r["seed"] for r in results}), 1)
    rows = math.ceil(len(results) / columns)
    points = {}
    for index, result in enumerate(results):
        bucket = max(len(result["pytorch"]["losses"]) // 80, 1)
        points[index] = {who: smooth(result[who]["losses"], bucket) for who in ["pytorch", "gptjc"]}
    values = [value for series in points.values() for one in series.values() for value in one]
    low, high = math.floor(math.log10(min(values)) * 2) / 2, math.ceil(math.log10(max(values)) * 2) / 2
    total = (columns * (width + gap) + gap, rows * (height + gap) + gap + 20)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" width="{total[0]}" height="{total[1]}"'
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{total[0]}" height="{total[1]}" fill="white"/>',
        f'<text x="{gap}" y="18" font-size="13">Training loss: PyTorch + PEFT, f32 (blue), and gptjc, bf16 (orange)</text>',
    ]
    for index, result in enumerate(results):
        x0, y0 = gap + (index % columns) * (width + gap), 20 + gap + (index // columns) * (height + gap)
        parts.append(f'<rect x="{x0}" y="{y0}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
        title = f"seed {result['seed']}, dropout {result['dropout']}, {result['steps']} steps"
        parts.append(f'<text x="{x0}" y="{y0 - 6}">{title}</text>')
        exponent = low
        while exponent <= high + 1e-9:
            y = y0 + height * (1 - (exponent - low) / (high - low))
            parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 4}" y="{y + 4:.1f}" text-anchor="end">{10 ** exponent:.2g}</text>')
            exponent += 0.5
        for who, colour in [("pytorch", "#1f77b4"), ("gptjc", "#ff7f0e")]:
            series = points[index][who]
            at = lambda i, v: f"{x0 + width * (i + 0.5) / len(series):.1f},{y0 + height * (1 - (math.log10(v) - low) / (high - low)):.1f}"
            line = " ".join(at(i, v) for i, v in enumerate(series))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    path.write_text("\n".join(parts + ["</svg>"]) + "\n")


def main():
    options = arguments()
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    train_rows, validation_rows = read_rows(options.train)[: options.rows], read_rows(options.validation)
    options.output.mkdir(parents=True, exist_ok=True)
    results = []
    for dropout in options.dropouts:
        for seed in options.seeds:
            results.append(one_run(options, tokenizer, train_rows, validation_rows, seed, dropout))
            (options.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    curves(results, options.output / "curves.svg")


if __name__ == "__main__":
    main()
