#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""libcarso against a statement of CARSO in PyTorch with the same weights, interleaved in one run.

    against_pytorch.py --library BUILD/include/libcarso.so.0 --reference REFERENCE.py

REFERENCE.py is a Python module with build(), run_with_taps(), vae_loss(), save_safetensors() and a model with predict_robust(),
as tests/golden/make.py takes it. Each side runs in a process of its own, so that its peak memory is its own, and waits at a pipe while
another is measured. First both must compute the same: logits, reconstructions and gradients for the same latents.
Measured are the robust prediction, the gradient of the whole defence to the image, and a step of the purifier's training with its
attacks; peers are PyTorch eager in NCHW and in channels_last, and torch.compile where this PyTorch has it. A ratio is the
peer's median over libcarso's, the smallest over peers and batches.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

HERE = Path(__file__).resolve().parent
RATIOS = {"predict": "predict_robust_ratio", "gradient": "input_gradient_ratio", "train": "train_step_ratio"}
TITLES = {"predict": "robust prediction", "gradient": "input gradient", "train": "training step"}
PEERS = ("eager", "channels_last", "compile")
# Images; more in training, where BatchNorm of two is ill-conditioned: what they differ by is divided by its own size.
CHECKED, CHECKED_IN_TRAINING = 2, 16
# Relative to the largest element. Gradients pass LeakyReLUs: where an input is near 0, rounding decides its side.
TOLERANCE = {"gradient": 1e-2, "other": 1e-3}


def say(text):
    print(text, file=sys.stderr, flush=True)


