"""Damaged and hostile files, and wrong recipes, through the command itself.

    python benchmarks/fuzz.py [--mutants 1000] [--seed 0] [--kinds dicom nifti yaml] [--keep FOLDER]

Mutants are made of the example slices and the shipped recipes: flipped, cut, repeated and inserted bytes, header
fields with impossible values, broken and endless compression, YAML with other values, keys, indents and aliases.
Files are ingested in folders of a few mutants and one good file, which must arrive; recipes are loaded with
--dry-run. Every run is a process of its own, forked after the imports. What must not happen: a traceback, an exit
code other than 0, 1 and 2, a death by a signal, the good file lost, more than 10 s for a mutant, more than 1 GB of
memory. What does is printed, and its files are kept.
"""

import argparse
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, RLELossless

ROOT = Path(__file__).parents[1]
GROUP = 8
"""Mutants in one folder."""
SECONDS = 10.0
"""What a mutant may take."""
BYTES = 1 << 30
"""What a run may use."""
CODES = (0, 1, 2)


class Mutant(NamedTuple):
    """A file's name, its content and what was done to it."""

    name: str
    content: bytes
    what: str


class Outcome(NamedTuple):
    """How a run ended: exit code (negative: signal), seconds, bytes of memory, what it printed."""

    code: int
    seconds: float
    memory: int
    output: str


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
    import io

    import pydicom

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


# -------------------------------------------------------------------------------------------------------------- runs


def mutants(kind: str, n: int, seed: int) -> Iterator[Mutant]:
    """n mutants of a kind, the same ones for the same seed; every fiftieth file is a bomb."""
    rng = random.Random(f"{kind} {seed}")
    seeds = _seeds(kind)
    for i in range(n):
        data = rng.choice(seeds)
        if kind == "dicom":
            content, what = (_deflate_bomb(rng), "bomb") if i % 50 == 49 else _dicom_mutant(data, rng)
            yield Mutant(f"{i:04d}.dcm" if rng.random() < 0.9 else f"{i:04d}", content, what)
        elif kind == "nifti":
            content, what = (_gzip_bomb(rng), "bomb") if i % 50 == 49 else _nifti_mutant(data, rng)
            yield Mutant(f"{i:04d}.nii.gz" if rng.random() < 0.9 else f"{i:04d}.nii", content, what)
        else:
            yield Mutant(f"{i:04d}.yaml", *_yaml_mutant(data, rng))


def _seeds(kind: str) -> list[bytes]:
    if kind == "dicom":
        return [path.read_bytes() for path in sorted((ROOT / "examples" / "ct").rglob("*.dcm"))]
    if kind == "nifti":
        return [path.read_bytes() for path in sorted((ROOT / "examples" / "mri").rglob("*.nii.gz"))]
    return [path.read_bytes() for path in sorted((ROOT / "deployments" / "recipes").glob("*.yaml"))]


def _good(kind: str) -> tuple[str, bytes]:
    """A file that is as it should be, of a person and a series of its own; its name comes first."""
    if kind == "nifti":
        return "00-good.nii.gz", _seeds("nifti")[0]
    dataset, file = pydicom.dcmread(io.BytesIO(_seeds("dicom")[0])), io.BytesIO()
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, name, "1.2.3")
    pydicom.dcmwrite(file, dataset)
    return "00-good.dcm", file.getvalue()


def forked(arguments: Sequence[str], limit: float) -> Outcome:
    """The command in a forked process, ended after ``limit`` seconds."""
    with tempfile.TemporaryFile() as out:
        start, pid = time.monotonic(), os.fork()
        if pid == 0:
            _child(arguments, out.fileno())
        status, usage = _waited(pid, start + limit)
        out.seek(0)
        text = out.read().decode(errors="replace")
    return Outcome(os.waitstatus_to_exitcode(status), time.monotonic() - start, usage.ru_maxrss * 1024, text)


