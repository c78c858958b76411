#!/usr/bin/env python3
"""DICOM files of every transfer syntax and pixel form that is read, and broken ones.

    python3 dicom_files.py FOLDER

Writes NAME.dcm with NAME.grey, the greys of pydicom's pipeline (width and height as u32, then one byte a pixel), and
NAME.broken.KIND.dcm. Needs pydicom, pylibjpeg-openjpeg, numpy, and DCMTK's programs.
"""
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000,
    JPEG2000Lossless,
    generate_uid,
)

WIDTH, HEIGHT = 93, 71
folder = pathlib.Path(sys.argv[1])
random = np.random.default_rng(3)


def chest(bits, signed=False):
    """Something with the smoothness and the noise of a radiograph, over most of the scale."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    lungs = np.exp(-(((x - 28) / 14) ** 2 + ((y - 32) / 24) ** 2)) + np.exp(-(((x - 64) / 14) ** 2 + ((y - 32) / 24) ** 2))
    picture = 0.75 - 0.55 * lungs + random.normal(0, 0.01, x.shape)
    picture[:, :3] = 0
    top = (1 << bits) - 1
    stored = np.clip(picture * top, 0, top).round().astype(np.int64)
    if signed:
        stored -= 1 << (bits - 1)
    return stored.astype((np.int16 if signed else np.uint16) if bits > 8 else (np.int8 if signed else np.uint8))


def dataset(pixels, bits, **elements):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = ds.SeriesInstanceUID = generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientAge, ds.PatientSex = "Phantom^Synthetic", "0", "004Y", "F"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.StudyDate = ds.ContentDate = "20260101"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
    return ds


def greys(ds, stored=None):
    """The greys of pydicom's pipeline, black = 0."""
    stored = ds.pixel_array if stored is None else stored
    if ds.SamplesPerPixel == 3:
        return stored.astype(np.int64) @ [2126, 7152, 722] // 10000
    real = apply_modality_lut(stored, ds)
    voi = apply_voi_lut(real, ds).astype(float)
    if "ModalityLUTSequence" in ds:
        low, high = 0, (1 << ds.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    elif "VOILUTSequence" in ds:
        low, high = 0, (1 << ds.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif "WindowCenter" in ds or ds.BitsStored <= 8:
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        signed = ds.PixelRepresentation
        ends = [-signed * (1 << (ds.BitsStored - 1)), (1 << (ds.BitsStored - signed)) - 1]
        low, high = (end * slope + intercept for end in ends)
    else:
        voi = real.astype(float)
        padding = ds.get("PixelPaddingValue")
        kept = np.sort(real[stored != padding].ravel() if padding is not None else real.ravel())
        low, high = kept[int(0.005 * kept.size)], kept[int(0.995 * kept.size)]
    grey = np.clip((voi - low) / (high - low), 0, 1) * 255
    if ds.PhotometricInterpretation == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE":
        grey = 255 - grey
    if "PixelPaddingValue" in ds:
        grey[stored == ds.PixelPaddingValue] = 0
    return grey


def write_greys(name, grey):
    grey = np.asarray(grey)
    size = struct.pack("<II", grey.shape[1], grey.shape[0])
    (folder / f"{name}.grey").write_bytes(size + np.clip(np.round(grey), 0, 255).astype(np.uint8).tobytes())


def save(name, ds, grey=None, **options):
    ds.save_as(folder / f"{name}.dcm", enforce_file_format=options.pop("enforce", True), **options)
    write_greys(name, greys(ds) if grey is None else grey)


def run(*command):
    subprocess.run([str(c) for c in command], check=True, capture_output=True)


def lut(entries, first, bits, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [len(entries) & 0xFFFF, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, np.uint16).tobytes())
    return Sequence([item])


def syntaxes():
    """The same stored values in every transfer syntax."""
    for bits in (8, 10, 12, 16):
        pixels = chest(bits)
        window = {"WindowCenter": (1 << bits) / 2, "WindowWidth": (1 << bits) * 0.8}
        base = f"native-{bits}"
        ds = dataset(pixels, bits, **window)
        save(base, ds)
        grey = greys(ds)
        path = folder / f"{base}.dcm"
        ways = {"implicit": ["dcmconv", "+ti"], "big": ["dcmconv", "+tb"], "deflated": ["dcmconv", "+td"], "rle": ["dcmcrle"]}
        ways |= {"lossless-sv1": ["dcmcjpeg", "+e1"], "lossless": ["dcmcjpeg", "+el", "+sv", "6"]}
        ways |= {"jpegls": ["dcmcjpls", "+el"]}
        for way, command in ways.items():
            run(*command, path, folder / f"{way}-{bits}.dcm")
            write_greys(f"{way}-{bits}", grey)
        run("dcmcjpls", "+en", "+md", 2, path, folder / f"jpegls-near-{bits}.dcm")
        near = pydicom.dcmread(folder / f"jpegls-near-{bits}.dcm")
        run("dcmdjpls", folder / f"jpegls-near-{bits}.dcm", folder / "plain.tmp")
        write_greys(f"jpegls-near-{bits}", greys(pydicom.dcmread(folder / "plain.tmp")))
        for name, syntax, options in (("j2k", JPEG2000Lossless, {}), ("j2k-lossy", JPEG2000, {"j2k_cr": [6]})):
            packed = dataset(pixels, bits, **window)
            packed.compress(syntax, encoding_plugin="pylibjpeg", **options)
            packed.save_as(folder / f"{name}-{bits}.dcm", enforce_file_format=True)
            write_greys(f"{name}-{bits}", greys(pydicom.dcmread(folder / f"{name}-{bits}.dcm")))
        if bits == 8:
            run("dcmcjpeg", "+eb", "+q", 90, path, folder / "baseline-8.dcm")
            run("dcmdjpeg", folder / "baseline-8.dcm", folder / "plain.tmp")
            write_greys("baseline-8", greys(pydicom.dcmread(folder / "plain.tmp")))


def pipelines():
    """Modality transformation, values of interest and polarity."""
    plain, signed = chest(12), chest(12, signed=True)
    half = {"WindowCenter": 2048, "WindowWidth": 3000}
    save("percentiles", dataset(plain, 12))
    save("signed", dataset(signed, 12, WindowCenter=0, WindowWidth=3000))
    save("rescaled", dataset(plain, 12, RescaleSlope="1.5", RescaleIntercept="-1000", WindowCenter=2000, WindowWidth=4000))
    save("signed-rescaled", dataset(signed, 12, RescaleSlope="0.5", RescaleIntercept="100", WindowCenter=100, WindowWidth=1500))
    save("several-windows", dataset(plain, 12, WindowCenter=[2048, 100], WindowWidth=[3000, 50]))
    save("sigmoid", dataset(plain, 12, VOILUTFunction="SIGMOID", **half))
    save("linear-exact", dataset(plain, 12, VOILUTFunction="LINEAR_EXACT", **half))
    save("monochrome1", dataset(plain, 12, PhotometricInterpretation="MONOCHROME1", **half))
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    save("inverse-shape", dataset(plain, 12, **inverse, **half))
    save("inverse-alone", dataset(plain, 12, PresentationLUTShape="INVERSE", **half))
    curve = (np.linspace(0, 1, 4096) ** 0.6 * 4095).round()
    save("voi-table", dataset(plain, 12, VOILUTSequence=lut(curve, 0, 12)))
    save("voi-table-short", dataset(plain, 12, VOILUTSequence=lut(curve[::2][:1024], 1500, 12)))
    table = dataset(plain, 12, ModalityLUTSequence=lut(4095 - np.arange(4096), 0, 16), WindowCenter=2048, WindowWidth=4000)
    table.ModalityLUTSequence[0].ModalityLUTType = "US"
    save("modality-table", table)
    padded = chest(12)
    padded[:20] = 4095
    save("padding", dataset(padded, 12, PixelPaddingValue=4095, WindowCenter=1500, WindowWidth=2500))
    save("eight-bits-without-a-window", dataset(chest(8), 8))
    shifted = dataset(chest(12) << 4, 12, **half)
    shifted.HighBit = 15
    save("high-bit", shifted, greys(dataset(chest(12), 12, **half), (np.frombuffer(shifted.PixelData, np.uint16) >> 4).reshape(HEIGHT, WIDTH)))


def colours():
    rgb = np.stack([chest(8), chest(8) // 2, chest(8) // 3], axis=2)
    ds = dataset(rgb, 8)
    save("rgb", ds)
    grey = greys(ds)
    run("dcmcrle", folder / "rgb.dcm", folder / "rgb-rle.dcm")
    write_greys("rgb-rle", grey)
    planes = dataset(rgb, 8, PlanarConfiguration=1)
    planes.PixelData = rgb.transpose(2, 0, 1).tobytes() + b"\0" * (rgb.nbytes % 2)
    save("rgb-planes", planes, grey)
    run("dcmcjpeg", "+eb", "+q", 95, folder / "rgb.dcm", folder / "rgb-baseline.dcm")
    run("dcmdjpeg", folder / "rgb-baseline.dcm", folder / "plain.tmp")
    write_greys("rgb-baseline", greys(pydicom.dcmread(folder / "plain.tmp")))
    indices = chest(8)
    palette = dataset(indices, 8, PhotometricInterpretation="PALETTE COLOR")
    entries = np.arange(256, dtype=np.uint16)[::-1] * 257
    for colour in ("Red", "Green", "Blue"):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(palette, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    save("palette", palette, 255 - indices.astype(int))


def forms():
    """Files as old machines and careless programs write them."""
    half = {"WindowCenter": 2048, "WindowWidth": 3000}
    plain = chest(12)
    ds = dataset(plain, 12, **half)
    grey = greys(ds)
    save("whole", ds)
    whole = (folder / "whole.dcm").read_bytes()
    cases = {"without-preamble": whole[128:], "without-magic": whole[132:]}
    meta = 144 + struct.unpack("<I", whole[140:144])[0]
    cases["without-meta"] = whole[meta:]
    wrong = bytearray(whole)
    wrong[140:144] = struct.pack("<I", 7)
    cases["wrong-meta-length"] = bytes(wrong)
    run("dcmconv", "+ti", folder / "whole.dcm", folder / "plain.tmp")
    implicit = (folder / "plain.tmp").read_bytes()
    cases["implicit-without-meta"] = implicit[144 + struct.unpack("<I", implicit[140:144])[0] :]
    for name, content in cases.items():
        (folder / f"{name}.dcm").write_bytes(content)
        write_greys(name, grey)
    odd = dataset(plain, 12, **half)
    odd.SpecificCharacterSet = "ISO 2022 IR 87"
    block = odd.private_block(0x0029, "SOMEBODY", create=True)
    block.add_new(0x01, "LO", "private")
    block.add_new(0x02, "SQ", Sequence([Dataset()]))
    odd.ReferencedImageSequence = Sequence([Dataset(), Dataset()])
    odd.ReferencedImageSequence.is_undefined_length = True
    save("private-and-undefined", odd, grey)
    for name, orientation, turn in (
        ("upright", ["L", "F"], lambda g: g),
        ("mirrored", ["R", "F"], lambda g: g[:, ::-1]),
        ("upside-down", ["R", "H"], lambda g: g[::-1, ::-1]),
        ("lying", ["F", "L"], lambda g: g.T),
    ):
        save(f"orientation-{name}", dataset(plain, 12, PatientOrientation=orientation, **half), turn(grey))
    for syntax in (ImplicitVRLittleEndian,):
        ds.file_meta.TransferSyntaxUID = syntax
        save("implicit-by-pydicom", ds, grey)


def broken():
    """What must be refused."""
    for name in ("native-12", "rle-12", "lossless-12", "jpegls-12", "j2k-12", "baseline-8", "deflated-12", "big-12"):
        content = (folder / f"{name}.dcm").read_bytes()
        for share in (50, 80, 97):
            (folder / f"{name}.broken.cut{share}.dcm").write_bytes(content[: len(content) * share // 100])
        ds = pydicom.dcmread(folder / f"{name}.dcm")
        compressed = ds.file_meta.TransferSyntaxUID.is_encapsulated
        if name in ("deflated-12", "big-12"):
            continue
        if compressed:
            frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
            ds.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) * 7 // 10 // 2 * 2]])
            ds["PixelData"].is_undefined_length = True
        else:
            whole = ds.PixelData
            ds.PixelData = whole + whole[:4000]
            ds.save_as(folder / f"{name}.broken.long.dcm")
            ds.PixelData = whole[: len(whole) * 7 // 10 // 2 * 2]
        ds.save_as(folder / f"{name}.broken.short.dcm")
    for kind, elements in {
        "frames": {"NumberOfFrames": 2},
        "rows": {"Rows": HEIGHT * 3},
        "huge": {"Rows": 65535, "Columns": 65535},
        "bits": {"BitsStored": 14, "HighBit": 3},
        "samples": {"SamplesPerPixel": 3},
        "colours": {"PhotometricInterpretation": "CMYK"},
        "tiny": {"Rows": 4, "Columns": 4},
    }.items():
        ds = dataset(chest(12), 12)
        for name, value in elements.items():
            setattr(ds, name, value)
        ds.save_as(folder / f"elements.broken.{kind}.dcm", enforce_file_format=True)
    narrow = dataset(chest(12), 10, WindowCenter=512, WindowWidth=1024)
    narrow.save_as(folder / "narrow.broken.bits.dcm", enforce_file_format=True)
    untyped = dataset(chest(12), 12, WindowWidth=3000)
    pydicom.config.replace_un_with_known_vr = False
    untyped.add_new(0x00281050, "UN", b"2048")
    pydicom.config.replace_un_with_known_vr = True
    untyped.save_as(folder / "untyped.broken.window.dcm", enforce_file_format=True)
    closed = dataset(chest(12), 12, WindowCenter=2048, WindowWidth=0)
    closed.save_as(folder / "closed.broken.window.dcm", enforce_file_format=True)
    short = dataset(chest(12), 12, VOILUTSequence=lut(np.arange(4096), 0, 12))
    short.VOILUTSequence[0].LUTData = short.VOILUTSequence[0].LUTData[:-2]
    short.save_as(folder / "short.broken.table.dcm", enforce_file_format=True)
    signed = dataset(chest(12, signed=True), 12, WindowCenter=0, WindowWidth=3000)
    signed.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    signed.save_as(folder / "signed.broken.j2k.dcm", enforce_file_format=True)
    ds = dataset(chest(12), 12)
    ds.save_as(folder / "video.broken.syntax.dcm", enforce_file_format=True)
    content = (folder / "video.broken.syntax.dcm").read_bytes()
    uid = b"1.2.840.10008.1.2.1\0"
    (folder / "video.broken.syntax.dcm").write_bytes(content.replace(uid, b"1.2.840.10008.1.2.9\0", 1))


for kind in (syntaxes, pipelines, colours, forms, broken):
    kind()
