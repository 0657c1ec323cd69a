"""How often a calibration's intervals hold in settings that it was not made in, without and with views left out.

    python -m benchmarks.transfer workspace datasets/DIGEST --prior ct-128 --calibration calibrations/DIGEST

The calibration is of cross-validated reconstructions of the preset. Its intervals as they would be of its own people,
and as wide as views that are left out of each slice say: of 90 %, within all but air, means over people, in brackets
their 95 % interval; the deviation over people; and the mean half width in HU.
"""

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.cross_validation import COMPLETE, checked_images
from benchmarks.people import mean_of_each
from benchmarks.settings import People, Setting, read_people, settings_named
from scoreinv.calibration import Calibration, Estimate
from scoreinv.denoiser import ScoreModel
from tasks.people import over_people
from tasks.rendering.tables import interval_text
from tasks.workers.calibrate import estimate_of, load_calibration
from tasks.workers.priors import load_prior
from tasks.workspace import locate, locate_calibration


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("datasets", nargs="+", help="with finer images, of one grid")
    parser.add_argument("--prior", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--slices", type=int, default=1, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--settings", nargs="*", default=COMPLETE, help="of benchmarks/settings.py, by their names")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people([locate(options.workspace, one, "datasets") for one in options.datasets], [], options.slices)
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    calibration = load_calibration(locate_calibration(options.workspace, options.calibration))
    for line in table(settings_named("ct", options.settings), people, denoiser, calibration):
        print(line, flush=True)


def table(settings: Sequence[Setting], people: People, denoiser: ScoreModel, calibration: Calibration) -> Iterator[str]:
    """One row for each setting."""
    unscaled = calibration.model_copy(update={"typical": ()})
    yield f"{len(set(people.people))} people, {len(people.people)} slices\n"
    heads = [f"{name}: {what}" for name in ("as calibrated", "by views left out") for what in ("held", "±", "width")]
    yield f"| setting | {' | '.join(heads)} | times as wide |"
    yield "| --- |" + " ---: |" * (len(heads) + 1)
    for setting in settings:
        made = checked_images(setting, people, denoiser)
        estimate = estimate_of(made.images, None, made.problem, people.contract, made.expected.tolist())
        cells = [text for one in (unscaled, calibration) for text in held(one, estimate, people)]
        scale = np.mean(list(mean_of_each(people.people, calibration.scale(estimate).tolist()).values()))
        yield f"| {setting.name} | {' | '.join(cells)} | {scale:.2f} |"


def held(calibration: Calibration, estimate: Estimate, people: People) -> Iterator[str]:
    """How often, with its interval and its deviation over people, and how wide."""
    widths, body = calibration.half_width(estimate), estimate.images >= calibration.bounds[0]
    span = people.contract.high - people.contract.low
    shares = mean_of_each(people.people, _means((estimate.images - people.images).abs() <= widths, body))
    over, wide = over_people(shares), mean_of_each(people.people, _means(span * widths, body))
    yield f"{100 * over.mean:.1f} {interval_text(over._replace(low=100 * over.low, high=100 * over.high), 1)}"
    yield f"{100 * np.std(list(shares.values()), ddof=1):.1f}"
    yield f"{np.mean(list(wide.values())):.0f}"


def _means(values: Tensor, mask: Tensor) -> list[float]:
    return ((values * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)).tolist()


if __name__ == "__main__":
    main()
