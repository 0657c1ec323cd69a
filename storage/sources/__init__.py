"""Where slices come from. The union below is the list of everything that can be named as a source."""

from typing import Annotated

from pydantic import Field

from storage.sources.dicom import DicomSource
from storage.sources.nifti import NiftiSource
from storage.sources.openkbp import OpenKBPSource
from storage.sources.phantom import PhantomSource
from storage.sources.several import SeveralSources
from storage.sources.source import Select, Source, collect

AnySource = Annotated[
    DicomSource | NiftiSource | OpenKBPSource | PhantomSource | SeveralSources, Field(discriminator="kind")
]

__all__ = [
    "AnySource",
    "DicomSource",
    "NiftiSource",
    "OpenKBPSource",
    "PhantomSource",
    "Select",
    "SeveralSources",
    "Source",
    "collect",
]
