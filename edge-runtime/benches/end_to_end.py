"""Scanning files from the disk to the finding, beside a Python script that does the same.

    python3 edge-runtime/benches/end_to_end.py target/release/edge-runtime MODEL.int8.onnx MODEL.hilum [--rounds 5]

Needs numpy, pillow, onnxruntime, pydicom, pylibjpeg and pylibjpeg-libjpeg; DCMTK's dcmcjpeg makes the JPEG-lossless
file. Inputs are synthetic. Each round runs ours, Python with its start and Python without it, one after the other;
printed are medians of wall time in milliseconds and the ratios of ours to each. Peak memory is the process's own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

WORKER = r"""
import json, sys, time
import numpy as np
import onnxruntime as ort
from PIL import Image
model, files = sys.argv[1], sys.argv[2:]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
meta = session.get_modelmeta().custom_metadata_map
contract = json.loads(meta["hilum.input"])
size, mean, std = contract["size"], contract["mean"][0], contract["std"][0]
name = session.get_inputs()[0].name

def grey(path):
    if path.endswith(".dcm"):
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
        data = pydicom.dcmread(path)
        values = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data).astype(np.float32)
        low, high = values.min(), values.max()
        return Image.fromarray(((values - low) * (255 / max(high - low, 1))).astype(np.uint8))
    image = Image.open(path)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")

def scan(path):
    pixels = np.asarray(grey(path).resize((size, size), Image.BILINEAR), np.float32)
    x = ((pixels - mean) / std)[None, None]
    return session.run(["logits"], {name: x})[0]

grey(files[0])
clock = time.perf_counter()
for path in files:
    scan(path)
print((time.perf_counter() - clock) * 1e3)
"""


def chest(rng, height, width):
    """A smooth picture with lungs' two dark ovals and noise, 0 to 1."""
    import numpy as np

    y, x = np.mgrid[0:1:complex(height), 0:1:complex(width)]
    body = np.clip(1.6 - 4 * np.abs(x - 0.5), 0, 1)
    for centre in (0.3, 0.7):
        body -= 0.6 * np.exp(-(((x - centre) / 0.12) ** 2 + ((y - 0.5) / 0.25) ** 2))
    return np.clip(body * 0.8 + 0.1 + rng.normal(0, 0.01, body.shape), 0, 1)


def dicom(path, values, bits):
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = data.SeriesInstanceUID = generate_uid()
    data.PatientName, data.PatientID, data.Modality = "Phantom", "0", "DX"
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, 0
    data.WindowCenter, data.WindowWidth = 1 << (bits - 1), 1 << bits
    data.PixelData = values.astype("<u2").tobytes()
    data.save_as(path)


def make(folder):
    """The four inputs: name and files of each."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(1)
    path = lambda name: os.path.join(folder, name)
    wide = (chest(rng, 2566, 2566) * 65535).astype(np.uint16)
    Image.fromarray(wide).save(path("wide.png"))
    dicom(path("plain.dcm"), (chest(rng, 1841, 1955) * 4095).astype(np.uint16), 12)
    subprocess.run(["dcmcjpeg", "+e1", path("plain.dcm"), path("lossless.dcm")], check=True)
    dicom(path("native.dcm"), (chest(rng, 3000, 3000) * 4095).astype(np.uint16), 12)
    os.remove(path("plain.dcm"))
    os.mkdir(path("folder"))
    for i in range(500):
        height, width = 900 + 5 * (i % 60), 1100 + 7 * (i % 50)
        picture = (chest(rng, height, width) * 255).astype(np.uint8)
        Image.fromarray(picture).save(path(f"folder/{i:03}.jpeg"), quality=92)
    return [
        ("PNG 2566×2566, 16 bit", [path("wide.png")]),
        ("DICOM JPEG lossless 1955×1841", [path("lossless.dcm")]),
        ("DICOM uncompressed 3000×3000", [path("native.dcm")]),
        ("500 JPEGs of about 1 megapixel", [path(f"folder/{i:03}.jpeg") for i in range(500)]),
    ]


# A process counts the memory of the one that forked it: a small one measures.
MEMORY = r"""
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def command(binary, model, files):
    target = [os.path.dirname(files[0])] if len(files) > 1 else files
    return [binary, "scan", "--json", "--policy", "ignore", "--model", model, *target]


def ours(binary, model, files):
    clock = time.perf_counter()
    subprocess.run(command(binary, model, files), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - clock) * 1e3


def peak_mib(binary, model, files):
    run = [sys.executable, "-S", "-c", MEMORY, *command(binary, model, files)]
    return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def python(model, files):
    clock = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", WORKER, model, *files], check=True, capture_output=True, text=True)
    return (time.perf_counter() - clock) * 1e3, float(out.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("onnx")
    parser.add_argument("bundle")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, files in make(folder):
            times = {"ours": [], "with start": [], "without": []}
            for _ in range(args.rounds):
                wall = ours(args.binary, args.bundle, files)
                whole, inner = python(args.onnx, files)
                times["ours"].append(wall)
                times["with start"].append(whole)
                times["without"].append(inner)
            ms = {key: statistics.median(values) for key, values in times.items()}
            rows.append({
                "input": name, "ours_ms": round(ms["ours"], 1), "python_ms": round(ms["without"], 1),
                "python_with_start_ms": round(ms["with start"], 1), "ratio": round(ms["ours"] / ms["without"], 2),
                "ratio_with_start": round(ms["ours"] / ms["with start"], 2), "peak_mib": round(peak_mib(args.binary, args.bundle, files), 1),
            })
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
