# SPDX-License-Identifier: BSD-2-Clause
"""One side of a comparison in a process of its own: commands as JSON lines on stdin, answers on stdout."""
import json
import os
import sys
import time

import numpy


def peak_memory():
    """Bytes: the most that this process has had in memory."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM in /proc/self/status")


def samples(settings, count):
    """The same images and labels on every side."""
    generator = numpy.random.default_rng(settings["seed"])
    images = generator.random((count, 3, settings["size"], settings["size"]), numpy.float32)
    return images, generator.integers(settings["classes"], size=count)


def timed(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def serve(make_side):
    """make_side: settings -> object with predict(batch), gradient(batch), train() and check(batch) -> arrays."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    side = None
    for line in sys.stdin:
        command = json.loads(line)
        action = command["do"]
        answer = {}
        if action == "open":
            try:
                side = make_side(command["settings"])
                answer["about"] = side.about
            except NotImplementedError as error:
                answer["unavailable"] = str(error)
        elif action == "check":
            numpy.savez(command["path"], **side.check(command["batch"]))
        elif action == "peak":
            answer["bytes"] = peak_memory()
        elif action == "train":
            answer["seconds"] = timed(side.train)
        else:
            answer["seconds"] = timed(getattr(side, action), command["batch"])
        print(json.dumps(answer), file=answers, flush=True)
