"""What a report says of one study: the table of its methods, and pictures of some of its slices."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import yaml

from scoreinv.baselines import External
from scoreinv.calibration import Calibration
from scoreinv.contract import Contract, ImageContract, ReconstructorContract
from scoreinv.metrics.image import magnitude
from scoreinv.modality import MODALITIES, Window
from scoreinv.operators import AnyMeasurement
from scoreinv.reconstructors import label_of
from storage.datasets import DatasetStore
from storage.errors import StoreError
from storage.joined import open_store
from storage.listing import Rejected
from storage.scores import read_scores
from storage.shards import ShardedStore
from tasks.across import Setting
from tasks.comparison import people_of
from tasks.means import Row, failure_text, left_out, mean_of
from tasks.recipes import Reconstruction, Simulation
from tasks.rendering import MethodRow, Panel, People, Picture, ReportSection, markdown_table
from tasks.rendering.tables import METRICS
from tasks.workers.calibrate import load_calibration
from tasks.workers.evaluate import FAILURE
from tasks.workers.priors import elsewhere, image_contract
from tasks.workers.stores import Identity, as_images, is_exact, read_identities, simulation_of
from tasks.workspace import locate, locate_calibration, model_of

HEADLINE = ("psnr", "ssim", "nmse")
"""What stands over a slice's pictures and in short tables; the page has all that ``tasks.rendering.tables`` knows."""

HEADLINE_WITHOUT_TRUTH = ("psnr_expected", "data_residual", "spread")
"""The same where nobody knows the true images."""

N_REJECTED_SHOWN = 5

LUNG_SHARE = 0.2
"""Where what is no air begins, between the values of air and of the rest of a body: lungs are little above air."""


class Result(NamedTuple):
    """One reconstruction of the study, and what it was made from."""

    store: ShardedStore
    reconstruction: Reconstruction
    simulation: Simulation
    note: str = ""
    """What tells it from the study's other results: measurement, options of the method, prior, seed."""
    model: Contract | None = None
    """Of the trained model, if there is one and it is still there."""
    calibration: Calibration | None = None
    """Of its intervals, if it has some and the calibration is still there."""
    is_exact: bool = False
    """Whether the data were simulated from images on the very grid of the result."""

    @property
    def measurement(self) -> AnyMeasurement:
        """What was measured."""
        return self.simulation.measurement

    @property
    def options(self) -> dict[str, Any]:
        """What decides it, by dotted keys as a recipe has them, and the weights behind the prior's name."""
        options = dict(_flat(self.reconstruction.model_dump(mode="json")))
        return options | {"weights": str(self.store.attrs.get("prior_sha256", ""))[:12]}

    @property
    def digest(self) -> str:
        """By which the scores name it."""
        return self.store.uri.rsplit("/", 1)[-1]

    @property
    def estimate(self) -> str:
        """The image that stands for it: the mean of its samples, or the only one."""
        return "mean" if self.reconstruction.n_samples > 1 else "sample"

    @property
    def name(self) -> str:
        """What people call the method; the naive one goes by its modality's name."""
        method = self.reconstruction.method
        label = self.measurement.direct_name if method.kind == "direct" else method.label
        if isinstance(method, External):
            label = method.name
        if isinstance(self.model, ReconstructorContract):
            label = label_of(self.model)
        n_calls = f"{method.n_calls} call{'s' * (method.n_calls > 1)}" if method.n_calls else ""
        known = ", ".join(filter(None, (n_calls, self.note)))
        return f"{label} ({known})" if known else label

    def row_name(self, estimate: str) -> str:
        """What people call its image of this kind, beside its others."""
        if not self.reconstruction.method.is_stochastic:
            return self.name
        n = self.reconstruction.n_samples
        return f"{self.name}, mean of {n} samples" if estimate == "mean" else f"{self.name}, one sample"


class Slices(NamedTuple):
    """What a study is of: slices with what is known of them, their grid, and the images if anybody has them."""

    contract: ImageContract
    identities: Sequence[Identity]
    places: Sequence[str]
    """Where each lies within its volume, in words; empty where nobody knows."""
    rejected: Sequence[Rejected]
    source: Mapping[str, Any]
    """Where they come from, for the recipe that makes the results again."""
    truth: ShardedStore | None
    checksums: Sequence[str] = ()
    """Of each, where it is known."""


