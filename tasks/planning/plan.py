"""Plan a reconstruction: from what the images are like and what is measured, which prior, method and settings."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from scoreinv.baselines import Direct
from scoreinv.calibration import Use
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from storage.datasets import DatasetStore
from storage.fingerprint import Fingerprint, fingerprint_of_dataset, fingerprint_of_source
from tasks.planning.intervals import Intervals, intervals_for
from tasks.planning.presets import BASELINES, PRESETS, Preset
from tasks.planning.prior_choice import Choice, choose_prior, grid_for, known_priors, named_prior
from tasks.planning.timing import time_on
from tasks.recipes import IngestRecipe, PipelineRecipe, PlanRequest, Reconstruction, Simulation, Study
from tasks.running.cluster import AnyCluster, Inline, RemoteWorkers
from tasks.running.shards import Execution
from tasks.workers.probe import ProbeJob, Timing
from tasks.workspace import locate, locate_prior

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

SHARDS_PER_WORKER = 2
"""At least, where there are slices enough: workers then end at about the same time."""

MAX_SHARD = 32
"""Slices: the default of ingest."""

FINE_FACTOR = 2
"""Measurements of a source are simulated from pixels this much finer, so that no operator inverts its own data."""

MAX_PICTURES = 4


class Images(NamedTuple):
    """What the images are like, on which grid they are (None while that is open), and how they are stored."""

    fingerprint: Fingerprint
    grid: ImageContract | None
    shard_size: int
    has_fine_images: bool


class Draft(NamedTuple):
    """What is decided before anything is timed; ``options`` are the presets and the baseline, by name.

    ``grid`` is of the images, or the one that they will be brought to; ``intervals`` are of the preset that was asked
    for.
    """

    recipe: PlanRequest
    images: Images
    prior: Choice
    options: dict[str, Preset]
    grid: ImageContract
    intervals: Intervals

    @property
    def chosen(self) -> Preset:
        """The preset that was asked for."""
        return self.options[self.recipe.preset]

    def n_images(self, name: str) -> int:
        """How many of a slice the option of this name makes, as it is written."""
        is_checked = self.intervals.is_cross_validated and name == self.recipe.preset
        return self.options[name].n_samples * (2 if is_checked else 1)


class Plan(NamedTuple):
    """A pipeline to run, how to run it, and what both follow from."""

    draft: Draft
    timing: Timing
    n_workers: int
    pipeline: PipelineRecipe
    execution: Execution

    def seconds(self) -> dict[str, float]:
        """Of each option for one slice, on one worker while all are busy."""
        timed = zip(self.draft.options, self.timing.methods, strict=True)
        return {name: self.draft.n_images(name) * each for name, each in timed}

    def total_seconds(self) -> dict[str, float]:
        """Of each option for all slices: the workers take the shards in rounds."""
        shard_size, n_slices = self.draft.images.shard_size, self.draft.images.fingerprint.n_slices
        n_rounds = math.ceil(math.ceil(n_slices / shard_size) / self.n_workers)
        return {name: each * min(n_rounds * shard_size, n_slices) for name, each in self.seconds().items()}


def make_plan(
    recipe: PlanRequest, execution: Execution, say: Callable[[str], None], *, shard_size: int | None = None
) -> Plan:
    """Look at the images, choose a prior, time it where it would run, and put a pipeline together.

    Args:
        shard_size: of what is ingested from a source; None: by how many slices there are now.

    Raises:
        SourceError: if the source has nothing usable.
        ValueError: if the measurement is of other images, or no prior fits.
        StoreNotFound: if a data set or a prior is not there.
        ConnectionError: if there is no worker.
    """
    say("reading the images")
    draft = _draft(recipe, execution, shard_size)
    say(f"timing the prior {draft.prior.name} on the workers: about half a minute")
    timing, n_workers = time_on(execution.cluster, _job(draft, execution))
    settings = {"batch_size": timing.batch_size, "device": timing.device}
    return Plan(draft, timing, n_workers, _pipeline(draft, timing), execution.model_copy(update=settings))


def _draft(recipe: PlanRequest, execution: Execution, shard_size: int | None) -> Draft:
    images = _images(recipe, execution)
    if recipe.source is not None and shard_size is not None:
        images = images._replace(shard_size=shard_size)
    modality, measurement = images.fingerprint.modality, recipe.measurement
    if measurement.modality != modality:
        raise UserError(
            f"measurement.kind={measurement.kind!r} is for {measurement.modality} images, but these are {modality}: "
            "choose another measurement, or set source.modality if the images are not what they were taken for"
        )
    prior = _prior(recipe.prior, images, execution.workspace)
    options = {str(name): preset for name, preset in PRESETS[modality].items()}
    options[BASELINES[modality].method.label] = BASELINES[modality]
    grid, chosen = images.grid or grid_for(prior.contract, images.fingerprint), options[recipe.preset]
    use = Use(
        grid, chosen.method, prior.contract.sha256, chosen.n_samples, measurement, is_exact=not images.has_fine_images
    )
    return Draft(recipe, images, prior, options, grid, intervals_for(use))


def _images(recipe: PlanRequest, execution: Execution) -> Images:
    if recipe.source is not None:
        found = fingerprint_of_source(recipe.source, max_volumes=recipe.max_volumes)
        return Images(found, None, _shard_size(found.n_slices, execution.cluster), has_fine_images=True)
    dataset = DatasetStore.open(locate(execution.workspace, recipe.dataset, "datasets"))
    found = fingerprint_of_dataset(dataset)
    return Images(found, dataset.contract, dataset.shards.shard_size, has_fine_images=dataset.fine_factor > 1)


def _shard_size(n_slices: int, cluster: AnyCluster) -> int:
    n_workers = 1 if isinstance(cluster, Inline | RemoteWorkers) else cluster.count()
    return min(MAX_SHARD, math.ceil(n_slices / (SHARDS_PER_WORKER * n_workers)))


def _prior(name: str, images: Images, workspace: str) -> Choice:
    known = {name: named_prior(workspace, name)} if name else known_priors(workspace)
    return choose_prior(known, images.fingerprint, images.grid)


def _job(draft: Draft, execution: Execution) -> ProbeJob:
    # A larger batch than a shard can fill would never be seen.
    largest = draft.images.shard_size * draft.chosen.n_samples
    return ProbeJob(
        prior=locate_prior(execution.workspace, draft.prior.name),
        image=draft.grid,
        device=execution.device,
        batch_sizes=tuple(size for size in BATCH_SIZES if size <= largest),
        measurement=draft.recipe.measurement,
        methods=tuple(option.method for option in draft.options.values()),
        projector=execution.projector,
    )


def _pipeline(draft: Draft, timing: Timing) -> PipelineRecipe:
    recipe, images = draft.recipe, draft.images
    title = recipe.measurement.title()
    study = Study(
        name=re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"),
        ingest=recipe.source
        and IngestRecipe(source=recipe.source, image=draft.grid, fine_factor=FINE_FACTOR, shard_size=images.shard_size),
        dataset=recipe.dataset,
        simulation=Simulation(measurement=recipe.measurement, uses_fine_images=images.has_fine_images),
        reconstructions=_reconstructions(draft, timing),
    )
    return PipelineRecipe(
        title=f"{title}, {draft.grid.size} x {draft.grid.size} pixels",
        studies=(study,),
        n_pictures=min(MAX_PICTURES, images.fingerprint.n_slices),
    )


def _reconstructions(draft: Draft, timing: Timing) -> tuple[Reconstruction, ...]:
    """The naive one, the classical one, and the one that was asked for."""
    chosen = draft.chosen
    return (
        Reconstruction(method=Direct()),
        Reconstruction(method=BASELINES[draft.grid.modality].method),
        Reconstruction(
            method=chosen.method,
            prior=draft.prior.name,
            n_samples=chosen.n_samples,
            precision=timing.precision,
            calibration=draft.intervals.calibration,
            is_cross_validated=draft.intervals.is_cross_validated,
        ),
    )
