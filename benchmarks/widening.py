"""How much intervals must widen where data say that an image lacks something: what sets ``GAIN`` of calibrations.

    python -m benchmarks.widening workspace datasets/DIGEST --prior ct-128

For each gain the preset's images of some people calibrate intervals, and lesions (``benchmarks/lesions.py``) are put
into the same people: how often people left out are covered, how wide intervals of 90 % are over the body in the mean
(HU), and how often they hold the mean over a lesion. Of people of whom nothing is reported. CT alone: lesions have HU.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.lesions import LESIONS, Planted, images_of, planted, problem_of, share_text
from benchmarks.settings import People, methods_of, read_people, settings_named
from scoreinv.calibration import GAIN, Estimate, Table, calibrated, cells_of, counted, widening
from tasks.workers.calibrate import estimate_of, value_bounds
from tasks.workers.priors import load_prior
from tasks.workspace import locate

LEVEL = 0.9
"""Of the intervals that lesions are looked for in."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("datasets", nargs="+", help="with finer images, of one grid")
    parser.add_argument("--prior", required=True)
    parser.add_argument("--people", type=int, default=60, help="of all, spread evenly (default: %(default)s)")
    parser.add_argument("--gains", type=float, nargs="*", default=[0.0, 2.0, 4.0, GAIN, 8.0])
    parser.add_argument("--setting", default="23 views", help="of benchmarks/settings.py (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people([locate(options.workspace, one, "datasets") for one in options.datasets], [], 1)
    people = people.part(range(0, len(people.names), max(len(people.names) // options.people, 1)))
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    (setting,) = settings_named("ct", [options.setting])
    preset, spec, contract = methods_of("ct")["preset"], setting.measurement, people.contract
    problem = problem_of(people, spec)
    plain = estimate_of(images_of(problem, people, preset, denoiser), None, problem, contract)
    given = {lesion.name("ct"): one for lesion in LESIONS["ct"] if (one := planted(lesion, people, spec))}
    seen = {
        name: estimate_of(images_of(one.problem, one.people, preset, denoiser), None, one.problem, contract)
        for name, one in given.items()
    }
    print("\n".join(table(options.gains, plain, people, given, seen)))


def table(
    gains: Sequence[float], plain: Estimate, people: People, given: Mapping[str, Planted], seen: Mapping[str, Estimate]
) -> Iterator[str]:
    """One row for each gain, from images of everybody and of those with each lesion."""
    contract = people.contract
    bounds, span = value_bounds(contract), contract.high - contract.low
    yield f"| gain | covered | half width | {' | '.join(given)} |"
    yield "| ---: | ---: | ---: |" + " ---: |" * len(given)
    body = plain.images >= bounds[0]
    for gain in gains:
        found = calibrated(list(counted(plain, people.images, bounds, gain)), [LEVEL])

        def half_width(estimate: Estimate, found: Table = found, gain: float = gain) -> Tensor:
            return torch.from_numpy(found.half_widths[0]).float()[cells_of(estimate, bounds)] + widening(estimate, gain)

        wide = float(half_width(plain)[body].mean()) * span
        shares = (
            share_text(one.people.people, one.is_held(seen[name].images, half_width(seen[name])))
            for name, one in given.items()
        )
        yield f"| {gain:g} | {found.covered[0]:.1%} | {wide:.1f} | {' | '.join(shares)} |"


if __name__ == "__main__":
    main()
