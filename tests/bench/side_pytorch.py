# SPDX-License-Identifier: BSD-2-Clause
"""PyTorch's side of against_pytorch.py: a statement of CARSO in PyTorch, loaded from a file, and a training step with it."""
import argparse
import importlib.util
import json
import sys

import numpy
import random_numbers
import torch
import torch.nn.functional as F
import worker


def load_reference(path):
    spec = importlib.util.spec_from_file_location("carso_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(reference, settings):
    """The same random weights in every process that is given the same settings."""
    arguments = argparse.Namespace(seed=settings["seed"], depth=settings["depth"], width=settings["width"],
                                   classes=settings["classes"], size=settings["size"],
                                   f_crepr=settings["condition_size"], f_joint=settings["latent_size"])
    with torch.no_grad():
        model, _ = reference.build(arguments)
    model.purifier.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


class Training:
    """The purifier's training: attacks on a part of the batch, a step of RAdam, Lookahead around it."""

    def __init__(self, reference, model, settings, format_of):
        self.reference, self.model, self.settings, self.format_of = reference, model, settings, format_of
        self.classifier = torch.compile(model.classifier) if settings["peer"] == "compile" else model.classifier
        self.generator = torch.Generator().manual_seed(settings["seed"])
        model.purifier.train()
        for parameter in model.purifier.parameters():
            parameter.requires_grad_(True)
        self.learned = list(model.purifier.parameters())
        self.slow = [parameter.detach().clone() for parameter in self.learned]
        self.optimiser = torch.optim.RAdam(self.learned, lr=5e-9, betas=(0.9, 0.999), eps=1e-8)
        self.steps = 0

    def gradient(self, images, labels):
        point = images.detach().requires_grad_(True)
        loss = F.cross_entropy(self.classifier(point), labels, reduction="sum")
        return torch.autograd.grad(loss, point)[0]

    def attack(self, images, labels):
        """Four equal parts at the front of the batch: FGSM and PGD, at half of epsilon and at the whole."""
        attacked = images.clone()
        quarter = round(len(images) * self.settings["adversarial_fraction"]) // 4
        if quarter == 0:
            return attacked
        strength = 8 / 255 * torch.cat([torch.full((quarter, 1, 1, 1), 0.5), torch.ones(quarter, 1, 1, 1)])
        fast, slow = slice(0, 2 * quarter), slice(2 * quarter, 4 * quarter)
        clean = images[fast]
        attacked[fast] = (clean + strength * self.gradient(clean, labels[fast]).sign()).clamp(0, 1)
        clean = images[slow]
        noise = torch.rand(clean.shape, generator=self.generator)
        point = (clean + strength * (2 * noise - 1)).clamp(0, 1)
        for _ in range(self.settings["pgd_steps"]):
            point = point + 0.01 * self.gradient(point, labels[slow]).sign()
            point = torch.minimum(torch.maximum(point, clean - strength), clean + strength).clamp(0, 1)
        attacked[slow] = point
        return attacked

    def loss(self, images, targets, noise, beta):
        purifier, classifier = self.model.purifier, self.model.classifier
        with torch.no_grad():
            _, taps = self.reference.run_with_taps(classifier, images, self.model.names)
        condition = purifier.condition(taps)
        mean, log_variance = purifier.encode((images - classifier.mean) / classifier.std, condition)
        reconstruction = purifier.decode(mean + noise * torch.exp(0.5 * log_variance), condition)
        return self.reference.vae_loss(reconstruction, targets, mean, log_variance, beta)

    def step(self, images, labels):
        attacked = self.format_of(self.attack(images, labels))
        noise = torch.randn((len(images), self.model.purifier.f_joint), generator=self.generator)
        self.optimiser.zero_grad()
        self.loss(attacked, images, noise, 0.0)[0].backward()
        self.optimiser.step()
        self.steps += 1
        if self.steps % 6 == 0:
            with torch.no_grad():
                for fast, slow in zip(self.learned, self.slow):
                    fast.copy_(slow.lerp_(fast, 0.8))


class Side:
    def __init__(self, settings):
        if settings["peer"] == "compile" and not hasattr(torch, "compile"):
            raise NotImplementedError(f"PyTorch {torch.__version__} has no torch.compile")
        torch.set_num_threads(settings["threads"])
        self.settings = settings
        self.reference = load_reference(settings["reference"])
        self.model = build(self.reference, settings)
        last = settings["peer"] == "channels_last"
        self.memory = torch.channels_last if last else torch.contiguous_format
        self.model = self.model.to(memory_format=self.memory)
        compiled = settings["peer"] == "compile"
        self.run = torch.compile(self.model.predict_robust) if compiled else self.model.predict_robust
        self.training = Training(self.reference, self.model, settings, self.format_of) if settings["training"] else None
        self.cached = {}
        self.about = f"PyTorch {torch.__version__}"

    def format_of(self, images):
        return images.contiguous(memory_format=self.memory)

    def samples(self, count):
        """Images, labels, latents."""
        if count not in self.cached:
            images, labels = worker.samples(self.settings, count)
            latents = random_numbers.latents(self.settings["seed"], self.settings["draws"], count,
                                             self.model.purifier.f_joint)
            self.cached[count] = (self.format_of(torch.from_numpy(images)), torch.from_numpy(labels),
                                  torch.from_numpy(latents))
        return self.cached[count]

    def predict(self, batch):
        images, _, latents = self.samples(batch)
        with torch.no_grad():
            return self.run(images, latents)

    def gradient(self, batch):
        images, labels, latents = self.samples(batch)
        point = images.detach().requires_grad_(True)
        probabilities = self.run(point, latents, "probability")[0]
        loss = F.nll_loss(probabilities.log(), labels, reduction="sum")
        return torch.autograd.grad(loss, point)[0]

    def train(self):
        images, labels, _ = self.samples(self.settings["train_batch"])
        self.training.step(images, labels)

    def check(self, batch):
        images, labels, latents = self.samples(batch)
        if self.training:
            return self.check_training(images)
        self.model.purifier.eval()
        with torch.no_grad():
            probabilities, logits, reconstructions = self.model.predict_robust(images, latents, "probability")
            classifier_logits = self.model.classifier(images)
        point = images.clone().requires_grad_(True)
        loss = F.cross_entropy(self.model.classifier(point), labels, reduction="sum")
        return {"classifier logits": classifier_logits.numpy(),
                "classifier gradient": torch.autograd.grad(loss, point)[0].numpy(),
                "reconstructions": reconstructions.numpy(),
                "logits of the draws": logits.numpy(),
                "log probabilities": probabilities.log().numpy(),
                "gradient of the defence": self.gradient(batch).numpy()}

    def check_training(self, images):
        buffers = {name: value.clone() for name, value in self.model.purifier.named_buffers()}
        noise = random_numbers.training_noise(self.settings["seed"], 0, len(images), self.model.purifier.f_joint)
        total, reconstruction, divergence = self.training.loss(images, images, torch.from_numpy(noise), 0.0)
        gradients = torch.autograd.grad(total, self.training.learned, allow_unused=True)
        norm = sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None) ** 0.5
        with torch.no_grad():
            for name, value in self.model.purifier.named_buffers():
                value.copy_(buffers[name])
        return {"training: reconstruction loss": float(reconstruction) / len(images),
                "training: divergence": float(divergence) / len(images),
                "training: gradient norm": numpy.float64(norm)}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # Writes the weights, in a process that does not count.
        given = json.loads(sys.argv[1])
        loaded = load_reference(given["reference"])
        weights = build(loaded, given)
        loaded.save_safetensors(sys.argv[2], weights.classifier.state_dict())
        loaded.save_safetensors(sys.argv[3], weights.purifier.state_dict())
    else:
        worker.serve(Side)
