# SPDX-License-Identifier: BSD-2-Clause
"""carso.convert: PyTorch classifiers as models with the same logits, taps and gradients, or a refusal that says why."""

import argparse
import copy
import json
import logging
import os
import struct
import subprocess
import sys
import tempfile
import unittest
import zipfile
import zlib
from pathlib import Path

import numpy

import carso

from torch_networks import PlainNetwork, ResidualNetwork, WideNetwork, nn, random_images, randomise, torch
from torch_networks import F

GRAY, COLOUR = (1, 28, 28), (3, 32, 32)


def in_reference():
    return carso.Context("reference-double", threads=1)


class Network(nn.Module):
    """Whatever a function does, flattened."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        return self.function(self, x).flatten(1)


def with_head(network, shape):
    """A linear layer behind it."""
    with torch.no_grad():
        features = network.eval()(torch.rand((2, *shape))).shape[1]
    return randomise(nn.Sequential(network, nn.Linear(features, 4)))


class Conversion(unittest.TestCase):
    def agree(self, module, shape, model=None, taps="auto", **options):
        """Logits and the gradient of a loss, against PyTorch in double."""
        model = model or carso.convert(module, shape, taps=taps, context=in_reference(), **options)
        images = random_images(3, shape)
        double = copy.deepcopy(module).double()
        inputs = images.double().requires_grad_()
        given = {"mean": options.get("mean"), "deviation": options.get("deviation")}
        standardised = inputs
        if any(value is not None for value in given.values()):
            rows = [torch.tensor(given[name], dtype=torch.float32).double().view(1, -1, 1, 1) for name in given]
            standardised = (inputs - rows[0]) / rows[1]
        expected = double(standardised)
        labels = [0, 1, 2]
        F.cross_entropy(expected, torch.tensor(labels), reduction="sum").backward()
        gradient = model.gradient(images.numpy(), labels)
        self.close(model.predict(images.numpy()).logits[0], expected.detach().numpy(), 1e-6)
        self.close(gradient.gradient, inputs.grad.numpy(), 1e-5)
        return model

    def close(self, computed, expected, tolerance):
        scale = abs(expected).max()
        self.assertGreater(scale, 0)
        self.assertLess(abs(computed - expected).max(), tolerance * scale)

    def tap_names(self, model):
        return [tap["name"] for tap in model.describe()["taps"]]

    def kinds(self, model):
        return [layer["kind"] for layer in model.describe()["classifier"]["layers"]]


class WholeNetworks(Conversion):
    def test_plain(self):
        module = randomise(PlainNetwork())
        model = self.agree(module, GRAY)
        self.assertEqual(self.kinds(model)[0], "standardise")
        self.assertEqual(self.tap_names(model), ["features.0", "features.3"])
        self.assertEqual(model.info.classifier_parameters, sum(one.numel() for one in module.parameters()))
        self.assertEqual(model.describe()["provenance"]["converted_from"], "PlainNetwork")

    def test_residual(self):
        model = self.agree(randomise(ResidualNetwork()), (3, 40, 36))
        blocks = [f"layer{layer}.{block}.conv{one}" for layer in (1, 2) for block in (0, 1) for one in (1, 2)]
        blocks.insert(6, "layer2.0.downsample.0")
        self.assertEqual(self.tap_names(model), blocks)

    def test_wide(self):
        for depth, width in ((10, 1), (16, 2)):
            module = randomise(WideNetwork(depth, width))
            mean, deviation = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
            model = self.agree(module, COLOUR, mean=mean, deviation=deviation)
            own = carso.Model.create(
                model.context, architecture="wide_resnet", depth=depth, width=width, mean=mean, deviation=deviation
            )
            self.assertEqual(self.tap_names(model), self.tap_names(own))
            self.assertEqual(model.info, own.info)
            # The names are those of the checkpoint: its weights go into libcarso's own structure.
            with tempfile.TemporaryDirectory() as folder:
                torch.save({"epoch": 3, "state_dict": module.state_dict()}, os.path.join(folder, "a.pt"))
                names = carso.convert_checkpoint(os.path.join(folder, "a.pt"), os.path.join(folder, "a.safetensors"))
                self.assertIn("layer.0.block.0.conv_0.weight", names)
                self.agree(
                    module,
                    COLOUR,
                    own.import_weights(os.path.join(folder, "a.safetensors")),
                    mean=mean,
                    deviation=deviation,
                )

    def test_every_backend(self):
        module = randomise(ResidualNetwork())
        images = random_images(2, COLOUR)
        with torch.no_grad():
            expected = module(images).numpy()
        for backend in carso.backends():
            model = carso.convert(module, COLOUR, context=carso.Context(backend, threads=1))
            self.close(model.predict(images.numpy()).logits[0], expected, 1e-4)

    def test_memory_formats_types_and_wrappers(self):
        module = randomise(ResidualNetwork())
        self.agree(module.to(memory_format=torch.channels_last), COLOUR)
        self.agree(randomise(ResidualNetwork().double()), COLOUR)
        model = carso.convert(nn.DataParallel(module), COLOUR)
        self.assertIn("layer1.0.conv1", self.tap_names(model))

    def test_training_mode(self):
        module = randomise(PlainNetwork()).train()
        module.features[0].eval()
        modes = [part.training for part in module.modules()]
        with self.assertLogs("carso", logging.WARNING) as logged:
            model = carso.convert(module, GRAY, context=in_reference())
        self.assertIn("training mode", logged.output[0])
        self.assertEqual(modes, [part.training for part in module.modules()])
        self.assertFalse(any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()))
        self.agree(module.eval(), GRAY, model)

    def test_names_and_classes(self):
        module = randomise(PlainNetwork(classes=3))
        names = ["a", "bé", "靴"]
        model = carso.convert(module, GRAY, class_names=names, provenance={"data": "none"})
        self.assertEqual(model.class_names, names)
        self.assertEqual(model.describe()["provenance"]["data"], "none")
        with self.assertRaises(ValueError):
            carso.convert(module, GRAY, class_names=names[:2])


class Operations(Conversion):
    """One thing after another that modules do."""

    def each(self, cases, shape=(3, 8, 8)):
        for name, function, *parts in cases:
            with self.subTest(name):
                self.agree(with_head(Network(function, *parts), shape), shape, taps=[])

    def test_convolutions(self):
        def first(self, x):
            return self.parts[0](x)

        cases = [
            ("stride, padding, dilation", first, nn.Conv2d(3, 6, 3, (2, 1), (1, 2), (1, 2))),
            ("groups", first, nn.Conv2d(3, 6, 3, groups=3)),
            ("same", first, nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2))),
            ("valid", first, nn.Conv2d(3, 4, 3, padding="valid")),
            ("transposed", first, nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False)),
            ("weight norm", first, nn.utils.weight_norm(nn.Conv2d(3, 4, 3))),
            (
                "padded before",
                lambda self, x: self.parts[0](F.pad(F.pad(x, (1, 0, 2, 1)), (0, 1))),
                nn.Conv2d(3, 4, 3, padding=1),
            ),
            (
                "padded by a module",
                lambda self, x: self.parts[1](self.parts[0](x)),
                nn.ZeroPad2d(2),
                nn.Conv2d(3, 4, 3),
            ),
            (
                "standardised weights",
                lambda self, x: F.conv2d(x, self.parts[0].weight - self.parts[0].weight.mean()),
                nn.Conv2d(3, 4, 3),
            ),
        ]
        self.each(cases)

    def test_normalisation(self):
        plain = nn.BatchNorm2d(3, affine=False, eps=1e-3)
        cases = [
            ("no parameters", lambda self, x: self.parts[0](x), plain),
            ("of features", lambda self, x: self.parts[0](x.flatten(1)), nn.BatchNorm1d(192)),
            (
                "standardised",
                lambda self, x: (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1))
                / torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1),
            ),
            ("two ways", lambda self, x: x.sub(0.5).mul_(2).add(-0.1, alpha=2)),
            ("negative", lambda self, x: 1 - x / 0.5),
            ("constants inside", lambda self, x: 0.5 * (torch.relu(x) * torch.arange(1.0, 4).view(3, 1, 1) + 1) - 3),
            ("of features", lambda self, x: x.flatten(1) * torch.linspace(-1, 1, 192)),
            ("difference", lambda self, x: torch.relu(x) - 0.3 * torch.sigmoid(x)),
            ("sum with a factor", lambda self, x: torch.add(torch.relu(x), torch.tanh(x), alpha=-2)),
        ]
        self.each(cases)

    def test_activations(self):
        cases = [
            (str(part), lambda self, x: self.parts[0](4 * x - 2), part)
            for part in (
                nn.ReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(-0.2), nn.SiLU(inplace=True), nn.Sigmoid(), nn.Tanh(),
                nn.PReLU(), nn.PReLU(3), nn.Hardtanh(-0.7, 0.3), nn.ReLU6(), nn.Hardsigmoid(),
            )
        ]  # fmt: skip
        cases += [
            ("above", lambda self, x: (9 * x).clamp(min=2)),
            ("below", lambda self, x: torch.clip(9 * x, max=4)),
            ("six", lambda self, x: F.relu6(12 * x - 3)),
            ("in place", lambda self, x: (x - 0.5).relu_()),
        ]
        self.each(cases)

    def test_pooling(self):
        cases = [
            ("max with padding", lambda self, x: F.max_pool2d(x - 0.5, 3, 2, 1)),
            ("max, rounding up", lambda self, x: self.parts[0](x), nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("average", lambda self, x: self.parts[0](x), nn.AvgPool2d((3, 2), (2, 1), 1)),
            (
                "average without padding",
                lambda self, x: self.parts[0](x),
                nn.AvgPool2d(3, 2, 1, count_include_pad=False),
            ),
            ("average, rounding up", lambda self, x: self.parts[0](x), nn.AvgPool2d(3, 2, ceil_mode=True)),
            ("padded, then pooled", lambda self, x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3)),
            ("padded with -inf", lambda self, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-float("inf")), 3, 2)),
            ("adaptive", lambda self, x: self.parts[0](x), nn.AdaptiveAvgPool2d((2, 4))),
            ("adaptive, as it is", lambda self, x: self.parts[0](torch.relu(x)), nn.AdaptiveAvgPool2d((None, 8))),
            ("adaptive max", lambda self, x: F.adaptive_max_pool2d(x, 4)),
            ("to one pixel", lambda self, x: self.parts[0](x), nn.AdaptiveAvgPool2d(1)),
            (
                "one pixel, then a convolution",
                lambda self, x: self.parts[0](F.avg_pool2d(x, x.shape[2:])),
                nn.Conv2d(3, 5, 1),
            ),
            ("mean", lambda self, x: x.mean([-2, -1])),
            ("mean, kept", lambda self, x: x.mean((2, 3), keepdim=True)[:, :, 0, 0]),
            ("mean of a view", lambda self, x: x.view(x.size(0), x.size(1), -1).mean(dim=2)),
            ("sum", lambda self, x: x.sum((2, 3))),
        ]
        self.each(cases)

    def test_shapes(self):
        cases = [
            ("views", lambda self, x: x.reshape(-1, 3, 64).view(x.shape[0], 12, 4, 4).squeeze().contiguous().relu()),
            (
                "one pixel",
                lambda self, x: self.parts[0](x.view(x.size(0), -1, 1, 1)).squeeze(-1).squeeze(-1),
                nn.Conv2d(192, 6, 1),
            ),
            ("concatenated", lambda self, x: torch.cat([x, torch.tanh(x)], dim=1)),
            ("concatenated features", lambda self, x: torch.cat((x.mean((2, 3)), x.flatten(1)), -1)),
            ("every other pixel, more channels", lambda self, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))),
            ("other order of channels", lambda self, x: x[:, [2, 1, 0]]),
            ("mirrored channels", lambda self, x: torch.flip(x, [1])),
            ("some channels", lambda self, x: x[:, 1:, ...]),
            ("whole", lambda self, x: x[:, ...].to(x.dtype).type_as(x).clone()),
            (
                "a product",
                lambda self, x: self.parts[0](x.flatten(1)) @ torch.ones(5, 6, dtype=x.dtype),
                nn.Linear(192, 5),
            ),
        ]
        self.each(cases)
        self.each([("odd", lambda self, x: torch.relu(x)[:, :, ::2, ::3])], shape=(1, 9, 11))

    def test_control_flow(self):
        def repeat(self, x):
            for _ in range(len(self.parts) + 1):
                if x.shape[-1] > 3 and x.dim() == 4:
                    x = self.parts[0](x)  # one module, several times
            return F.dropout(x, 0.5, self.training)

        model = self.agree(
            with_head(Network(repeat, nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())), (3, 8, 8)), (3, 8, 8)
        )
        layers = [layer["name"] for layer in model.describe()["classifier"]["layers"]]
        self.assertEqual(layers[:4], ["0.parts.0.0", "0.parts.0.1", "0.parts.0.0:1", "0.parts.0.1:1"])
        self.assertEqual(model.info.classifier_parameters, (27 * 3 + 3) + (48 * 4 + 4))

    def test_what_is_not_used_is_not_in_the_way(self):
        def watched(self, x):
            self.seen = torch.fft.rfft2(x).abs().mean()
            self.parts[0](x)
            return torch.relu(x)

        model = self.agree(with_head(Network(watched, nn.Conv2d(3, 3, 1)), (3, 8, 8)), (3, 8, 8), taps=[])
        self.assertEqual(self.kinds(model), ["relu", "flatten", "linear"])


class Taps(Conversion):
    def test_by_module(self):
        module = randomise(ResidualNetwork())
        for taps in (
            ["conv1"],
            ["layer2.1.bn2", "layer1", "avgpool", "fc"],
            ("relu", "maxpool"),
            ["layer1.0.relu:1"],
            [],
        ):
            model = carso.convert(module, COLOUR, taps=taps, context=in_reference())
            self.assertEqual(self.tap_names(model), list(taps))

    def test_hold_what_the_modules_return(self):
        """Also where the next operation overwrites it."""
        module = randomise(ResidualNetwork())
        taps = ["layer2.0.bn1", "layer1.1", "avgpool"]
        model = carso.convert(module, COLOUR, taps=taps, verify=False, context=in_reference())
        found = {}
        double = copy.deepcopy(module).double()
        parts = dict(double.named_modules())
        for name in taps:
            parts[name].register_forward_hook(lambda _, __, result, name=name: found.update({name: result.clone()}))
        images = random_images(2, COLOUR)
        with torch.no_grad():
            double(images.double())
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "golden.safetensors")
            golden = {"input": images.numpy(), **{"tap." + name: found[name].numpy() for name in taps}}
            Path(path).write_bytes(carso._safetensors.encode(golden))
            deviations = model.verify(path, 1e-6)
        self.assertEqual({one.name for one in deviations}, {"tap." + name for name in taps})
        self.assertEqual([one for one in deviations if one.departs], [])

    def test_that_cannot_be(self):
        module = randomise(ResidualNetwork())
        for taps, says in (
            (["layer1.0.conv3"], "layer1.0.conv1"),
            (["layer1.1", "layer1"], "same tensor"),
            ("all", "'auto'"),
        ):
            with self.assertRaises(ValueError) as caught:
                carso.convert(module, COLOUR, taps=taps)
            self.assertIn(says, str(caught.exception))

    def test_where_there_is_no_convolution(self):
        module = randomise(nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)))
        self.assertEqual(self.tap_names(self.agree(module, (1, 8, 8))), ["1"])
        with self.assertRaises(ValueError):
            carso.convert(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8))


class Refusals(Conversion):
    def refuse(self, function, *says, parts=()):
        module = Network(function, *parts).eval()
        with self.assertRaises(carso.UnsupportedError) as caught:
            carso.convert(module, (3, 8, 8), taps=[])
        for one in says:
            self.assertIn(one, str(caught.exception))

    def test_say_where_what_and_why(self):
        block = nn.Sequential(nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.AdaptiveAvgPool2d(1))
        self.refuse(lambda self, x: self.parts[0](x), "parts.0.1 (GroupNorm)", "group_norm", "BatchNorm", parts=[block])
        self.refuse(lambda self, x: x * torch.sigmoid(self.parts[0](x)), "multipl", parts=[nn.AdaptiveAvgPool2d(1)])
        cases = (
            (lambda self, x: F.gelu(x), "gelu", "silu"),
            (lambda self, x: F.pad(x, (1, 1, 1, 1), "reflect"), "reflect"),
            (lambda self, x: F.interpolate(x, scale_factor=2), "interpolate"),
            (lambda self, x: x.permute(0, 2, 3, 1), "permute"),
            (lambda self, x: x[:, :, 1:], "crop"),
            (lambda self, x: x[:, :, :-1], "crop"),
            (lambda self, x: F.max_pool2d(x, 2, dilation=2), "dilation"),
            (lambda self, x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override"),
            (lambda self, x: F.adaptive_avg_pool2d(x, 3), "divides"),
            (lambda self, x: F.instance_norm(x), "instance_norm"),
            (lambda self, x: torch.fft.rfft2(x).real, "not known here"),
            (lambda self, x: x.mean(0, keepdim=True).expand(x.shape[0], -1, -1, -1), "batch"),
            (lambda self, x: x + torch.rand(8, 8), "pixel"),
            (lambda self, x: F.softmax(x, 1), "logits"),
            (lambda self, x: F.dropout(x, 0.5), "dropout"),
            (lambda self, x: torch.chunk(x, 3, 1)[0], "several"),
            (lambda self, x: x.view(-1, 1, 8, 8), "batch"),
        )
        for function, *says in cases:
            with self.subTest(says):
                self.refuse(function, *says)

    def test_numbers_are_read(self):
        for function in (
            lambda self, x: x if x.mean() > 0 else -x,
            lambda self, x: x * x.max().item(),
            lambda self, x: torch.as_tensor(x.numpy() * 2),
        ):
            self.refuse(function, "depends on the image")

    def test_what_cannot_be_seen(self):
        def elsewhere(x):
            return torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x.detach()))

        self.refuse(lambda self, x: torch.relu(x) + elsewhere(x)[:1, :, :1, :1], "differs")
        self.refuse(lambda self, x: elsewhere(x), "cannot be seen")
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 6, 8)))
        self.refuse(lambda self, x: self.parts[0](x), "TorchScript", parts=[scripted])

    def test_changed_in_place(self):
        def through_a_view(self, x):
            x = torch.relu(x)
            flat = x.flatten(1)
            x.mul_(2)
            return flat

        self.refuse(through_a_view, "in place")

        def into_a_tensor(self, x):
            out = torch.zeros_like(x)
            out[:, 0] = x[:, 1]
            return out

        self.refuse(into_a_tensor, "writes into a tensor")

    def test_chance(self):
        self.refuse(lambda self, x: x * torch.rand(1), "differs")

    def test_batch_norm_of_the_batch(self):
        norm = nn.BatchNorm2d(3, track_running_stats=False)
        self.refuse(lambda self, x: self.parts[0](x), "running", parts=[norm])

    def test_results_that_are_no_logits(self):
        shape = (3, 8, 8)
        for module, says in (
            (nn.Conv2d(3, 4, 3), "(N, classes)"),
            (nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), "two classes"),
            (nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.LogSoftmax(1)), "logits"),
        ):
            with self.assertRaises(carso.UnsupportedError) as caught:
                carso.convert(module, shape, taps=[])
            self.assertIn(says, str(caught.exception))

        class Pair(nn.Module):
            def forward(self, x):
                return x, x

        class Fixed(nn.Module):
            def forward(self, x):
                return torch.zeros(len(x), 3)

        for module, says in ((Pair(), "tuple"), (Fixed(), "constant")):
            with self.assertRaises(carso.UnsupportedError) as caught:
                carso.convert(module, shape)
            self.assertIn(says, str(caught.exception))

    def test_arguments(self):
        module = randomise(PlainNetwork())
        for error, arguments, options in (
            (TypeError, ("model.pt", GRAY), {}),
            (ValueError, (module, (28, 28)), {}),
            (ValueError, (module, (2, 28, 28)), {}),
            (ValueError, (module, (1, 7, 28)), {}),
            (ValueError, (module, GRAY), {"mean": [0.1, 0.2]}),
            (ValueError, (module, GRAY), {"deviation": [0.0]}),
            (ValueError, (module, GRAY), {"mean": [float("nan")]}),
        ):
            with self.assertRaises(error):
                carso.convert(*arguments, **options)

    def test_weights_that_are_not_finite(self):
        module = randomise(PlainNetwork())
        with torch.no_grad():
            module.out.bias[0] = float("inf")
        with self.assertRaises(carso.NonFiniteError):
            carso.convert(module, GRAY)

    def test_a_wrong_conversion_is_noticed(self):
        from carso import _calls

        right = _calls._HANDLERS["tanh"]
        _calls._HANDLERS["tanh"] = _calls._HANDLERS["sigmoid"]
        try:
            with self.assertRaises(carso.InternalError) as caught:
                carso.convert(randomise(PlainNetwork()), GRAY)
        finally:
            _calls._HANDLERS["tanh"] = right
        self.assertIn("logits", str(caught.exception))


class Checkpoints(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def convert(self, content, **options):
        torch.save(content, self.folder / "a.pt")
        return carso.convert_checkpoint(self.folder / "a.pt", self.folder / "a.safetensors", **options)

    def read(self):
        whole = (self.folder / "a.safetensors").read_bytes()
        (length,) = struct.unpack_from("<Q", whole)
        return json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def test_types(self):
        half = torch.arange(6.0).view(2, 3).t().half()
        content = {
            "a": half,
            "b.num_batches_tracked": torch.tensor(3),
            "c": torch.tensor([1, 2]),
            "d": nn.Parameter(torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)),
            "e": torch.zeros(0, 2),
            "f": torch.arange(10.0, dtype=torch.float64)[3:8:2],
        }
        names = self.convert(content)
        self.assertEqual(names, ["a", "c", "d", "e", "f"])
        header, data = self.read()
        self.assertEqual((header["a"]["dtype"], header["a"]["shape"], header["c"]["dtype"]), ("F32", [3, 2], "I64"))
        for name in names:
            begin, end = header[name]["data_offsets"]
            kind = "<i8" if name == "c" else "<f4"
            stored = numpy.frombuffer(data[begin:end], kind).reshape(header[name]["shape"])
            self.assertTrue(numpy.array_equal(stored, content[name].detach().double().numpy()), name)

    def test_nested(self):
        state = {"weight": torch.ones(2)}
        other = {"optimiser": {"lr": 0.1}, "best": 0.5, "options": argparse.Namespace(a=[1]), "kind": PlainNetwork}
        self.assertEqual(self.convert({"model": {"state_dict": state}, **other}), ["weight"])
        both = {"net": state, "ema.net": {"weight": torch.zeros(2), "bias": torch.zeros(1)}}
        with self.assertRaises(ValueError) as caught:
            self.convert(both)
        self.assertIn("ema.net, net", str(caught.exception))
        self.assertEqual(self.convert(both, key="ema.net"), ["weight", "bias"])
        for key in ("ema", "net.weight", "other", ""):
            with self.assertRaises(ValueError):
                self.convert(both, key=key)
        with self.assertRaises(ValueError):
            self.convert([1, 2])

    def test_nothing_in_a_file_is_run(self):
        class Harm:
            def __reduce__(self):
                return os.mkdir, (os.path.join(folder, "harm"),)

        folder = str(self.folder)
        self.assertEqual(
            self.convert({"a": torch.ones(1), **{}, "state": {"b": torch.ones(1)}, "c": Harm()}, key="state"), ["b"]
        )
        self.assertFalse((self.folder / "harm").exists())
        os.unlink(self.folder / "a.safetensors")
        with self.assertRaises(ValueError) as caught:
            self.convert(PlainNetwork())
        self.assertIn("carso.convert", str(caught.exception))
        self.assertFalse((self.folder / "a.safetensors").exists())

    def test_storages_repeated(self):
        """A tied weight, and one that repeats an element, are as they were; a thousand views of a megabyte are refused."""
        tied, many = torch.arange(4.0), torch.tensor([0.5], dtype=torch.bfloat16)
        self.assertEqual(self.convert({"a": tied, "b": tied, "c": tied[1:], "d": many.expand(3, 2)}), ["a", "b", "c", "d"])
        header, data = self.read()
        begin, end = header["d"]["data_offsets"]
        self.assertTrue((numpy.frombuffer(data[begin:end], "<f4") == 0.5).all())
        whole = torch.zeros(1 << 18)
        for content in (
            {str(i): whole[i:] for i in range(1000)},  # a view each
            {str(i): whole for i in range(1000)},  # one tensor, named again
            {str(i): torch.zeros(1, dtype=torch.bfloat16).expand(1 << 16, 1 << 8) for i in range(6)},
        ):
            with self.assertRaises(carso.BadFormatError) as caught:
                self.convert(content)
            self.assertIn("repeat", str(caught.exception))

    def test_overlapping_storages(self):
        """Each storage in the archive holds the header and the bytes of the next."""
        torch.save({str(i): torch.zeros(1 << 16) for i in range(20)}, self.folder / "a.pt")
        with zipfile.ZipFile(self.folder / "a.pt") as archive, zipfile.ZipFile(self.folder / "b.pt", "w") as other:
            entries, bytes_of_all = [], bytes(4 << 16)
            for entry in archive.infolist():
                if "/data/" not in entry.filename:
                    other.writestr(entry.filename, archive.read(entry))
                    continue
                again = zipfile.ZipInfo(entry.filename)
                again.CRC, again.file_size = zlib.crc32(bytes_of_all), len(bytes_of_all)
                again.compress_size = again.file_size
                again.extra = struct.pack("<HH", 0x7777, 0) + bytes(-len(again.FileHeader()) % 4)
                bytes_of_all = again.FileHeader() + bytes_of_all
                entries.append((again, len(bytes_of_all)))
            other.fp.seek(other.start_dir)
            for entry, from_the_end in entries:
                entry.header_offset = other.start_dir + len(bytes_of_all) - from_the_end
                other.filelist.append(entry)
                other.NameToInfo[entry.filename] = entry
            other.fp.write(bytes_of_all)
            other.start_dir = other.fp.tell()
        with self.assertRaises(carso.BadFormatError) as caught:
            carso.convert_checkpoint(self.folder / "b.pt", self.folder / "b.safetensors")
        self.assertIn("overlap", str(caught.exception).lower())

    def test_dictionaries_in_one_another(self):
        """In itself; and each twice in the one above, as many paths as could ever be followed."""
        state = {"weight": torch.ones(2)}
        content = {"state": state, "other": {}}
        content["other"]["whole"] = content
        self.assertEqual(self.convert(content), ["weight"])
        above = {"a": 1}
        for _ in range(100):
            above = {"a": above, "b": above}
        self.assertEqual(self.convert({"net": state, "rest": above}), ["weight"])

    def test_damaged_files(self):
        target = self.folder / "b.safetensors"
        (self.folder / "b.pt").write_bytes(b"no checkpoint")
        with self.assertRaises(carso.BadFormatError):
            carso.convert_checkpoint(self.folder / "b.pt", target)
        with self.assertRaises(FileNotFoundError):
            carso.convert_checkpoint(self.folder / "absent.pt", target)
        torch.save({"a": torch.arange(6.0)}, self.folder / "b.pt")
        whole = (self.folder / "b.pt").read_bytes()
        numbers = numpy.random.default_rng(1)
        refused = 0
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(3):
                damaged[numbers.integers(len(damaged))] = numbers.integers(256)
            (self.folder / "b.pt").write_bytes(damaged)
            try:
                carso.convert_checkpoint(self.folder / "b.pt", target)
            except (carso.BadFormatError, ValueError):
                refused += 1
        self.assertGreater(refused, 10)


class Defended(unittest.TestCase):
    """A converted classifier gets a purifier, trained by the program, and predicts robustly."""

    def test_with_the_program(self):
        program = os.environ.get("CARSO_PROGRAM")
        if not program:
            self.skipTest("CARSO_PROGRAM names no program")
        with tempfile.TemporaryDirectory() as folder:
            numbers = numpy.random.default_rng(3)
            for part, count in (("train", 64), ("t10k", 8)):
                images = numbers.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
                labels = numbers.integers(0, 5, count, dtype=numpy.uint8)
                for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
                    Path(folder, f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
            classifier, model = os.path.join(folder, "classifier.safetensors"), os.path.join(
                folder, "model.safetensors"
            )
            carso.convert(randomise(PlainNetwork()), GRAY).save(classifier)
            small = (
                "--condition-size 8 --latent-size 4 --seed-channels 16 -b 32 --epochs 1 --pgd-steps 1 --by-step -t 1 -q"
            )
            command = [program, "train", classifier, folder, "-o", model, "--validate", "0", *small.split()]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            loaded = carso.Model.load(model, in_reference())
            self.assertEqual(loaded.info.taps, 2)
            prediction = loaded.predict_robust(images, draws=3)
            self.assertEqual(prediction.logits.shape, (3, 8, 5))
            self.assertTrue(numpy.isfinite(prediction.log_odds).all())

    def test_with_the_trainer(self):
        model = carso.convert(randomise(ResidualNetwork()), COLOUR, context=carso.Context(threads=1))
        images = (random_images(8, COLOUR).numpy() * 255).astype(numpy.uint8)
        with_purifier = model.add_purifier(condition_size=16, latent_size=8, seed_channels=16)
        trainer = carso.Trainer.purifier(with_purifier, steps_per_epoch=2, epochs=1, pgd_steps=1)
        for _ in range(2):
            self.assertTrue(numpy.isfinite(trainer.step(images, numpy.arange(8) % 6).loss))
        prediction = trainer.model().predict_robust(images, draws=2)
        self.assertEqual(prediction.labels.shape, (8,))


if __name__ == "__main__":
    sys.exit(unittest.main())
