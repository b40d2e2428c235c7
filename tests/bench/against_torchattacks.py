#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The parts of AutoAttack that libcarso has, against an independent implementation on the same PyTorch classifier.

    pip install torchattacks torchvision
    PYTHONPATH=bindings/python python3 tests/bench/against_torchattacks.py --images 1000
    PYTHONPATH=bindings/python python3 tests/bench/against_torchattacks.py --weights FILE --data CIFAR-10-FOLDER

The classifier is a PyTorch module with the weights of the bundled model's or, with --weights, torchvision's ResNet-18
on CIFAR-10 (torch_classifier.py). torchattacks attacks the module, libcarso what carso.convert makes of it. Both are
judged by the module. Each attack takes the images that are classified right without one; robust accuracy is of all.
--standard runs AutoAttack as a whole instead: each attack takes what those before it left; libcarso by carso.evaluate,
scoring included. --defence has torchattacks attack the whole defence, as a module, too.
"""

import argparse
import functools
import json
import struct
import sys
import time
from pathlib import Path

import numpy
import torch
import torchattacks
from torch import nn

import carso
import carso.torch
from torch_classifier import load_or_train

ROOT = Path(__file__).resolve().parents[2]
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")


class Network(nn.Module):
    def __init__(self, tensors):
        super().__init__()
        self.conv_0 = nn.Conv2d(1, 16, 3, 1, 1)
        self.conv_1 = nn.Conv2d(16, 32, 3, 2, 1)
        self.conv_2 = nn.Conv2d(32, 64, 3, 2, 1)
        self.logits = nn.Linear(64 * 7 * 7, 10)
        self.load_state_dict({name: torch.from_numpy(tensors["classifier." + name]) for name in self.state_dict()})

    def forward(self, x):
        x = (x - 0.286) / 0.353
        for part in (self.conv_0, self.conv_1, self.conv_2):
            x = torch.relu(part(x))
        return self.logits(torch.flatten(x, 1))


def read_tensors(path):
    whole = path.read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    header = json.loads(whole[8 : 8 + length])
    header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = numpy.frombuffer(whole[begin:end], "<f4").reshape(entry["shape"]).copy()
    return tensors


def theirs(attack, network, options):
    if attack == "apgd-ce":
        return torchattacks.APGD(network, eps=options.epsilon, steps=options.steps, loss="ce", seed=options.seed)
    if attack == "apgd-t":
        return torchattacks.APGDT(network, eps=options.epsilon, steps=options.steps, n_classes=10, seed=options.seed)
    if attack == "fab-t":
        common = {"eps": options.epsilon, "steps": options.steps, "seed": options.seed}
        return torchattacks.FAB(network, multi_targeted=True, n_classes=10, **common)
    return torchattacks.Square(network, eps=options.epsilon, n_queries=options.queries, seed=options.seed)


def ours(attack, options):
    common = {"epsilon": options.epsilon, "seed": options.seed, "early_stop": True}
    if attack == "square":
        return {**common, "method": "square", "loss": "margin", "queries": options.queries}
    if attack == "apgd-t":
        return {**common, "method": "apgd_targeted", "loss": "dlr", "steps": options.steps}
    if attack == "fab-t":
        return {**common, "method": "fab_targeted", "steps": options.steps}
    return {**common, "method": "apgd", "loss": "cross_entropy", "steps": options.steps}


def judge(network, attacked, images, labels, epsilon):
    """Which images are still classified right, or are out of bounds, where FAB may end."""
    distance = abs(attacked.double() - images.double()).flatten(1).amax(1)
    inside = (distance <= epsilon + 1e-6) & (attacked.flatten(1).amin(1) >= 0) & (attacked.flatten(1).amax(1) <= 1)
    with torch.no_grad():
        return (network(attacked).argmax(1) == labels) | ~inside


def compare(network, model, images, labels, options):
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    rows = {"clean": {"theirs": float(right.float().mean()), "ours": float(right.float().mean())}}
    survivors = {"theirs": right.clone(), "ours": right.clone()}
    for attack in options.attacks:
        row = {}
        for side in ("theirs", "ours"):
            robust = right.clone()
            elapsed = 0.0
            for start in range(0, len(images), options.batch):
                chosen = torch.nonzero(right[start : start + options.batch]).flatten() + start
                if len(chosen) == 0:
                    continue
                before = time.perf_counter()
                if side == "theirs":
                    attacked = theirs(attack, network, options)(images[chosen], labels[chosen])
                else:
                    result = model.attack(
                        images[chosen].numpy(), labels[chosen].numpy(), first_image=start, **ours(attack, options)
                    )
                    attacked = torch.from_numpy(numpy.array(result.images))
                elapsed += time.perf_counter() - before
                robust[chosen] = judge(network, attacked, images[chosen], labels[chosen], options.epsilon)
            survivors[side] &= robust
            row[side] = float(robust.float().mean())
            row[side + "_seconds"] = elapsed
        rows[attack] = row
    rows["worst per image"] = {side: float(alive.float().mean()) for side, alive in survivors.items()}
    rows["worst per image"]["images that only one side breaks"] = int((survivors["theirs"] ^ survivors["ours"]).sum())
    return rows


def standard(network, model, images, labels, options):
    """AutoAttack's four attacks in their order. The sides take turns, batch by batch: both meet the same machine."""
    section = {"name": "classifier", "objective": "classifier", "attacks": ["standard"]}
    description = {"name": "standard", "sections": [section]}
    robust = {side: torch.zeros(len(images), dtype=torch.bool) for side in ("theirs", "ours")}
    seconds = dict.fromkeys(robust, 0.0)
    left = {}
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    for start in range(0, len(images), options.batch):
        batch = slice(start, start + options.batch)
        x, y = images[batch], labels[batch]
        before = time.perf_counter()
        alive = right[batch].clone()
        for attack in ATTACKS:
            chosen = torch.nonzero(alive).flatten()
            if len(chosen) > 0:
                attacked = theirs(attack, network, options)(x[chosen], y[chosen])
                alive[chosen] = judge(network, attacked, x[chosen], y[chosen], options.epsilon)
            left.setdefault(attack, []).append(int(alive.sum()))
        seconds["theirs"] += time.perf_counter() - before
        robust["theirs"][batch] = alive
        before = time.perf_counter()
        evaluation = carso.evaluate(
            model, x.numpy(), y.numpy(), protocol=description, epsilons=options.epsilon, seed=options.seed,
            batch=options.batch, first_image=start,
        )  # fmt: skip
        seconds["ours"] += time.perf_counter() - before
        attacked = torch.from_numpy(evaluation.images(0))
        robust["ours"][batch] = judge(network, attacked, x, y, options.epsilon)
        print(f"{start + len(x)} images", file=sys.stderr, flush=True)
    clean = float(right.float().mean())
    whole = {f"{side}_seconds": seconds[side] for side in seconds}
    whole.update({side: float(alive.float().mean()) for side, alive in robust.items()})
    whole["theirs after each attack"] = {attack: sum(counts) / len(images) for attack, counts in left.items()}
    whole["images that only one side breaks"] = int((robust["theirs"] ^ robust["ours"]).sum())
    return {"clean": {"theirs": clean, "ours": clean}, "standard": whole}


