#!/usr/bin/env python3
"""Kills training runs at random moments, resumes them, and compares the adapters with that of a run that nobody stopped.

Does: run the golden case `accumulate` (40 steps of six windows, dropout on) with a rolling checkpoint after every
micro-batch, so that many kills come inside a step, inside a save or between the two. Each run is killed at a random
moment and resumed, again and again, until it is done; a third of the signals are SIGTERM, which must end the run with
exit code 75, the others SIGKILL.
Does not: need anything but Python's standard library and a built gptjc.

    python3 scripts/kill_resume.py [--kills 60] [--seed 1] [--gptjc target/release/gptjc]
"""

import argparse
import collections
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASE = ROOT / "tests/golden/accumulate"
STOPPED = 75


def command(gptjc, out, resume):
    # Neither threads nor micro-batches may change a bit, so a resumed run has others than the one before.
    threads, micro_batch = (random.choice([1, 2]), random.choice([1, 1, 2, 4])) if resume else (1, 1)
    words = [gptjc, "train", "--model", CASE / "model", "--train-tokens", CASE / "batches.safetensors"]
    words += ["--adapter", CASE / "adapter_init", "--lora-dropout", "0.1", "--precision", "f32"]
    words += ["--gradient-accumulation-steps", "3", "--num-train-epochs", "5"]
    words += ["--micro-batch", micro_batch, "--threads", threads]
    words += ["--logging-steps", "1", "--save-steps", "3", "--save-total-limit", "2"]
    words += ["--rolling-checkpoint-minutes", "0.000001", "--output-dir", out]
    return [str(word) for word in words + (["--resume-from-checkpoint"] if resume else [])]


def result(out):
    """The adapter's bytes, and what was logged of each step."""
    log = json.loads((out / "trainer_state.json").read_text())["log_history"]
    steps = [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in log if "loss" in entry]
    return (out / "adapter_model.safetensors").read_bytes(), steps


def newest(out):
    """Step and windows inside it of the newest checkpoint; none if there is none."""
    states = [json.loads(path.read_text()) for path in out.glob("checkpoint-*/training_state.json")]
    return max(((state["global_step"], state["windows_done"]) for state in states), default=None)


def run_with_kill(words, after, which):
    """Runs until a signal after so many seconds. Returns exit code, output and whether the signal came in time."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        output, _ = process.communicate(timeout=after)
        return process.returncode, output, False
    except subprocess.TimeoutExpired:
        process.send_signal(which)
        output, _ = process.communicate()
        return process.returncode, output, True


def check(condition, message):
    if not condition:
        sys.exit(f"kill_resume: {message}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gptjc", type=pathlib.Path, default=ROOT / "target/release/gptjc")
    arguments = parser.parse_args()
    check(arguments.gptjc.is_file(), f"there is no {arguments.gptjc}: cargo build --release")
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        begun = time.monotonic()
        subprocess.run(command(arguments.gptjc, directory / "whole", False), check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begun
        expected = result(directory / "whole")
        print(f"a run that nobody stops: {len(expected[1])} steps, {seconds:.1f} s")
        counts, kills, runs = collections.Counter(), 0, 0
        while kills < arguments.kills:
            out = directory / f"run-{runs}"
            runs += 1
            while True:
                resume = newest(out) is not None if out.is_dir() else False
                which = signal.SIGTERM if random.random() < 1 / 3 else signal.SIGKILL
                words = command(arguments.gptjc, out, resume)
                code, output, killed = run_with_kill(words, random.uniform(0.0, seconds), which)
                if code == 0:
                    break
                expected_codes = {STOPPED, -signal.SIGTERM} if which == signal.SIGTERM else {-signal.SIGKILL}
                check(killed and code in expected_codes, f"exit code {code} of {' '.join(words)}\n{output}")
                kills += 1
                position = newest(out)
                inside = "before any checkpoint" if position is None else "inside a step" if position[1] else "between steps"
                counts[f"{which.name}, newest checkpoint {inside}"] += 1
                left = [path.name for path in out.glob(".*gptjc-*")] if out.is_dir() else []
                counts["inside a save"] += any("partial" in name for name in left)
            found = result(out)
            check(found[0] == expected[0], f"other adapter bytes after {kills} kills: {out}")
            check(found[1] == expected[1], f"another log after {kills} kills: {out}")
            left = sorted(path.name for path in out.iterdir() if path.name.startswith("."))
            check(not left, f"left over: {left}")
            names = sorted(path.name for path in out.glob("checkpoint-*"))
            check(names == ["checkpoint-39", "checkpoint-40"], f"checkpoints: {names}")
            shutil.rmtree(out)
    print(f"{kills} kills of {runs} runs: every adapter and every log is that of the run that nobody stopped")
    for what, count in sorted(counts.items()):
        print(f"  {count:4} {what}")


if __name__ == "__main__":
    main()
