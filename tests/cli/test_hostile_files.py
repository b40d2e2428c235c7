# SPDX-License-Identifier: BSD-2-Clause
"""Files that are missing, damaged or something else: exit status 1 with one line that names the file, whatever the bytes are."""
import gzip
import json
import os
import random
import shutil
import struct
import unittest

import sample_files
from program import CLASSIFIER_TRAINING, PURIFIER_TRAINING, TrainedTest

SIDE = sample_files.SIDE


def contents(path):
    with open(path, "rb") as file:
        return file.read()


class Models(TrainedTest):
    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return name

    def split(self):
        """(header as a dictionary, tensor bytes) of the model."""
        content = contents(self.model)
        size, = struct.unpack_from("<Q", content)
        return json.loads(content[8:8 + size]), content[8 + size:]

    def join(self, name, header, data):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return self.write(name, struct.pack("<Q", len(text)) + text + data)

    def every_command(self, name, says):
        """All that take a model refuse it alike."""
        for arguments in (["info", name], ["predict", name, self.data], ["purify", name, self.data], ["attack", name, self.data],
                          ["train", name, self.data, *PURIFIER_TRAINING], ["bench", name], ["demo", "-m", name, "-i", self.data]):
            with self.subTest(arguments[0]):
                self.refuse(*arguments, says=says)

    def test_missing(self):
        self.every_command("nowhere.st", ["nowhere.st", "No such file"])

    def test_empty(self):
        self.every_command(self.write("empty.st", b""), "empty.st")

    def test_folder(self):
        os.mkdir(self.path("folder"))
        self.refuse("predict", "folder", self.data, says="folder")
        self.refuse("info", "folder", says="folder")

    def test_device_and_pipe(self):
        self.refuse("info", "/dev/null", says="/dev/null")
        self.refuse("info", "/dev/zero", says="/dev/zero")
        os.mkfifo(self.path("pipe"))
        self.refuse("info", "pipe", says="pipe")
        self.refuse("predict", self.model, "pipe", says="pipe")

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_unreadable(self):
        shutil.copy(self.model, self.path("m.st"))
        os.chmod(self.path("m.st"), 0)
        self.refuse("info", "m.st", says=["m.st", "Permission denied"])

    def test_truncated(self):
        whole = contents(self.model)
        for size in (1, 7, 8, 9, 100, 5000, len(whole) // 2, len(whole) - 1):
            with self.subTest(size):
                self.refuse("info", self.write("part.st", whole[:size]), says="part.st")
        self.refuse("info", self.write("more.st", whole + b"\0"), says="more.st")

    def test_header_length(self):
        whole = contents(self.model)
        for length in (0, 1, len(whole), 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, (1 << 64) - 8):
            with self.subTest(length):
                self.refuse("info", self.write("odd.st", struct.pack("<Q", length) + whole[8:]), says="odd.st")

    def test_header_that_is_no_header(self):
        for text in (b"[" * 100000, b'{"a":' * 50000, b"{}", b"[]", b"null", b'{"a":1}', b"\xff" * 64, b'{"__metadata__":{}}',
                     b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'):
            with self.subTest(text[:20]):
                self.refuse("info", self.join("odd.st", text, b"\0" * 4), says="odd.st")

    def test_tensors(self):
        changes = {
            "overlapping": lambda entry, other: entry.update(data_offsets=other["data_offsets"]),
            "outside": lambda entry, other: entry.update(data_offsets=[1 << 40, (1 << 40) + 4]),
            "backwards": lambda entry, other: entry.update(data_offsets=entry["data_offsets"][::-1]),
            "negative": lambda entry, other: entry.update(data_offsets=[-4, 0]),
            "shape overflows": lambda entry, other: entry.update(shape=[1 << 32, 1 << 32]),
            "largest shape": lambda entry, other: entry.update(shape=[(1 << 63) - 1]),
            "negative shape": lambda entry, other: entry.update(shape=[-1]),
            "deep shape": lambda entry, other: entry.update(shape=[1] * 1000),
            "fractional shape": lambda entry, other: entry.update(shape=[1.5]),
            "type": lambda entry, other: entry.update(dtype="F128"),
            "no type": lambda entry, other: entry.pop("dtype"),
        }
        for what, change in changes.items():
            with self.subTest(what):
                header, data = self.split()
                names = [name for name in header if name != "__metadata__"]
                change(header[names[0]], header[names[1]])
                self.refuse("info", self.join("odd.st", header, data), says="odd.st")
        header, data = self.split()
        del header[next(name for name in header if name.endswith("conv_1.weight"))]
        self.refuse("info", self.join("odd.st", header, data), says="odd.st")

    def test_weights_that_are_not_finite(self):
        header, data = self.split()
        name = next(name for name in header if name.startswith("classifier.") and name.endswith("logits.weight"))
        first = header[name]["data_offsets"][0]
        self.join("nan.st", header, data[:first] + struct.pack("<f", float("nan")) + data[first + 4:])
        _, err = self.run_program("predict", "nan.st", self.data, "-n", "2", expect=None)
        self.assertRegex(err, "finite|NaN|nan")

    def test_flipped_bits(self):
        """Any status will do, as long as it is one of the documented."""
        whole = contents(self.model)
        header_size, = struct.unpack_from("<Q", whole)
        chooser = random.Random(20)
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(chooser.randrange(1, 4)):
                content[chooser.randrange(8 + header_size)] ^= 1 << chooser.randrange(8)
            out, err = self.run_program("predict", self.write("odd.st", content), self.data, "-n", "1", "-N", "1", "-t", "1",
                                        expect=None)
            self.assertTrue(out or err.startswith("carso predict: "), err)

    def run_program(self, *arguments, expect=0, **options):
        if expect is not None:
            return super().run_program(*arguments, expect=expect, **options)
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=300)
        self.assertIn(process.returncode, (0, 1, 3), f"{arguments} {err}")
        return out, err


class Images(TrainedTest):
    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return name

    def refuse_image(self, name, says=()):
        self.refuse("predict", self.model, name, says=[name, *([says] if isinstance(says, str) else says)])

    def test_missing_and_empty(self):
        self.refuse_image("nowhere.png", "No such file")
        self.refuse_image(self.write("empty.png", b""))
        os.mkdir(self.path("folder.png"))
        self.refuse_image("folder.png")

    def test_wrong_size_or_colour(self):
        sample_files.write_png(self.path("wide.png"), 32, 28, bytes(32 * 28))
        self.refuse_image("wide.png", ["32x28", "28x28"])
        sample_files.write_png(self.path("color.png"), SIDE, SIDE, bytes([9, 0, 0] * SIDE * SIDE), channels=3)
        self.refuse_image("color.png", "colour")

    def test_one_bad_file_among_good_ones(self):
        sample_files.write_png(self.path("good.png"), SIDE, SIDE, bytes(SIDE * SIDE))
        self.refuse("predict", self.model, "good.png", "bad.png", "good.png", says="bad.png")
        self.refuse("predict", self.model, "good.png", self.data, expect=2, says="PNG or JPEG files, or one data set")

    def test_damaged_png(self):
        whole = sample_files.png_bytes(SIDE, SIDE, sample_files.pattern(2, random.Random(1)))
        for size in (1, 8, 20, 33, 60, len(whole) - 12, len(whole) - 13):
            with self.subTest(size):
                if size < len(whole) - 12:
                    self.refuse_image(self.write("part.png", whole[:size]))
        self.refuse_image(self.write("sum.png", whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]))
        large = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 0, 0, 0, 0)
        bomb = whole[:8] + sample_files.png_chunk(b"IHDR", large) + whole[33:]
        self.refuse_image(self.write("bomb.png", bomb))
        self.refuse_image(self.write("text.png", b"no image at all"))
        self.refuse_image(self.write("text.jpg", b"\xff\xd8\xff\xe0 no image at all"))


