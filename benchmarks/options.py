"""What an option is worth: a method as it is in ``tasks/planning/presets.py``, and with one option changed at a time.

    python -m benchmarks.options ct-128 workspace/datasets/DIGEST --subjects A B C --method bregman \\
        --settings "23 views" "23 views, 1e4 photons" --changes memory=0.8 grid.sigma_max=0.1 "first_noise=0.5 n_cg=5"

The settings are those of ``benchmarks/settings.py``; several changes in one word are made together. PSNR in dB, one
mean per person and then their mean. Choose by people whom nothing is reported on.
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch

from benchmarks.people import mean_of_each
from benchmarks.settings import People, Setting, arguments, read_people, scores, settings_named
from scoreinv.denoiser import ScoreModel
from scoreinv.errors import UserError
from scoreinv.problem import Method
from tasks.planning.presets import COMPARED
from tasks.workers.priors import load_prior


def main() -> None:
    """Print the table, line by line."""
    parser = arguments(__doc__)
    kinds = sorted({one.kind for methods in COMPARED.values() for one in methods})
    parser.add_argument("--method", required=True, choices=kinds, help="by its kind")
    parser.add_argument("--changes", nargs="*", default=[], help="as OPTION=VALUE, several of them in one word")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people(options.datasets, options.subjects, options.slices)
    modality = people.contract.modality
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    method = next(one for one in COMPARED[modality] if one.kind == options.method)
    chosen = settings_named(modality, options.settings)
    for line in table(method, options.changes, chosen, people, denoiser):
        print(line, flush=True)


def table(
    method: Method, changes: Sequence[str], settings: Sequence[Setting], people: People, denoiser: ScoreModel
) -> Iterator[str]:
    """One row for the method as it is and for each change, one column for each setting."""
    yield f"| {' | '.join([method.kind, *(one.name for one in settings)])} |"
    yield "| --- |" + " ---: |" * len(settings)
    for change in ("", *changes):
        one = changed(method, change)
        means = [mean_of_each(people.people, scores(setting, people, one, denoiser)) for setting in settings]
        cells = [f"{statistics.fmean(found.values()):.2f}" for found in means]
        yield f"| {' | '.join([change or 'as it is', *cells])} |"


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
