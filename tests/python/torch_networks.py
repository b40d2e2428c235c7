# SPDX-License-Identifier: BSD-2-Clause
"""PyTorch classifiers as people write them, small and with random weights. Without PyTorch the test is skipped."""

import sys

try:
    import torch
    from torch.overrides import TorchFunctionMode  # noqa: F401
except ImportError as error:
    print(f"PyTorch 1.13 or newer is needed: {error}")
    sys.exit(77)

from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)


def randomise(module, seed=1):
    """Weights of a sensible size and running statistics that are not those of a new network; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif tensor.dim() > 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(
                    0.2 * torch.randn(tensor.shape, generator=generator) + (1.0 if name.endswith("weight") else 0)
                )
    return module.eval()


def random_images(count, shape, seed=7):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


class PlainNetwork(nn.Module):
    """Convolutions, pooling, linear layers; standardises by itself."""

    def __init__(self, classes=5, side=28):
        super().__init__()
        self.register_buffer("mean", torch.full((1, 1, 1, 1), 0.286))
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3),
            nn.LeakyReLU(0.1),
            nn.AvgPool2d(2),
        )
        self.drop = nn.Dropout(0.4)
        last = (side // 2 - 2) // 2
        self.hidden = nn.Linear(12 * last * last, 20)
        self.out = nn.Linear(20, classes)

    def forward(self, x):
        x = self.features((x - self.mean) / 0.353)
        x = x.view(x.size(0), -1)
        return self.out(self.drop(torch.tanh(self.hidden(x))))


class BasicBlock(nn.Module):
    def __init__(self, channels, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or channels != planes:
            self.downsample = nn.Sequential(nn.Conv2d(channels, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResidualNetwork(nn.Module):
    """As torchvision's: a stem with max-pooling, one ReLU for several places, in place."""

    def __init__(self, classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class WideBlock(nn.Module):
    def __init__(self, channels, planes, stride):
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(channels)
        self.conv_0 = nn.Conv2d(channels, planes, 3, stride, 0, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(planes)
        self.conv_1 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, planes, 1, stride, bias=False) if channels != planes else None
        self.padding = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)

    def forward(self, x):
        active = F.silu(self.batchnorm_0(x))
        out = self.conv_1(F.silu(self.batchnorm_1(self.conv_0(F.pad(active, self.padding)))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideNetwork(nn.Module):
    """A WideResNet with the public checkpoints' names."""

    def __init__(self, depth=10, width=1, classes=10):
        super().__init__()
        planes = [16, 16 * width, 32 * width, 64 * width]
        self.init_conv = nn.Conv2d(3, planes[0], 3, 1, 1, bias=False)
        self.layer = nn.ModuleList()
        for group in range(3):
            blocks = nn.Module()
            blocks.block = nn.Sequential(
                *[
                    WideBlock(planes[group + (block > 0)], planes[group + 1], 2 if group > 0 and block == 0 else 1)
                    for block in range((depth - 4) // 6)
                ]
            )
            self.layer.append(blocks)
        self.batchnorm = nn.BatchNorm2d(planes[3])
        self.logits = nn.Linear(planes[3], classes)

    def forward(self, x):
        x = self.init_conv(x)
        for group in self.layer:
            x = group.block(x)
        return self.logits(F.silu(self.batchnorm(x)).mean((2, 3)))
