"""Whether a result is there already, whole and up to date: seen without Prefect, without a worker, and without a write.

A look that is not sure says no. The stage is then run as ever, and finds out, repairs and complains by itself.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from scoreinv.spec import Json, Spec, holds_options
from storage.errors import StoreError
from storage.identities import Hasher
from storage.joined import open_store
from storage.listing import Listing
from storage.models import read_contract
from storage.reports import PAGE, SUMMARY
from storage.scores import rows_of, score_files
from storage.sources import collect
from storage.sources.catalogue import digest_of_stamps
from storage.uri import exists, join, json_bytes, list_names, read_bytes, read_json, size_of
from tasks import addresses
from tasks.benchmark import BenchmarkRecipe
from tasks.growth import seen_before
from tasks.recipes import (
    OWN,
    CalibrateRecipe,
    EvaluateRecipe,
    IngestRecipe,
    MeasureRecipe,
    PipelineRecipe,
    ReconstructRecipe,
    ReportRecipe,
    Study,
    Training,
    TrainRecipe,
    report_of,
    trained_name,
    with_model,
)
from tasks.trained import is_trained, of_prior, origin_of, with_subjects_as_known
from tasks.versions import versions
from tasks.workspace import locate_prior


def finished(stage: str, recipe: Spec, workspace: str) -> str:
    """The reference of a recipe's result if there is nothing to do; empty if there may be.

    Args:
        stage: the name of the command.
        recipe: of that command.
        workspace: URI; may be one that nobody may write to.
    """
    look = cast("Callable[[Any, str], str] | None", _LOOKS.get(stage))
    try:
        return look(recipe, workspace) if look else ""
    # Whatever is missing or damaged: the stage says it better.
    except (StoreError, OSError, ValueError, LookupError, TypeError):
        return ""


def _dataset(recipe: IngestRecipe, workspace: str) -> str:
    own = recipe.model_dump(mode="json", exclude={"source"})
    if seen := digest_of_stamps(recipe.source.stamps()):
        ref = seen_before(recipe, workspace, seen)
        # It was looked through already.
        return ref if ref and holds_options(_recipe_of(join(workspace, ref)), own) else ""
    if not any(holds_options(_recipe_of(uri), own) for uri in _results(workspace, "datasets")):
        return ""  # nothing is worth a scan of the source
    found = collect(recipe.source.scan())
    listing = recipe.source.public(found, Hasher(workspace))
    ref = addresses.of_dataset(recipe, listing)
    return ref if _has_listing(join(workspace, ref), listing) and _is_done(workspace, ref, own) else ""


def _measurements(recipe: MeasureRecipe, workspace: str) -> str:
    ref = addresses.of_measurements(recipe)
    return ref if _is_done(workspace, ref, recipe.model_dump(mode="json")) else ""


def _reconstructions(recipe: ReconstructRecipe, workspace: str) -> str:
    prior = locate_prior(workspace, recipe.reconstruction.prior)
    ref = addresses.of_reconstructions(recipe, read_contract(prior).sha256 if prior else "")
    return ref if _is_done(workspace, ref, recipe.model_dump(mode="json")) else ""


def _calibration(recipe: CalibrateRecipe, workspace: str) -> str:
    ref = addresses.of_calibration(recipe)
    return ref if _is_done(workspace, ref, recipe.model_dump(mode="json")) else ""


def _scores(recipe: EvaluateRecipe, workspace: str) -> str:
    ref = addresses.of_scores(recipe)
    if not _is_done(workspace, ref, recipe.model_dump(mode="json")):
        return ""
    uri = join(workspace, ref)
    tables = score_files(rows_of(open_store(uri)))
    is_whole = all(read_bytes(join(uri, name)) == content for name, content in tables.items())
    return ref if is_whole and size_of(join(uri, "table.md")) else ""


def _report(recipe: ReportRecipe, workspace: str) -> str:
    ref = addresses.of_report(recipe)
    uri = join(workspace, ref)
    summary = read_json(join(uri, SUMMARY))
    files = [picture["file"] for section in summary["sections"] for picture in section["pictures"]]
    files += [name for section in summary["sections"] for name in section["files"]]
    seal = addresses.seal_of_report(workspace, recipe, read_bytes(join(uri, PAGE)), versions())
    is_whole = summary.get("seal") == seal and all(size_of(join(uri, name)) for name in files)
    return f"{ref}/{PAGE}" if is_whole else ""


def _prior(recipe: TrainRecipe, workspace: str) -> str:
    known = with_subjects_as_known(recipe, workspace)
    ref = of_prior(known, origin_of(known, workspace))
    return ref if is_trained(join(workspace, ref), known) else ""


def _trained(training: Training, workspace: str) -> str:
    datasets = tuple(_dataset(one, workspace) for one in training.ingest)
    return _prior(training.train.model_copy(update={"datasets": datasets}), workspace) if all(datasets) else ""


def _pipeline(recipe: PipelineRecipe, workspace: str) -> str:
    models = {trained_name(one): _trained(one, workspace) for one in recipe.trainings}
    if not all(models.values()):
        return ""
    scores = dict[str, str]()
    for study in recipe.studies:
        scores[study.name] = _study(study, models, workspace)
        if not scores[study.name]:
            return ""
    return _report(report_of(recipe, scores), workspace)


def _benchmark(recipe: BenchmarkRecipe, workspace: str) -> str:
    return _pipeline(recipe.pipeline(), workspace)


def _study(study: Study, models: Mapping[str, str], workspace: str) -> str:
    """The reference of its scores, if all of it is done."""
    if study.training is not None:
        models = {**models, OWN: _trained(study.training, workspace)}
        if not models[OWN]:
            return ""
    dataset = _dataset(study.ingest, workspace) if study.ingest else study.dataset
    measure = MeasureRecipe(dataset=dataset, simulation=study.simulation)
    measurements = _measurements(measure, workspace) if dataset else ""
    if not measurements:
        return ""
    choices = [with_model(choice, models) for choice in study.reconstructions]
    recipes = [ReconstructRecipe(measurements=measurements, reconstruction=choice) for choice in choices]
    references = tuple(_reconstructions(one, workspace) for one in recipes)
    return _scores(EvaluateRecipe(reconstructions=references), workspace) if all(references) else ""


_LOOKS = {
    "ingest": _dataset,
    "measure": _measurements,
    "train": _prior,
    "reconstruct": _reconstructions,
    "calibrate": _calibration,
    "evaluate": _scores,
    "report": _report,
    "pipeline": _pipeline,
    "benchmark": _benchmark,
}
"""The function that looks, by the name of the command; others always run."""


def _is_done(workspace: str, ref: str, recipe: Json) -> bool:
    """Whether a store is finished, undamaged, and of just this recipe: an earlier version may have kept another."""
    uri = join(workspace, ref)
    if not exists(join(uri, "plan.json")):
        return False
    store = open_store(uri, finished=False)
    return holds_options(store.attrs.get("recipe"), recipe) and store.is_whole()


def _has_listing(uri: str, listing: Listing) -> bool:
    slices = join(uri, "slices.json")
    return exists(slices) and read_bytes(slices) == json_bytes(listing.model_dump(mode="json"))


def _results(workspace: str, stage: str) -> list[str]:
    folder = join(workspace, stage)
    return [join(folder, name) for name in list_names(folder)]


def _recipe_of(uri: str) -> Json:
    """What the finished store at a URI was made by; None if there is none."""
    is_there = exists(join(uri, "_SUCCESS")) and exists(join(uri, "plan.json"))
    return open_store(uri).attrs.get("recipe") if is_there else None
