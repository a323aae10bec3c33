"""Times PyTorch: the peer of benches/gpu, which starts this script.

Reads one JSON object on standard input: the cases, and how long this may take. Writes one JSON object a line on standard
output, in the form of benches/gpu/entry.rs.

Each case is timed with tensors in their natural layout, then with `channels_last`, then compiled by `torch.compile`:
whoever runs out of time leaves out the last. A sample is a window of many calls, timed by CUDA's events, elsewhere by the
host's clock between two synchronisations. Then: epochs of the networks of benches/peers/epoch.py.
"""

import json
import math
import statistics
import sys
import time
import traceback
from pathlib import Path

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
WINDOW = 4e-3
MOST_CALLS = 50
SAMPLES = 5, 25
SECONDS_OF_A_CASE = 0.05


def say(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)


def note(text, case=None):
    say("note", part="torch", case=case, text=text)


def named(what):
    """What a job measures, in words."""
    match what:
        case (dict() as case, who):
            return f"{who}, {case['dtype']} {case['shape']} {case['pass']}, {case['tail']}"
        case (network, norm):
            return f"{network}, norm {norm}"
        case size:
            return f"a copy of {size} bytes"


def main():
    job = json.loads(sys.stdin.readline())
    try:
        import torch
    except ImportError as error:
        return note(f"PyTorch is not measured: {error} (--python takes a Python that has it)")
    device = job["device"]
    if device is None and torch.cuda.is_available():
        device = "cuda"
    elif device is None and torch.backends.mps.is_available():
        device = "mps"
    elif device is None:
        return note(f"PyTorch is not measured: {torch.__version__} finds no GPU")
    Peer(torch, device, job).run()


class Peer:
    def __init__(self, torch, device, job):
        self.torch, self.device, self.job = torch, device, job
        self.until = time.monotonic() + job["seconds"]
        self.done = 0

    def run(self):
        name = self.torch.cuda.get_device_name() if self.device == "cuda" else self.device
        say("about", name="PyTorch", value=f"{self.torch.__version__} on {name}")
        cases = self.job["cases"]
        images = [case for case in cases if len(case["shape"]) == 4]
        jobs = [(self.copy, 2**24 if self.job["quick"] else 2**30)]
        jobs += [(self.layer, (case, "pytorch")) for case in cases]
        # Epochs before what takes longest.
        jobs += [(self.epoch, training) for training in (("mlp", "batch"), ("cnn", "batch"), ("mlp", "none"))]
        jobs += [(self.layer, (case, "pytorch channels last")) for case in images]
        jobs += [(self.layer, (case, "pytorch compiled")) for case in images]
        for index, (measure, what) in enumerate(jobs):
            if index < self.job["skip"]:
                continue
            if time.monotonic() > self.until:
                return note(f"out of time: {len(jobs) - index} of {len(jobs)} cases left out")
            try:
                measure(what)
            except Exception as error:
                traceback.print_exc()
                lines = str(error).strip().splitlines() or [type(error).__name__]
                note(lines[0], case=named(what))

    def settle(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        elif self.device == "mps":
            self.torch.mps.synchronize()

    def window(self, call, calls):
        """The milliseconds of so many calls."""
        self.settle()
        if self.device == "cuda":
            start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
            return start.elapsed_time(end)
        started = time.perf_counter()
        for _ in range(calls):
            call()
        self.settle()
        return 1e3 * (time.perf_counter() - started)

    def measure(self, call):
        for _ in range(3):
            once = self.window(call, 1)
        calls = min(max(math.ceil(1e3 * WINDOW / max(once, 1e-6)), 1), MOST_CALLS)
        samples, started = [], time.perf_counter()
        while len(samples) < SAMPLES[0] or (
            len(samples) < SAMPLES[1] and time.perf_counter() - started < SECONDS_OF_A_CASE
        ):
            samples.append(self.window(call, calls) / calls)
        tenths = statistics.quantiles(samples, n=10, method="inclusive")
        return {
            "median": statistics.median(samples),
            "low": tenths[0],
            "high": tenths[-1],
            "samples": len(samples),
            "calls": calls,
            "clock": "device" if self.device == "cuda" else "host",
        }

    def copy(self, size):
        x = self.torch.randn(size // 4, device=self.device)
        y = self.torch.empty_like(x)
        say("copy", who="PyTorch's copy", bytes=2 * size, time=self.measure(lambda: y.copy_(x)))

    def layer(self, what):
        case, who = what
        torch, shape = self.torch, case["shape"]
        kind = {"device": self.device, "dtype": getattr(torch, DTYPES[case["dtype"]])}
        kind_of_layer = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d
        norm = kind_of_layer(shape[1]).to(self.device)

        def tensor():
            made = torch.randn(shape, **kind) * 2 + 0.5
            return made.to(memory_format=torch.channels_last) if who == "pytorch channels last" else made

        def forward(x, skip):
            y = norm(x)
            if skip is not None:
                y = y + skip
            if case["tail"] == "nothing":
                return y
            y = torch.relu(y)
            return torch.nn.functional.max_pool2d(y, 2) if case["tail"] == "relu_max_pool" else y

        if who == "pytorch compiled":
            # Each case has kernels of its own.
            torch._dynamo.reset()
            forward = torch.compile(forward)
        norm.train(case["pass"] != "inference")
        x, gradient = tensor().requires_grad_(), tensor()
        if case["tail"] == "relu_max_pool":
            gradient = torch.nn.functional.max_pool2d(gradient, 2)
        skip = tensor().requires_grad_() if case["tail"] == "add_relu" else None

        def inference():
            with torch.no_grad():
                forward(x, skip)

        def backward():
            x.grad = None
            if skip is not None:
                skip.grad = None
            forward(x, skip).backward(gradient)

        call = {"inference": inference, "forward": lambda: forward(x, skip), "backward": backward}[case["pass"]]
        say("time", who=who, case=case, time=self.measure(call), moved=None, kernels=[])

    def epoch(self, training):
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
        import epoch

        images, labels = epoch.load(Path(self.job["data"] or epoch.DATA))
        split = 55_000
        if self.job["quick"]:
            images, labels, split = images[:1_536], labels[:1_536], 1_408
        data = images.to(self.device), labels.to(self.device)
        network, norm = training
        model = (epoch.cnn() if network == "cnn" else epoch.mlp(norm == "batch")).to(self.device)
        optimizer = self.torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(2):
            seconds = epoch.epoch(model, optimizer, *data, split)
        say("epoch", who="PyTorch", network=network, norm=norm, images=split, seconds=seconds)


if __name__ == "__main__":
    main()
