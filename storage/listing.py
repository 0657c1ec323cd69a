"""What a source holds: its slices, volumes and rejected files, in a stable order."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from scoreinv.spec import Json, Spec, digest_of


class SliceRecord(Spec):
    """One slice: what it is called, where it lies, how big it was at the source."""

    slice_id: str = Field(description="Unique and stable within a source.")
    volume_id: str
    subject_id: str = Field(description="The person; splits are by subject.")
    file: str = Field(description="Relative to the source's path.")
    index: int = Field(ge=0, description="Of the slice within its file.")
    position_mm: float = Field(description="Along the normal of the slices.")
    spacing_mm: tuple[float, float] = Field(description="Between rows, between columns.")
    shape: tuple[int, int] = Field(description="Rows, columns.")
    offset: float = Field(default=0.0, description="Subtracted from the stored values (MRI).")
    scale: float = Field(default=1.0, gt=0, description="Then divided by this (MRI): one number per volume.")
    checksum: str = Field(default="", description="Of the physical values, see checksum_of.")


def _printable(name: str) -> str:
    """A file's name as text that can be shown and stored: bytes that are no UTF-8 and control characters replaced."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(letter if letter.isprintable() else f"<{ord(letter):02x}>" for letter in text)


class Rejected(Spec):
    """A file, or a part of one, that cannot be used, and why."""

    file: Annotated[str, BeforeValidator(_printable)]
    reason: Annotated[str, BeforeValidator(_printable)] = Field(
        description="What follows a colon or a bracket may name people and files: results may leave it out."
    )


class Listing(Spec):
    """What a source holds, in a stable order."""

    slices: tuple[SliceRecord, ...]
    rejected: tuple[Rejected, ...] = ()
    volumes: dict[str, dict[str, Json]] = Field(description="Geometry, identifiers and units by volume_id.")

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits of the relative names, the geometry and every value of every slice.

        Absolute paths and times are not in it: a folder that was moved is the same data.
        """
        return digest_of(self.model_dump(mode="json"))

    def without(self, reasons: Mapping[int, str]) -> "Listing":
        """The listing without some volumes, which are among the rejected then.

        Args:
            reasons: why a volume is left out, by the place of one of its slices.
        """
        bad = {self.slices[place].volume_id for place in reasons}
        rejected = [Rejected(file=self.slices[place].file, reason=reason) for place, reason in reasons.items()]
        return Listing(
            slices=tuple(record for record in self.slices if record.volume_id not in bad),
            rejected=(*self.rejected, *rejected),
            volumes={name: geometry for name, geometry in self.volumes.items() if name not in bad},
        )

    def part(self, places: Sequence[int]) -> "Listing":
        """The listing of the slices in these places alone, and of their volumes; nothing is rejected in it."""
        slices = tuple(self.slices[place] for place in places)
        volumes = {name: self.volumes[name] for name in dict.fromkeys(one.volume_id for one in slices)}
        return Listing(slices=slices, volumes=volumes)

    def subjects(self) -> list[str]:
        """The subjects, each once, in the order of the slices."""
        return list(dict.fromkeys(record.subject_id for record in self.slices))


def checksum_of(values: np.ndarray) -> str:
    """12 hexadecimal digits of the shape and the float32 values of a slice."""
    data = np.ascontiguousarray(values, dtype="<f4")
    return digest_of(list(data.shape), hashlib.sha256(data.data).hexdigest())
