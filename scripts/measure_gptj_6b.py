#!/usr/bin/env python3
"""Measures optimizer steps of GPT-J-6B's shapes and holds them against the compiler's predictions.

    python3 scripts/measure_gptj_6b.py MODEL_DIR [--gptjc PROGRAM] [--only NAME ...] [--out results.jsonl]

MODEL_DIR is a directory of the full size, random weights will do:

    gptjc synth --config gpt-j-6b/config.json -o MODEL_DIR

All predictions are printed before anything is measured: `gptjc bench step` compiles for this machine as `gptjc bench
machine` measured it. Time is compared after scaling by the peak of multiply-adds that was measured around the step, for
these machines are shared. A configuration takes its step twice, a large one minutes. Nothing but Python 3 is needed.
"""
import argparse
import json
import subprocess
import sys

# name: flags of `gptjc bench step`. The first is the reference workflow's own step.
CONFIGURATIONS = {
    "8x512": "--windows 8 --sequence 512 --rank 8",
    "8x512 masked": "--windows 8 --sequence 512 --rank 8 --labelled-share 0.05",
    "1x512 r16": "--windows 1 --sequence 512 --rank 16",
    "4x128 all targets": "--windows 4 --sequence 128 --rank 4 --targets all-linear",
    "1x1024": "--windows 1 --sequence 1024 --rank 8",
    "14 layers, 2x256 masked": "--windows 2 --sequence 256 --rank 8 --labelled-share 0.1 --layers 14",
    "1 thread, 1x256": "--windows 1 --sequence 256 --rank 8 --threads 1",
}


def line_of(arguments, flags):
    """The command line. Fewer layers cannot be had of a directory of weights: those are made up."""
    model = ["--config", f"{arguments.model}/config.json"] if "--layers" in flags else ["--model", arguments.model]
    return [arguments.gptjc, "bench", "step", *model, *flags.split(), "--rounds", "1", "--no-profile"]


def predictions(arguments, names):
    """Prints what is expected of each configuration."""
    for name in names:
        line = [*line_of(arguments, CONFIGURATIONS[name]), "--predict-only"]
        print(f"{name}: {subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()}", flush=True)


def row(name, found):
    gib = 2**30
    time, memory = found["predicted_at_measured_peak"], found["predicted_peak_bytes"]
    return (f"| {name} | {found['micro_batch']} | {found['seconds']:.1f} | {time:.1f} ({100 * (time / found['seconds'] - 1):+.1f} %) "
            f"| {found['peak_bytes'] / gib:.2f} | {memory / gib:.2f} ({100 * (memory / found['peak_bytes'] - 1):+.1f} %) "
            f"| {found['tokens_per_second']:.1f} | {found['gflops']:.0f} of {found['peak_gflops']:.0f} | {found['share_of_peak']:.3f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--gptjc", default="gptjc")
    parser.add_argument("--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--out", help="file to which every result is added, a line of JSON each")
    arguments = parser.parse_args()
    predictions(arguments, arguments.only)
    print("\n| configuration | micro-batch | s a step | predicted | GiB | predicted | tokens/s | GFLOP/s of peak | share |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in arguments.only:
        line = [*line_of(arguments, CONFIGURATIONS[name]), "--json"]
        result = subprocess.run(line, capture_output=True, text=True)
        if result.returncode:
            sys.exit(f"{name}: {' '.join(line)}\n{result.stderr}")
        found = json.loads(result.stdout)
        print(row(name, found), flush=True)
        if arguments.out:
            with open(arguments.out, "a") as out:
                out.write(json.dumps({"configuration": name, **found}) + "\n")


if __name__ == "__main__":
    main()
