"""The pipeline flow: every stage for every study, then one report."""

from collections.abc import Mapping

from prefect import flow

from flows.evaluate import evaluate_flow
from flows.forms import from_form
from flows.ingest import ingest_flow
from flows.measure import measure_flow
from flows.reconstruct import reconstruct_flow
from flows.train import train_flow
from tasks.artifacts import show_report
from tasks.checks import check_pipeline
from tasks.progress import announced
from tasks.recipes import (
    EvaluateRecipe,
    MeasureRecipe,
    PipelineRecipe,
    Reconstruction,
    ReconstructRecipe,
    Study,
    Training,
    report_of,
    trained_name,
)
from tasks.report import report
from tasks.running.cluster import kept_running
from tasks.running.gpu_slot import gpu_slot
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
    """
    check_pipeline(recipe, execution.workspace, execution.projector)
    open_workspace(execution.workspace)
    # Workers stay from stage to stage, and a GPU's memory is theirs meanwhile.
    with gpu_slot(execution.device, execution.cluster), kept_running(execution.cluster) as cluster:
        kept = execution.model_copy(update={"cluster": cluster})
        models = {trained_name(one): _trained(one, kept) for one in recipe.trainings}
        made = [_study(study, models, kept) for study in recipe.studies]
    scores = [references[-1] for references in made]
    page = outcome(report(report_of(recipe, scores), execution, return_state=True))
    show_report(execution.workspace, page, [*models.values(), *(ref for references in made for ref in references)])
    return announced(page)


def _study(study: Study, models: Mapping[str, str], execution: Execution) -> list[str]:
    """The references of all that was made, the scores last."""
    dataset = ingest_flow(study.ingest, execution) if study.ingest else study.dataset
    measurements = measure_flow(MeasureRecipe(dataset=dataset, simulation=study.simulation), execution)
    own = {"trained": _trained(study.training, execution)} if study.training else {}
    references = tuple(
        reconstruct_flow(ReconstructRecipe(measurements=measurements, reconstruction=choice), execution)
        for choice in (_with_prior(choice, {**models, **own}) for choice in study.reconstructions)
    )
    scores = evaluate_flow(EvaluateRecipe(reconstructions=references), execution)
    return [dataset, measurements, *own.values(), *references, scores]


def _trained(training: Training, execution: Execution) -> str:
    datasets = tuple(ingest_flow(recipe, execution) for recipe in training.ingest)
    return train_flow(training.train.model_copy(update={"datasets": datasets}), execution)


def _with_prior(choice: Reconstruction, models: Mapping[str, str]) -> Reconstruction:
    """The choice with the reference of a model that it names."""
    return choice.model_copy(update={"prior": models.get(choice.prior, choice.prior)})
