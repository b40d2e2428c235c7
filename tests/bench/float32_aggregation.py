#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What an attack reports that goes through the method's aggregation as float32 computes it.

    PYTHONPATH=bindings/python python3 tests/bench/float32_aggregation.py MODEL DATASET --epsilon 0.1

The defence hands out log(p / (1 - p)) of p = softmax(sum over draws of exp(logits)), computed in float32 by PyTorch, and
PGD raises the cross-entropy of that. Where the leading class's p rounds to 1 its log-odds are infinite and the gradient
is no number; attacks take the sign of that for 0 and stand still. The same PGD, with the same draws, then follows the
same aggregation in double and in the log domain, and the margin of the draws' mean logits. All three are scored alike,
by carso.evaluate: one-shot accuracy on draws that no attack has met.
"""

import argparse
import json
import sys

import torch

import carso


class Float32Aggregation:
    """A loss for carso.evaluate; counts the gradients that are no numbers."""

    def __init__(self):
        self.gradients = self.not_finite = 0

    def __call__(self, batch):
        logits = torch.tensor(batch.logits, dtype=torch.float32, requires_grad=True)
        labels = torch.from_numpy(batch.labels).long()
        log_odds = torch.logit(torch.softmax(logits.exp().sum(0), 1))
        losses = torch.nn.functional.cross_entropy(log_odds, labels, reduction="none")
        # Of losses that are no numbers PyTorch's comparisons take none for the larger.
        reported = torch.nan_to_num(losses.detach(), nan=0.0, posinf=1e30).numpy()
        if not batch.wants_gradient:
            return reported, None
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        bad = ~torch.isfinite(gradient).all(2).all(0)
        self.gradients += len(bad)
        self.not_finite += int(bad.sum())
        # Its sign, 0 in PyTorch, is what an attack would follow.
        gradient[:, bad] = 0
        return reported, gradient.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--eot", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the evaluation's whole result as one JSON object")
    options = parser.parse_args()

    context = carso.Context(threads=options.threads)
    model = carso.Model.load(options.model, context)
    images, labels = carso.Dataset.open(options.dataset, split="test").read(range(options.images))
    attack = {"method": "pgd", "steps": options.steps, "eot": options.eot}
    losses = {"float32": "callback", "double": "carso-cross-entropy", "mean logits": "margin"}
    protocol = {
        "name": "float32 aggregation",
        "sections": [
            {"name": name, "objective": "defence", "attacks": [{**attack, "loss": loss}]} for name, loss in losses.items()
        ],
    }
    in_float32 = Float32Aggregation()

    def show(done, total, unit):
        print(f"\r{done} of {total} {unit}", end="", file=sys.stderr, flush=True)

    evaluation = carso.evaluate(
        model, images, labels, protocol=protocol, epsilons=options.epsilon, seed=options.seed,
        loss_function=in_float32, progress=show,
    )  # fmt: skip
    print(file=sys.stderr)
    result = evaluation.result
    share = in_float32.not_finite / max(in_float32.gradients, 1)
    if options.json:
        print(json.dumps({**result, "float32_gradients_not_finite": share}))
        return 0
    clean = result["clean"]["defence"]["accuracy"]
    print(
        f"{options.images} images, epsilon {options.epsilon:.4g}, PGD of {options.steps} steps, "
        f"{options.eot} sets of draws; clean {clean:.4f}"
    )
    for cell in result["cells"]:
        score, attack = cell["score"], cell["attacks"][0]
        print(
            f"{cell['section']:12} accuracy {score['accuracy']:.4f} ({score['low']:.4f} to {score['high']:.4f}); "
            f"{attack['zero_gradient']:.1%} of the gradient's components zero"
        )
    print(f"float32: {share:.1%} of {in_float32.gradients} gradients were not finite")
    for flag in result["flags"]:
        print(f"flag {flag['flag']} in {flag.get('section', 'the model')}: {flag['value']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
