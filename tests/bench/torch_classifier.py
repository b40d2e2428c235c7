# SPDX-License-Identifier: BSD-2-Clause
"""A classifier of CIFAR-10 that is PyTorch's throughout: torchvision's ResNet-18 as it is, trained adversarially."""

import torch
import torchvision
from torch import nn


def build():
    return torchvision.models.resnet18(num_classes=10)


def augment(images):
    """Mirrors half of the images and moves the batch by up to 4 pixels."""
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    row, column = torch.randint(0, 9, (2,)).tolist()
    height, width = images.shape[2:]
    return nn.functional.pad(images, (4, 4, 4, 4))[:, :, row : row + height, column : column + width]


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
            x, y = augment(images[batch]), labels[batch]
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
