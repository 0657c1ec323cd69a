"""A source that grows while the commands that ingest it are killed."""

import shutil
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from random import Random

import nibabel
import numpy as np

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command, Said
from benchmarks.chaos.contents import digest_of_array
from benchmarks.chaos.damage import damage
from scoreinv.spec import digest_of
from storage.datasets import DatasetStore
from storage.joined import open_store
from storage.scores import read_scores

HEADS = ("ant", "bee", "cow", "dog")

ADDRESSES = ("slice", "reconstruction", "measurements", "seconds")
"""Columns that say where a slice lies, or what it took."""


class Growth(Bench):
    """A source gains studies one by one while its commands are killed, and now and then a file is damaged.

    Compared by slices.
    """

    kind = "growth"

    def __init__(self, folder: Path) -> None:
        self.all = folder / "all"
        for name in HEADS:
            _write_head(self.all, name)
        super().__init__(folder)
        self.scans = folder / "scans"

    def source(self) -> str:
        return str(self.folder / "scans")

    def prepare(self, stage: str) -> None:
        self._show(HEADS)
        super().prepare(stage)

    def disturb(self, chance: Random) -> None:
        order = chance.sample(HEADS, len(HEADS))
        n_first = chance.randint(1, len(HEADS) - 1)
        self._show(order[:n_first])
        for name in order[n_first:]:
            for _ in range(chance.randint(0, 2)):
                self.run(1, partial(self._kill, chance.uniform(0, self.seconds[self.stage])))
            if chance.random() < 0.3:
                self.faults[damage(self.workspace, chance)] += 1
            self.run(1, partial(self._grow, name, chance))
        for _ in range(chance.randint(0, 2)):
            self.run(1, partial(self._kill, chance.uniform(0, self.seconds[self.stage])))

    def _grow(self, name: str, chance: Random, commands: list[Command]) -> None:
        time.sleep(chance.uniform(0, 0.5 * self.seconds[self.stage]))
        shutil.copy2(self.all / f"{name}.nii.gz", self.scans / f".{name}")
        (self.scans / f".{name}").rename(self.scans / f"{name}.nii.gz")
        self.faults["study that comes"] += 1
        self._kill(chance.uniform(0, self.seconds[self.stage]), commands)

    def _kill(self, seconds: float, commands: list[Command]) -> None:
        self.faults["command killed"] += commands[0].kill(after=seconds)

    def _show(self, names: Iterable[str]) -> None:
        shutil.rmtree(self.folder / "scans", ignore_errors=True)
        (self.folder / "scans").mkdir(parents=True)
        for name in names:
            shutil.copy2(self.all / f"{name}.nii.gz", self.folder / "scans")

    def found(self) -> dict[str, str]:
        """Images and rows by slices: a data set that grew has another address than one that was whole at once."""
        last = next((one for one in reversed(self.said) if one.how == "done"), Said("done"))
        if not last.text:
            return {}
        refs = [str(self.workspace / ref) for ref in last.text.split()]
        names = [one.slice_id for one in DatasetStore.open(refs[0]).records]
        stores = {f"{i} {name}": (open_store(uri), name) for i, uri in enumerate(refs) for name in _arrays(uri)}
        images = {
            f"{name} {key}": digest_of_array(store.read(array, i, i + 1))
            for key, (store, array) in stores.items()
            for i, name in enumerate(names)
        }
        rows = [{key: row[key] for key in row if key not in ADDRESSES} for row in read_scores(refs[-1])]
        kept = {f"{n} row {row['slice_id']} {row['method']}": digest_of(str(row)) for n, row in _numbered(rows)}
        whole = {} if self.problems() else {"all is whole": ""}
        return images | kept | whole


def _arrays(uri: str) -> list[str]:
    return [*open_store(uri).layouts]


def _numbered(rows: list[dict[str, object]]) -> list[tuple[int, dict[str, object]]]:
    """With how often the same slice and method came before: each is to come once."""
    seen: dict[object, int] = {}
    for row in rows:
        seen[row["slice_id"], row["method"]] = seen.get((row["slice_id"], row["method"]), -1) + 1
    return [(seen[row["slice_id"], row["method"]], row) for row in rows]


def _write_head(folder: Path, name: str) -> None:
    """A volume of noise in emptiness."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.zeros((20, 20, 3))
    values[4:16, 4:16] = 500 + 100 * np.random.default_rng([*name.encode()]).standard_normal((12, 12, 3))
    image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([12.8, 12.8, 3.0, 1.0]))
    nibabel.save(image, folder / f"{name}.nii.gz")
