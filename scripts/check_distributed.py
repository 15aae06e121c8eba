#!/usr/bin/env python3
"""Shows on one machine what docs/distributed.md says of several.

Does, each by its name, all of them without one:
  bytes   1 to 4 ranks, 1 and 2 threads, pretended sockets: the adapter bytes of one process
  kill    kill -9 of one rank at random moments, again and again, each time resumed on fewer ranks: the same bytes
  hosts   two ranks in two network namespaces joined by a link of limited bandwidth (root, iproute2): the same bytes, and what
          was sent and how long that took beside what the cost model says
  share   two layers of GPT-J's width, one window of 512 tokens a rank: the share of a step that exchanging gradients takes
Does not: need anything but Python's standard library, Open MPI and a gptjc that was built with `--features mpi`.

    python3 scripts/check_distributed.py [bytes kill hosts share] [--gptjc target/release/gptjc] [--kills 10] [--mbit 200]
"""

import argparse
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CASE = ROOT / "tests/golden/accumulate"
ADAPTER = "adapter_model.safetensors"
# Rank 0's last line about what was sent.
SENT = re.compile(r"rank 0 sent ([\d.]+) ?(\w+) a step; ([\d.]+) ms a step .* gradients, ([\d.]+) ms")
UNITS = {"B": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_btl_vader_single_copy_mechanism="none")


def mpirun(ranks, words=()):
    return ["mpirun", "--oversubscribe", "--bind-to", "none", *words, "-n", str(ranks)]


def train(gptjc, out, *more):
    words = [gptjc, "train", "--model", CASE / "model", "--train-tokens", CASE / "batches.safetensors"]
    words += ["--adapter", CASE / "adapter_init", "--lora-dropout", "0.1", "--precision", "f32"]
    words += ["--global-batch-size", "6", "--num-train-epochs", "20", "--logging-steps", "1"]
    words += ["--output-dir", out, *more]
    return [str(word) for word in words]


def run(command):
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def adapter(out):
    return (out / ADAPTER).read_bytes()


