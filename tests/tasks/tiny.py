"""A whole study that is small enough to sample on a CPU in seconds: images, data, and a network with random weights."""

import hashlib
from pathlib import Path

from scoreinv.contract import ImageContract, PriorContract
from scoreinv.denoiser import EDMPreconditioning
from scoreinv.measurement import GaussianNoise
from scoreinv.nets import UNet
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import Method
from scoreinv.samplers.dds import DDS
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.training.checkpoint import build_model, weights_bytes
from storage.datasets import DatasetStore
from storage.identities import Hasher
from storage.models import publish
from storage.shards import ShardedStore
from storage.sources import PhantomSource
from tasks.measure import measurement_store
from tasks.recipes import MeasureRecipe, Reconstruction, ReconstructRecipe, Simulation
from tasks.reconstruct import reconstruction_store
from tasks.workers.measure import MeasureJob, measure_shard
from tasks.workers.reconstruct import ReconstructJob

SIZE = 16
N_SLICES = 6
"""Of the fixtures ``choice`` and ``inputs``."""

MRI = ImageContract(modality="mri", size=SIZE, pixel_mm=16.0, low=0, high=1)
NETWORK = UNet(patch=2, n_features=16, channel_multipliers=(1, 2), n_blocks=1)


def dataset(workspace: Path, *, n: int = 12, shard_size: int = 1, is_hashed: bool = False) -> DatasetStore:
    """Phantoms at <workspace>/datasets/tiny; they may be called by hashes."""
    source = PhantomSource(modality="mri", n_volumes=2, n_slices=n // 2, identities="hashed" if is_hashed else "kept")
    uri, found = str(workspace / "datasets" / "tiny"), source.listing()
    listing = source.public(found, Hasher(str(workspace)))
    store = DatasetStore.create(uri, listing, contract=MRI, recipe={}, shard_size=shard_size, named=found)
    for shard in store.shards.pending():
        store.ingest(shard, source.load)
    store.finish()
    return store


def measurements(workspace: Path, images: DatasetStore) -> ShardedStore:
    """Their noisy data at <workspace>/measurements/tiny."""
    spec = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.02))
    recipe = MeasureRecipe(dataset="datasets/tiny", simulation=Simulation(measurement=spec))
    store = measurement_store(recipe, images, str(workspace / "measurements" / "tiny"))
    job = MeasureJob(dataset=images.uri, target=store.uri, simulation=recipe.simulation)
    for shard in store.pending():
        measure_shard(job, shard.index, print)
    store.finish()
    return store


def prior(folder: Path, *, image: ImageContract = MRI) -> str:
    """A published prior with random weights, its output not zero."""
    model = build_model(NETWORK, EDMPreconditioning(), seed=1)
    for parameter in model.parameters():
        parameter.data.add_(0.02)
    weights = weights_bytes(model)
    contract = PriorContract(
        name="tiny",
        image=image,
        network=NETWORK.model_dump(mode="json"),
        preconditioning=EDMPreconditioning().model_dump(mode="json"),
        sigma_min=0.01,
        sigma_max=50,
        training_data=[],
        licence="CC0",
        images_seen=0,
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    publish(str(folder), weights, contract)
    return str(folder)


def sampler(n_levels: int) -> Method:
    """Its cost grows with the number of levels."""
    return DDS(grid=SigmaGrid(n_levels=n_levels, sigma_max=3.0, sigma_min=0.01))


def reconstruction(
    data: ShardedStore, target: Path, choice: Reconstruction, *, batch_size: int = 2
) -> tuple[ReconstructJob, ShardedStore]:
    """The job that fills a new store with reconstructions."""
    recipe = ReconstructRecipe(measurements="measurements/tiny", reconstruction=choice)
    job = ReconstructJob(
        measurements=data.uri,
        target=str(target),
        prior=choice.prior,
        simulation=MeasureRecipe.model_validate(data.attrs["recipe"]).simulation,
        reconstruction=choice,
        batch_size=batch_size,
        device="cpu",
    )
    return job, reconstruction_store(recipe, data, str(target))
