#!/usr/bin/env python3
"""ONNX Runtime on our f32 export and on Optimum's of the same model, in turns, on the same rows: rows a second.

    python scripts/bench_optimum.py MODEL_DIR ROWS.jsonl [--gptjc target/release/gptjc] [--rows 200] [--batch 8] [--turns 5]

Three ways, with the same library, threads, rows, batches (of like length) and new tokens at most, each greedy until all
rows of a batch have ended:

    ours      gptjc validate on our export
    theirs    gptjc validate on Optimum's export
    Optimum   ORTModelForCausalLM.generate on Optimum's export, as a user of Optimum has it

Loading and tokenizing are not in the time; each way is warmed up by the rows once. What is written must be the same in all
three, or the script says so and fails. MODEL_DIR is a Hugging Face directory with its tokenizer.

Ran with Python 3.11 and, from PyPI: optimum 2.3.0, optimum-onnx 0.1.0, onnxruntime 1.32.0, transformers 4.57.6, torch 2.15.0.
"""
import argparse
import json
import os
import statistics
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


class Gptjc:
    """`gptjc validate` on one export."""

    def __init__(self, arguments, directory, scratch):
        self.answers_file = os.path.join(scratch, "answers.jsonl")
        self.command = [
            arguments.gptjc, "validate", "--onnx", directory, "--validation-file", arguments.rows, "--max-eval-samples",
            arguments.count, "--batch-size", arguments.batch, "--max-new-tokens", arguments.new_tokens, "--threads",
            arguments.threads, "--tokenizer", arguments.model, "--json"]

    def rate(self):
        return json.loads(run(*self.command))["rows_per_second"]

    def answers(self):
        run(*self.command, "--predictions", self.answers_file)
        with open(self.answers_file) as lines:
            return [json.loads(line)["text"].strip() for line in lines]


class Optimum:
    """ORTModelForCausalLM on Optimum's export."""

    def __init__(self, arguments, directory):
        import onnxruntime
        from optimum.onnxruntime import ORTModelForCausalLM
        from transformers import AutoTokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = arguments.threads
        self.model = ORTModelForCausalLM.from_pretrained(directory, use_cache=True, session_options=options)
        self.tokenizer = AutoTokenizer.from_pretrained(arguments.model)
        self.tokenizer.pad_token, self.tokenizer.padding_side = self.tokenizer.eos_token or self.end(), "left"
        self.new_tokens = arguments.new_tokens
        texts = prompts(arguments.rows, arguments.count)
        lengths = [len(self.tokenizer(text)["input_ids"]) for text in texts]
        self.order = sorted(range(len(texts)), key=lambda index: lengths[index])
        groups = [self.order[at : at + arguments.batch] for at in range(0, len(texts), arguments.batch)]
        self.batches = [
            self.tokenizer([texts[index] for index in group], return_tensors="pt", padding=True, return_token_type_ids=False)
            for group in groups]

    def end(self):
        return self.tokenizer.convert_ids_to_tokens(self.model.config.eos_token_id)

    def generate(self):
        """What is written, in the order of the batches."""
        written = []
        for batch in self.batches:
            tokens = self.model.generate(
                **batch, max_new_tokens=self.new_tokens, do_sample=False, pad_token_id=self.model.config.eos_token_id)
            written.extend(tokens[:, batch["input_ids"].shape[1] :])
        return written

    def rate(self):
        begun = time.perf_counter()
        self.generate()
        return len(self.order) / (time.perf_counter() - begun)

    def answers(self):
        texts = self.tokenizer.batch_decode(self.generate(), skip_special_tokens=True)
        return [text for _, text in sorted(zip(self.order, (text.strip() for text in texts)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--gptjc", default="target/release/gptjc")
    parser.add_argument("--rows-used", "--rows", dest="count", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--optimum-export", help="Optimum's export of the model, if it is there already")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        ours, theirs = os.path.join(scratch, "gptjc"), arguments.optimum_export or os.path.join(scratch, "optimum")
        run(arguments.gptjc, "export", "--model", arguments.model, "-o", ours)
        if not arguments.optimum_export:
            run(sys.executable, "-m", "optimum.commands.optimum_cli", "export", "onnx", "--task",
                "text-generation-with-past", "--model", arguments.model, theirs)
        ways = {
            "ours": Gptjc(arguments, ours, scratch),
            "theirs": Gptjc(arguments, theirs, scratch),
            "Optimum": Optimum(arguments, theirs),
        }
        answers = {name: way.answers() for name, way in ways.items()}
        differing = {name: sum(one != other for one, other in zip(found, answers["ours"])) for name, found in answers.items()}
        rates = {name: [] for name in ways}
        print("rows/s " + "".join(f"{name:>12}" for name in ways), flush=True)
        for turn in range(arguments.turns):
            for name, way in ways.items():
                rates[name].append(way.rate())
            print(f"turn {turn + 1:<2}" + "".join(f"{rates[name][-1]:>12.1f}" for name in ways), flush=True)
        median = {name: statistics.median(rate) for name, rate in rates.items()}
        print("median " + "".join(f"{median[name]:>12.1f}" for name in ways))
        print(f"ours / theirs {median['ours'] / median['theirs']:.2f}, ours / Optimum {median['ours'] / median['Optimum']:.2f}")
        if any(differing.values()):
            sys.exit(f"rows with another answer than ours: {differing}")


if __name__ == "__main__":
    main()
