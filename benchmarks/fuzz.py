"""Damaged and hostile files, and wrong recipes, through the command itself.

    python -m benchmarks.fuzz [--mutants 1000] [--seed 0] [--kinds dicom nifti yaml] [--keep FOLDER]

Mutants are made of the example slices and the shipped recipes: flipped, cut, repeated and inserted bytes, header
fields with impossible values, broken and endless compression, YAML with other values, keys, indents and aliases.
Files are ingested in folders of a few mutants and one good file, which must arrive; recipes are loaded with
--dry-run. Every run is a process of its own, forked after the imports. What must not happen: a traceback, an exit
code other than 0, 1 and 2, a death by a signal, the good file lost, more than 10 s for a mutant, more than 1 GB of
memory. What does is printed, and its files are kept.
"""

import argparse
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydicom

from benchmarks.mutants import Mutant, mutants, seeds_of

GROUP = 8
"""Mutants in one folder."""
SECONDS = 10.0
"""What a mutant may take."""
BYTES = 1 << 30
"""What a run may use."""
CODES = (0, 1, 2)


class Outcome(NamedTuple):
    """How a run ended: exit code (negative: signal), seconds, bytes of memory, what it printed."""

    code: int
    seconds: float
    memory: int
    output: str


def _good(kind: str) -> tuple[str, bytes]:
    """A file that is as it should be, of a person and a series of its own; its name comes first."""
    if kind == "nifti":
        return "00-good.nii.gz", seeds_of("nifti")[0]
    dataset, file = pydicom.dcmread(io.BytesIO(seeds_of("dicom")[0])), io.BytesIO()
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
