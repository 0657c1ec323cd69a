"""Slices from folders of DICOM files.

Every file is tried, whatever it is called, in a process of its own with limits of time and memory. Files are sorted by
person and into volumes; within a volume, by their position along the normal of the slices. Slices stay the way up
they are stored. Names of patients are never kept; the subject is the PatientID, for which results may have a hash.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
from pydantic import Field

from scoreinv.modality import MODALITIES, Modality
from scoreinv.spec import Json, digest_of
from storage.errors import SourceError
from storage.identities import Hash, Identities
from storage.listing import Rejected, SliceRecord
from storage.sources.catalogue import Catalogue, Memory
from storage.sources.content import not_hounsfield_reason
from storage.sources.copies import fetched_once, opened
from storage.sources.dicom.content import MAX_FILE_BYTES, looks_like_dicom
from storage.sources.dicom.header import Header, header_from_json, header_to_json, read_header
from storage.sources.dicom.people import people
from storage.sources.dicom.pixels import read_values
from storage.sources.dicom.stacks import SAME_POSITION_MM, Plane, Stack, stacks
from storage.sources.files import Stamp, stamps_below
from storage.sources.limits import within_limits
from storage.sources.source import (
    NO_CATALOGUE,
    Checked,
    Select,
    Source,
    Volume,
    checked,
    item_from_json,
    item_to_json,
    mri_offset_and_scale,
    percentile_units,
)
from storage.uri import Place

N_LOOKED_AT = 9
"""Slices of a CT volume that are judged by their values, whichever are wanted."""

MAX_SAMPLE_CT, MAX_SAMPLE_MR = 1 << 17, 1 << 24
"""Pixels of a volume that judge it, or decide its scale: all, or every n-th."""

NO_DICOM = "no DICOM"
"""What a catalogue keeps of a file that is something else."""

MAX_KEPT = 1 << 26
"""Pixels that are kept to be used again; of a larger volume, slices are read twice."""


class DicomSource(Source):
    """CT or MR slices from a folder tree of DICOM files."""

    kind: Literal["dicom"] = "dicom"
    path: Place = Field(
        min_length=1, description="A folder (searched to the bottom) or one file; shipped:ct: example slices."
    )
    modality: Modality = Field(default="ct", description="Which images are taken; the others are reported.")
    series: str = Field(default="*", description='Only series whose SeriesDescription fits, as "*T1*"; any case.')
    series_uids: tuple[str, ...] = Field(default=(), description="Only series with these SeriesInstanceUIDs.")
    planes: tuple[Plane, ...] = Field(
        default=(), description="Only slices in these planes; none named: all, but of reformatted series only axial."
    )
    percentile: float = Field(default=99.5, gt=50, le=100, description="MRI: a value of 1, within the foreground.")
    select: Select = Select()
    takes_any_values: bool = Field(default=False, description="CT: also values that do not look like HU.")
    identities: Identities = Field(
        default="hashed",
        description="What results call people, series and files: hashed (under a secret of the workspace), or kept, "
        "for data without names. Lists of subjects name people by their PatientID, either way.",
    )

    def scan(self, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Volume | Rejected]:
        """The volumes, sorted by subject and series; every slice that is listed was decoded."""
        stamps = self.stamps()
        with catalogue.memory(self.digest(), stamps) as memory, fetched_once():
            yield from self._scan(sorted(stamps), memory, catalogue.code)

    def stamps(self) -> dict[str, Stamp]:
        """Those of the files below the path."""
        return stamps_below(self.path)

    def _scan(self, files: Sequence[str], memory: Memory, code: Hash) -> Iterator[Volume | Rejected]:
        headers: list[Header] = []
        for item in self._headers(files, memory, code):
            if isinstance(item, Rejected):
                yield item
            else:
                headers.append(item)
        if missing := set(self.series_uids) - {header.series_uid for header in headers}:
            raise SourceError(f"no series of {self.modality} slices has the UID {min(missing)} that series_uids names")
        wanted, notes, copies = self._of_wanted_people(headers)
        found, odd = stacks(wanted, self.modality)
        yield from (*copies, *odd)
        chosen = [stack for stack in found if self._not_chosen(stack) is None]
        if found and not chosen:
            raise SourceError(f"no series fits the source's series, series_uids and planes; there are {_listed(found)}")
        for stack in found:
            if reason := self._not_chosen(stack):
                # In one clause: where names are hidden, no more of a reason is kept.
                reason = f"not chosen with its volume of {len(stack.slices)} slices, {reason}"
                yield Rejected(file=stack.slices[0].file, reason=reason)
        mixed = _mixed_planes(chosen)
        for stack in chosen:
            odd_there = (*notes[stack.slices[0].subject_id], *_repeated(stack), *mixed)
            yield from self._remembered(stack, odd_there, memory)

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """HU for CT; for MR the part of the volume's percentile."""
        for record in records:
            try:
                with opened(self.path, record.file, at_most=MAX_FILE_BYTES + 1) as path:
                    values = read_values(path, self.modality)
            except SourceError as error:
                raise SourceError(f"{record.file} can no longer be read, ingest it anew: {error}") from error
            yield self._in_units(values, record)

    def _headers(self, files: Sequence[str], memory: Memory, code: Hash) -> Iterator[Header | Rejected]:
        n_dicom = 0
        for file in files:
            item = self._remembered_header(file, memory, code)
            if item is not None:
                n_dicom += 1
                yield item
        if n_dicom == 0:
            raise SourceError(
                f"there is no DICOM file in {self.path}: every file below it was tried (DICOM preamble, or .dcm); "
                "give the folder that holds the series"
            )

    def _remembered_header(self, file: str, memory: Memory, code: Hash) -> Header | Rejected | None:
        if (kept := memory.recall(f"header {file}", [file])) is not None:
            return None if kept == NO_DICOM else header_from_json(kept)
        item = self._header(file)
        if isinstance(item, Header):
            # A catalogue keeps no names; they are only compared, here with those that it has.
            item = item._replace(person=item.person.coded(code))
        # What is wrong with a file may be the want of a package.
        if not isinstance(item, Rejected):
            memory.keep(f"header {file}", [file], NO_DICOM if item is None else header_to_json(item))
        return item

    def _remembered(self, stack: Stack, notes: Sequence[str], memory: Memory) -> Iterator[Volume | Rejected]:
        files = [header.file for header in stack.slices]
        what = f"volume {digest_of(stack.volume_id, stack.slices[0].subject_id, list(notes))}"
        if (kept := memory.recall(what, files)) is not None:
            yield item_from_json(kept)
            return
        items = list(self._volume(stack, notes))
        if len(items) == 1 and isinstance(items[0], Volume):
            memory.keep(what, files, item_to_json(items[0]))
        yield from items

    def _header(self, file: str) -> Header | Rejected | None:
        try:
            with opened(self.path, file, at_most=MAX_FILE_BYTES + 1) as path:
                return within_limits(read_header, path, file, self.modality) if looks_like_dicom(path) else None
        except ConnectionError:
            raise  # The bucket is not reached: that is no file's fault.
        except (SourceError, OSError) as error:
            return Rejected(file=file, reason=str(error))

    def _of_wanted_people(
        self, headers: Sequence[Header]
    ) -> tuple[list[Header], dict[str, tuple[str, ...]], list[Rejected]]:
        """The headers of those who are wanted, what is odd about each of them, and copies of images."""
        wanted: list[Header] = []
        copies: list[Rejected] = []
        notes: dict[str, tuple[str, ...]] = {}
        first_by_image: dict[tuple[str, str], str] = {}
        for header, person in zip(headers, people(headers), strict=True):
            subject = person.subject_id
            if not self._wants(person.names | {subject}):
                continue
            first = first_by_image.setdefault((subject, header.sop_uid), header.file)
            if first == header.file:
                wanted.append(header._replace(subject_id=subject))
                notes[subject] = person.notes
            else:
                copies.append(Rejected(file=header.file, reason=f"the same image (SOPInstanceUID) as {first}"))
        return wanted, notes, copies

    def _wants(self, names: frozenset[str]) -> bool:
        only = frozenset(self.only_subjects)
        return names.isdisjoint(self.exclude_subjects) and (not only or not names.isdisjoint(only))

    def _not_chosen(self, stack: Stack) -> str | None:
        first = stack.slices[0]
        if not fnmatchcase(first.description.casefold(), self.series.casefold()):
            return "the description of its series does not fit"
        if self.series_uids and first.series_uid not in self.series_uids:
            return "its series is none of series_uids"
        plane = stack.plane or "unknown"
        if self.planes and plane not in self.planes:
            return f"its plane is {plane}"
        if not self.planes and first.is_reformat and plane not in ("axial", "unknown"):
            return f"which were reformatted from others and are {plane}; planes={plane} takes them"
        return None

    def _volume(self, stack: Stack, notes: Sequence[str]) -> Iterator[Volume | Rejected]:
        seen: dict[str, np.ndarray | Rejected] = {}
        try:
            offset, scale = self._judged(stack, seen)
        except SourceError as error:
            yield from (Rejected(file=header.file, reason=str(error)) for header in stack.slices)
            return
        slices: list[Checked] = []
        for header, position in self.select.thinned(list(zip(stack.slices, stack.positions_mm, strict=True))):
            values = seen.pop(header.file) if header.file in seen else self._read(header)
            if isinstance(values, Rejected):
                yield values
                continue
            record = _record(stack.volume_id, header, position).model_copy(update={"offset": offset, "scale": scale})
            slices.append(checked(record, self._in_units(values, record), self.modality))
        geometry = _geometry(stack, self.modality)
        if MODALITIES[self.modality].is_relative:
            geometry |= {"offset": offset, "scale": scale}
        if notes:
            geometry["notes"] = list(notes)
        yield Volume(stack.volume_id, geometry, self.select.chosen(slices))

    def _judged(self, stack: Stack, seen: dict[str, np.ndarray | Rejected]) -> tuple[float, float]:
        """Offset and scale of a volume, whichever of its slices are wanted; ``seen`` keeps what was read for it.

        Raises:
            SourceError: if the volume's values are not what the modality has.
        """
        is_ct = self.modality == "ct"
        looked_at = _spread(stack.slices, N_LOOKED_AT) if is_ct else stack.slices
        n_pixels = sum(rows * columns for rows, columns in (header.shape for header in looked_at))
        # An odd step does not stay in the same columns.
        step = n_pixels // (MAX_SAMPLE_CT if is_ct else MAX_SAMPLE_MR) // 2 * 2 + 1
        sample: list[np.ndarray] = []
        for header in looked_at:
            values = self._read(header)
            if len(seen) * header.shape[0] * header.shape[1] < MAX_KEPT:
                seen[header.file] = values
            if not isinstance(values, Rejected):
                sample.append(values[~np.isnan(values)][::step])
        if not sample:
            return 0.0, 1.0  # Each of them will be named with its own reason.
        is_inverted = stack.slices[0].contrast.get("PhotometricInterpretation") == "MONOCHROME1"
        return self._offset_and_scale(np.concatenate(sample), is_inverted=is_inverted)

    def _offset_and_scale(self, sample: np.ndarray, *, is_inverted: bool) -> tuple[float, float]:
        if sample.size == 0:
            raise SourceError("the volume is empty: all its pixels are padding")
        if MODALITIES[self.modality].is_relative:
            # Of values that were negated, black is what is darkest, but no single pixel.
            black = float(np.percentile(sample, 1)) if is_inverted else 0.0
            offset, scale = mri_offset_and_scale(sample - np.float32(black), self.percentile)
            return black + offset, scale
        if not self.takes_any_values and (reason := not_hounsfield_reason(sample)):
            raise SourceError(f"{reason} (its volume's); source.takes_any_values=true takes them as they are")
        return 0.0, 1.0

    def _read(self, header: Header) -> np.ndarray | Rejected:
        try:
            with opened(self.path, header.file, at_most=MAX_FILE_BYTES + 1) as path:
                return within_limits(read_values, path, self.modality)
        except SourceError as error:
            return Rejected(file=header.file, reason=str(error))

    def _in_units(self, values: np.ndarray, record: SliceRecord) -> np.ndarray:
        """HU or percentile units; padding becomes air."""
        traits = MODALITIES[self.modality]
        in_units = percentile_units(values, record) if traits.is_relative else values
        return np.asarray(np.nan_to_num(in_units, nan=traits.background))


