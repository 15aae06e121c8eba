#!/usr/bin/env python3
"""One model in every dtype and under every engine: do they give the same answers? Prints a Markdown table.

    python scripts/agreement.py MODEL_DIR ROWS.jsonl [--adapter DIR] [--gptjc target/release/gptjc] [--rows N] [--tract]

The first line is the model compiled in bf16, as `gptjc train` computes; each other line says on how many rows it gives the
same answer as that. `--mode generate` (default) reads the first label that is written, so answers can be none;
`--mode score` takes the likeliest. --tract needs a gptjc that was built with --features tract. Exports go to a directory
for temporary files and are removed. Needs Python 3.9 and nothing else.
"""
import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

DTYPES = ("f32", "f16", "bf16", "int8", "int4")
COLUMNS = ("what runs", "MB", "same answer", "accuracy", "answers that are labels", "classes", "rows/s")


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def directory_bytes(directory, names):
    return sum(os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory) if names(name))


class Bench:
    def __init__(self, arguments, scratch):
        self.arguments, self.scratch = arguments, scratch
        self.adapter = ["--adapter", arguments.adapter] if arguments.adapter else []

    def export(self, dtype):
        directory = os.path.join(self.scratch, dtype)
        run(self.arguments.gptjc, "export", "--model", self.arguments.model, *self.adapter, "--dtype", dtype, "-o", directory)
        return directory

    def ask(self, *engine):
        """The report, and the answers by row."""
        path = os.path.join(self.scratch, "answers.jsonl")
        count = ["--max-eval-samples", self.arguments.rows_used] if self.arguments.rows_used else []
        report = json.loads(run(
            self.arguments.gptjc, "validate", *engine, "--validation-file", self.arguments.rows, *count, "--json",
            "--mode", self.arguments.mode, "--batch-size", self.arguments.batch, "--predictions", path))
        with open(path) as lines:
            return report, {row["row"]: row["answer"] for row in map(json.loads, lines)}


def table_line(what, size, report, answers, reference):
    counts = collections.Counter(answers.values())
    labelled = len(answers) - counts.pop("unknown", 0)
    same = sum(answers[row] == answer for row, answer in reference.items())
    percent = lambda part: f"{100 * part / len(answers):.2f} %"
    accuracy = "none" if report["accuracy"] is None else f"{100 * report['accuracy']:.2f} %"
    return (what, f"{size / 1e6:.2f}", f"{same} of {len(reference)} ({percent(same)})", accuracy, percent(labelled),
            str(len(counts)), f"{report['rows_per_second']:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--adapter")
    parser.add_argument("--gptjc", default="target/release/gptjc")
    parser.add_argument("--rows", dest="rows_used", type=int, help="only the first N rows")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mode", choices=("generate", "score"), default="generate")
    parser.add_argument("--tract", action="store_true", help="the f32 export under tract too")
    arguments = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments, scratch)
        report, reference = bench.ask("--model", arguments.model, *bench.adapter)
        weights = lambda name: name.endswith((".safetensors", ".bin"))
        lines = [table_line("native, bf16", directory_bytes(arguments.model, weights), report, reference, reference)]
        engines = [(dtype, "ort", f"ONNX Runtime, {dtype}") for dtype in DTYPES]
        if arguments.tract:
            engines.append(("f32", "tract", "tract, f32"))
        exported = {}
        for dtype, engine, what in engines:
            if dtype not in exported:
                exported[dtype] = bench.export(dtype)
            size = directory_bytes(exported[dtype], lambda name: name.startswith("model.onnx"))
            report, answers = bench.ask("--onnx", exported[dtype], "--engine", engine)
            lines.append(table_line(what, size, report, answers, reference))
        for line in lines:
            print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
