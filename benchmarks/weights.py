"""The weights of TV and wavelets on people held out: no baseline may be a straw man.

    python -m benchmarks.weights workspace/datasets/DIGEST --subjects A056642 KiTS-00072 \\
        --weights 1e-5 2e-5 5e-5 1e-4 2e-4 --iters 300 --prior ct-256

    python -m benchmarks.weights workspace/datasets/DIGEST --slices 1 --weights 1e-4 --noise-weights 0 0.25 0.5 1 2 4 \\
        --measurement '{kind: sparse_view_ct, n_views: 90, noise: {kind: poisson, n_photons: 1.0e4}}'

Data: 23 views or 8 times faster, noiseless, or what is measured instead, simulated from the finer images of a data set
that holds them. One row per method and weights, and with a prior for the presets of one image: PSNR in dB, one mean per
person and then their mean. The second command made benchmarks/results/weights.md.
"""

import argparse
import itertools
from collections.abc import Iterator

import torch
import yaml
from pydantic import TypeAdapter

from benchmarks.calls import MEASUREMENTS
from benchmarks.people import mean_of_each, places_of_people
from scoreinv.baselines import TotalVariation, Wavelet
from scoreinv.contract import Modality
from scoreinv.measurement import simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators import AnyMeasurement
from scoreinv.problem import InverseProblem, Method, reconstruct
from storage.datasets import DatasetStore
from tasks.people import over_people
from tasks.planning.presets import PRESETS
from tasks.workers.priors import load_prior

KINDS = {"tv": TotalVariation, "wavelet": Wavelet}


def main() -> None:
    """Print one row per method, as they are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="with finer images")
    parser.add_argument("--subjects", nargs="*", default=[], help="of the data set (default: everybody)")
    parser.add_argument("--slices", type=int, default=2, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--weights", type=float, nargs="+", default=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4])
    parser.add_argument("--noise-weights", type=float, nargs="+", default=[], help="(default: each method's own)")
    parser.add_argument("--measurement", default="", help="as a recipe has it (default: as above)")
    parser.add_argument("--iters", type=int, default=300, help="of either method (default: %(default)s)")
    parser.add_argument("--prior", default="", help="whose presets stand below, in bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = DatasetStore.open(options.dataset)
    places = places_of_people([record.subject_id for record in store.records], options.subjects, options.slices)
    people, names = ([getattr(store.records[place], one) for place in places] for one in ("subject_id", "slice_id"))
    truth, fine = (torch.from_numpy(store.shards.read_places(n, places))[:, None] for n in ("images", "images_fine"))
    spec = MEASUREMENTS[store.contract.modality]
    if options.measurement:
        spec = TypeAdapter[AnyMeasurement](AnyMeasurement).validate_python(yaml.safe_load(options.measurement))
    problem = InverseProblem.of(spec, simulate(spec, fine, store.contract, Noise(0, names)), store.contract)
    denoiser = load_prior(options.prior, "cpu", "bfloat16")[0] if options.prior else None
    print(f"{len(places)} slices of {len(set(people))} people\n\n| method | weights | PSNR |\n| --- | ---: | ---: |")
    for name, setting, method in methods_of(options, store.contract.modality):
        with torch.no_grad():
            x = reconstruct(method, problem, denoiser, noise=Noise(0, names)).x
        found = psnr(x.clamp(0, 1), truth.clamp(0, 1), data_range=1.0).tolist()
        print(f"| {name} | {setting} | {over_people(mean_of_each(people, found)).mean:.2f} |", flush=True)


def methods_of(options: argparse.Namespace, modality: Modality) -> Iterator[tuple[str, str, Method]]:
    """Each method's name, what tells it from the others of this name, and the method."""
    for kind in options.methods:
        noise_weights = options.noise_weights or [KINDS[kind]().noise_weight]
        for weight, noise_weight in itertools.product(options.weights, noise_weights):
            method = KINDS[kind](weight=weight, noise_weight=noise_weight, n_iters=options.iters)
            yield kind, f"{weight:g}, of noise {noise_weight:g}", method
    for name, preset in PRESETS[modality].items() if options.prior else ():
        if preset.n_samples == 1:
            yield name, f"{preset.method.n_calls} calls", preset.method


if __name__ == "__main__":
    main()
