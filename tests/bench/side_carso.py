# SPDX-License-Identifier: BSD-2-Clause
"""libcarso's side of against_pytorch.py."""
import os
import sys
from pathlib import Path

import numpy
import worker

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bindings" / "python"))
import carso  # noqa: E402


def import_model(context, settings, classifier, purifier):
    bare = carso.Model.create(context, architecture="wide_resnet", depth=settings["depth"], width=settings["width"],
                              channels=3, image_height=settings["size"], image_width=settings["size"],
                              classes=settings["classes"], mean=settings["mean"], deviation=settings["deviation"])
    return bare.add_purifier(condition_size=settings["condition_size"],
                             latent_size=settings["latent_size"]).import_weights(classifier, purifier)


class Side:
    def __init__(self, settings):
        self.settings = settings
        self.context = carso.Context(threads=settings["threads"], memory_limit=settings["memory_limit"])
        self.model = carso.Model.load(settings["model"], self.context)
        self.trainer = None
        self.cached = {}
        self.about = f"libcarso {carso.version()}, backend {self.context.backend}"

    def samples(self, count):
        if count not in self.cached:
            self.cached[count] = worker.samples(self.settings, count)
        return self.cached[count]

    def predict(self, batch):
        images, _ = self.samples(batch)
        return self.model.predict_robust(images, draws=self.settings["draws"], seed=self.settings["seed"], layout="chw")

    def gradient(self, batch):
        images, labels = self.samples(batch)
        return self.model.gradient(images, labels, objective="defence", loss="probability_cross_entropy",
                                   draws=self.settings["draws"], seed=self.settings["seed"], layout="chw")

    def make_trainer(self, **options):
        settings = self.settings
        return carso.Trainer.purifier(self.model, steps_per_epoch=1000, seed=settings["seed"], **options)

    def train(self):
        settings = self.settings
        if self.trainer is None:
            self.trainer = self.make_trainer(pgd_steps=settings["pgd_steps"],
                                             adversarial_fraction=settings["adversarial_fraction"],
                                             sub_batch=settings["sub_batch"])
        images, labels = self.samples(settings["train_batch"])
        self.trainer.step(images, labels, layout="chw")

    def check(self, batch):
        settings = self.settings
        images, labels = self.samples(batch)
        if settings["training"]:
            # On clean images, because attacks begin at random points.
            with self.make_trainer(adversarial_fraction=0.0, sub_batch=batch) as trainer:
                report = trainer.step(images, labels, layout="chw")
            return {"training: reconstruction loss": report.reconstruction, "training: divergence": report.kl,
                    "training: gradient norm": report.gradient_norm}
        prediction = self.model.predict_robust(images, draws=settings["draws"], seed=settings["seed"], layout="chw",
                                               aggregation="probability", keep_reconstructions=True)
        return {"classifier logits": self.model.predict(images, layout="chw").logits[0],
                "classifier gradient": self.model.gradient(images, labels, layout="chw").gradient,
                "reconstructions": prediction.reconstructions,
                "logits of the draws": prediction.logits,
                "log probabilities": numpy.log(prediction.probabilities),
                "gradient of the defence": self.gradient(batch).gradient}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # Makes the model file, in a process that does not count.
        import json

        given = json.loads(sys.argv[1])
        with carso.Context() as maker:
            import_model(maker, given, *sys.argv[2:4]).save(given["model"])
        for name in sys.argv[2:4]:
            os.remove(name)
    else:
        worker.serve(Side)
