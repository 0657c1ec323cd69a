"""The pipeline flow: every stage for every study, then one report."""

from collections.abc import Mapping

from prefect import flow

from flows.evaluate import evaluate_flow
from flows.forms import from_form
from flows.ingest import ingest_flow
from flows.measure import measure_flow
from flows.reconstruct import reconstruct_flow
from flows.train import train_flow
from scoreinv.errors import UserError
from tasks.artifacts import show_report
from tasks.checks import check_pipeline
from tasks.progress import announced
from tasks.recipes import (
    OWN,
    TRAINED,
    EvaluateRecipe,
    MeasureRecipe,
    PipelineRecipe,
    Reconstruction,
    ReconstructRecipe,
    Study,
    Training,
    report_of,
    trained_name,
    with_model,
)
from tasks.report import report
from tasks.running.cluster import kept_running
from tasks.running.gpu_slot import gpu_slot
from tasks.running.mistakes import Failures, TooManyFailures
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="pipeline", flow_run_name="{recipe.title}")
def pipeline_flow(recipe: PipelineRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Ingest, measure, reconstruct, evaluate and report.

    Args:
        recipe: What is computed; what is done already is skipped.
        execution: How and where it is computed.

    Returns:
        The reference reports/<digest>/report.html within the workspace.
    """
    return run_pipeline(from_form(recipe), from_form(execution).absolute())


def run_pipeline(recipe: PipelineRecipe, execution: Execution) -> str:
    """The body of a flow: the stages are flows of their own below it, the report belongs to it itself.

    Raises:
        ValueError, StoreNotFound: as ``check_pipeline``, before anything is computed.
        TooManyFailures: at the end, if a method or a training failed; the others are made and reported.
    """
    check_pipeline(recipe, execution.workspace, execution.projector)
    open_workspace(execution.workspace)
    failures = Failures()
    # Workers stay from stage to stage, and a GPU's memory is theirs meanwhile.
    with gpu_slot(execution.device, execution.cluster), kept_running(execution.cluster) as cluster:
        kept = execution.model_copy(update={"cluster": cluster})
        models = _models({trained_name(one): one for one in recipe.trainings}, kept, failures)
        made = {study.name: _study(study, models, kept, failures) for study in recipe.studies}
    made = {name: references for name, references in made.items() if references}
    if not made:
        failures.raise_any("no method has made an image, so there is no report")
    scores = {name: references[-1] for name, references in made.items()}
    page = outcome(report(report_of(recipe, scores, failures.said), execution, return_state=True))
    show_report(execution.workspace, page, [*models.values(), *(ref for refs in made.values() for ref in refs)])
    failures.raise_any(f"all others are in {page}, and the same run again makes what is missing")
    return announced(page)


def _study(study: Study, models: Mapping[str, str], execution: Execution, failures: Failures) -> list[str]:
    """The references of all that was made, the scores last; none if every method failed."""
    dataset = ingest_flow(study.ingest, execution) if study.ingest else study.dataset
    measurements = measure_flow(MeasureRecipe(dataset=dataset, simulation=study.simulation), execution)
    own = _models({OWN: study.training}, execution, failures) if study.training else {}
    known = {**models, **own}
    made = []
    for choice in (with_model(one, known) for one in study.reconstructions if not _is_lost(one, known)):
        recipe = ReconstructRecipe(measurements=measurements, reconstruction=choice)
        name = " ".join(filter(None, (choice.method.kind, choice.prior)))
        with failures.noted(f"{name} in {study.name}", (TooManyFailures,)):
            made.append(reconstruct_flow(recipe, execution))
    if not made:
        return []
    scores = evaluate_flow(EvaluateRecipe(reconstructions=tuple(made)), execution)
    return [dataset, measurements, *own.values(), *made, scores]


def _is_lost(choice: Reconstruction, models: Mapping[str, str]) -> bool:
    """Whether the model that a method names was to be trained, and was not."""
    return (choice.prior == OWN or choice.prior.startswith(TRAINED)) and choice.prior not in models


def _models(trainings: Mapping[str, Training], execution: Execution, failures: Failures) -> dict[str, str]:
    """The references of what was trained, by how studies name it."""
    models = {}
    for name, training in trainings.items():
        datasets = tuple(ingest_flow(recipe, execution) for recipe in training.ingest)
        with failures.noted(name, (UserError, RuntimeError, ChildProcessError)):
            models[name] = train_flow(training.train.model_copy(update={"datasets": datasets}), execution)
    return models
