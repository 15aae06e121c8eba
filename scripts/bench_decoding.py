#!/usr/bin/env python3
"""A model of GPT-J's width, larger than 2 GB: memory of its export, and int4 beside f32 under ONNX Runtime.

    python scripts/bench_decoding.py [--layers 2] [--threads N] [--turns 3] [--scratch DIR] [--gptjc target/release/gptjc]

Makes up weights (width 4096, vocabulary 50400, bf16), exports them in f32 and in int4 with accuracy levels 4 and 1, and has
`gptjc validate` answer rows. Decoding is one row at a time: seconds with many new tokens minus seconds with one, over the
tokens between. Prefill is one new token for batches of 8 rows. Ways run in turns; what is compared are medians. Memory is
the peak of the process's resident set, mapped pages of files included. Needs Python 3.9 and nothing else, and 12 GB in the
directory for temporary files, which is removed at the end.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = {
    "model_type": "gptj", "architectures": ["GPTJForCausalLM"], "activation_function": "gelu_new", "n_embd": 4096, "n_head": 16,
    "n_positions": 2048, "rotary_dim": 64, "vocab_size": 50400, "layer_norm_epsilon": 1e-5, "bos_token_id": 50256,
    "eos_token_id": 50256, "tie_word_embeddings": False}
WAYS = {"f32": ["--dtype", "f32"], "int4, level 4": ["--dtype", "int4"],
        "int4, level 1": ["--dtype", "int4", "--accuracy-level", "1"]}
DECODED, PREFILL_BATCH, PREFILL_ROWS = 32, 8, 16


def run(*command):
    """Standard output, and the peak of the resident set in bytes."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{text}")
    return text, 1024 * usage.ru_maxrss


class Rows:
    """Rows whose prompts are about 100 tokens long, for a tokenizer of bytes and few merges."""

    def __init__(self, path):
        self.path = path
        words = "the river runs behind the old mill and nobody has crossed it since the spring of that year"
        with open(path, "w") as rows:
            for index in range(PREFILL_ROWS):
                row = {"sentence1": f"{index} {words}", "sentence2": words, "gold_label": "neutral"}
                rows.write(json.dumps(row) + "\n")


def ask(arguments, directory, rows, count, batch, new_tokens):
    """Seconds of the model, and peak memory."""
    text, peak = run(
        arguments.gptjc, "validate", "--onnx", directory, "--tokenizer", arguments.tokenizer, "--validation-file", rows.path,
        "--max-eval-samples", count, "--batch-size", batch, "--max-new-tokens", new_tokens, "--threads", arguments.threads,
        "--log-level", "error", "--json")
    return json.loads(text)["seconds"], peak


def measure(arguments, directory, rows):
    """Tokens a second of decoding, rows a second of prefill, peak memory."""
    one, _ = ask(arguments, directory, rows, 1, 1, 1)
    many, peak = ask(arguments, directory, rows, 1, 1, 1 + DECODED)
    prefill, _ = ask(arguments, directory, rows, PREFILL_ROWS, PREFILL_BATCH, 1)
    return DECODED / (many - one), PREFILL_ROWS / prefill, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gptjc", default=ROOT / "target/release/gptjc")
    parser.add_argument("--tokenizer", default=ROOT / "tests/tokenizer")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--scratch", help="where the directory for temporary files is made")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        path = lambda *parts: os.path.join(scratch, *parts)
        with open(path("config.json"), "w") as config:
            json.dump(CONFIG | {"n_layer": arguments.layers}, config)
        run(arguments.gptjc, "synth", "--config", path("config.json"), "-o", path("model"))
        directories = {}
        for index, (way, flags) in enumerate(WAYS.items()):
            directories[way] = path(f"onnx{index}")
            _, peak = run(arguments.gptjc, "export", "--model", path("model"), "--tokenizer", arguments.tokenizer, *flags, "-o",
                          directories[way])
            size = sum(os.path.getsize(os.path.join(directories[way], name)) for name in os.listdir(directories[way]))
            print(f"export {way:<14} {size / 1e9:6.2f} GB, peak memory {peak / 1e9:6.2f} GB", flush=True)
        rows = Rows(path("rows.jsonl"))
        found = {way: [] for way in WAYS}
        for turn in range(arguments.turns):
            for way in WAYS:
                found[way].append(measure(arguments, directories[way], rows))
                print(f"turn {turn + 1} {way:<14} decoding {found[way][-1][0]:6.2f} tokens/s, prefill of {PREFILL_BATCH} "
                      f"{found[way][-1][1]:6.2f} rows/s, peak memory {found[way][-1][2] / 1e9:6.2f} GB", flush=True)
    median = {way: [statistics.median(values) for values in zip(*turns)] for way, turns in found.items()}
    for way in list(WAYS)[1:]:
        print(f"{way} / f32: decoding {median[way][0] / median['f32'][0]:.2f}, prefill {median[way][1] / median['f32'][1]:.2f}")


if __name__ == "__main__":
    main()
