#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Trains a small purifier for a classifier for some steps, attacks both, and plots what happened.

A purifier that is worth its name takes an epoch or more: see docs/training.md. This shows the calls.
"""

import argparse

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

import carso  # noqa: E402


def train(classifier, dataset, steps, batch):
    """A new purifier for the classifier, and the reports of its training steps."""
    untrained = classifier.add_purifier(condition_size=64, latent_size=16, seed_channels=32, seed=1)
    trainer = carso.Trainer.purifier(
        untrained,
        steps_per_epoch=max(1, steps // 4),
        epochs=4,
        schedule_by_step=True,
        epsilon=0.1,
        pgd_steps=3,
        pgd_step_size=0.05,
        warm_up_epochs=1,
        plateau_epochs=2,
        annealing_epochs=1,
        learning_rate_peak=3e-3,
        learning_rate_end=1e-4,
        beta_start_epoch=1,
        beta_full_epoch=2,
        mean_loss=True,
        seed=1,
    )
    reports = []
    while len(reports) < steps:
        order = dataset.shuffle(seed=1, epoch=len(reports))
        images, labels = dataset.read(order[:batch])
        reports.append(trainer.step(images, labels))
    return trainer.model(), reports


def accuracy(prediction, labels):
    return float((prediction.labels == labels).mean())


def plot(path, classes, reports, columns, rows):
    """The loss above, the pictures below; rows: (title, images, labels)."""
    figure = pyplot.figure(figsize=(1.2 * columns + 1, 3.5 + 1.4 * len(rows)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.2, 1.4 * len(rows)))
    axes = upper.subplots()
    axes.plot([report.step for report in reports], [report.loss for report in reports])
    axes.set_xlabel("step")
    axes.set_ylabel("loss per image")
    for line, (title, images, labels) in zip(lower.subplots(len(rows), columns, squeeze=False), rows):
        for index, cell in enumerate(line):
            cell.imshow(images[index], cmap="gray" if images.shape[-1] == 1 else None, vmin=0, vmax=1)
            cell.set_title(classes[labels[index]][:12], fontsize=7)
            cell.set_xticks([])
            cell.set_yticks([])
        line[0].set_ylabel(title, fontsize=8)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="models/fashion-mnist/model.safetensors", help="whose classifier is defended"
    )
    parser.add_argument("--data", default="models/fashion-mnist/test-256", help="a data set with test images")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=8, help="how many are attacked and shown")
    parser.add_argument("--output", default="train_attack_plot.png")
    arguments = parser.parse_args()

    context = carso.Context()
    classifier = carso.Model.load(arguments.model, context)
    dataset = carso.Dataset.open(arguments.data, split="test", context=context)
    model, reports = train(classifier, dataset, arguments.steps, arguments.batch)
    print(f"loss per image: {reports[0].loss:.2f} at step 0, {reports[-1].loss:.2f} at step {reports[-1].step}")

    images, labels = dataset.read(range(arguments.images))
    attack = {"epsilon": 0.1, "step_size": 0.02, "steps": 10}
    on_classifier = model.attack(images, labels, **attack)
    on_defence = model.attack(images, labels, objective="defence", draws=4, eot=2, **attack)
    clean = model.predict(images)
    alone = model.predict(on_classifier.images)
    undisturbed = model.predict_robust(images, seed=2)
    defended = model.predict_robust(on_defence.images, seed=2, keep_reconstructions=True)
    print(f"classifier: {accuracy(clean, labels):.2f} clean, {accuracy(alone, labels):.2f} attacked")
    print(f"defence: {accuracy(undisturbed, labels):.2f} clean, {accuracy(defended, labels):.2f} attacked")

    rows = [
        ("image", images / 255.0, labels),
        ("attacked alone", on_classifier.images, alone.labels),
        ("attacked defence", on_defence.images, defended.labels),
        ("a reconstruction", defended.reconstructions[0], defended.logits[0].argmax(axis=1)),
    ]
    plot(arguments.output, model.class_names, reports, len(images), rows)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
