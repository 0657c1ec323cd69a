"""The weights of TV and wavelets on people held out: no baseline may be a straw man.

    python -m benchmarks.weights workspace/datasets/DIGEST --subjects A056642 KiTS-00072 \
        --weights 1e-5 2e-5 5e-5 1e-4 2e-4 --iters 300

Data: 23 views or 8 times faster, noiseless, simulated from the finer images of a data set that holds them. One row per
method and weight: PSNR in dB, one mean per person and then their mean.
"""

import argparse

import torch

from benchmarks.calls import MEASUREMENTS
from scoreinv.baselines import TotalVariation, Wavelet
from scoreinv.measurement import simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, run
from storage.datasets import DatasetStore
from tasks.people import means_of_people, over_people

KINDS = {"tv": TotalVariation, "wavelet": Wavelet}


def main() -> None:
    """Print one row per method and weight, as they are found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="with finer images")
    parser.add_argument("--subjects", nargs="*", default=[], help="of the data set (default: everybody)")
    parser.add_argument("--slices", type=int, default=2, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--weights", type=float, nargs="+", default=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4])
    parser.add_argument("--iters", type=int, default=300, help="of either method (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = DatasetStore.open(options.dataset)
    places = places_of(store, options.subjects, options.slices)
    people = [store.records[place].subject_id for place in places]
    truth, fine = (torch.from_numpy(store.shards.read_places(n, places))[:, None] for n in ("images", "images_fine"))
    spec = MEASUREMENTS[store.contract.modality]
    names = [store.records[place].slice_id for place in places]
    problem = InverseProblem.of(spec, simulate(spec, fine, store.contract, Noise(0, names)), store.contract)
    print(f"{len(places)} slices of {len(set(people))} people\n\n| method | weight | PSNR |\n| --- | ---: | ---: |")
    for kind in options.methods:
        for weight in options.weights:
            method = KINDS[kind](weight=weight, n_iters=options.iters)
            *_, last = run(method, problem, noise=Noise(0, names))
            found = psnr(last.x.clamp(0, 1), truth.clamp(0, 1), data_range=1.0).tolist()
            rows = [{"subject_id": who, "psnr": value} for who, value in zip(people, found, strict=True)]
            print(f"| {kind} | {weight:g} | {over_people(means_of_people(rows, 'psnr')).mean:.2f} |", flush=True)


def places_of(store: DatasetStore, subjects: list[str], n_slices: int) -> list[int]:
    """Of each person so many slices, spread evenly over those that they have."""
    chosen: list[int] = []
    for person in dict.fromkeys(record.subject_id for record in store.records):
        mine = [place for place, record in enumerate(store.records) if record.subject_id == person]
        n = min(n_slices, len(mine))
        if not subjects or person in subjects:
            chosen += [mine[(2 * k + 1) * len(mine) // (2 * n)] for k in range(n)]
    return chosen


if __name__ == "__main__":
    main()
