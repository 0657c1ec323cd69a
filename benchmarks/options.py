"""What an option is worth: a method as it is in ``tasks/planning/presets.py``, and with one option changed at a time.

    python -m benchmarks.options ct-128 workspace/datasets/DIGEST --subjects A B C --method bregman \\
        --settings "23 views" "23 views, 1e4 photons" --changes memory=0.8 grid.sigma_max=0.1 "first_noise=0.5 n_cg=5"

The settings are those of ``benchmarks/settings.py``; several changes in one word are made together. PSNR in dB, one
mean per person and then their mean. Of several samples (``--samples``) it is that of their mean; beside it stand how
often their 90 % interval holds the truth within the body, and their spread over the mean's error: 1 is right. Choose by
people whom nothing is reported on.
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch

from benchmarks.people import mean_of_each
from benchmarks.settings import People, Setting, arguments, images_of, read_people, scores, settings_named
from scoreinv.denoiser import ScoreModel
from scoreinv.errors import UserError
from scoreinv.metrics.image import psnr
from scoreinv.metrics.posterior import ensemble_of
from scoreinv.problem import Method
from tasks.planning.presets import COMPARED, PRESETS
from tasks.workers.evaluate import spread_columns
from tasks.workers.priors import load_prior

TEXTS = ("{:.2f}", "{:.0f} %", "{:.2f}")
"""PSNR, coverage, and spread over error."""


def main() -> None:
    """Print the table, line by line."""
    parser = arguments(__doc__)
    kinds = sorted({one.kind for methods in COMPARED.values() for one in methods})
    parser.add_argument("--method", required=True, choices=[*kinds, *PRESETS["ct"]], help="by its kind, or a preset")
    parser.add_argument("--changes", nargs="*", default=[], help="as OPTION=VALUE, several of them in one word")
    parser.add_argument("--samples", type=int, default=1, help="of each slice (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people(options.datasets, options.subjects, options.slices)
    modality = people.contract.modality
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    presets = {str(name): preset.method for name, preset in PRESETS[modality].items()}
    method = ({one.kind: one for one in COMPARED[modality]} | presets)[options.method]
    chosen = settings_named(modality, options.settings)
    for line in table(method, options.changes, chosen, people, denoiser, n_samples=options.samples):
        print(line, flush=True)


def table(
    method: Method,
    changes: Sequence[str],
    settings: Sequence[Setting],
    people: People,
    denoiser: ScoreModel,
    *,
    n_samples: int = 1,
) -> Iterator[str]:
    """One row for the method as it is and for each change, one column for each setting."""
    yield f"| {' | '.join([method.kind, *(one.name for one in settings)])} |"
    yield "| --- |" + " ---: |" * len(settings)
    for change in ("", *changes):
        one = changed(method, change)
        found = [scores_of(setting, people, one, denoiser, n_samples=n_samples) for setting in settings]
        cells = [
            "; ".join(text.format(_mean(people, column)) for text, column in zip(TEXTS, columns, strict=False))
            for columns in found
        ]
        yield f"| {' | '.join([change or 'as it is', *cells])} |"


def scores_of(
    setting: Setting, people: People, method: Method, denoiser: ScoreModel, *, n_samples: int
) -> list[list[float]]:
    """Of each slice: PSNR; of several samples also the coverage of their 90 % interval, and spread over error."""
    if n_samples == 1:
        return [scores(setting, people, method, denoiser)]
    samples = torch.stack([images_of(setting, people, method, denoiser, sample=k) for k in range(n_samples)])
    ensemble = ensemble_of(samples)
    columns = spread_columns(ensemble, people.images, people.contract)
    found = psnr(ensemble.mean.clamp(0, 1), people.images.clamp(0, 1), data_range=1.0)
    return [found.tolist(), (100 * columns["coverage_90"]).tolist(), columns["spread_skill"].tolist()]


def _mean(people: People, column: Sequence[float]) -> float:
    return statistics.fmean(mean_of_each(people.people, column).values())


def changed(method: Method, change: str) -> Method:
    """The method with other options, such as "memory=0.8 grid.sigma_max=0.1".

    Raises:
        UserError: if it has no such option.
    """
    content = method.model_dump(mode="json")
    for word in change.split():
        path, _, text = word.partition("=")
        *above, name = path.split(".")
        part: dict[str, Any] = reduce(lambda inner, key: inner.get(key, {}), above, content)
        if name not in part:
            raise UserError(f"{method.kind} has no option {path}: it has {', '.join(part or content)}")
        part[name] = text if isinstance(part[name], str) else json.loads(text)
    return type(method).model_validate(content)


if __name__ == "__main__":
    main()