def _child(arguments: Sequence[str], out: int) -> None:
    from flows.cli import main

    code = 99
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(out, 2)
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited(pid: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    while time.monotonic() < deadline:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def faults(outcome: Outcome, limit: float) -> list[str]:
    """What must not happen and did."""
    checks = {
        f"exit code {outcome.code}": outcome.code not in CODES,
        "a traceback": "Traceback (most recent call last)" in outcome.output,
        f"{outcome.seconds:.0f} s": outcome.seconds > limit,
        f"{outcome.memory >> 20} MB": outcome.memory > BYTES,
    }
    return [name for name, is_so in checks.items() if is_so]


def ingest_arguments(kind: str, folder: Path, workspace: Path) -> list[str]:
    """The command that ingests a folder of mutants."""
    image = {
        "dicom": "image.modality=ct image.size=64 image.pixel_mm=7 image.low=-1000 image.high=1000",
        "nifti": "source.modality=mri image.modality=mri image.size=64 image.pixel_mm=3.75 image.low=0 image.high=1",
    }[kind]
    source = [f"source.kind={kind}", f"source.path={folder}", "source.identities=kept"]
    inline = ["execution.cluster.kind=inline", "--workspace", str(workspace)]
    return ["ingest", *source, *image.split(), *inline]


def fuzz_files(kind: str, group: Sequence[Mutant], work: Path) -> list[str]:
    """Ingests a folder of mutants and a good file, whose people keep their names; what went wrong."""
    folder = work / kind / group[0].name.split(".")[0]
    folder.mkdir(parents=True)
    name, content = _good(kind)
    (folder / name).write_bytes(content)
    for mutant in group:
        (folder / mutant.name).write_bytes(mutant.content)
    limit = SECONDS * (1 + len(group))
    outcome = forked(ingest_arguments(kind, folder, work / "workspace"), limit)
    found = faults(outcome, limit)
    if not _has_arrived(outcome, name):
        found.append("the good file was not ingested")
    if found:
        (folder / "output.txt").write_text(outcome.output)
    else:
        shutil.rmtree(folder)
    return found


def _has_arrived(outcome: Outcome, name: str) -> bool:
    """Whether the data set that a run names in its last line holds a file."""
    lines = outcome.output.strip().splitlines()
    listing = Path(lines[-1]) / "slices.json" if outcome.code == 0 and lines else None
    return listing is not None and any(one["file"] == name for one in json.loads(listing.read_text())["slices"])


def fuzz_recipe(mutant: Mutant, work: Path) -> list[str]:
    """Loads a recipe; what went wrong."""
    folder = work / "yaml"
    folder.mkdir(exist_ok=True)
    path = folder / mutant.name
    path.write_bytes(mutant.content)
    outcome = forked(["pipeline", str(path), "--dry-run", "--workspace", str(work / "workspace")], SECONDS)
    found = faults(outcome, SECONDS)
    if found:
        path.with_suffix(".txt").write_text(outcome.output)
    else:
        path.unlink()
    return found


def fuzz(kind: str, n: int, seed: int, work: Path) -> tuple[int, int]:
    """Mutants tried, and those that did what must not happen (of a folder, all are tried again alone)."""
    tried, bad = 0, 0
    group: list[Mutant] = []
    for mutant in mutants(kind, n, seed):
        tried += 1
        if kind == "yaml":
            bad += _told(mutant, fuzz_recipe(mutant, work))
            continue
        group.append(mutant)
        if len(group) == GROUP or tried == n:
            if fuzz_files(kind, group, work):
                bad += sum(
                    _told(one, fuzz_files(kind, [one._replace(name=f"alone-{one.name}")], work)) for one in group
                )
            group = []
    return tried, bad


def _told(mutant: Mutant, found: list[str]) -> bool:
    if found:
        print(f"{mutant.name} ({mutant.what[:100]}): {'; '.join(found)}", flush=True)
    return bool(found)


def main() -> None:
    """Run and print a line per kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=["dicom", "nifti", "yaml"])
    parser.add_argument("--keep", type=Path, help="a folder for the files of mutants that did harm")
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    work.mkdir(parents=True, exist_ok=True)
    if options.kinds != ["yaml"] and not os.environ.get("PREFECT_API_URL"):
        sys.exit("start a server (prefect server start) and set PREFECT_API_URL: one for each run takes hours")
    # Imported before the forks, so that a mutant costs its own work alone.
    import flows.ingest
    import flows.pipeline  # noqa: F401

    total = 0
    for kind in options.kinds:
        start = time.monotonic()
        tried, bad = fuzz(kind, options.mutants // len(options.kinds), options.seed, work)
        total += bad
        print(f"{kind}: {tried} mutants, {bad} did what must not happen, {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
