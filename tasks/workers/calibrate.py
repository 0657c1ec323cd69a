"""Errors of one shard of reconstructions, counted for each person; and calibrations as workers read them."""

import math
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from scoreinv.calibration import ERRORS, Calibration, Estimate, Use, counted, n_cells
from scoreinv.contract import ImageContract
from scoreinv.metrics.image import magnitude
from scoreinv.metrics.structures import lacking, small_structures, within
from scoreinv.modality import MODALITIES
from scoreinv.problem import InverseProblem
from scoreinv.shipped import calibration_json, calibration_names
from scoreinv.spec import Json, Spec
from storage.shards import ShardedStore
from tasks.recipes import Reconstruction
from tasks.running.shards import Report
from tasks.workers.priors import image_contract
from tasks.workers.stores import as_images, is_exact, open_dataset, open_store, read_measured, simulation_of

EXPECTED = "expected_mse"
"""Of records: what views that are left out say of the mean square error of each slice, on the scale of the images."""

VERSION = 3
"""Of how errors are counted and what is made of them: part of the address of calibrations."""


class CalibrateJob(Spec):
    """Whose images are compared with which."""

    dataset: str
    measurements: str
    reconstructions: str
    target: str


def calibrate_shard(job: CalibrateJob, index: int, report: Report) -> None:
    """Write no array: the record holds, for each person, the errors of their slices, and how many slices these are.

    And the mean square errors of slices that views left out expect, where they were asked.
    """
    target = open_store(job.target, finished=False)
    shard = target.plan()[index]
    dataset, store = open_dataset(job.dataset), open_store(job.reconstructions)
    contract = dataset.contract
    estimate = "mean" if "mean" in store.layouts else "sample"
    images = as_images(store.read(estimate, shard.start, shard.stop), contract)
    std = as_images(store.read("std", shard.start, shard.stop), contract) if estimate == "mean" else None
    truth = as_images(dataset.images(shard.start, shard.stop), contract)
    has_image = images.isfinite().flatten(1).all(1)
    images, measurements = images.nan_to_num(), open_store(job.measurements)
    data = read_measured(measurements, range(shard.start, shard.stop))
    problem = InverseProblem.of(simulation_of(measurements).measurement, data, contract)
    counts = counted(estimate_of(images, std, problem, contract), truth, value_bounds(contract))
    expected = store.record(shard.index).get(EXPECTED)
    names = [one.subject_id for one in dataset.listing.slices[shard.start : shard.stop]]
    people: dict[str, np.ndarray] = {}
    n_slices: dict[str, int] = {}
    told: dict[str, list[float]] = {}
    for i, name in enumerate(names):
        if has_image[i]:
            people[name] = people.get(name, 0) + counts[i]
            n_slices[name] = n_slices.get(name, 0) + 1
            if expected and expected[i] is not None:
                told.setdefault(name, []).append(expected[i])
    errors = {name: _sparse(one) for name, one in people.items()}
    record: dict[str, Json] = {"people": errors, "n_slices": dict(n_slices)}
    # Only where there is something: records are part of what stores made before this hold.
    record |= {EXPECTED: dict(told)} if expected else {}
    target.write(shard, {}, record=record)


class Errors(NamedTuple):
    """The errors of people over all shards.

    Attributes:
        counts: of each person, (n_cells, len(ERRORS) + 1).
        expected: of each the mean square error by views that are left out, NaN where they do not tell; None where
            nobody asked them.
        n_slices: of all people.
    """

    counts: dict[str, np.ndarray]
    expected: dict[str, float] | None
    n_slices: int


def errors_in(store: ShardedStore, contract: ImageContract, *, without: Collection[str] = ()) -> Errors:
    """What a store of counted errors holds, without some people."""
    bounds = value_bounds(contract)
    people: dict[str, np.ndarray] = {}
    told: dict[str, list[float]] = {}
    n_slices, is_checked = 0, True
    for record in store.records():
        is_checked &= EXPECTED in record
        for name, sparse in record["people"].items():
            if name in without:
                continue
            n_slices += record["n_slices"][name]
            people[name] = people.get(name, 0) + _dense(sparse, bounds)
            told.setdefault(name, []).extend(record.get(EXPECTED, {}).get(name, []))
    expected = {name: float(np.mean(one)) if one else math.nan for name, one in told.items()}
    return Errors(people, expected if is_checked else None, n_slices)


def estimate_of(
    images: Tensor,
    std: Tensor | None,
    problem: InverseProblem,
    contract: ImageContract,
    expected: Sequence[float | None] | None = None,
) -> Estimate:
    """Finite images with what the data say that they lack within the body, at the size of what must not vanish.

    Args:
        images: of one sample each, or the means of several.
        std: the deviation of the samples, if there are several.
        problem: whose solutions they are.
        contract: of the images.
        expected: the mean square error of each by views that are left out, if they were asked.
    """
    mse = None if expected is None else images.new_tensor([math.nan if one is None else one for one in expected])
    small = small_structures(contract)
    if small is None:
        return Estimate(images, std, expected=mse)
    body = within(magnitude(images) > small.foreground)
    return Estimate(images, std, lacking(images, problem, small.sigma).beyond_noise() * body, mse)


def value_bounds(contract: ImageContract) -> tuple[float, ...]:
    """The bounds between classes of values of a modality, on the scale of the images."""
    span = contract.high - contract.low
    return tuple((bound - contract.low) / span for bound in MODALITIES[contract.modality].bounds)


def use_of(reconstructions: ShardedStore, measurements: ShardedStore) -> Use:
    """What a calibration of these reconstructions would be of."""
    choice = Reconstruction.model_validate(reconstructions.attrs["recipe"]["reconstruction"])
    return use(choice, str(reconstructions.attrs["prior_sha256"]), measurements)


def use(choice: Reconstruction, prior_sha256: str, measurements: ShardedStore) -> Use:
    """The same of reconstructions that are to be made."""
    return Use(
        image_contract(measurements.attrs),
        choice.method,
        prior_sha256,
        choice.n_samples,
        simulation_of(measurements).measurement,
        is_exact(measurements),
    )


def load_calibration(uri_or_name: str) -> Calibration:
    """The one at a URI, of a finished store, or a shipped one; it is read once per process.

    Raises:
        StoreError: if it is not there, not finished or damaged.
    """
    return _loaded(uri_or_name)


@lru_cache(maxsize=8)
def _loaded(uri_or_name: str) -> Calibration:
    if uri_or_name in calibration_names():
        return Calibration.model_validate_json(calibration_json(uri_or_name))
    return Calibration.model_validate(open_store(uri_or_name).manifest())


def _sparse(counts: np.ndarray) -> Json:
    places = np.flatnonzero(counts)
    return {"places": places.tolist(), "counts": counts.ravel()[places].tolist()}


def _dense(sparse: dict[str, Any], bounds: tuple[float, ...]) -> np.ndarray:
    counts = np.zeros(n_cells(bounds) * (len(ERRORS) + 1), np.int64)
    counts[sparse["places"]] = sparse["counts"]
    return counts.reshape(n_cells(bounds), -1)
