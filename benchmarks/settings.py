"""The preset beside what needs no prior and beside plug-and-play with the same one, in settings it was not tuned for.

    python -m benchmarks.settings ct-128 workspace/datasets/DIGEST [workspace/datasets/DIGEST ...] --subjects A B C

Views, arcs, photons and grids of CT; acceleration, columns and noise of MRI: the data are simulated from the finer
images of data sets that hold them, and all methods have the options of ``tasks/planning/presets.py``, the same in every
setting. PSNR in dB, one mean per person and then their mean, and how far the preset is ahead of the best of the others
by that mean, with a 95 % interval over people. What is measured is kept in ``--keep`` line by line: a table that was
stopped goes on, and methods whose options have changed are measured anew.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.people import mean_of_each, places_of_people
from scoreinv.contract import ImageContract, Modality
from scoreinv.denoiser import ScoreModel
from scoreinv.errors import UserError
from scoreinv.measurement import GaussianNoise, Measured, MeasurementSpec, PoissonNoise, simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.ct import CTOperator, LimitedAngleCT, SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.spec import digest_of
from storage.datasets import DatasetStore
from tasks.people import gains, over_people
from tasks.planning.presets import BASELINES, PRESETS, SOLVERS, WAVELETS
from tasks.rendering.tables import interval_text, signed
from tasks.workers.priors import load_prior

BEHIND_DB, AHEAD_DB = -0.1, 1.0
"""A row in which the preset is further behind is a fault; one in which it is so far ahead is worth its calls."""


class Setting(NamedTuple):
    """What is measured, whether of the finer images, and whether by ASTRA rather than by our own matrix."""

    name: str
    measurement: MeasurementSpec
    is_fine: bool = True
    is_astra: bool = False


class People(NamedTuple):
    """Slices (n, 1, size, size), their finer images, their names and whom each is of."""

    images: Tensor
    fine: Tensor
    names: list[str]
    people: list[str]
    contract: ImageContract

    def part(self, places: Sequence[int]) -> "People":
        """The slices in some places."""
        names, people = ([one[i] for i in places] for one in (self.names, self.people))
        return People(self.images[list(places)], self.fine[list(places)], names, people, self.contract)


def settings_of(modality: Modality) -> list[Setting]:
    """All settings of a modality."""
    if modality == "ct":
        photons = {f"{n:.0e}".replace("+0", ""): PoissonNoise(n_photons=n) for n in (1e6, 1e5, 1e4)}
        return [
            *(Setting(f"{n} views", SparseViewCT(n_views=n)) for n in (10, 15, 23, 45, 60, 90, 180)),
            *(Setting(f"60 views over {arc} degrees", LimitedAngleCT(arc_degrees=arc)) for arc in (90, 120, 150)),
            *(Setting(f"23 views, {n} photons", SparseViewCT(n_views=23, noise=one)) for n, one in photons.items()),
            *(Setting(f"90 views, {n} photons", SparseViewCT(n_views=90, noise=one)) for n, one in photons.items()),
            Setting("23 views, same grid", SparseViewCT(n_views=23), is_fine=False),
            Setting("90 views, same grid", SparseViewCT(n_views=90), is_fine=False),
            *(Setting(f"{n} views, ASTRA's strips", SparseViewCT(n_views=n), is_astra=True) for n in (23, 90)),
        ]
    return [
        *(Setting(f"{n} times, paper's columns", CartesianMRI(acceleration=n)) for n in (2, 4, 8, 16)),
        *(
            Setting(f"{n} times, {pattern.replace('_', ' ')}", CartesianMRI(acceleration=n, pattern=pattern))
            for pattern in ("equispaced", "random", "variable_density")
            for n in (4, 8)
        ),
        *(
            Setting(f"{name}, noise {std:g}", spec.model_copy(update={"noise": GaussianNoise(noise_std=std)}))
            for name, spec in (
                ("8 times, paper's columns", CartesianMRI()),
                ("4 times, equispaced", CartesianMRI(acceleration=4, pattern="equispaced")),
            )
            for std in (0.01, 0.03)
        ),
        Setting("8 times, paper's columns, same grid", CartesianMRI(), is_fine=False),
        Setting("4 times, equispaced, same grid", CartesianMRI(acceleration=4, pattern="equispaced"), is_fine=False),
    ]


def methods_of(modality: Modality) -> dict[str, Method]:
    """Those that are compared; the preset is the last."""
    (dpir,) = (one for one in SOLVERS[modality] if one.kind == "dpir")
    return {
        "TV": BASELINES[modality].method,
        "wavelet": WAVELETS[modality],
        "DPIR": dpir,
        "preset": PRESETS[modality]["balanced"].method,
    }


def main() -> None:
    """Measure what is not kept yet, and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of the network")
    parser.add_argument("--keep", type=Path, required=True, help="file for what is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people(options.datasets, options.subjects, options.slices)
    denoiser, contract = load_prior(options.prior, "cpu", options.precision)
    chosen = settings_named(people.contract.modality, options.settings)
    key = digest_of(people.names, contract.sha256, options.precision)
    rows = [(one, dict(measured(one, people, denoiser, key, options.keep))) for one in chosen]
    print("\n".join(table(rows, len(set(people.people)))))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A prior, data sets, whose slices of them, and settings, by their names."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior")
    parser.add_argument("datasets", nargs="+", help="with finer images, of one modality and grid")
    parser.add_argument("--subjects", nargs="*", default=[], help="of the data sets (default: everybody)")
    parser.add_argument("--slices", type=int, default=1, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--settings", nargs="*", default=[], help="by their names (default: all)")
    return parser


def settings_named(modality: Modality, names: Sequence[str]) -> list[Setting]:
    """Those of the names, in the order of the table; all without a name.

    Raises:
        UserError: if there is none of a name.
    """
    found = {one.name: one for one in settings_of(modality)}
    if unknown := [name for name in names if name not in found]:
        raise UserError(f"no setting of {modality} is called {unknown[0]!r}: there are {', '.join(map(repr, found))}")
    return [one for name, one in found.items() if name in (names or found)]


def read_people(uris: Sequence[str], subjects: Sequence[str], n: int) -> People:
    """n slices of each person in some data sets."""
    stores = [DatasetStore.open(uri) for uri in uris]
    places = [places_of_people([record.subject_id for record in one.records], subjects, n) for one in stores]
    images, fine = (
        torch.cat([torch.from_numpy(one.shards.read_places(name, at)) for one, at in zip(stores, places, strict=True)])
        for name in ("images", "images_fine")
    )
    records = [one.records[place] for one, at in zip(stores, places, strict=True) for place in at]
    return People(
        images[:, None],
        fine[:, None],
        [record.slice_id for record in records],
        [record.subject_id for record in records],
        stores[0].contract,
    )


def measured(
    setting: Setting, people: People, denoiser: ScoreModel, key: str, keep: Path
) -> Iterator[tuple[str, dict[str, float]]]:
    """Each method and its mean of every person, from the file or by reconstruction."""
    kept = [json.loads(line) for line in keep.read_text().splitlines()] if keep.exists() else []
    for name, method in methods_of(people.contract.modality).items():
        about = {"setting": setting.name, "method": name, "key": digest_of(key, method.digest())}
        known = next((row["people"] for row in kept if about.items() <= row.items()), None)
        if known is None:
            known = mean_of_each(people.people, scores(setting, people, method, denoiser))
            with keep.open("a") as file:
                file.write(json.dumps({**about, "people": known}) + "\n")
        yield name, known


def scores(setting: Setting, people: People, method: Method, denoiser: ScoreModel) -> list[float]:
    """PSNR of each slice."""
    x = images_of(setting, people, method, denoiser)
    return psnr(x.clamp(0, 1), people.images.clamp(0, 1), data_range=1.0).tolist()


def images_of(setting: Setting, people: People, method: Method, denoiser: ScoreModel, *, sample: int = 0) -> Tensor:
    """What the method makes of each slice, (batch, 1, rows, columns): one of its samples."""
    problem = InverseProblem.of(setting.measurement, data_of(setting, people), people.contract)
    noise = Noise(0, people.names, [sample] * len(people.names))
    with torch.no_grad():
        return reconstruct(method, problem, denoiser, noise=noise).x


def data_of(setting: Setting, people: People) -> Measured:
    """What is measured of the people's slices."""
    images = people.fine if setting.is_fine else people.images
    data = simulate(setting.measurement, images, people.contract, Noise(0, people.names))
    if not setting.is_astra:
        return data
    operator = setting.measurement.operator(people.contract.size)
    assert isinstance(operator, CTOperator)
    assert isinstance(operator.geometry, ParallelBeam)
    return data._replace(y=strips(operator.geometry, images[:, 0]))


def strips(geometry: ParallelBeam, images: Tensor) -> Tensor:
    """Sinograms (batch, n_views, n_bins) of images (batch, rows, columns), finer by a whole factor: means over bins.

    ASTRA's strip kernel weighs pixels by their area within each bin's strip, exactly.
    """
    import astra

    size, width = images.shape[-1], geometry.bin_spacing * (images.shape[-1] // geometry.size)
    scan = astra.create_proj_geom("parallel", width, geometry.n_bins, np.array(geometry.angles))
    projector = astra.create_projector("strip", scan, astra.create_vol_geom(size, size))
    try:
        made = [astra.create_sino(one, projector) for one in images.numpy()]
    finally:
        astra.projector.delete(projector)
    astra.data2d.delete([handle for handle, _ in made])
    return torch.from_numpy(np.stack([one for _, one in made])) * geometry.size / size


def table(rows: Sequence[tuple[Setting, Mapping[str, Mapping[str, float]]]], n: int) -> list[str]:
    """The table, and how many of its rows are as they should be."""
    names = list(rows[0][1])
    lines = [f"| {' | '.join(['setting', *names])} | preset ahead by |", "| --- |" + " ---: |" * (len(names) + 1)]
    ahead = []
    for setting, found in rows:
        means = {name: over_people(one).mean for name, one in found.items()}
        best = max(names[:-1], key=means.__getitem__)
        gain = over_people(gains(found[names[-1]], found[best]))
        ahead.append(gain.mean)
        text = f"{signed(gain.mean, 2)} {interval_text(gain, 2)}"
        cells = [setting.name, *(f"{means[name]:.2f}" for name in names), text]
        lines.append(f"| {' | '.join(cells)} |")
    n_behind, n_ahead = sum(one < BEHIND_DB for one in ahead), sum(one >= AHEAD_DB for one in ahead)
    said = (
        f"{n} people. Of {len(rows)} settings the preset is ahead by {AHEAD_DB:g} dB in {n_ahead} and behind by more "
    )
    return [*lines, "", said + f"than {-BEHIND_DB:g} dB in {n_behind}."]


if __name__ == "__main__":
    main()
