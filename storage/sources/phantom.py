"""Slices without data: random ellipses, for runs that try the machinery out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from pydantic import Field

from scoreinv.modality import MODALITIES, Modality
from scoreinv.phantoms import Ellipse, coverage
from scoreinv.spec import MAX_SEED, Json
from storage.listing import Rejected, SliceRecord
from storage.sources.catalogue import Catalogue, Memory
from storage.sources.files import Stamp
from storage.sources.source import NO_CATALOGUE, Select, Source, Volume, checked, item_from_json, item_to_json

DRAWN = Stamp(etag="1")
"""Of every phantom; another one when the same options draw other phantoms."""


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

    def scan(self, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Volume | Rejected]:
        """One volume per subject, in order."""
        with catalogue.memory(self.digest(), self.stamps()) as memory:
            for volume in range(self.n_volumes):
                if self.wants(_name(volume)):
                    yield self._remembered(volume, memory)

    def stamps(self) -> dict[str, Stamp]:
        """One per volume, that of how phantoms are drawn: they never change."""
        return {_name(volume): DRAWN for volume in range(self.n_volumes)}

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """HU or percentile units."""
        for name, group in groupby(records, key=lambda record: record.file):
            ellipses = self._ellipses(int(name.rsplit("-", 1)[1]))
            yield from (self._slice(ellipses, record.index) for record in group)

    def _remembered(self, volume: int, memory: Memory) -> Volume | Rejected:
        name = _name(volume)
        if (kept := memory.recall(name, [name])) is not None:
            return item_from_json(kept)
        item = self._volume(volume)
        memory.keep(name, [name], item_to_json(item))
        return item

    def _volume(self, volume: int) -> Volume:
        ellipses = self._ellipses(volume)
        records = self.select.thinned([self._record(volume, index) for index in range(self.n_slices)])
        slices = [checked(record, self._slice(ellipses, record.index), self.modality) for record in records]
        units = MODALITIES[self.modality].units
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

    def _ellipses(self, volume: int) -> list[Ellipse]:
        """The body, then what is added to it, in the middle of the volume."""
        rng = np.random.default_rng((self.seed, volume))
        body = Ellipse(
            value=MODALITIES[self.modality].tissue.body,
            half_height=rng.uniform(0.6, 0.8),
            half_width=rng.uniform(0.7, 0.9),
            turn=rng.uniform(-0.1, 0.1),
        )
        return [body, *(self._organ(rng, body) for _ in range(self.n_ellipses))]

    def _organ(self, rng: np.random.Generator, body: Ellipse) -> Ellipse:
        radius, direction = 0.6 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        return Ellipse(
            x=radius * body.half_width * np.cos(direction),
            y=-radius * body.half_height * np.sin(direction),
            half_height=rng.uniform(0.05, 0.3) * body.half_height,
            half_width=rng.uniform(0.05, 0.3) * body.half_width,
            turn=rng.uniform(0, np.pi),
            value=rng.normal(0, MODALITIES[self.modality].tissue.organ_std),
        )

    def _slice(self, ellipses: Sequence[Ellipse], index: int) -> np.ndarray:
        # Organs shrink away from the middle slice, the body hardly does.
        height, traits = (index + 0.5) / self.n_slices - 0.5, MODALITIES[self.modality]
        body, *organs = ellipses
        inside = self._covered(body, 1 - 0.4 * height**2)
        image = traits.background + inside * (body.value - traits.background)
        for organ in organs:
            image += np.minimum(inside, self._covered(organ, np.sqrt(1 - 3 * height**2))) * organ.value
        return image.clip(traits.tissue.low, traits.tissue.high).astype(np.float32)

    def _covered(self, ellipse: Ellipse, shrink: float) -> np.ndarray:
        half_axes = {"half_width": ellipse.half_width * shrink, "half_height": ellipse.half_height * shrink}
        return coverage(ellipse._replace(**half_axes), self.size, supersampling=3)


def _name(volume: int) -> str:
    return f"phantom-{volume}"
