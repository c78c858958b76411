#!/usr/bin/env python3
"""Fits the weights in polarity.rs, which tell a radiograph from its negative.

    python3 polarity.py RADIOGRAPHS [OTHER_RADIOGRAPHS]      (needs numpy, Pillow)

Logistic regression without a constant on 16x16 pictures of mean 0 and standard deviation 1: a picture and its negative
get scores of opposite signs. Every fifth radiograph is held back; OTHER_RADIOGRAPHS are only measured.
"""
import pathlib
import random
import sys

import numpy as np
from PIL import Image

SIDE = 16
VARIANTS = 6
DECAY = 3e-4
NEGATIVE = -4.0


def load(folder):
    files = sorted(f for f in pathlib.Path(folder).rglob("*") if f.suffix in (".jpeg", ".jpg", ".png"))
    return [Image.open(f).convert("L") for f in files]


def variant(image, draw):
    """Mirrored, turned, cropped, brighter or darker, with a border: as machines and people leave them."""
    if draw.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if draw.random() < 0.5:
        image = image.rotate(draw.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    if draw.random() < 0.5:
        share = draw.uniform(0.75, 1)
        x, y = (draw.uniform(0, 1 - share) * length for length in image.size)
        image = image.crop((x, y, x + share * image.width, y + share * image.height))
    pixels = (255 * (np.asarray(image, np.float32) / 255) ** draw.uniform(0.6, 1.7)).astype(np.uint8)
    if draw.random() < 0.35:
        rows, columns = (int(draw.uniform(0, 0.2) * length) for length in pixels.shape)
        pixels = np.pad(pixels, ((rows, rows), (columns, columns)), constant_values=draw.choice([0, 0, 0, 255]))
    return Image.fromarray(pixels)


def features(images):
    small = np.stack([np.asarray(i.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64).ravel() for i in images])
    small -= small.mean(1, keepdims=True)
    return small / (small.std(1, keepdims=True) + 1e-3)


def fit(x):
    """Newton's method on mean(log(1 + exp(-x w))) + DECAY |w|^2."""
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(x @ w))
        gradient = -x.T @ p / len(x) + 2 * DECAY * w
        hessian = (x.T * (p * (1 - p))) @ x / len(x) + 2 * DECAY * np.eye(len(w))
        w -= np.linalg.solve(hessian, gradient)
    return w


def report(name, scores):
    kept = 100 * (scores > -NEGATIVE).mean()
    wrong = 100 * (scores <= NEGATIVE).mean()
    print(f"// {name}: {len(scores)} pictures, {wrong:.2f} % called negatives; of their negatives {kept:.2f} % are", file=sys.stderr)


draw = random.Random(1)
images = load(sys.argv[1])
held = images[::5]
kept = [image for i, image in enumerate(images) if i % 5]
weights = fit(features(kept + [variant(image, draw) for _ in range(VARIANTS) for image in kept]))
rounded = np.clip(np.round(weights * 100), -127, 127).astype(int)
report("held back", features(held) @ rounded / 100)
report("held back, varied", features([variant(i, draw) for i in held]) @ rounded / 100)
for folder in sys.argv[2:]:
    others = load(folder)
    report("others", features(others) @ rounded / 100)
    report("others, varied", features([variant(i, draw) for i in others]) @ rounded / 100)
for row in rounded.reshape(SIDE, SIDE):
    print("    [" + ", ".join(str(v) for v in row) + "],")