def _listed(found: Sequence[Stack]) -> str:
    shown = [
        f"{stack.slices[0].description!r} ({stack.plane or 'unknown'}, {len(stack.slices)} slices, "
        f"{stack.slices[0].series_uid})"
        for stack in found[:20]
    ]
    return ", ".join(shown) + (f" and {len(found) - 20} more" if len(found) > 20 else "")


def _repeated(stack: Stack) -> tuple[str, ...]:
    n_repeated = int((np.diff(stack.positions_mm) < SAME_POSITION_MM).sum())
    return (f"slices that lie where others of their volume do: {n_repeated}",) if n_repeated else ()


def _mixed_planes(chosen: Sequence[Stack]) -> tuple[str, ...]:
    planes = sorted({stack.plane or "unknown" for stack in chosen})
    return (f"slices of several planes ({', '.join(planes)}) are mixed: planes chooses",) if len(planes) > 1 else ()


def _spread(slices: Sequence[Header], n: int) -> list[Header]:
    """At most n of them, from the first to the last."""
    return [slices[i] for i in sorted({int(i) for i in np.linspace(0, len(slices) - 1, n).round()})]


def _record(volume_id: str, header: Header, position_mm: float) -> SliceRecord:
    return SliceRecord(
        slice_id=f"{volume_id}/{header.sop_uid}",
        volume_id=volume_id,
        subject_id=header.subject_id,
        file=header.file,
        index=0,
        position_mm=position_mm,
        spacing_mm=header.spacing_mm,
        shape=header.shape,
    )


def _geometry(stack: Stack, modality: Modality) -> dict[str, Json]:
    first = stack.slices[0]
    gaps = np.diff(stack.positions_mm)
    gaps = gaps[gaps > SAME_POSITION_MM]
    geometry: dict[str, Json] = {
        **first.geometry,
        "series_uid": first.series_uid,
        "study_uid": first.study_uid,
        "plane": stack.plane,
        "orientation": list(first.orientation),
        "position_from": first.position_from,
        "spacing_mm": list(first.spacing_mm),
        "slice_spacing_mm": float(np.median(gaps)) if gaps.size else None,
        "n_slices": len(stack.slices),
        "units": MODALITIES[modality].units,
    }
    return geometry