class Found(NamedTuple):
    """A study as its workspace holds it: the naive result first, and every slice's scores."""

    results: Sequence[Result]
    slices: Slices
    rows: Sequence[Row]


def section_of(workspace: str, scores_uri: str) -> ReportSection:
    """Heading, tables over slices and recipes of one study."""
    return _section(_found(workspace, scores_uri))


def illustrated_section(workspace: str, scores_uri: str, n_pictures: int) -> ReportSection:
    """The same with statistics over people, pictures of some slices, and where its data lie."""
    found = _found(workspace, scores_uri)
    results, slices, rows = found
    places = np.unique(np.linspace(0, len(slices.identities) - 1, n_pictures + 2).round().astype(int)[1:-1])
    return replace(
        _section(found),
        people=_people(found),
        panels=[_panel(int(place), slices, results, rows) for place in places],
        stores=_stores(workspace, scores_uri, results),
    )


def compared_in(workspace: str, scores_uri: str) -> tuple[Sequence[Result], People | None]:
    """The results of a study, the naive one first, and their statistics over people."""
    found = _found(workspace, scores_uri)
    return found.results, _people(found)


def setting_of(workspace: str, scores_uri: str, people: People | None) -> Setting:
    """What tells a study from others of the same data set, with its statistics over people."""
    scores = open_store(scores_uri)
    results = _results(workspace, scores)
    needs = {one.row_name(name): one.reconstruction.method.needs for one in results for name in ("sample", "mean")}
    networks = [one.model for one in results if isinstance(one.model, ReconstructorContract)]
    return Setting(str(scores.attrs["dataset"]), results[0].simulation, people, needs, networks)


def _results(workspace: str, scores: ShardedStore) -> list[Result]:
    refs = dict.fromkeys(scores.attrs["recipe"]["reconstructions"])
    return _told_apart([_result(workspace, locate(workspace, ref, "reconstructions")) for ref in refs])


def _found(workspace: str, scores_uri: str) -> Found:
    scores = open_store(scores_uri)
    results = _results(workspace, scores)
    slices = _slices(workspace, str(scores.attrs["dataset"]), results[0].store)
    naive = _naive(results)
    return Found([naive, *(one for one in results if one is not naive)], slices, read_scores(scores_uri))


def _naive(results: Sequence[Result]) -> Result:
    """The one-step formula, or else what needs no prior, or else the first."""
    simplest = [one for one in results if one.reconstruction.method.kind == "direct"]
    without = [one for one in results if one.reconstruction.method.needs == "nothing"]
    return [*simplest, *without, *results][0]


def _section(found: Found) -> ReportSection:
    results, slices, rows = found
    return ReportSection(
        heading=_heading(results, slices),
        intro=[*_intro(results, slices), *_failures(results, rows)],
        warnings=_seen(results, slices),
        rows=[row for result in results for row in _method_rows(result, rows)],
        recipe_yaml=_recipe_yaml(slices, results),
        baseline=results[0].name if _are_of_same_data(results) else "",
    )


def _seen(results: Sequence[Result], slices: Slices) -> list[str]:
    """Which models were trained on slices of this very study, each once, in a sentence."""
    models = {one.model.name: one.model for one in results if one.model}
    warnings = []
    for name, model in models.items():
        if places := model.seen(slices.checksums):
            n_people = len({slices.identities[place].subject_id for place in places})
            warnings.append(
                f"{name} was trained on {len(places)} of these {len(slices.identities)} slices, of {n_people} people: "
                "what it makes of them is better than of people it has not seen."
            )
    return warnings


def _failures(results: Sequence[Result], rows: Sequence[Row]) -> list[str]:
    """What each method has no image of, in a sentence."""
    n = len({row["slice_id"] for row in rows})
    failed = [row for row in rows if row.get(FAILURE)]
    mine = {one.name: [row for row in failed if row["reconstruction"] == one.digest] for one in results}
    reasons = {name: {str(row["slice_id"]): str(row[FAILURE]) for row in few} for name, few in mine.items()}
    return [f"{name} {failure_text(failures, n)}." for name, failures in reasons.items() if failures]


