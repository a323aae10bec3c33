"""An epoch of MNIST in PyTorch: the peer of benches/epoch.rs. Needs torch and numpy.

    python benches/peers/epoch.py [--threads 2] [--epochs 5]

Same networks, data (in memory, as bytes), batch size, optimiser and order of work: trains on 55,000 images, reads the
loss and accuracy of every step as numbers, then validates on 5,000 images. Prints medians.
"""

import argparse
import gzip
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DATA = Path(__file__).resolve().parents[2] / "data" / "mnist"
BATCH = 128


def load(folder=DATA):
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def mlp(norm):
    layers, inputs = [nn.Flatten()], 784
    for _ in range(5):
        layers.append(nn.Linear(inputs, 100, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm1d(100))
        layers.append(nn.ReLU())
        inputs = 100
    return nn.Sequential(*layers, nn.Linear(100, 10))


def cnn():
    return nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 10),
    )


def batches(images, labels, order):
    for start in range(0, len(order), BATCH):
        index = order[start:start + BATCH].to(images.device)
        pixels = images[index].to(torch.float32)
        yield pixels.mul_(1 / (255 * 0.3081)).sub_(0.1307 / 0.3081), labels[index]


def epoch(model, optimizer, images, labels, training=55_000):
    """Trains on the first images, validates on the others. Returns the seconds that it took."""
    started = time.perf_counter()
    model.train()
    scores = []
    for x, y in batches(images, labels, torch.randperm(training)):
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        scores.append((loss.item(), (logits.argmax(1) == y).sum().item()))
    model.eval()
    with torch.no_grad():
        for x, y in batches(images, labels, torch.arange(training, len(images))):
            logits = model(x)
            scores.append((F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).sum().item()))
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--cnn", action="store_true", help="also measure one epoch of the convolutional network")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images, labels = load()
    for name, model, epochs in [
        ("epoch/none", mlp(False), arguments.epochs),
        ("epoch/batch", mlp(True), arguments.epochs),
    ] + ([("epoch/cnn", cnn(), 1)] if arguments.cnn else []):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        times = [epoch(model, optimizer, images, labels) for _ in range(epochs)]
        print(f"{name:12} {statistics.median(times):.3f} s  (PyTorch {torch.__version__}, "
              f"{arguments.threads} threads)")


if __name__ == "__main__":
    main()