class DataSets(TrainedTest):
    def damaged(self, name, change):
        """A copy of the data set with one file changed, or removed where the change returns None."""
        shutil.rmtree(self.path("data"), ignore_errors=True)
        shutil.copytree(self.data, self.path("data"))
        changed = change(contents(self.path("data", name)))
        os.remove(self.path("data", name))
        if changed is not None:
            with open(self.path("data", name), "wb") as file:
                file.write(changed)

    def refuse_data(self, says):
        self.refuse("predict", self.model, "data", says=says)
        self.refuse("train-classifier", "data", "-o", "c.st", *CLASSIFIER_TRAINING, "--validate", "4", says=says)

    def test_idx(self):
        images, labels = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
        cases = [(images, lambda b: b[:-1]), (images, lambda b: b + b"\0"), (images, lambda b: b[:10]), (images, lambda b: b""),
                 (images, lambda b: struct.pack(">I", 0x0D03) + b[4:]), (images, lambda b: b[:4] + b"\xff" * 12 + b[16:]),
                 (images, lambda b: b[:4] + b"\0" * 4 + b[8:]), (images, lambda b: b[:8] + b"\0" * 8 + b[16:]),
                 (labels, lambda b: b[:-1]), (labels, lambda b: b[:7] + bytes([25]) + b[8:]), (labels, lambda b: b"")]
        for i, (name, change) in enumerate(cases):
            with self.subTest(i):
                self.damaged(name, change)
                self.refuse_data(name)
        self.damaged(labels, lambda b: None)
        self.refuse("predict", self.model, "data", says="no file of labels")

    def test_gzip(self):
        name = "t10k-images-idx3-ubyte"
        self.damaged(name, lambda b: None)
        packed = gzip.compress(contents(os.path.join(self.data, name)))
        for i, content in enumerate((packed, packed[:-9], packed[:200] + b"\0" * 8 + packed[208:], packed[:12], b"")):
            with self.subTest(i):
                with open(self.path("data", name + ".gz"), "wb") as file:
                    file.write(content)
                if i == 0:
                    self.run_program("predict", self.model, "data", "-n", "1")
                else:
                    self.refuse_data(name + ".gz")

    def test_what_is_no_data_set(self):
        os.mkdir(self.path("data"))
        self.refuse_data("data")
        self.refuse("info", "data", says="data")
        os.mkdir(self.path("data", "class"))
        _, err = self.run_program("info", "data", expect=1)
        self.assertIn("no data set: neither IDX nor CIFAR files, and no PNG or JPEG images", err)
        self.refuse("predict", self.model, "nowhere", says=["nowhere", "No such file"])
        self.refuse("train-classifier", "nowhere", "-o", "c.st", *CLASSIFIER_TRAINING, says=["nowhere", "No such file"])

    def test_cifar(self):
        os.mkdir(self.path("data"))
        for name in ["data_batch_%d" % i for i in range(1, 6)] + ["test_batch"]:
            with open(self.path("data", name + ".bin"), "wb") as file:
                file.write((b"\x01" + bytes(3072)) * 2)
        self.run_program("info", "data")
        for content in (b"", b"\x01" * 3072, b"\x0a" + bytes(3072)):
            with open(self.path("data", "test_batch.bin"), "wb") as file:
                file.write(content)
            self.refuse("predict", self.model, "data", says="test_batch.bin")

    def test_folder_with_one_strange_image(self):
        for name in ("ape", "bee"):
            os.makedirs(self.path("data", name))
            for i in range(2):
                sample_files.write_png(self.path("data", name, f"{i}.png"), SIDE, SIDE, bytes(SIDE * SIDE))
        sample_files.write_png(self.path("data", "bee", "1.png"), SIDE, SIDE + 1, bytes(SIDE * (SIDE + 1)))
        self.refuse("train-classifier", "data", "-o", "c.st", "-w", "1", "-b", "4", "-E", "1", "--pgd-steps", "0", "-t", "1", "-q",
                    says="1.png")
        self.assertEqual(os.listdir(self.folder), ["data"])

    def test_sizes_and_classes_that_the_model_does_not_take(self):
        sample_files.write_idx_folder(self.path("data"), train=20, test=20, side=30)
        self.refuse("predict", self.model, "data", says=["1x30x30", "1x28x28"])
        self.refuse("attack", self.model, "data", says=["1x30x30", "1x28x28"])
        self.refuse("train", self.classifier, "data", "-o", "x.st", "-b", "4", *PURIFIER_TRAINING[8:], says="30x30")
        for part in ("train", "t10k"):
            path = self.path("data", part + "-labels-idx1-ubyte")
            with open(path, "r+b") as file:
                file.seek(8)
                file.write(bytes(i % 3 for i in range(20)))
        self.refuse("train-classifier", "data", "-o", "c.st", "-w", "1000", "-b", "4", says="width")


if __name__ == "__main__":
    unittest.main()
