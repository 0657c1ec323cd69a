"""Damaged and hostile files and wrong recipes, for ``benchmarks/fuzz.py``: the same ones for the same seed."""

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, RLELossless

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A file's name, its content and what was done to it."""

    name: str
    content: bytes
    what: str


# ------------------------------------------------------------------------------------------------ mutations of bytes


def _flipped(data: bytes, rng: random.Random) -> bytes:
    """Some bits changed: in the first kilobytes, where headers are, or anywhere."""
    changed, end = bytearray(data), rng.choice((400, 4000, len(data)))
    for _ in range(rng.choice((1, 4, 32, 256))):
        changed[rng.randrange(min(end, len(changed)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _repeated(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    piece = data[start : start + rng.choice((2, 8, 100, 5000))]
    return data[:start] + piece * rng.choice((2, 3, 50)) + data[start:]


def _inserted(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(min(len(data), rng.choice((300, 3000, len(data)))))
    piece = rng.choice((b"\0" * 8, b"\xff" * 8, b"\xfe\xff\x00\xe0\xff\xff\xff\xff", rng.randbytes(16)))
    return data[:place] + piece + data[place + rng.choice((0, len(piece))) :]


def _zeroed(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    n = rng.choice((4, 64, 4096))
    return data[:start] + bytes(len(data[start : start + n])) + data[start + n :]


def _extended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((rng.randbytes(1000), data, b"\0" * 100_000))


BYTES_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flipped,
    _flipped,
    _cut,
    _repeated,
    _inserted,
    _zeroed,
    _extended,
)


def _bytes_mutant(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    mutation = rng.choice(BYTES_MUTATIONS)
    return mutation(data, rng), mutation.__name__.removeprefix("_")


# ------------------------------------------------------------------------------------------------------------- DICOM

DICOM_VALUES: dict[str, tuple[object, ...]] = {
    "Rows": (0, 1, 65535),
    "Columns": (0, 1, 65535),
    "BitsAllocated": (0, 1, 8, 12, 32, 64),
    "BitsStored": (0, 1, 3, 17, 32),
    "HighBit": (0, 7, 31),
    "SamplesPerPixel": (0, 3, 4),
    "PixelRepresentation": (1, 2),
    "NumberOfFrames": ("0", "-1", "2", "100000000"),
    "PhotometricInterpretation": ("MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL_422", "", "?"),
    "PixelSpacing": (["1e-300", "1e-300"], ["0", "0"], ["-1", "1"], ["1e9", "1e9"], ["1"], ["1", "2", "3"], ""),
    "RescaleSlope": ("0", "-1", "1e30", "1e-300", ""),
    "RescaleIntercept": ("1e30", "-99999", ""),
    "RescaleType": ("Z_EFF", "US", "HU", "ED"),
    "ImageOrientationPatient": (["0"] * 6, ["1", "0", "0", "1", "0", "0"], ["1e9"] * 6, ["1"], ""),
    "ImagePositionPatient": (["1e30"] * 3, ["0"], ""),
    "ImageType": (["DERIVED", "SECONDARY", "LOCALIZER"], ["ORIGINAL", "PRIMARY", "PHASE"], "", ["A"] * 200),
    "SOPClassUID": ("", "1.2.3", "1.2.840.10008.5.1.4.1.1.2.1"),
    "SeriesInstanceUID": ("", "x" * 300, "../../../etc"),
    "PatientID": ("", "a/b", "\u00e9" * 64, "x" * 10_000),
    "PixelPaddingValue": (0, 1000, 65535),
    "Modality": ("MR", "", "OT"),
}


def _dicom_mutant(data: bytes, rng: random.Random) -> tuple[bytes, str]:

    if rng.random() < 0.55:
        return _bytes_mutant(data, rng)
    dataset = pydicom.dcmread(io.BytesIO(data))
    what = []
    for name in rng.sample(sorted(DICOM_VALUES), rng.choice((1, 1, 2, 4))):
        value = rng.choice(DICOM_VALUES[name])
        what.append(f"{name}={str(value)[:30]}")
        try:
            setattr(dataset, name, value)
        except Exception:
            delattr(dataset, name)
    if rng.random() < 0.2:
        dataset.file_meta.TransferSyntaxUID = rng.choice((JPEG2000, RLELossless, DeflatedExplicitVRLittleEndian))
        what.append(str(dataset.file_meta.TransferSyntaxUID.name))
    file = io.BytesIO()
    try:
        pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    except Exception:
        return _bytes_mutant(data, rng)
    return file.getvalue(), ", ".join(what)


def _deflate_bomb(rng: random.Random) -> bytes:
    """A deflated data set: 2 MB that inflate a thousand times, with or without a preamble."""
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFF0)
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(head) + b"".join(body.compress(bytes(1 << 24)) for _ in range(96)) + body.flush()
    uid = b"1.2.840.10008.1.2.1.99"
    syntax = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", len(uid)) + uid
    meta = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(syntax)) + syntax
    return (bytes(128) + b"DICM" if rng.random() < 0.5 else b"") + meta + packed


# ------------------------------------------------------------------------------------------------------------- NIfTI

_FIELDS = {
    40: (
        "<8h",
        [(7, 512, 512, 512, 1, 1, 1, 1), (3, 0, 4, 4, 1, 1, 1, 1), (3, -5, 4, 4, 1, 1, 1, 1), (9,) * 8, (0,) * 8],
    ),
    70: ("<2h", [(0, 0), (1, 1), (2, 8), (16, 32), (64, 64), (128, 24), (1536, 128), (32, 64), (9999, 16)]),
    76: (
        "<8f",
        [
            (1, 1e-30, 1e-30, 1, 1, 1, 1, 1),
            (1, 0, 0, 0, 0, 0, 0, 0),
            (1, -1, 1, 1, 1, 1, 1, 1),
            (float("nan"),) * 8,
            (1, 1e9, 1e9, 1, 1, 1, 1, 1),
        ],
    ),
    108: (
        "<3f",
        [
            (0, 1, 0),
            (1e12, 1, 0),
            (-352, 1, 0),
            (float("nan"), 1, 0),
            (352, 0, 0),
            (352, float("inf"), 0),
            (352, 1e30, 1e30),
        ],
    ),
    123: ("<B", [(0,), (1,), (3,), (255,)]),
    68: ("<h", [(1002,), (1003,), (2003,)]),
    252: ("<2h", [(0, 0), (9, 9), (-1, 3)]),
    280: ("<4f", [(0, 0, 0, 0), (float("nan"),) * 4, (1e30,) * 4]),
}
"""Places in a NIfTI-1 header, with values that somebody's software may have put there."""


def _nifti_mutant(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    chance = rng.random()
    if chance < 0.3:
        return _bytes_mutant(data, rng)
    volume = bytearray(gzip.decompress(data))
    if chance < 0.5:
        changed, what = _bytes_mutant(bytes(volume), rng)
        return gzip.compress(changed, 1), f"inflated: {what}"
    what = []
    for place in rng.sample(sorted(_FIELDS), rng.choice((1, 1, 2, 3))):
        form, values = _FIELDS[place]
        value = rng.choice(values)
        struct.pack_into(form, volume, place, *value)
        what.append(f"header at {place}: {value}")
    if rng.random() < 0.2:
        volume = volume[: rng.choice((348, 352, 1000))]
        what.append("header only")
    return gzip.compress(bytes(volume), 1), ", ".join(what)


def _gzip_bomb(_: random.Random) -> bytes:
    """A NIfTI file of a few megabytes that inflates to gigabytes."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 1000, 1000, 1000, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 16, 32)
    struct.pack_into("<8f", header, 76, *(1.0,) * 8)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    zeros = gzip.compress(bytes(1 << 24), 9)
    return gzip.compress(bytes(header), 9) + zeros * 200


# -------------------------------------------------------------------------------------------------------------- YAML

_SCALARS = (
    ".inf", "-.inf", ".nan", "-1", "0", "023", "0o17", "1e400", "1_0", "12:30:45", "yes", "null", "~", "''", "[]", "{}",
    "[1, [2, [3]]]", "!!python/object/apply:os.system ['true']", "!!binary aGVsbG8=", "*nobody", "&a [*a]",
    "2024-01-01",
    "99999999999999999999", "'\\0'", '"\\ud800"', "\u00e9\u4e2d", "- 1", ": :", "|\n  text", "1e-400", "true",
    "x" * 5000,
)  # fmt: skip


def _yaml_mutant(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    lines = data.decode().splitlines()
    chance = rng.random()
    if chance < 0.15:
        return _bytes_mutant(data, rng)
    if chance < 0.22:
        return rng.choice((_alias_bomb, _deep))(rng), "bomb"
    what = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.randrange(len(lines))
        action = rng.choice(("value", "value", "value", "duplicate", "delete", "indent", "tab", "key", "swap"))
        what.append(f"{action} in line {i + 1}")
        lines = _line_changed(lines, i, action, rng)
    text = "\n".join(lines) + "\n"
    if rng.random() < 0.05:
        text = rng.choice((f"{text}---\n{text}", f"\ufeff{text}", text.replace("\n", "\r\n"), text + "\x00"))
        what.append("whole file")
    return text.encode(rng.choice(("utf-8",) * 8 + ("utf-16", "latin-1")), "replace"), ", ".join(what)


def _line_changed(lines: list[str], i: int, action: str, rng: random.Random) -> list[str]:
    line, before, after = lines[i], lines[:i], lines[i + 1 :]
    match action:
        case "value":
            places = [j for j, c in enumerate(line) if c == ":"] or [len(line)]
            j = rng.choice(places)
            rest = line[j + 1 :]
            end = next((k for k, c in enumerate(rest) if c in ",}]"), len(rest))
            return [*before, f"{line[:j]}: {rng.choice(_SCALARS)}{rest[end:]}", *after]
        case "duplicate":
            return [*before, line, line, *after]
        case "delete":
            return [*before, *after] or [""]
        case "indent":
            return [*before, " " * rng.randrange(1, 7) + line, *after]
        case "tab":
            return [*before, "\t" + line, *after]
        case "key":
            return [*before, line.replace(":", rng.choice(("x:", " :", "::", "")), 1), *after]
    j = rng.randrange(len(lines))
    swapped = list(lines)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    return swapped


def _alias_bomb(rng: random.Random) -> bytes:
    depth = rng.choice((6, 9, 12))
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return ("\n".join(rows) + f"\ntitle: *a{depth - 1}\n").encode()


def _deep(rng: random.Random) -> bytes:
    n = rng.choice((100, 1000, 20_000))
    return f"title: {'[' * n}{']' * n}\n".encode() if rng.random() < 0.5 else ("a: {" * n).encode()


def mutants(kind: str, n: int, seed: int) -> Iterator[Mutant]:
    """n mutants of a kind, the same ones for the same seed; every fiftieth file is a bomb."""
    rng = random.Random(f"{kind} {seed}")
    originals = seeds_of(kind)
    for i in range(n):
        data = rng.choice(originals)
        if kind == "dicom":
            content, what = (_deflate_bomb(rng), "bomb") if i % 50 == 49 else _dicom_mutant(data, rng)
            yield Mutant(f"{i:04d}.dcm" if rng.random() < 0.9 else f"{i:04d}", content, what)
        elif kind == "nifti":
            content, what = (_gzip_bomb(rng), "bomb") if i % 50 == 49 else _nifti_mutant(data, rng)
            yield Mutant(f"{i:04d}.nii.gz" if rng.random() < 0.9 else f"{i:04d}.nii", content, what)
        else:
            yield Mutant(f"{i:04d}.yaml", *_yaml_mutant(data, rng))


def seeds_of(kind: str) -> list[bytes]:
    """What mutants of a kind are made of."""
    if kind == "dicom":
        return [path.read_bytes() for path in sorted((ROOT / "examples" / "ct").rglob("*.dcm"))]
    if kind == "nifti":
        return [path.read_bytes() for path in sorted((ROOT / "examples" / "mri").rglob("*.nii.gz"))]
    return [path.read_bytes() for path in sorted((ROOT / "deployments" / "recipes").glob("*.yaml"))]