def _are_of_same_data(results: Sequence[Result]) -> bool:
    """A gain over what was made from other data says nothing."""
    return all(one.simulation == results[0].simulation for one in results)


def _people(found: Found) -> People | None:
    results, slices, rows = found
    estimates = {(str(row["reconstruction"]), str(row["estimate"])): None for row in rows}
    names = {
        (digest, estimate): one.row_name(estimate)
        for one in results
        for digest, estimate in estimates
        if digest == one.digest
    }
    without = [one.name for one in results if one.reconstruction.method.needs == "nothing"]
    ids = [identity.slice_id for identity in slices.identities]
    return people_of(
        rows,
        names,
        classical=without if _are_of_same_data(results) else (),
        places=dict(zip(ids, slices.places, strict=True)),
    )


def _stores(workspace: str, scores_uri: str, results: Sequence[Result]) -> dict[str, str]:
    """References of what the study was made from, those that lie in the workspace itself."""
    uris = {"Scores": scores_uri} | {f"Images of {one.name}": one.store.uri for one in results}
    for one in results:
        recipe = one.store.attrs["recipe"]
        uris[f"Measurements of {one.name}"] = locate(workspace, recipe["measurements"], "measurements")
    if dataset := str(results[0].store.attrs["dataset"]):
        uris["True images"] = locate(workspace, dataset, "datasets")
    home, kept = workspace.rstrip("/") + "/", dict[str, str]()
    for what, uri in uris.items():
        if uri.startswith(home) and uri.removeprefix(home) not in kept.values():
            kept[what] = uri.removeprefix(home)
    return kept


def _slices(workspace: str, dataset: str, reconstruction: ShardedStore) -> Slices:
    """Those of a data set, or, without one, of the measurements that a reconstruction was made from."""
    if dataset:
        store = DatasetStore.open(locate(workspace, dataset, "datasets"))
        records, source = store.listing.slices, {"uri": store.uri, "recipe": store.shards.attrs["recipe"]}
        identities = [Identity(one.slice_id, one.volume_id, one.subject_id) for one in records]
        places = [f"slice at {one.position_mm:.0f} mm" for one in records]
        checksums = [one.checksum for one in records]
        return Slices(store.contract, identities, places, store.listing.rejected, source, store.shards, checksums)
    measured = open_store(locate(workspace, reconstruction.attrs["recipe"]["measurements"], "measurements"))
    identities = read_identities(measured, range(measured.n))
    contract = image_contract(measured.attrs)
    places = [f"slice {one.slice_id}" for one in identities]
    return Slices(contract, identities, places, (), {"measurements": measured.uri}, None)


def headline_table(section: ReportSection) -> str:
    """The section's methods as a Markdown table, mean ± standard deviation of the metrics people ask for first."""
    has_truth = any(m in row.metrics for row in section.rows for m in HEADLINE)
    names = HEADLINE if has_truth else HEADLINE_WITHOUT_TRUTH
    rows = [replace(row, metrics={m: row.metrics[m] for m in names if m in row.metrics}) for row in section.rows]
    return markdown_table(rows, baseline=section.baseline)


def _result(workspace: str, uri: str) -> Result:
    store = open_store(uri)
    recipe = store.attrs["recipe"]
    measurements = open_store(locate(workspace, recipe["measurements"], "measurements"))
    simulation = simulation_of(measurements)
    choice = Reconstruction.model_validate(recipe["reconstruction"])
    return Result(
        store,
        choice,
        simulation,
        model=model_of(workspace, choice.prior),
        calibration=_calibration(workspace, choice),
        is_exact=is_exact(measurements),
    )


def _calibration(workspace: str, choice: Reconstruction) -> Calibration | None:
    try:
        return load_calibration(locate_calibration(workspace, choice.calibration)) if choice.calibration else None
    except StoreError:
        return None


