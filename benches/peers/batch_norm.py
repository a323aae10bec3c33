"""Compares the speed of batch norm in this crate, in Burn and in PyTorch.

    python benches/peers/batch_norm.py                   on the CPU, with Burn's backend flex
    python benches/peers/batch_norm.py --backend cuda    on a GPU; also rocm, wgpu, vulkan, metal
    python benches/peers/batch_norm.py --shape 256x100   only this shape; can be repeated
    python benches/peers/batch_norm.py --peer            only PyTorch

At each shape of benches/batch_norm.rs, `cargo bench` measures this crate's layer and Burn's; then this script measures
PyTorch's. Prints one table of all results. Run nothing else on the machine. Needs PyTorch and cargo.

Times are milliseconds: the median, with the 10th and 90th percentile. The cases are those of benches/batch_norm.rs:
"forward" is the forward pass of a layer in training, followed by an untimed backward pass; "backward" is the forward
and the backward pass, from a given gradient of the output.

"GB/s" is the number of bytes that must move, divided by the time. Each tensor of the input's size that is read or
written counts once: 2 for inference, forward and a copy; 5 for forward and backward (the input and the output; then the
input, the output's gradient and the input's gradient).
"""

import argparse
import json
import math
import statistics
import subprocess
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
SHAPES = [
    (256, 100),
    (256, 1024),
    (4096, 512),
    (32, 64, 1024),
    (128, 32, 28, 28),
    (64, 64, 56, 56),
    (8, 256, 14, 14),
    (1, 64, 112, 112),
]
# Tensors of the input's size that must move.
CASES = {"inference": 2, "forward": 2, "backward": 5}
MODELS = ["mlp", "cnn"]


def named(shape):
    return "x".join(map(str, shape))


def spread(times):
    """The median, the 10th and the 90th percentile."""
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return statistics.median(times), tenths[0], tenths[-1]


