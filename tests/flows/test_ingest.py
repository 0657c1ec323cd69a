"""A volume that comes out empty is left out by name, and stops no others."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from flows.ingest import ingest_flow
from scoreinv.contract import ImageContract
from storage.datasets import DatasetStore
from storage.errors import SourceError
from storage.sources import NiftiSource
from tasks.recipes import IngestRecipe
from tasks.running.cluster import Inline
from tasks.running.shards import Execution

pytestmark = pytest.mark.usefixtures("prefect_server")


def write_head(path: Path, pixel_mm: float) -> None:
    """A noisy square of 20 x 20 voxels in emptiness, two slices."""
    values = np.zeros((32, 32, 2))
    values[6:26, 6:26] = 500 + 50 * np.random.default_rng(0).standard_normal((20, 20, 2))
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.diag([pixel_mm, pixel_mm, 3.0, 1.0])), path)


def ingested(folder: Path) -> DatasetStore:
    workspace = folder.parent / "workspace"
    recipe = IngestRecipe(
        source=NiftiSource(path=str(folder)),
        image=ImageContract(modality="mri", size=32, pixel_mm=4.0, low=0, high=1),
        shard_size=2,
    )
    ref = ingest_flow(recipe, Execution(workspace=str(workspace), cluster=Inline()))
    return DatasetStore.open(str(workspace / ref))


def test_a_volume_that_is_smaller_than_a_pixel_is_left_out_by_name(tmp_path: Path) -> None:
    for name, pixel_mm in (("ant.nii.gz", 0.005), ("bee.nii.gz", 4.0), ("cow.nii.gz", 4.0)):
        write_head(tmp_path / "scans" / name, pixel_mm)
    data = ingested(tmp_path / "scans")
    assert {record.file for record in data.records} == {"bee.nii.gz", "cow.nii.gz"}
    assert [one.file for one in data.listing.rejected] == ["ant.nii.gz"]
    assert "image.pixel_mm=4" in data.listing.rejected[0].reason
    assert set(data.listing.volumes) == {"bee.nii.gz", "cow.nii.gz"}
    assert ingested(tmp_path / "scans").uri == data.uri


def test_a_data_set_of_nothing_but_such_volumes_is_an_error(tmp_path: Path) -> None:
    write_head(tmp_path / "scans" / "ant.nii.gz", 0.005)
    with pytest.raises(SourceError, match="1 of 1 volumes show nothing"):
        ingested(tmp_path / "scans")
