"""What it is worth to know the noise of every ray: slices of different thickness at few photons.

    python -m benchmarks.noise                      the shipped slices, 1e4 photons, preset fast
    python -m benchmarks.noise --photons 1e5 --preset balanced
    python -m benchmarks.noise --dataset workspace/datasets/DIGEST    slices with fine images of a data set of 128 x 128

Each slice three times, with the same data: taken to have the noise of the noisiest slice (as if one number served the
data set), its own mean noise, and the noise of each of its rays; beside total variation. 128 x 128, 23 views, data
simulated on a finer grid; the shipped slices are of people whom the prior has not seen. Writes
benchmarks/results/noise.md.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.measurement import Measured, PoissonNoise, simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.priors import load_prior
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.shipped import examples_folder
from storage.datasets import DatasetStore
from storage.resample import prepare
from storage.sources import DicomSource
from tasks.planning.presets import BASELINES, PRESETS

RESULTS = Path(__file__).parent / "results" / "noise.md"
COLUMNS = ("mean noise", "most attenuation", "TV", "noise of the data set", "of the slice", "of each ray")


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, default=1e4)
    parser.add_argument("--dataset", default="", help="with fine images (default: the shipped slices)")
    parser.add_argument("--slices", type=int, default=8, help="at most, spread evenly (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--preset", choices=tuple(PRESETS["ct"]), default="fast")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = table(options)
    print(text)
    options.output.write_text(text)


@torch.no_grad()
def table(options: argparse.Namespace) -> str:
    """Markdown: one line for each slice."""
    denoiser, contract = load_prior("ct-128")
    names, fine, truth = of_dataset(options) if options.dataset else shipped(contract.image)
    spec = SparseViewCT(n_views=23, noise=PoissonNoise(n_photons=options.photons))
    data = simulate(spec, fine, contract.image, Noise(0, names))
    of_slice = data.noise_std.square().flatten(1).mean(1).sqrt()
    method = PRESETS["ct"][options.preset].method

    def scores(measured: Measured, chosen: object = method) -> list[float]:
        problem = InverseProblem.of(spec, measured, contract.image)
        x = reconstruct(chosen, problem, denoiser, noise=Noise(0, names)).x.clamp(0, 1)  # type: ignore[arg-type]
        return psnr(x, truth, data_range=1.0).tolist()

    columns = [
        of_slice.tolist(),
        (data.y.flatten(1).amax(1) * contract.image.attenuation_per_pixel()).tolist(),
        scores(data, BASELINES["ct"].method),
        scores(data._replace(noise_std=of_slice.max().expand(len(names)))),
        scores(data._replace(noise_std=of_slice)),
        scores(data),
    ]
    lines = [
        f"# Noise of every ray: {options.photons:g} photons, preset {options.preset}",
        "",
        "PSNR in dB; `python -m benchmarks.noise`. One number for a data set was what the first version knew.",
        "",
        "| slice | " + " | ".join(COLUMNS) + " |",
        "| --- |" + " ---: |" * len(COLUMNS),
    ]
    for name, *values in zip(names, *columns, strict=True):
        lines.append(f"| {name[-24:]} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    means = [float(np.mean(column)) for column in columns]
    return "\n".join([*lines, "| mean | " + " | ".join(f"{value:.2f}" for value in means) + " |", ""])


def of_dataset(options: argparse.Namespace) -> tuple[list[str], Tensor, Tensor]:
    """The same of a data set's slices."""
    store = DatasetStore.open(options.dataset)
    places = np.unique(np.linspace(0, len(store) - 1, options.slices).round().astype(int)).tolist()
    fine, truth = (
        torch.from_numpy(store.shards.read_places(name, places))[:, None] for name in ("images_fine", "images")
    )
    return [store.records[place].slice_id for place in places], fine, truth


def shipped(image: ImageContract) -> tuple[list[str], Tensor, Tensor]:
    """Names of the shipped slices, their images on a grid twice as fine, and on the prior's."""
    source = DicomSource(path=str(examples_folder() / "ct"))
    records = source.listing().slices
    pairs = [
        prepare(values, record.spacing_mm, image, fine_factor=2)
        for record, values in zip(records, source.load(records), strict=True)
    ]
    truth, fine = (torch.from_numpy(np.stack(grids))[:, None].float() for grids in zip(*pairs, strict=True))
    return [record.slice_id for record in records], fine, truth


if __name__ == "__main__":
    main()
