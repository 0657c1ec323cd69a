"""What an option is worth: a method as it is in ``tasks/planning/presets.py``, and with one option changed at a time.

    python -m benchmarks.options ct-128 workspace/datasets/DIGEST --subjects A B C --method bregman \\
        --settings "23 views" "23 views, 1e4 photons" --changes memory=0.8 grid.sigma_max=0.1 "first_noise=0.5 n_cg=5"

The settings are those of ``benchmarks/settings.py``; several changes in one word are made together. PSNR in dB, one
mean per person and then their mean. Choose by people whom nothing is reported on.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch

from benchmarks.people import mean_of_each
from benchmarks.settings import People, Setting, read_people, scores, settings_of
from scoreinv.denoiser import ScoreModel
from scoreinv.problem import Method
from tasks.planning.presets import COMPARED
from tasks.workers.priors import load_prior


def main() -> None:
    """Print the table, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior")
    parser.add_argument("datasets", nargs="+", help="with finer images, of one modality and grid")
    parser.add_argument("--subjects", nargs="*", default=[], help="of the data sets (default: everybody)")
    parser.add_argument("--slices", type=int, default=1, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--settings", nargs="+", required=True, help="by their names")
    parser.add_argument("--method", required=True, help="by its kind")
    parser.add_argument("--changes", nargs="*", default=[], help="as OPTION=VALUE, several of them in one word")
    options = parser.parse_args()
    torch.set_num_threads(1)
    people = read_people(options.datasets, options.subjects, options.slices)
    modality = people.contract.modality
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    method = next(one for one in COMPARED[modality] if one.kind == options.method)
    chosen = [one for one in settings_of(modality) if one.name in options.settings]
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
        KeyError: if it has no such option.
    """
    content = method.model_dump(mode="json")
    for word in change.split():
        path, _, text = word.partition("=")
        *above, name = path.split(".")
        part: dict[str, Any] = reduce(lambda inner, key: inner[key], above, content)
        if name not in part:
            raise KeyError(f"{method.kind} has no option {path}: it has {', '.join(part)}")
        part[name] = text if isinstance(part[name], str) else json.loads(text)
    return type(method).model_validate(content)


if __name__ == "__main__":
    main()
