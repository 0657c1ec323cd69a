"""Slices without data: random ellipses, for runs that try the machinery out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from scoreinv.contract import Modality
from scoreinv.spec import MAX_SEED, Json
from storage.datasets import UNITS, Rejected, SliceRecord
from storage.sources.source import Select, Source, Volume, checked

_BACKGROUND = {"ct": -1000.0, "mri": 0.0}
_BODY = {"ct": 40.0, "mri": 0.5}
_ORGAN_STD = {"ct": 150.0, "mri": 0.2}
_RANGE = {"ct": (-1000.0, 1500.0), "mri": (0.0, 1.0)}


class _Ellipse(NamedTuple):
    """Centre and half axes in units of half the field of view, angle in radians, value inside."""

    row: float
    column: float
    height: float
    width: float
    angle: float
    value: float


class PhantomSource(Source):
    """Volumes of random ellipses that change smoothly from slice to slice; each volume is one subject.

    Values are Hounsfield units (a body of 40 HU in air) or percentile units (a body of 0.5 on 0). The field of view
    is always ``size * pixel_mm``.
    """

    kind: Literal["phantom"] = "phantom"
    select: Select = Select()
    modality: Modality = "ct"
    n_volumes: int = Field(default=4, ge=1, le=100_000)
    n_slices: int = Field(default=8, ge=1, le=100_000, description="Of every volume.")
    size: int = Field(default=64, ge=8, le=1024, description="Pixels along each side.")
    pixel_mm: float = Field(default=5.0, gt=0, title="Pixel size", description="Side of a pixel in millimetres.")
    n_ellipses: int = Field(default=8, ge=0, le=1000, description="Inside the body.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def scan(self) -> Iterator[Volume | Rejected]:
        """One volume per subject, in order."""
        for volume in range(self.n_volumes):
            if self.wants(_name(volume)):
                yield self._volume(volume)

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """HU or percentile units."""
        for name, group in groupby(records, key=lambda record: record.file):
            ellipses = self._ellipses(int(name.rsplit("-", 1)[1]))
            yield from (self._slice(ellipses, record.index) for record in group)

    def _volume(self, volume: int) -> Volume:
        ellipses = self._ellipses(volume)
        records = self.select.thinned([self._record(volume, index) for index in range(self.n_slices)])
        slices = [checked(record, self._slice(ellipses, record.index), self.modality) for record in records]
        units = UNITS[self.modality]
        pixel = self.pixel_mm
        geometry: dict[str, Json] = {"spacing_mm": [pixel, pixel], "slice_spacing_mm": pixel, "units": units}
        return Volume(_name(volume), geometry, self.select.chosen(slices))

    def _record(self, volume: int, index: int) -> SliceRecord:
        return SliceRecord(
            slice_id=f"{_name(volume)}#{index}",
            volume_id=_name(volume),
            subject_id=_name(volume),
            file=_name(volume),
            index=index,
            position_mm=index * self.pixel_mm,
            spacing_mm=(self.pixel_mm, self.pixel_mm),
            shape=(self.size, self.size),
        )

    def _ellipses(self, volume: int) -> list[_Ellipse]:
        rng = np.random.default_rng((self.seed, volume))
        body = _Ellipse(
            0, 0, rng.uniform(0.6, 0.8), rng.uniform(0.7, 0.9), rng.uniform(-0.1, 0.1), _BODY[self.modality]
        )
        return [body, *(self._organ(rng, body) for _ in range(self.n_ellipses))]

    def _organ(self, rng: np.random.Generator, body: _Ellipse) -> _Ellipse:
        radius, turn = 0.6 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        return _Ellipse(
            row=radius * body.height * np.sin(turn),
            column=radius * body.width * np.cos(turn),
            height=rng.uniform(0.05, 0.3) * body.height,
            width=rng.uniform(0.05, 0.3) * body.width,
            angle=rng.uniform(0, np.pi),
            value=rng.normal(0, _ORGAN_STD[self.modality]),
        )

    def _slice(self, ellipses: Sequence[_Ellipse], index: int) -> np.ndarray:
        # Organs shrink away from the middle slice, the body hardly does.
        height = (index + 0.5) / self.n_slices - 0.5
        image = np.full((self.size, self.size), _BACKGROUND[self.modality])
        inside_body = _coverage(ellipses[0], 1 - 0.4 * height**2, self.size)
        image += inside_body * (ellipses[0].value - _BACKGROUND[self.modality])
        for organ in ellipses[1:]:
            image += np.minimum(inside_body, _coverage(organ, np.sqrt(1 - 3 * height**2), self.size)) * organ.value
        return image.clip(*_RANGE[self.modality]).astype(np.float32)


def _name(volume: int) -> str:
    return f"phantom-{volume}"


def _coverage(ellipse: _Ellipse, shrink: float, size: int) -> np.ndarray:
    """The part of every pixel that the ellipse covers, from 3 x 3 points per pixel."""
    grid = (np.arange(3 * size) + 0.5) / (1.5 * size) - 1
    row, column = grid[:, None] - ellipse.row, grid[None, :] - ellipse.column
    along = row * np.cos(ellipse.angle) + column * np.sin(ellipse.angle)
    across = column * np.cos(ellipse.angle) - row * np.sin(ellipse.angle)
    inside = (along / (ellipse.height * shrink)) ** 2 + (across / (ellipse.width * shrink)) ** 2 <= 1
    return np.asarray(inside.reshape(size, 3, size, 3).mean(axis=(1, 3)))
