"""PyTorch's batch norm on the processor, at the shapes of benches/batch_norm.rs.

    python benches/peers/batch_norm.py                    PyTorch's times
    python benches/peers/batch_norm.py target/criterion   a table of them beside what `cargo bench` has just measured

Times are milliseconds, medians with the 10th and 90th percentile. "backward" is the forward and the backward pass of
a layer in training. On our side the time of an empty graph is taken off it: PyTorch is given the gradient that it
starts from, Burn fills one with ones.
"""

import json
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
CASES = ["inference", "forward", "backward"]


def measure(run):
    """Median, 10th and 90th percentile of a call, in milliseconds, over about a second and a half."""
    until = time.perf_counter() + 0.3
    while time.perf_counter() < until:
        run()
    times = []
    until = time.perf_counter() + 1.5
    while time.perf_counter() < until or len(times) < 10:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    tenths = statistics.quantiles(times, n=10)
    return statistics.median(times), tenths[0], tenths[-1]


def peer(shape):
    """PyTorch's times of the three cases."""
    layer = (torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d)(shape[1])
    x = torch.randn(shape) * 2 + 0.5
    leaf = x.clone().requires_grad_()
    gradient = torch.ones(shape)

    def inference():
        with torch.no_grad():
            layer(x)

    def backward():
        leaf.grad = None
        layer(leaf).backward(gradient)

    layer.eval()
    times = {"inference": measure(inference)}
    layer.train()
    times["forward"] = measure(lambda: layer(leaf))
    times["backward"] = measure(backward)
    return times


def ours(criterion, backend, shape, name):
    """The median that criterion found, in milliseconds; None where it has not run."""
    group = f"{backend}_{'x'.join(map(str, shape))}"
    file = criterion / group / name / "new" / "estimates.json"
    if not file.exists():
        return None
    return json.loads(file.read_text())["median"]["point_estimate"] * 1e-6


def table(criterion, backend, peers):
    print(f"\n{backend}, milliseconds; times as fast as Burn's layer, as PyTorch; times of a copy\n")
    print("| shape | case | fused | Burn | PyTorch (10%-90%) | / Burn | / PyTorch | copy | in copies |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        copy = ours(criterion, backend, shape, "copy")
        for case in CASES:
            found = [ours(criterion, backend, shape, f"{case} {who}") for who in ("fused", "burn")]
            if copy is None or None in found:
                continue
            if case == "backward":
                empty = ours(criterion, backend, shape, "empty")
                found = [time - empty for time in found]
            fused, burn = found
            median, low, high = peers[shape][case]
            print(
                f"| {list(shape)} | {case} | {fused:.3f} | {burn:.3f} | {median:.3f} ({low:.3f}-{high:.3f}) "
                f"| {burn / fused:.1f} | {median / fused:.1f} | {copy:.3f} | {fused / copy:.1f} |"
            )


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
        if any(ours(criterion, backend, shape, "copy") for shape in SHAPES):
            table(criterion, backend, peers)


if __name__ == "__main__":
    main()