def _told_apart(results: Sequence[Result]) -> list[Result]:
    """Each with what tells it from the others: how its data were measured, where they are not all the same, and for
    results that would still have one name, the options in which they differ."""
    titles = _titles(results)
    named = [one._replace(note=title) for one, title in zip(results, titles, strict=True)]
    return [one._replace(note=_note(one, [other for other in named if other.name == one.name])) for one in named]


def _titles(results: Sequence[Result]) -> list[str]:
    """What was measured for each result, in different words for different data; empty if all have the same."""
    every = [dict(_flat(result.simulation.model_dump(mode="json"))) for result in results]
    if len({json.dumps(one, sort_keys=True) for one in every}) == 1:
        return ["" for _ in results]
    titles = [result.measurement.title() for result in results]
    notes = [
        _differing(mine, [other for other, t in zip(every, titles, strict=True) if t == title])
        for mine, title in zip(every, titles, strict=True)
    ]
    return [", ".join(filter(None, (title, note))) for title, note in zip(titles, notes, strict=True)]


def _note(one: Result, namesakes: Sequence[Result]) -> str:
    note = _differing(one.options, [other.options for other in namesakes])
    # Of the same options, by two versions of the code.
    note = note or (one.digest if len(namesakes) > 1 else "")
    return ", ".join(filter(None, (one.note, note)))