def compare_defence(model, images, labels, options):
    """PGD with EoT through the whole defence: one-shot accuracy on fresh draws."""
    defence = carso.torch.Defence(model, draws=4)
    torch.manual_seed(options.seed)
    their = torchattacks.EOTPGD(
        defence, eps=options.epsilon, alpha=options.epsilon / 8, steps=options.defence_steps, eot_iter=2
    )
    before = time.perf_counter()
    attacked = {"theirs": their(images, labels).detach().numpy()}
    seconds = {"theirs": time.perf_counter() - before}
    before = time.perf_counter()
    attacked["ours"] = model.attack(
        images.numpy(), labels.numpy(), objective="defence", method="pgd", loss="cross_entropy", draws=4, eot=2,
        epsilon=options.epsilon, step_size=options.epsilon / 8, steps=options.defence_steps, seed=options.seed,
    ).images  # fmt: skip
    seconds["ours"] = time.perf_counter() - before
    row = {}
    for side, found in attacked.items():
        labelled = [model.predict_robust(found, draws=4, seed=1000 + draw).labels for draw in range(4)]
        row[side] = float(numpy.mean([one == labels.numpy() for one in labelled]))
        row[side + "_seconds"] = seconds[side]
    return row


def read_images(path, split, indices=None):
    dataset = carso.Dataset.open(path, split=split)
    images, labels = dataset.read(range(len(dataset)) if indices is None else indices)
    images = torch.from_numpy(numpy.array(images)).permute(0, 3, 1, 2).contiguous().float() / 255
    return images, torch.from_numpy(numpy.array(labels)).long()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Fashion-MNIST as IDX files or, for --weights, CIFAR-10 as carso reads it")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="index of the first image")
    parser.add_argument("--weights", type=Path, help="of torchvision's ResNet-18; trained and written where missing")
    parser.add_argument("--epochs", type=int, default=10, help="of that training")
    parser.add_argument("--standard", action="store_true", help="AutoAttack as a whole")
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--epsilon", type=float, help="0.1 by itself; with --weights 8/255")
    parser.add_argument("--steps", type=int, default=100, help="of APGD and FAB")
    parser.add_argument("--queries", type=int, default=5000, help="of Square")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--defence", type=int, default=0, metavar="IMAGES", help="attack the defence on so many images")
    parser.add_argument("--defence-steps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    bundled = ROOT / "models" / "fashion-mnist" / "model.safetensors"
    if options.epsilon is None:
        options.epsilon = 8 / 255 if options.weights else 0.1
    if options.weights:
        if not options.data:
            parser.error("--weights needs --data, a folder with CIFAR-10")
        if not options.weights.parent.is_dir():
            parser.error(f"--weights: there is no folder {options.weights.parent}")
        if options.defence:
            parser.error("--defence attacks the bundled model's, and --weights names another classifier")
        read = functools.partial(read_images, options.data, "train")
        network = load_or_train(options.weights, read, options.epsilon, options.epochs, options.seed)
    else:
        options.data = options.data or "/usr/share/datasets/fashion-mnist"
        network = Network(read_tensors(bundled)).eval().requires_grad_(False)
    context = carso.Context(threads=options.threads)
    images, labels = read_images(options.data, "test", range(options.first, options.first + options.images))
    model = carso.convert(network, images.shape[1:], context=context)

    compared = standard if options.standard else compare
    rows = compared(network, model, images, labels, options)
    if options.defence:
        count = min(options.defence, len(images))
        rows["defence"] = compare_defence(carso.Model.load(bundled, context), images[:count], labels[:count], options)
    if options.json:
        print(json.dumps({"images": options.images, "torch": torch.__version__, "backend": context.backend, **rows}))
        return 0
    print(f"{'':16} torchattacks  libcarso   accuracy of {options.images} images, and seconds")
    for name, row in rows.items():
        times = [f"{row[side + '_seconds']:9.1f} s" if side + "_seconds" in row else "" for side in ("theirs", "ours")]
        print(f"{name:16} {row['theirs']:12.4f} {row['ours']:9.4f} {times[0]:>13} {times[1]:>13}")
    whole = rows["standard" if options.standard else "worst per image"]
    print(f"{whole['images that only one side breaks']} images are broken by one side alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