class SideProcess:
    def __init__(self, name, script, settings):
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(settings["threads"])}
        self.process = subprocess.Popen([sys.executable, str(HERE / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.opened = self.ask({"do": "open", "settings": settings})

    def ask(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()} at {command}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def open_sides(peers, settings):
    sides = []
    for name in ("carso", *peers):
        side = SideProcess(name, "side_carso.py" if name == "carso" else "side_pytorch.py", {**settings, "peer": name})
        if "unavailable" in side.opened:
            say(f"{name}: left out: {side.opened['unavailable']}")
            side.close()
        else:
            say(f"{name}: {side.opened['about']}")
            sides.append(side)
    return sides


def compare(sides, folder, images):
    """Largest relative differences by what is compared; an exception where one is too large."""
    found, results = {}, []
    for side in sides:
        path = os.path.join(folder, side.name + ".npz")
        side.ask({"do": "check", "path": path, "batch": images})
        results.append(dict(numpy.load(path)))
    for side, result in zip(sides[1:], results[1:]):
        for name, ours in results[0].items():
            theirs = numpy.asarray(result[name], numpy.float64)
            scale = max(float(numpy.abs(theirs).max()), 1e-30)
            difference = float(numpy.abs(ours - theirs).max()) / scale
            tolerance = TOLERANCE["gradient" if "gradient" in name else "other"]
            say(f"  {side.name}: {name}: differs by {difference:.1e} of the largest")
            if not difference <= tolerance:
                raise RuntimeError(f"{name} differs from {side.name}'s by {difference:.2e}, more than {tolerance}")
            found[name] = max(found.get(name, 0.0), difference)
    return found


def measure(sides, actions, rounds, pause):
    """seconds[action][batch][side]: lists. A round without measurement comes first."""
    seconds = {}
    for turn in range(rounds + 1):
        for action, batch in actions:
            for side in sides:
                time.sleep(pause)  # until threads that have finished have stopped spinning
                taken = side.ask({"do": action, "batch": batch})["seconds"]
                if turn > 0:
                    seconds.setdefault(action, {}).setdefault(batch, {}).setdefault(side.name, []).append(taken)
                say(f"{'warm-up' if turn == 0 else f'round {turn}/{rounds}'}: {TITLES[action]}, batch {batch}, "
                    f"{side.name}: {1e3 * taken:.0f} ms")
    return seconds


def run_phase(options, settings, actions, rounds, result):
    sides = open_sides(options.peers, settings)
    try:
        with tempfile.TemporaryDirectory() as folder:
            result["largest_differences"].update(compare(sides, folder, CHECKED_IN_TRAINING if settings["training"] else CHECKED))
        # Another set of processes, which have done nothing but what is measured.
        for side in sides:
            side.close()
        sides = open_sides([side.name for side in sides[1:]], settings)
        for group in sorted({action for action, _ in actions}, key=list(RATIOS).index):
            chosen = [one for one in actions if one[0] == group]
            for action, by_batch in measure(sides, chosen, rounds, options.pause).items():
                result["medians"][action] = {
                    str(batch): {name: statistics.median(taken) for name, taken in by_side.items()}
                    for batch, by_side in by_batch.items()}
            result["peak_memory"][group] = {side.name: side.ask({"do": "peak"})["bytes"] for side in sides}
    finally:
        for side in sides:
            side.close()


def summarise(result):
    for action, name in RATIOS.items():
        ratios = [median / by_side["carso"] for by_side in result["medians"].get(action, {}).values()
                  for side, median in by_side.items() if side != "carso"]
        result[name] = min(ratios) if ratios else None


def print_table(result, options):
    print(f"WRN-{options.depth}-{options.width} and its purifier, {options.size}x{options.size}, {options.draws} draws, "
          f"{options.threads} threads; medians in ms, in brackets the peer's over libcarso's")
    names = ["carso"] + [peer for peer in PEERS if any(
        peer in by_side for by_batch in result["medians"].values() for by_side in by_batch.values())]
    print(f"{'':28}" + "".join(f"{name:>20}" for name in names))
    for action, by_batch in result["medians"].items():
        for batch, by_side in by_batch.items():
            cells = [f"{1e3 * by_side['carso']:20.1f}"]
            cells += [f"{1e3 * by_side[name]:12.1f} ({by_side[name] / by_side['carso']:5.2f})" for name in names[1:]]
            print(f"{TITLES[action] + ', batch ' + batch:28}" + "".join(cells))
        peaks = result["peak_memory"][action]
        print(f"{'  peak memory, MB':28}" + "".join(f"{peaks[name] / 1e6:20.0f}" for name in names))
    if "train" in result["medians"]:
        print(f"training: {options.adversarial_fraction} of the batch attacked, PGD with {options.pgd_steps} steps on both sides "
              "(the paper: 40)")
    for name in RATIOS.values():
        if result[name] is not None:
            print(f"{name}: {result[name]:.2f}")


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, type=os.path.abspath, help="the statement in PyTorch, a Python file")
    parser.add_argument("--library", help="libcarso.so.0; otherwise CARSO_LIBRARY of the environment or the system's")
    parser.add_argument("--only", choices=list(RATIOS), action="append", help="measure this; may be given again; all")
    parser.add_argument("--batches", type=positive, nargs="+", default=[1, 4, 8], help="of prediction and gradient; 1 4 8")
    parser.add_argument("--rounds", type=positive, default=7, help="of prediction and gradient; 7")
    parser.add_argument("--train-rounds", type=positive, default=7, help="of the training step; 7")
    parser.add_argument("--train-batch", type=positive, default=64, help="64")
    parser.add_argument("--pgd-steps", type=positive, default=4, help="of the training's attacks, on each side; 4 (paper: 40)")
    parser.add_argument("--adversarial-fraction", type=float, default=0.5, help="of the training batch; 0.5")
    parser.add_argument("--sub-batch", type=int, default=0, help="libcarso's training; 0: from its memory limit")
    parser.add_argument("--memory-limit", type=int, default=0, help="libcarso's, in MiB; 0: its default")
    parser.add_argument("--peers", choices=PEERS, nargs="+", default=PEERS, help="all that this PyTorch has")
    parser.add_argument("--threads", type=positive, default=2, help="2")
    parser.add_argument("--draws", type=positive, default=8, help="8")
    parser.add_argument("--depth", type=int, default=28, help="28")
    parser.add_argument("--width", type=int, default=10, help="10")
    parser.add_argument("--size", type=int, choices=(32, 64), default=32, help="of images: 32 or 64; 32")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two measurements; 0.05")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object with all figures")
    options = parser.parse_args()
    if options.library:
        os.environ["CARSO_LIBRARY"] = os.path.abspath(options.library)
    return options


def prepare(options, folder):
    """Settings of every side; the model file is made on the way."""
    paper = {32: (10, 512, 128), 64: (200, 768, 192)}[options.size]
    settings = {"reference": options.reference, "seed": 1, "threads": options.threads, "draws": options.draws,
                "depth": options.depth, "width": options.width, "size": options.size, "classes": paper[0],
                "condition_size": paper[1], "latent_size": paper[2], "mean": [0.4914, 0.4822, 0.4465],
                "deviation": [0.2471, 0.2435, 0.2616], "model": os.path.join(folder, "model.safetensors"),
                "memory_limit": options.memory_limit << 20, "training": False, "peer": "eager",
                "train_batch": options.train_batch, "pgd_steps": options.pgd_steps, "sub_batch": options.sub_batch,
                "adversarial_fraction": options.adversarial_fraction}
    files = [os.path.join(folder, name) for name in ("classifier.safetensors", "purifier.safetensors")]
    for script in ("side_pytorch.py", "side_carso.py"):
        subprocess.run([sys.executable, str(HERE / script), json.dumps(settings), *files], check=True, stdout=sys.stderr)
    return settings


def main():
    options = parse()
    wanted = options.only or list(RATIOS)
    result = {"threads": options.threads, "draws": options.draws, "depth": options.depth, "width": options.width,
              "rounds": options.rounds, "train_rounds": options.train_rounds, "train_batch": options.train_batch,
              "pgd_steps": options.pgd_steps, "medians": {}, "peak_memory": {}, "largest_differences": {}}
    with tempfile.TemporaryDirectory(prefix="carso-bench-") as folder:
        settings = prepare(options, folder)
        actions = [(action, batch) for action in ("predict", "gradient") if action in wanted for batch in options.batches]
        if actions:
            run_phase(options, settings, actions, options.rounds, result)
        if "train" in wanted:
            run_phase(options, {**settings, "training": True}, [("train", options.train_batch)], options.train_rounds, result)
    summarise(result)
    print_table(result, options)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"against_pytorch.py: {error}")
