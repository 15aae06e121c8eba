#!/usr/bin/env python3
"""Measures PyTorch + PEFT and gptjc on the same shapes, in turns in one run, and prints ratios.

    cargo build --release && python3 scripts/bench_pytorch.py

Makes a virtual environment of its own (--venv) with the versions below. From PyPI, torch for x86-64 comes with CUDA's
libraries, which it does not load without: about 6 GB. Not part of CI. Needs about 12 GB of memory, and a C++ compiler
for torch.compile.

A step is forward, backward and AdamW of LoRA (r 8 on q, k, v, out; dropout 0.05) on a GPT-J of width 4096 with --layers
layers (two) and a vocabulary of 50400: 1 window of 512 tokens, every one with a label. bf16 gets few tokens, because PyTorch
is slow at it where the CPU has no bf16 instructions. Each round runs gptjc and then each of the others once; what is
compared are medians, and for ratios the median of the rounds' own ratios. Given several numbers of layers, seconds of a
step are fitted by a line, which is read at 28 layers: what the whole GPT-J-6B would take if it fitted. PyTorch's f32 needs
about 0.8 GB a layer and 4 GB.

`--isa avx2` holds both to AVX2, on a CPU that has more: gptjc by its kernel variant, PyTorch by the switches of its
libraries. It stands for a CPU without bf16 instructions as far as these switches reach: ATen's and oneDNN's kernels do obey
them, MKL's do so on Intel's CPUs.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

PACKAGES = ["torch==2.15.0", "transformers==4.57.6", "peft==0.21.2"]
# What ATen, oneDNN and MKL call an instruction set in the variables that hold them to it.
TORCH_ISA = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
}
HERE = pathlib.Path(__file__).resolve().parent
WIDTH, HEADS, VOCABULARY, ALL_LAYERS = 4096, 16, 50400, 28
SHAPES = {
    "attention projection": (4096, 4096),
    "q, k, v together": (12288, 4096),
    "fc_in": (16384, 4096),
    "fc_out": (4096, 16384),
    "lm_head": (50400, 4096),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    parser.add_argument("--venv", type=pathlib.Path, default=cache / "gptjc" / "bench-pytorch", help="virtual environment")
    parser.add_argument("--gptjc", type=pathlib.Path, default=HERE.parent / "target" / "release" / "gptjc")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, nargs="+", default=[2])
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a window")
    parser.add_argument("--bf16-tokens", type=int, default=64, help="tokens of PyTorch's step in bf16")
    parser.add_argument(
        "--only", nargs="+", choices=["eager", "compile", "bf16", "products"], default=["eager", "compile", "bf16", "products"]
    )
    parser.add_argument("--product-tokens", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--isa", choices=sorted(TORCH_ISA), help="hold both to this instruction set")
    parser.add_argument("--json", type=pathlib.Path, help="also write all numbers to this file")
    return parser.parse_args()


def enter_venv(path):
    """Goes on in the virtual environment, which is made first if it is not there."""
    python = path / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == path.resolve():
        return
    if not (path / "complete").exists():
        print(f"installing {' '.join(PACKAGES)} into {path} (several GB) ...", flush=True)
        venv.create(path, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (path / "complete").touch()
    os.execv(python, [str(python), __file__, *sys.argv[1:]])


def gptjc(options, *words):
    command = [str(options.gptjc), "bench", *words, "--threads", str(options.threads), "--json"]
    if options.isa:
        command += ["--variant", options.isa]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def gptjc_step(options, layers, tokens, precision):
    words = ["step", "--layers", layers, "--width", WIDTH, "--heads", HEADS, "--vocabulary", VOCABULARY, "--sequence", tokens]
    return gptjc(options, *map(str, words), "--precision", precision, "--rounds", "1")["tokens_per_second"]


class TorchStep:
    """An optimizer step of PyTorch + PEFT."""

    def __init__(self, layers, dtype, tokens, compiled=False):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import GPTJConfig, GPTJForCausalLM

        torch.manual_seed(1)
        config = GPTJConfig(n_layer=layers, n_embd=WIDTH, n_head=HEADS, rotary_dim=64, vocab_size=VOCABULARY, use_cache=False)
        targets = ["q_proj", "k_proj", "v_proj", "out_proj"]
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=targets, task_type="CAUSAL_LM")
        self.model = get_peft_model(GPTJForCausalLM(config).to(dtype), lora).train()
        self.run = torch.compile(self.model) if compiled else self.model
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        self.ids = torch.randint(0, VOCABULARY, (1, tokens))
        self.tokens = tokens

    def __call__(self):
        """Tokens a second of one step."""
        begun = time.perf_counter()
        self.run(input_ids=self.ids, labels=self.ids).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self.tokens / (time.perf_counter() - begun)


def compare(name, ours, theirs, rounds, unit):
    """Runs both in turns and returns a row."""
    theirs()  # warms up, and compiles
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    row = {
        "name": name,
        "unit": unit,
        "gptjc": statistics.median(one for one, _ in pairs),
        "pytorch": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(one / other for one, other in pairs),
        "rounds": pairs,
    }
    print(f"{name:<52} {row['gptjc']:>9.2f} {row['pytorch']:>9.2f} {unit:<9} {row['ratio']:>7.2f}", flush=True)
    return row


def steps(options):
    rows = []
    kinds = [("eager", options.tokens, False), ("compile", options.tokens, True), ("bf16", options.bf16_tokens, False)]
    for kind, tokens, compiled in kinds:
        if kind not in options.only:
            continue
        series = [row for layers in options.layers for row in step(options, kind, layers, tokens, compiled)]
        rows += series
        if len(options.layers) > 1:
            print_fit([row for row in series if row["precision"] == "bf16"], tokens)
    return rows


def step(options, kind, layers, tokens, compiled):
    """A step of so many layers in both."""
    import torch

    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    theirs = TorchStep(layers, dtype, tokens, compiled)
    rounds = options.rounds if kind != "bf16" else min(options.rounds, 2)
    rows = []
    # gptjc's bf16 plan does the same work as either of theirs. Its f32 plan is beside it where one model is enough.
    for precision in ["bf16", "f32"] if kind == "eager" and len(options.layers) == 1 else ["bf16"]:
        name = f"step {layers} x 1x{tokens}: gptjc {precision}, PyTorch {kind} {str(dtype).removeprefix('torch.')}"
        row = compare(name, lambda: gptjc_step(options, layers, tokens, precision), theirs, rounds, "tokens/s")
        rows.append({**row, "layers": layers, "precision": precision})
    return rows


def print_fit(series, tokens):
    """Seconds of a step as a line over layers (least squares), and what it says of all layers."""
    layers = [row["layers"] for row in series]
    whole = {}
    for who in ["gptjc", "pytorch"]:
        slope, rest = statistics.linear_regression(layers, [tokens / row[who] for row in series])
        whole[who] = rest + slope * ALL_LAYERS
        print(f"  {who}: {rest:.3f} s + {slope:.3f} s a layer; {ALL_LAYERS} layers: {whole[who]:.1f} s, {tokens / whole[who]:.2f} tokens/s")
    print(f"  ratio at {ALL_LAYERS} layers: {whole['pytorch'] / whole['gptjc']:.2f}", flush=True)


def products(options):
    import torch

    rows = []
    for tokens in options.product_tokens:
        for name, (n, k) in SHAPES.items():
            for form in ["nt", "nn"]:
                for precision, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
                    row = product(options, name, form, tokens, n, k, precision, dtype)
                    rows.extend([row] if row else [])
    return rows


def product(options, name, form, m, n, k, precision, dtype):
    """A product in PyTorch and in gptjc's best variant; none if gptjc has no variant of it."""
    import torch

    weight, x = torch.randn(n, k, dtype=dtype), torch.randn(m, k if form == "nt" else n, dtype=dtype)

    def theirs():
        begun = time.perf_counter()
        torch.matmul(x, weight.t() if form == "nt" else weight)
        return 2 * m * n * k / (time.perf_counter() - begun) / 1e9

    def ours():
        words = ["kernels", "--tokens", str(m), "--precision", precision, "--filter", name, "--rounds", "1"]
        found = [row["gflops"] for row in gptjc(options, *words) if row["form"] == form]
        return max(found, default=0.0)

    if ours() == 0.0:
        return None
    return compare(f"{form} {m}x{n}x{k} {precision} ({name})", ours, theirs, min(options.rounds, 3), "GFLOP/s")


def main():
    options = arguments()
    if not options.gptjc.exists():
        sys.exit(f"there is no `{options.gptjc}`: run `cargo build --release`, or give --gptjc FILE")
    if options.isa:
        os.environ.update(TORCH_ISA[options.isa])  # before torch is loaded
    enter_venv(options.venv)
    import torch

    torch.set_num_threads(options.threads)
    held = f", held to {options.isa}" if options.isa else ""
    print(f"torch {torch.__version__}{held}, {options.threads} threads, {options.rounds} rounds in turns")
    print(f"{'':<52} {'gptjc':>9} {'PyTorch':>9} {'':<9} {'ratio':>7}", flush=True)
    rows = steps(options)
    if "products" in options.only:
        rows += products(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
