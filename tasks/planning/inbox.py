"""A folder to which studies are added: what its form asks, and what a plan is made of for it."""

from typing import Literal, NamedTuple

from pydantic import Field

from scoreinv.errors import UserError
from scoreinv.modality import Modality
from scoreinv.operators import AnyMeasurement
from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.spec import Json, Spec, digest_of
from storage.datasets import DatasetStore
from storage.sources import DicomSource, NiftiSource
from tasks.planning.presets import PresetName
from tasks.recipes import PlanRequest
from tasks.workspace import locate

SHARD_SIZE = 16
"""Slices: what lies there on the first day says nothing of the later ones."""

Files = Literal["CT in DICOM files", "MRI in DICOM files", "CT in NIfTI files", "MRI in NIfTI files"]

Simulated = Literal[
    "what is usual for such images",
    "sparse-view CT, 23 views",
    "sparse-view CT, 60 views",
    "limited-angle CT, 120 degrees",
    "MRI, 8 times faster",
    "MRI, 4 times faster",
]

MEASUREMENTS: dict[Simulated, AnyMeasurement] = {
    "sparse-view CT, 23 views": SparseViewCT(n_views=23),
    "sparse-view CT, 60 views": SparseViewCT(n_views=60),
    "limited-angle CT, 120 degrees": LimitedAngleCT(),
    "MRI, 8 times faster": CartesianMRI(acceleration=8),
    "MRI, 4 times faster": CartesianMRI(acceleration=4),
}
"""The first one of a modality is what is usual."""

DATASETS = "datasets/"
"""A source that begins so is a data set that is there."""


class InboxRequest(Spec):
    """What is asked for once, and then kept for all that comes later."""

    source: str = Field(min_length=1, description="As the form names it, or as datasets/0a1b2c3d4e5f.")
    files: Files = "CT in DICOM files"
    measurement: Simulated = "what is usual for such images"
    prior: str = ""
    preset: PresetName = "balanced"


class Planned(NamedTuple):
    """What a plan is asked for, and its address, which is the same however the folder grows."""

    request: PlanRequest
    address: str


def plan_request(asked: InboxRequest, place: str, workspace: str) -> Planned:
    """What a plan is asked for.

    Args:
        asked: the form.
        place: where its source lies: a folder or a URI; nothing for a data set.
        workspace: URI.

    Raises:
        UserError: if the measurement is of other images.
        StoreNotFound: if there is no such data set.
    """
    if asked.source.startswith(DATASETS):
        store = DatasetStore.open(locate(workspace, asked.source, "datasets"))
        modality = store.contract.modality
        # Another data set of the same grid is the same folder later on.
        seen: Json = store.shards.attrs["recipe"]
    else:
        modality, seen = ("ct" if asked.files.startswith("CT") else "mri"), asked.source
    usual = next(one for one in MEASUREMENTS.values() if one.modality == modality)
    measurement = MEASUREMENTS.get(asked.measurement, usual)
    if measurement.modality != modality:
        raise UserError(f"{asked.measurement!r} is no measurement of {modality.upper()} images: choose another")
    source = None if asked.source.startswith(DATASETS) else source_of(asked.files, place)
    dataset = asked.source if source is None else ""
    request = PlanRequest(
        source=source, dataset=dataset, measurement=measurement, preset=asked.preset, prior=asked.prior
    )
    return Planned(request, digest_of("inbox", seen, asked.model_copy(update={"source": "any"}).digest()))


def source_of(files: Files, place: str) -> DicomSource | NiftiSource:
    """The images of a folder."""
    modality: Modality = "ct" if files.startswith("CT") else "mri"
    kind = DicomSource if "DICOM" in files else NiftiSource
    return kind(path=place, modality=modality)