class Peer:
    """PyTorch on the device on which a backend of Burn computes."""

    def __init__(self, backend):
        if backend in ("flex", "ndarray"):
            self.device = "cpu"
        elif torch.cuda.is_available():
            self.device = "cuda"
        elif torch.backends.mps.is_available():
            self.device = "mps"
        else:
            raise SystemExit(f"PyTorch {torch.__version__} finds no GPU to compare with {backend}")
        self.settle = {"cpu": lambda: None, "cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}[self.device]

    def __str__(self):
        where = f"{torch.get_num_threads()} threads" if self.device == "cpu" else self.device
        return f"PyTorch {torch.__version__}, {where}"

    def measure(self, run, after=lambda result: None):
        """The spread of a call's time, in milliseconds, over about 1.5 seconds. `after` follows each call, untimed."""
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:
            after(run())
        times = []
        until = time.perf_counter() + 1.5
        while time.perf_counter() < until or len(times) < 10:
            self.settle()
            start = time.perf_counter()
            result = run()
            self.settle()
            times.append((time.perf_counter() - start) * 1e3)
            after(result)
        return spread(times)

    def cases(self, shape):
        """The times of the three cases."""
        layer = (torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d)(shape[1]).to(self.device)
        x = torch.randn(shape, device=self.device) * 2 + 0.5
        leaf = x.clone().requires_grad_()
        gradient = torch.ones(shape, device=self.device)

        def inference():
            with torch.no_grad():
                layer(x)

        def forward():
            return layer(leaf)

        def back(output):
            leaf.grad = None
            output.backward(gradient)

        layer.eval()
        times = {"inference": self.measure(inference)}
        layer.train()
        times["forward"] = self.measure(forward, after=back)
        times["backward"] = self.measure(lambda: back(forward()))
        return times


class Bench:
    """Runs benches/batch_norm.rs and reads the results that criterion writes."""

    def __init__(self, backend):
        self.backend = backend
        features = [] if backend == "flex" else ["--no-default-features", "--features", backend]
        self.command = ["cargo", "bench", "--quiet", "--bench", "batch_norm", *features, "--"]
        metadata = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
        found = subprocess.run(metadata, cwd=ROOT, check=True, capture_output=True)
        self.folder = Path(json.loads(found.stdout)["target_directory"]) / "criterion"

    def run(self, only):
        subprocess.run([*self.command, only], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    def time(self, group, name):
        """The spread of the times that criterion measured, in milliseconds."""
        sample = json.loads((self.folder / group / name / "new" / "sample.json").read_text())
        return spread([time / times * 1e-6 for time, times in zip(sample["times"], sample["iters"])])

    def cases(self, shape):
        """The times of copies, to existing and to new memory, and of both layers in the three cases."""
        self.run(f"^{self.backend}/{named(shape)}/")
        group = f"{self.backend}_{named(shape)}"
        layers = {case: [self.time(group, f"{case} {who}") for who in ("ours", "burn")] for case in CASES}
        copies = ["copy", "copy to new memory"] if self.backend in ("flex", "ndarray") else ["copy", "copy"]
        return [self.time(group, copy) for copy in copies], layers

    def steps(self):
        """The times of a training step of each network: without norm, with this crate's and with Burn's."""
        self.run("^training step/")
        return {
            model: [self.time(f"training step_{model}", norm) for norm in ("none", "batch", "burn")]
            for model in MODELS
        }


def shown(found):
    median, low, high = found
    return f"{median:.3f} ({low:.3f}-{high:.3f})"


def rows(shape, copies, layers, peer):
    at_hand, new = copies
    megabytes = 4e-6 * math.prod(shape)
    for case, tensors in CASES.items():
        ours, burn = layers[case]
        print(
            f"| {list(shape)} | {case} | {shown(ours)} | {shown(burn)} | {shown(peer[case])} "
            f"| {burn[0] / ours[0]:.1f} | {peer[case][0] / ours[0]:.1f} | {shown(at_hand)} | {shown(new)} | {ours[0] / new[0]:.1f} "
            f"| {tensors * megabytes / ours[0]:.0f} | {2 * megabytes / at_hand[0]:.0f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="flex", help="backend of Burn [flex]")
    parser.add_argument("--shape", action="append", metavar="NxC...", help="shapes of the benchmark to measure [all]")
    parser.add_argument("--peer", action="store_true", help="measure only PyTorch")
    args = parser.parse_args()
    shapes = [shape for shape in SHAPES if args.shape is None or named(shape) in args.shape]
    if not shapes:
        parser.error(f"the benchmark has no such shape; it has {', '.join(map(named, SHAPES))}")
    peer = Peer(args.backend)
    print(peer)
    if args.peer:
        for shape in shapes:
            for case, found in peer.cases(shape).items():
                print(f"{list(shape)!s:20} {case:10} {shown(found)}", flush=True)
        return
    bench = Bench(args.backend)
    bench.run("^nothing$")  # compiles
    print(f"\n{args.backend}: milliseconds, median (10%-90%); how many times as fast as Burn's layer and as PyTorch\n")
    print("| shape | case | ours | Burn | PyTorch | / Burn | / PyTorch "
          "| copy | copy to new memory | time in copies to new memory | GB/s | GB/s of copy |")
    print("| --- " * 12 + "|")
    for shape in shapes:
        copies, layers = bench.cases(shape)
        rows(shape, copies, layers, peer.cases(shape))
    if args.shape:
        return
    print("\ntraining step, batch 128, Adam: milliseconds, median (10%-90%); the time that batch norm adds\n")
    print("| network | none | ours | Burn's | ours adds | Burn's adds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for model, (none, ours, burn) in bench.steps().items():
        added = " | ".join(f"{norm[0] / none[0] - 1:.0%}" for norm in (ours, burn))
        print(f"| {model} | {shown(none)} | {shown(ours)} | {shown(burn)} | {added} |")


if __name__ == "__main__":
    main()
