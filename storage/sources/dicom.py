"""Slices from folders of DICOM files.

Every file is tried, whatever it is called. Files are sorted into series by SeriesInstanceUID and, within
a series, by their position along the normal of the slices. Slices stay the way up they are stored.
Names of patients are never kept; the subject is the PatientID, or a hash of it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from scoreinv.contract import Modality
from scoreinv.spec import Json
from storage.datasets import UNITS, Rejected, SliceRecord
from storage.errors import SourceError
from storage.sources.dicom_file import Header, looks_like_dicom, read_header, read_values
from storage.sources.files import files_below, path_of
from storage.sources.source import Checked, Select, Source, Volume, checked, mri_offset_and_scale, percentile_units


class DicomSource(Source):
    """CT or MR slices from a folder tree of DICOM files."""

    kind: Literal["dicom"] = "dicom"
    path: str = Field(description="A folder (searched to the bottom) or one file.")
    modality: Modality = Field(default="ct", description="Which images are taken; the others are reported.")
    percentile: float = Field(default=99.5, gt=50, le=100, description="MRI: a value of 1, within the foreground.")
    select: Select = Select()
    hash_subjects: bool = Field(default=False, description="Keep a hash of the PatientID in place of the PatientID.")

    def scan(self) -> Iterator[Volume | Rejected]:
        """One volume per series, sorted by subject and series; every slice was decoded."""
        headers: list[Header] = []
        for item in self._headers():
            if isinstance(item, Rejected):
                yield item
            else:
                headers.append(item)
        for series in _series(headers):
            yield from self._volume(series)

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """HU for CT; for MR the part of the volume's percentile."""
        for record in records:
            try:
                values = read_values(path_of(self.path, record.file), self.modality)
            except SourceError as error:
                raise SourceError(f"{record.file} can no longer be read, ingest it anew: {error}") from error
            yield percentile_units(values, record) if self.modality == "mri" else values

    def _headers(self) -> Iterator[Header | Rejected]:
        n_dicom, first_by_sop = 0, dict[str, str]()
        for file in files_below(self.path):
            item = self._header(file)
            if item is None:
                continue
            n_dicom += 1
            if isinstance(item, Header) and item.sop_uid in first_by_sop:
                item = Rejected(file=file, reason=f"the same image (SOPInstanceUID) as {first_by_sop[item.sop_uid]}")
            if isinstance(item, Rejected):
                yield item
            elif self.wants(item.subject_id):
                first_by_sop[item.sop_uid] = file
                yield item
        if n_dicom == 0:
            raise SourceError(
                f"there is no DICOM file in {self.path}: every file below it was tried (DICOM preamble, or .dcm); "
                "give the folder that holds the series"
            )

    def _header(self, file: str) -> Header | Rejected | None:
        try:
            path = path_of(self.path, file)
            if not looks_like_dicom(path):
                return None
            header = read_header(path, file, self.modality)
        except (SourceError, OSError) as error:
            return Rejected(file=file, reason=str(error))
        return header._replace(subject_id=self._subject(header))

    def _subject(self, header: Header) -> str:
        # Without a PatientID the study is the smallest group that surely is one person.
        subject = header.subject_id or header.study_uid or header.series_uid
        return hashlib.sha256(subject.encode()).hexdigest()[:12] if self.hash_subjects else subject

    def _volume(self, series: Sequence[Header]) -> Iterator[Volume | Rejected]:
        usual, odd = _usual_and_odd(series)
        yield from odd
        slices: list[Checked] = []
        for item in self._decoded(self.select.thinned(usual)):
            if isinstance(item, Rejected):
                yield item
            else:
                slices.append(item)
        yield Volume(usual[0].series_uid, _geometry(usual, self.modality, slices), self.select.chosen(slices))

    def _decoded(self, headers: Sequence[Header]) -> Iterator[Checked | Rejected]:
        if self.modality == "ct":
            for header in headers:
                yield self._decoded_ct(header)
        else:
            yield from self._decoded_mr(headers)

    def _decoded_ct(self, header: Header) -> Checked | Rejected:
        try:
            values = read_values(path_of(self.path, header.file), "ct")
        except SourceError as error:
            return Rejected(file=header.file, reason=str(error))
        return checked(_record(header), values, "ct")

    def _decoded_mr(self, headers: Sequence[Header]) -> Iterator[Checked | Rejected]:
        found: list[tuple[Header, np.ndarray]] = []
        for header in headers:
            try:
                found.append((header, read_values(path_of(self.path, header.file), "mri")))
            except SourceError as error:
                yield Rejected(file=header.file, reason=str(error))
        if found:
            yield from _in_percentile_units(found, self.percentile)


def _in_percentile_units(
    slices: Sequence[tuple[Header, np.ndarray]], percentile: float
) -> Iterator[Checked | Rejected]:
    try:
        offset, scale = mri_offset_and_scale(np.stack([values for _, values in slices]), percentile)
    except SourceError as error:
        yield from (Rejected(file=header.file, reason=str(error)) for header, _ in slices)
        return
    for header, values in slices:
        record = _record(header).model_copy(update={"offset": offset, "scale": scale})
        yield checked(record, percentile_units(values, record), "mri")


def _series(headers: Iterable[Header]) -> list[list[Header]]:
    """Headers by series, by subject and series; each series sorted by position, whatever the files are called."""
    series: dict[str, list[Header]] = {}
    for header in headers:
        series.setdefault(header.series_uid, []).append(header)
    groups = [sorted(group, key=lambda h: (h.position_mm, h.order, h.sop_uid)) for group in series.values()]
    return sorted(groups, key=lambda group: (group[0].subject_id, group[0].series_uid))


def _usual_and_odd(series: Sequence[Header]) -> tuple[list[Header], list[Rejected]]:
    """The slices that agree with most of the series in size and orientation, and the others with the reason."""
    kind = Counter(header.kind for header in series).most_common(1)[0][0]
    usual = [header for header in series if header.kind == kind]
    odd = [Rejected(file=h.file, reason=_difference(h, usual[0])) for h in series if h.kind != kind]
    return usual, odd


def _difference(header: Header, usual: Header) -> str:
    if header.shape != usual.shape:
        rows, columns = header.shape
        return f"{rows} x {columns} pixels, but most of its series has {usual.shape[0]} x {usual.shape[1]}"
    if header.position_from != usual.position_from:
        return f"its position comes from {header.position_from}, most of its series has {usual.position_from}"
    return "its orientation is not that of most of its series (a localizer?)"


def _record(header: Header) -> SliceRecord:
    return SliceRecord(
        slice_id=f"{header.series_uid}/{header.sop_uid}",
        volume_id=header.series_uid,
        subject_id=header.subject_id,
        file=header.file,
        index=0,
        position_mm=header.position_mm,
        spacing_mm=header.spacing_mm,
        shape=header.shape,
    )


def _geometry(series: Sequence[Header], modality: Modality, slices: Sequence[Checked]) -> dict[str, Json]:
    first = series[0]
    gaps = np.diff([header.position_mm for header in series])
    geometry: dict[str, Any] = {
        **first.geometry,
        "series_uid": first.series_uid,
        "study_uid": first.study_uid,
        "orientation": list(first.orientation),
        "position_from": first.position_from,
        "spacing_mm": list(first.spacing_mm),
        "slice_spacing_mm": float(np.median(gaps)) if gaps.size else None,
        "n_slices": len(series),
        "units": UNITS[modality],
    }
    if modality == "mri" and slices:
        geometry |= {"offset": slices[0].record.offset, "scale": slices[0].record.scale}
    return geometry
