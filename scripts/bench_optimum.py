#!/usr/bin/env python3
"""ONNX Runtime on our f32 export and on Optimum's of the same model, in turns, on the same rows: rows a second.

    python scripts/bench_optimum.py MODEL_DIR ROWS.jsonl [--gptjc target/release/gptjc] [--rows 200] [--batch 8] [--turns 3]

Both are answered by `gptjc validate --mode score` with the same library, threads and batches; then Optimum's own
ORTModelForCausalLM reads the same prompts in the same batches from its export (one forward pass with keys and values, no
scoring), for what a user of Optimum alone sees. MODEL_DIR is a Hugging Face directory with its tokenizer.

Not run yet; written for Python 3.11 and, from PyPI: optimum 2.3.0, optimum-onnx 0.1.0, onnxruntime 1.32.0, transformers 4.57.6, torch 2.15.0.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def prompts(path, count):
    texts = []
    with open(path) as rows:
        for line in list(rows)[:count]:
            row = json.loads(line)
            premise = row.get("premise", row.get("sentence1"))
            hypothesis = row.get("hypothesis", row.get("sentence2"))
            texts.append(f"mnli hypothesis: {hypothesis} premise: {premise} target:")
    return texts


def optimum_rate(directory, texts, batch, threads):
    """Rows a second of Optimum's own model over the prompts."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForCausalLM
    from transformers import AutoTokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = ORTModelForCausalLM.from_pretrained(directory, use_cache=True, use_io_binding=False, session_options=options)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    texts = sorted(texts, key=len)
    batches = [tokenizer(texts[at : at + batch], return_tensors="pt", padding=True) for at in range(0, len(texts), batch)]
    model(**batches[0])
    begun = time.perf_counter()
    for inputs in batches:
        model(**inputs)
    return len(texts) / (time.perf_counter() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--gptjc", default="target/release/gptjc")
    parser.add_argument("--rows-used", "--rows", dest="count", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = os.path.join(scratch, "gptjc"), os.path.join(scratch, "optimum")
        run(arguments.gptjc, "export", "--model", arguments.model, "-o", ours)
        run(sys.executable, "-m", "optimum.commands.optimum_cli", "export", "onnx", "--task", "text-generation-with-past",
            "--model", arguments.model, theirs)

        def rate(directory):
            report = run(arguments.gptjc, "validate", "--onnx", directory, "--validation-file", arguments.rows, "--mode", "score",
                         "--max-eval-samples", arguments.count, "--batch-size", arguments.batch, "--threads", arguments.threads,
                         "--tokenizer", arguments.model, "--json")
            return json.loads(report)["rows_per_second"]

        texts = prompts(arguments.rows, arguments.count)
        print(f"{'turn':>4}  {'our export':>12}  {'Optimum`s export':>16}  {'Optimum alone':>13}   rows/s")
        for turn in range(arguments.turns):
            rates = rate(ours), rate(theirs), optimum_rate(theirs, texts, arguments.batch, arguments.threads)
            print(f"{turn + 1:>4}  {rates[0]:>12.1f}  {rates[1]:>16.1f}  {rates[2]:>13.1f}", flush=True)


if __name__ == "__main__":
    main()
