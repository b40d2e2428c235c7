# SPDX-License-Identifier: BSD-2-Clause
"""A classifier of Fashion-MNIST that is PyTorch's throughout: its layers, its adversarial training, its weights."""

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def build():
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Residual(24),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Residual(48),
        nn.Flatten(),
        nn.Linear(48 * 7 * 7, 10),
    )


def train(images, labels, epsilon, epochs, seed):
    """FGSM from a random start (Wong, Rice and Kolter 2020), the learning rate up and down in one cycle."""
    torch.manual_seed(seed)
    network = build()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    batches = len(images) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=epochs * batches, pct_start=0.3)
    for epoch in range(epochs):
        order = torch.randperm(len(images))
        total = 0.0
        for batch in order[: batches * 128].split(128):
            x, y = images[batch], labels[batch]
            start = (torch.rand_like(x) * 2 - 1) * epsilon
            start = (x + start).clamp(0, 1).requires_grad_()
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(network(start), y), start)
            moved = start.detach() + 1.25 * epsilon * gradient.sign()
            attacked = torch.maximum(torch.minimum(moved, x + epsilon), x - epsilon).clamp(0, 1)
            loss = nn.functional.cross_entropy(network(attacked), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / batches:.3f}", flush=True)
    return network


def load_or_train(path, read, epsilon, epochs, seed):
    """The weights at path; where there is none, trains on what read() gives and writes them there."""
    network = build()
    if path.exists():
        network.load_state_dict(torch.load(path))
    else:
        network = train(*read(), epsilon, epochs, seed)
        torch.save(network.state_dict(), path)
    return network.eval().requires_grad_(False)
