"""PyTorch's batch norm on the processor, at the shapes of benches/batch_norm.rs.

    python benches/peers/batch_norm.py                    PyTorch's times
    python benches/peers/batch_norm.py target/criterion   a table of them beside what `cargo bench` has just measured

Times are milliseconds, medians with the 10th and 90th percentile. What is timed is what benches/batch_norm.rs says:
"forward" is the forward pass of a layer in training, each followed by its backward pass, which is not timed; "backward"
is both, from a gradient of the output that is at hand.

"GB/s" is the bytes that must move, divided by the time: each tensor of the input's size that is read or written counts
once. These are 2 for inference, forward and a copy, and 5 for forward and backward (the input and the output; the input,
the output's gradient and the input's).
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch

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
# Tensors that must move.
CASES = {"inference": 2, "forward": 2, "backward": 5}
MODELS = ["mlp", "cnn"]


def spread(times):
    """Median, 10th and 90th percentile."""
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return statistics.median(times), tenths[0], tenths[-1]


def measure(run, after=lambda result: None):
    """The spread of a call's time, in milliseconds, over about a second and a half; `after` it is not timed."""
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until:
        after(run())
    times = []
    until = time.perf_counter() + 1.5
    while time.perf_counter() < until or len(times) < 10:
        start = time.perf_counter()
        result = run()
        times.append((time.perf_counter() - start) * 1e3)
        after(result)
    return spread(times)


def peer(shape):
    """PyTorch's times of the three cases."""
    layer = (torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d)(shape[1])
    x = torch.randn(shape) * 2 + 0.5
    leaf = x.clone().requires_grad_()
    gradient = torch.ones(shape)

    def inference():
        with torch.no_grad():
            layer(x)

    def forward():
        return layer(leaf)

    def back(output):
        leaf.grad = None
        output.backward(gradient)

    layer.eval()
    times = {"inference": measure(inference)}
    layer.train()
    times["forward"] = measure(forward, after=back)
    times["backward"] = measure(lambda: back(forward()))
    return times


def ours(criterion, group, name):
    """The spread of what criterion has measured, in milliseconds; None where it has not run."""
    file = criterion / group / name / "new" / "sample.json"
    if not file.exists():
        return None
    sample = json.loads(file.read_text())
    return spread([time / times * 1e-6 for time, times in zip(sample["times"], sample["iters"])])


def shown(found):
    median, low, high = found
    return f"{median:.3f} ({low:.3f}-{high:.3f})"


def table(criterion, backend, peers):
    print(f"\n{backend}: milliseconds, median (10%-90%); times as fast as Burn's layer, as PyTorch; times of a copy\n")
    print("| shape | case | ours | Burn | PyTorch | / Burn | / PyTorch | copy | in copies | GB/s | of a copy |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        group = f"{backend}_{'x'.join(map(str, shape))}"
        copy = ours(criterion, group, "copy")
        for case, tensors in CASES.items():
            layer, burn = (ours(criterion, group, f"{case} {who}") for who in ("ours", "burn"))
            if None in (copy, layer, burn):
                continue
            peer = peers[shape][case]
            megabytes = 4e-6 * math.prod(shape)
            print(
                f"| {list(shape)} | {case} | {shown(layer)} | {shown(burn)} | {shown(peer)} "
                f"| {burn[0] / layer[0]:.1f} | {peer[0] / layer[0]:.1f} | {shown(copy)} | {layer[0] / copy[0]:.1f} "
                f"| {tensors * megabytes / layer[0]:.0f} | {2 * megabytes / copy[0]:.0f} |"
            )


def steps(criterion):
    found = {
        model: [ours(criterion, f"training step_{model}", norm) for norm in ("none", "batch", "burn")]
        for model in MODELS
    }
    if any(None in times for times in found.values()):
        return
    print("\na step of training, batch 128, Adam: milliseconds, median (10%-90%); what batch norm adds\n")
    print("| network | none | ours | Burn's | ours adds | Burn's adds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for model, (none, batch, burn) in found.items():
        added = " | ".join(f"{norm[0] / none[0] - 1:.0%}" for norm in (batch, burn))
        print(f"| {model} | {shown(none)} | {shown(batch)} | {shown(burn)} | {added} |")


def main():
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    peers = {shape: peer(shape) for shape in SHAPES}
    if len(sys.argv) < 2:
        for shape, times in peers.items():
            for case, (median, low, high) in times.items():
                print(f"{list(shape)!s:20} {case:10} {median:8.3f} ({low:.3f}-{high:.3f})")
        return
    criterion = Path(sys.argv[1])
    if not criterion.is_dir():
        sys.exit(f"{criterion} is not a folder: run `cargo bench --bench batch_norm` first, then pass target/criterion")
    for backend in ("flex", "ndarray"):
        if any(criterion.glob(f"{backend}_*/copy")):
            table(criterion, backend, peers)
    steps(criterion)


if __name__ == "__main__":
    main()
