#!/usr/bin/env python3
"""JPEGs of all samplings, restart intervals and progressive scripts, sound and broken, with what libjpeg-turbo makes of the sound ones.

    pip install pillow numpy; apt-get install libjpeg-turbo-progs
    python3 jpegs.py FOLDER

Writes NAME.jpg and NAME.grey (width, height as little-endian u32, then grey levels) for sound files, and NAME.broken.KIND.jpg for files that were made of
them by losing or changing data. A reader must refuse a broken file, or read what the sound one holds.
"""
import io
import pathlib
import random
import struct
import subprocess
import sys

import numpy as np
from PIL import Image

folder = pathlib.Path(sys.argv[1])
random.seed(1)
rng = np.random.default_rng(1)
SAMPLINGS = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "4x4", "3x1", "1x3", "3x3"]
COLOUR_SCRIPTS = ["0,1,2;", "0;1;2;", "".join(f"{c}:0-0,0,0;" for c in range(3)) + "".join(f"{c}:1-63,0,0;" for c in range(3))]
GREY_SCRIPT = "0:0-0,0,1;0:1-5,0,2;0:6-63,0,2;0:1-63,2,1;0:0-0,1,0;0:1-63,1,0;"


def picture(width, height, colour):
    y, x = np.mgrid[0:height, 0:width]
    grey = 120 + 80 * np.sin(x / 9.3) * np.cos(y / 7.1) + rng.normal(0, 6, (height, width))
    planes = [grey, grey * 0.8 + 30 + 20 * np.sin(x / 30), grey * 0.5 + 60 * np.cos(y / 25) + 50]
    pixels = np.stack(planes, -1) if colour else grey
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def encode(colour, sampling, restart, script):
    width, height = random.choice([(64, 48), (97, 61), (33, 120), (130, 130), (40, 40)])
    ppm = io.BytesIO()
    picture(width, height, colour).save(ppm, "PPM")
    command = ["cjpeg", "-quality", str(random.choice([30, 75, 95, 100])), "-sample", sampling + (",1x1,1x1" if colour else "")]
    command += [] if colour else ["-grayscale"]
    command += ["-restart", restart] if restart else []
    command += ["-progressive"] if script == "progressive" else []
    if script == "scans":
        path = folder / "scans.txt"
        path.write_text(random.choice(COLOUR_SCRIPTS) if colour else GREY_SCRIPT)
        command += ["-scans", str(path)]
    done = subprocess.run(command, input=ppm.getvalue(), capture_output=True)
    return done.stdout if done.returncode == 0 else None


def scans(data):
    """Where each SOS marker begins, and where its entropy-coded data end."""
    found, at = [], 2
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xD9:
            return found
        end = at + 2 + length
        if marker == 0xDA:
            while not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
            found.append((at, end))
        at = end


def broken(data):
    spans = scans(data)
    start, end = random.choice(spans)
    body = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    middle = random.randrange(body + (end - body) // 8, end - (end - body) // 8 - 1)
    amount = random.randrange(4, 64)
    yield "cut", data[:middle] + b"\xff\xd9"
    yield "ends", data[:middle]
    yield "zeros", data[:middle] + bytes(min(amount, end - middle)) + data[middle + min(amount, end - middle) :]
    noise = bytes(random.randrange(1, 255) for _ in range(min(amount, end - middle)))
    yield "noise", data[:middle] + noise + data[middle + len(noise) :]
    yield "lost", data[:middle] + data[min(middle + amount, end) :]
    if len(spans) > 1:
        yield "scan", data[:start] + data[end:]
        yield "twice", data[:end] + data[start:]
    frame = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC1, 0xC2))
    taller = int.from_bytes(data[frame + 5 : frame + 7], "big") + 40
    yield "taller", data[: frame + 5] + taller.to_bytes(2, "big") + data[frame + 7 :]
    restarts = [i for i in range(body, end - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    if len(restarts) > 2:
        yield "interval", data[: restarts[0]] + data[restarts[1] :]


files = []
for colour in (False, True):
    for sampling in SAMPLINGS if colour else ["1x1", "2x2", "3x3"]:
        for restart in ("", "1", "3B", "2"):
            for script in ("baseline", "progressive", "scans"):
                data = encode(colour, sampling, restart, script)
                if data:
                    files.append((f"{len(files):03}-{'colour' if colour else 'grey'}-{sampling}-{restart or 0}-{script}", data))
for name, data in files:
    (folder / f"{name}.jpg").write_bytes(data)
    pixels = np.array(Image.open(io.BytesIO(data))).astype("u4")
    if pixels.ndim == 3:
        pixels = (pixels[..., 0] * 2126 + pixels[..., 1] * 7152 + pixels[..., 2] * 722) // 10000
    size = struct.pack("<II", pixels.shape[1], pixels.shape[0])
    (folder / f"{name}.grey").write_bytes(size + pixels.astype("u1").tobytes())
    for kind, changed in broken(data):
        if changed != data:
            (folder / f"{name}.broken.{kind}.jpg").write_bytes(changed)