def _differing(mine: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """The options in which some of the others differ, such as "temperature 0.6, seed 1"."""
    differing = [key for key, value in mine.items() if any(other.get(key, value) != value for other in others)]
    # Weights are told by the prior's name if that differs, and the number of samples by the rows if anything does.
    for key, better in (("weights", ["prior"]), ("n_samples", [k for k in differing if k != "n_samples"])):
        if key in differing and set(better) & set(differing):
            differing.remove(key)
    return ", ".join(f"{key.removeprefix('method.').removeprefix('measurement.')} {mine[key]}" for key in differing)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _heading(results: Sequence[Result], slices: Slices) -> str:
    n, size = len(slices.identities), slices.contract.size
    titles = dict.fromkeys(result.measurement.title() for result in results)
    return f"{' and '.join(titles)}, {n} slices of {size} x {size} pixels"


def _intro(results: Sequence[Result], slices: Slices) -> list[str]:
    subjects, volumes = ({one[field] for one in slices.identities} for field in (2, 1))
    noise = dict.fromkeys(result.measurement.noise.kind for result in results)
    scored = (
        "Nobody knows the true images: the data residual says whether an image explains the data within their noise, "
        "the spread how far its samples lie apart within the body, structures unexplained whether data tell of one "
        "that an image lacks."
        if slices.truth is None
        else "PSNR and SSIM on values in [0, 1], data range 1; PSNR of volume's range: from the lowest to the highest "
        "value of each volume, as Song et al. 2022. Coverage and spread within the body. Structures unexplained: "
        "how many the data of a slice tell of that its image lacks."
    )
    return [
        f"{len(subjects)} subjects, {len(volumes)} volumes, pixels of {slices.contract.pixel_mm:g} mm.",
        f"Measurement noise: {' and '.join(noise)}. {scored}",
        *(f"{result.name}: {said}." for result in results if (said := _elsewhere(result))),
        *(f"{one.name}: {said}" for one in results if one.calibration and (said := _intervals(one, one.calibration))),
        *_left_out(slices.rejected),
    ]


def _intervals(result: Result, calibration: Calibration) -> str:
    """Where its intervals come from, and whether they need hold here."""
    covered = calibration.covered[calibration.levels.index(0.9)]
    said = (
        f"half widths from {calibration.n_people} people; of those left out, intervals of 90 % covered {covered:.1%}."
    )
    said += " Those of each image are as wide as views that are left out of it say." if calibration.typical else ""
    warning = calibration.elsewhere(result.measurement, is_exact=result.is_exact)
    return f"{said} {warning[0].upper()}{warning[1:]}: they need not hold here." if warning else said


def _elsewhere(result: Result) -> str:
    return "" if result.model is None else elsewhere(result.model, result.measurement)


def _left_out(rejected: Sequence[Rejected]) -> list[str]:
    if not rejected:
        return []
    shown = "; ".join(f"{bad.file} ({bad.reason})" for bad in rejected[:N_REJECTED_SHOWN])
    more = f"; and {len(rejected) - N_REJECTED_SHOWN} more" if len(rejected) > N_REJECTED_SHOWN else ""
    return [f"Left out: {shown}{more}."]


def _method_rows(result: Result, rows: Sequence[Row]) -> list[MethodRow]:
    mine, out = [row for row in rows if row["reconstruction"] == result.digest], {m: left_out(rows, m) for m in METRICS}
    return [
        _method_row(result.row_name(estimate), [row for row in mine if row["estimate"] == estimate], out)
        for estimate in dict.fromkeys(str(row["estimate"]) for row in mine)
    ]


def _method_row(name: str, rows: Sequence[Row], out: Mapping[str, frozenset[str]]) -> MethodRow:
    found = {metric: mean_of(rows, metric, out[metric]) for metric in METRICS}
    known = {metric: one for metric, one in found.items() if one.n}
    return MethodRow(
        method=name,
        n=len(rows),
        n_failed=sum(bool(row.get(FAILURE)) for row in rows),
        nfe=int(rows[0]["nfe"]),
        seconds_per_slice=mean_of(rows, "seconds").mean,
        metrics={metric: (one.mean, one.deviation) for metric, one in known.items()},
        counts={metric: one.n for metric, one in known.items()},
    )


def _panel(place: int, slices: Slices, results: Sequence[Result], rows: Sequence[Row]) -> Panel:
    identity, contract = slices.identities[place], slices.contract
    traits, span = MODALITIES[contract.modality], contract.high - contract.low

    def read(store: ShardedStore, name: str) -> np.ndarray:
        image: np.ndarray = magnitude(as_images(store.read(name, place, place + 1), contract))[0, 0].numpy()
        return image

    def shown(store: ShardedStore, name: str) -> np.ndarray:
        image: np.ndarray = contract.low + span * read(store, name).clip(0, 1)
        return image

    def width(store: ShardedStore) -> np.ndarray:
        values: np.ndarray = store.read("half_width", place, place + 1)[0]
        return values

    return Panel(
        title=f"{identity.subject_id}, {slices.places[place]}",
        truth=None if slices.truth is None else shown(slices.truth, "images"),
        pictures=[
            Picture(
                method=one.row_name(one.estimate),
                image=shown(one.store, one.estimate),
                std=span * read(one.store, "std") if one.reconstruction.n_samples > 1 else None,
                half_width=span * width(one.store) if "half_width" in one.store.layouts else None,
                n_samples=one.reconstruction.n_samples,
                scores=_scores_of_slice(identity.slice_id, one, rows),
            )
            for one in results
        ],
        value_label=traits.label,
        windows=(Window("usual window", *traits.window), *traits.windows),
        pixel_mm=contract.pixel_mm,
        above_air=traits.background + LUNG_SHARE * (traits.foreground - traits.background),
    )


def _scores_of_slice(slice_id: str, result: Result, rows: Sequence[Row]) -> dict[str, float]:
    about = (slice_id, result.digest, result.estimate)
    mine = [row for row in rows if (row["slice_id"], row["reconstruction"], row["estimate"]) == about]
    return {m: float(row[m]) for row in mine for m in HEADLINE if row.get(m) is not None}


def _recipe_yaml(slices: Slices, results: Sequence[Result]) -> str:
    content: dict[str, Any] = {"dataset" if slices.truth else "acquired": dict(slices.source)}
    simulations = [result.simulation.model_dump(mode="json") for result in results]
    made = [result.reconstruction.model_dump(mode="json") for result in results]
    if all(one == simulations[0] for one in simulations):
        content |= {"simulation": simulations[0], "reconstructions": made}
    else:
        pairs = zip(simulations, made, strict=True)
        content["reconstructions"] = [{"simulation": simulation, **choice} for simulation, choice in pairs]
    return yaml.safe_dump(content, sort_keys=False)