def same(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: OTHER BYTES")
    print(f"{what}: the same bytes", flush=True)


def check_bytes(gptjc, root, _options):
    out = root / "alone"
    run(train(gptjc, out, "--threads", "1"))
    expected = adapter(out)
    ways = [["--threads", "1"], ["--threads", "2"], ["--threads", "2", "--topology", "2x1"]]
    for ranks in range(1, 5):
        for number, way in enumerate(ways):
            out = root / f"bytes-{ranks}-{number}"
            run(mpirun(ranks) + train(gptjc, out, *way))
            same(f"{ranks} ranks, {' '.join(way)}", adapter(out), expected)


def ranks_of(launcher):
    """Process ids of the ranks that mpirun `launcher` has started."""
    listed = subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def check_kill(gptjc, root, options):
    random.seed(options.seed)
    out = root / "unkilled"
    begun = time.monotonic()
    run(mpirun(4) + train(gptjc, out, "--threads", "1"))
    seconds, expected = time.monotonic() - begun, adapter(out)
    out, kills, resume = root / "killed", 0, []
    always = ["--threads", "1", "--rolling-checkpoint-minutes", "0.000001", "--save-steps", "3", "--save-total-limit", "2"]
    counts = [4, 3, 2]
    while kills < options.kills:
        ranks = counts[kills % len(counts)]
        child = subprocess.Popen(mpirun(ranks) + train(gptjc, out, *always, *resume), env=ENVIRONMENT,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(random.uniform(0.3, 0.6) * seconds)
        victims = ranks_of(child.pid)
        if victims:
            os.kill(random.choice(victims), signal.SIGKILL)
        _, errors = child.communicate()
        if child.returncode == 0:
            print(f"kill {kills + 1}: too late, the run was done; once more from the start", flush=True)
            subprocess.run(["rm", "-r", str(out)], check=True)
            resume = []
            continue
        if "signal 9" not in errors:
            sys.exit(f"kill {kills + 1}: no message names the rank\n{errors}")
        kills += 1
        found = [path.name for path in out.glob("checkpoint-*")]
        print(f"kill {kills} of one of {ranks} ranks: ended with {child.returncode}; there is {sorted(found)}", flush=True)
        resume = ["--resume-from-checkpoint"] if found else ["--overwrite-output-dir"]
    run(mpirun(1) + train(gptjc, out, *always, *resume))
    same(f"{kills} kills, the last run on one rank", adapter(out), expected)


def sent(output):
    """Bytes that rank 0 sent in a step, and milliseconds of exchanging and of waiting."""
    found = SENT.search(output)
    if not found:
        sys.exit(f"no line about what was sent:\n{output}")
    amount, unit, exchanging, waiting = found.groups()
    return float(amount) * UNITS[unit], float(exchanging), float(waiting)


def synth(gptjc, root, **shape):
    """A random model of GPT-J's shape but for `shape`."""
    config = {"model_type": "gptj", "n_layer": 2, "n_embd": 4096, "n_head": 16, "rotary_dim": 64, "n_inner": None,
              "vocab_size": 50400, "n_positions": 2048, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
              "tie_word_embeddings": False, **shape}
    (root / "config.json").write_text(json.dumps(config))
    run([str(word) for word in [gptjc, "synth", "--config", root / "config.json", "--output", root / "model"]])
    return root / "model"


def batches(root, rows, length, vocabulary):
    """Pre-tokenised rows in a safetensors file of one step."""
    random.seed(1)
    tokens = [random.randrange(vocabulary) for _ in range(rows * length)]
    columns = {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": tokens}
    header, data = {}, b""
    for name, values in columns.items():
        content = b"".join(value.to_bytes(8, "little") for value in values)
        header[name] = {"dtype": "I64", "shape": [1, rows, length], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path = root / f"rows-{rows}x{length}.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


class Hosts:
    """Two network namespaces, joined by a link over which each sends at most so many Mbit/s."""

    NAMES = ["gptjc-a", "gptjc-b"]

    def __init__(self, mbit):
        self.mbit = mbit

    def __enter__(self):
        self.remove()
        try:
            self.add()
        except BaseException:
            self.remove()
            raise
        return self

    def add(self):
        for name in self.NAMES:
            ip("netns", "add", name)
        first, second = self.NAMES
        ip("link", "add", "gptjc", "netns", first, "type", "veth", "peer", "name", "gptjc", "netns", second)
        for index, name in enumerate(self.NAMES):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{index + 1}/24", "dev", "gptjc")
            ip("-n", name, "link", "set", "gptjc", "up")
            limit = ["tbf", "rate", f"{self.mbit}mbit", "burst", "64kb", "latency", "50ms"]
            run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "gptjc", "root", *limit])

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        for name in self.NAMES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def agent(self, root):
        """What mpirun in the first namespace calls in the place of ssh."""
        path = root / "agent.sh"
        # A name of its own makes it another host for gptjc as well, which shares out the memory of each among its ranks.
        path.write_text("#!/bin/sh\n# HOST COMMAND...: runs the command in the other namespace.\nshift\n"
                        f"exec ip netns exec {self.NAMES[1]} unshare --uts sh -c \"hostname {self.NAMES[1]}; $*\"\n")
        path.chmod(0o755)
        return path

    def mpirun(self, root):
        tcp = ["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "10.77.0.0/24", "--mca", "oob_tcp_if_include",
               "10.77.0.0/24", "--mca", "plm_rsh_agent", str(self.agent(root)), "--mca", "orte_keep_fqdn_hostnames", "1"]
        return ["ip", "netns", "exec", self.NAMES[0],
                *mpirun(2, ["--host", "10.77.0.1:1,10.77.0.2:1", *tcp])]


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def check_hosts(gptjc, root, options):
    model = synth(gptjc, root, n_embd=256, n_head=4, rotary_dim=32, vocab_size=512, n_positions=128)
    rows = batches(root, 4, 64, 512)

    def words(out):
        line = [gptjc, "train", "--model", model, "--train-tokens", rows, "--global-batch-size", 4, "--num-train-epochs", 30]
        line += ["--lora-rank", 64, "--lora-target-modules", "all-linear", "--threads", 1, "--output-dir", root / out]
        return [str(word) for word in line]
    output = run(words("hosts-alone"))
    elements = int(re.search(r"trainable params: ([\d,]+)", output).group(1).replace(",", "")) + 1
    with Hosts(options.mbit) as hosts:
        output = run(hosts.mpirun(root) + words("hosts"))
    same(f"two hosts over {options.mbit} Mbit/s", adapter(root / "hosts"), adapter(root / "hosts-alone"))
    bytes_sent, exchanging, waiting = sent(output)
    # Two ranks, one node each: docs/distributed.md.
    expected = 4 * elements * 2 / 2
    seconds = expected / (options.mbit * 1e6 / 8)
    print(f"sent a step: {bytes_sent / 1e6:.2f} MB, by the model {expected / 1e6:.2f} MB")
    print(f"exchanging a step: {exchanging:.1f} ms, by the model {1e3 * seconds:.1f} ms (waiting besides: {waiting:.1f} ms)")


def check_share(gptjc, root, _options):
    model = synth(gptjc, root)
    rows = batches(root, 2, 512, 50000)
    words = [gptjc, "train", "--model", model, "--train-tokens", rows, "--global-batch-size", 2, "--num-train-epochs", 4]
    words += ["--lora-target-modules", "q_proj,k_proj,v_proj,out_proj", "--threads", 1, "--output-dir", root / "share"]
    words += ["--logging-steps", 1, "--save-strategy", "no"]
    output = run(mpirun(2) + [str(word) for word in words])
    steps, seconds = re.search(r"(\d+) steps in ([\d.]+) s", output).groups()
    step = 1e3 * float(seconds) / int(steps)
    bytes_sent, exchanging, waiting = sent(output)
    print(f"a step of {step:.0f} ms sent {bytes_sent / 1e6:.2f} MB; exchanging took {exchanging:.1f} ms, {100 * exchanging / step:.2f} % "
          f"(waiting for the other rank besides: {waiting:.1f} ms)")


CHECKS = {"bytes": check_bytes, "kill": check_kill, "hosts": check_hosts, "share": check_share}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"some of {', '.join(CHECKS)}")
    parser.add_argument("--gptjc", type=pathlib.Path, default=ROOT / "target/release/gptjc")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mbit", type=int, default=200)
    options = parser.parse_args()
    for name in options.checks or CHECKS:
        if name not in CHECKS:
            parser.error(f"no check `{name}`: there are {', '.join(CHECKS)}")
        with tempfile.TemporaryDirectory() as root:
            print(f"== {name}", flush=True)
            CHECKS[name](options.gptjc.resolve(), pathlib.Path(root), options)


if __name__ == "__main__":
    main()
