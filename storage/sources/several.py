"""Several sources as one, for training on many collections."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from storage.errors import SourceError
from storage.identities import Hash, Identities
from storage.listing import Listing, Rejected, SliceRecord
from storage.sources.catalogue import Catalogue
from storage.sources.dicom import DicomSource
from storage.sources.files import Stamp
from storage.sources.nifti import NiftiSource
from storage.sources.openkbp import OpenKBPSource
from storage.sources.phantom import PhantomSource
from storage.sources.source import NO_CATALOGUE, Source, Volume

OneSource = Annotated[DicomSource | NiftiSource | OpenKBPSource | PhantomSource, Field(discriminator="kind")]


class SeveralSources(Source):
    """The slices of several sources, one source after the other.

    Every name (slice, volume, subject, file) gets the source's number and a slash in front, as in "0/LIDC-IDRI-0001",
    because two collections may use the same name for different things. Each source keeps its own choice of slices;
    subjects to leave out can be named here (with the number) or there (without).
    """

    kind: Literal["several"] = "several"
    sources: tuple[OneSource, ...] = Field(min_length=1)
    identities: Identities = Field(
        default="kept",
        description="What results call people, series and files: hashed (of all sources), or kept as each source says.",
    )

    def scan(self, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Volume | Rejected]:
        """What the sources yield, in their order."""
        for number, source in enumerate(self.sources):
            for item in source.scan(catalogue):
                yield _numbered_rejected(number, item) if isinstance(item, Rejected) else self._numbered(number, item)

    def stamps(self) -> dict[str, Stamp]:
        """Those of all sources."""
        found = ((number, source.stamps()) for number, source in enumerate(self.sources))
        return {f"{number}/{name}": stamp for number, stamps in found for name, stamp in stamps.items()}

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """Physical values, as each source gives them."""
        for number, group in groupby(records, key=_number_of):
            if not 0 <= number < len(self.sources):
                raise SourceError(f"the records name source {number}, but there are {len(self.sources)}: ingest anew")
            yield from self.sources[number].load([_bare(record) for record in group])

    def public(self, listing: Listing, code: Hash) -> Listing:
        """Each source's part as that source shows it; the numbers in front stay."""
        parts = [self._public_part(number, listing, code) for number in range(len(self.sources))]
        return Listing(
            slices=tuple(record for part in parts for record in part.slices),
            rejected=tuple(one for part in parts for one in part.rejected),
            volumes={name: geometry for part in parts for name, geometry in part.volumes.items()},
        )

    def _public_part(self, number: int, listing: Listing, code: Hash) -> Listing:
        source, head = self.sources[number], f"{number}/"
        if self.identities == "hashed":
            source = source.model_copy(update={"identities": "hashed"})
        volumes = {n.removeprefix(head): geometry for n, geometry in listing.volumes.items() if n.startswith(head)}
        slices = tuple(_bare(record) for record in listing.slices if record.file.startswith(head))
        rejected = tuple(
            Rejected(file=one.file.removeprefix(head), reason=one.reason)
            for one in listing.rejected
            if one.file.startswith(head)
        )
        part = source.public(Listing(slices=slices, rejected=rejected, volumes=volumes), code)
        return Listing(
            slices=tuple(_numbered_record(number, record) for record in part.slices),
            rejected=tuple(_numbered_rejected(number, one) for one in part.rejected),
            volumes={f"{head}{name}": geometry for name, geometry in part.volumes.items()},
        )

    def _numbered(self, number: int, volume: Volume) -> Volume:
        records = [_numbered_record(number, record) for record in volume.slices]
        wanted = [record for record in records if self.wants(record.subject_id)]
        return Volume(f"{number}/{volume.volume_id}", volume.geometry, tuple(wanted))


def _numbered_record(number: int, record: SliceRecord) -> SliceRecord:
    names = ("slice_id", "volume_id", "subject_id", "file")
    return record.model_copy(update={name: f"{number}/{getattr(record, name)}" for name in names})


def _numbered_rejected(number: int, rejected: Rejected) -> Rejected:
    return Rejected(file=f"{number}/{rejected.file}", reason=rejected.reason)


def _number_of(record: SliceRecord) -> int:
    number = record.file.split("/", 1)[0]
    if not number.isdecimal():
        raise SourceError(f"{record.file} was not listed by several sources: its name has no number in front")
    return int(number)


def _bare(record: SliceRecord) -> SliceRecord:
    names = ("slice_id", "volume_id", "subject_id", "file")
    return record.model_copy(update={name: getattr(record, name).split("/", 1)[1] for name in names})
