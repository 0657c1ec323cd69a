"""The recipe of a benchmark: methods side by side on one data set, and the pipeline that it stands for."""

import re
from collections.abc import Sequence

from pydantic import Field, model_validator

from scoreinv.baselines import NMAR, Learned, LinearInterpolation
from scoreinv.methods import AnyMethod
from scoreinv.operators import AnyMeasurement
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.priors import Precision
from scoreinv.spec import Spec
from scoreinv.training.objectives import Denoising
from tasks.planning.presets import COMPARED, PAPER, PRESETS
from tasks.recipes import IngestRecipe, PipelineRecipe, Reconstruction, Simulation, Study, Training, trained_name


class BenchmarkRecipe(Spec):
    """Methods side by side on one data set, each trained once, over one or more measurements."""

    title: str = Field("Benchmark", min_length=1, description="Heading of the report.")
    trainings: tuple[Training, ...] = Field(
        (),
        description="Reconstructors and priors that are trained first; a method names one trained/NAME.",
    )
    ingest: IngestRecipe | None = Field(None, title="Ingest", description="Makes the data set.")
    dataset: str = Field("", description="In place of ingest: a data set that is there, as datasets/0a1b2c3d4e5f.")
    simulations: tuple[Simulation, ...] = Field(
        min_length=1, description="What is measured of it, one after the other; a section of the report each."
    )
    prior: str = Field(
        "", description="Of the methods that are chosen: shipped (ct-128), priors/0a1b2c3d4e5f, or trained/NAME."
    )
    reconstructions: tuple[Reconstruction, ...] = Field(
        (),
        description="Methods to compare, the same for every measurement. Empty: those of the paper, plug-and-play, the "
        "classical ones, and every reconstructor that is trained here.",
    )
    precision: Precision = Field(
        "float32", description="Of the networks of methods that are chosen; bfloat16 is twice as fast on most machines."
    )
    n_pictures: int = Field(3, ge=1, le=50, description="Slices shown per measurement, spread evenly.")

    @model_validator(mode="after")
    def _is_a_pipeline(self) -> "BenchmarkRecipe":
        self.pipeline()
        return self

    def pipeline(self) -> PipelineRecipe:
        """The studies that it stands for, one for each measurement."""
        shared = {"ingest": self.ingest, "dataset": self.dataset, "reconstructions": self.methods()}
        names = _told_apart([name_of(one.measurement.title()) for one in self.simulations])
        pairs = zip(names, self.simulations, strict=True)
        studies = tuple(Study.model_validate({"name": name, "simulation": one, **shared}) for name, one in pairs)
        return PipelineRecipe(title=self.title, trainings=self.trainings, studies=studies, n_pictures=self.n_pictures)

    def methods(self) -> tuple[Reconstruction, ...]:
        """The methods that are compared."""
        if self.reconstructions:
            return self.reconstructions
        names = [trained_name(one) for one in self.trainings if is_supervised(one)]
        *others, preset = compared(self.simulations[0].measurement)
        learned = [Reconstruction(method=Learned(), prior=name, precision=self.precision) for name in names]
        return (*(self._chosen(method) for method in others), *learned, self._chosen(preset))

    def _chosen(self, method: AnyMethod) -> Reconstruction:
        if method.needs == "nothing":
            return Reconstruction(method=method)
        return Reconstruction(method=method, prior=self.prior, precision=self.precision)


def compared(measurement: AnyMeasurement) -> tuple[AnyMethod, ...]:
    """The methods of a comparison that need no reconstructor: those of the paper, and what a user would take else.

    Of metal they are what is taken there, and Algorithm 2. The preset is the last.
    """
    has_metal = isinstance(measurement, MetalCT)
    samplers = PAPER[measurement.modality]
    kinds = ("direct", "tv", *samplers) if has_metal else ("direct", "cgls", "tv", "wavelet", "dpir", *samplers)
    direct, *others = [method for method in COMPARED[measurement.modality] if method.kind in kinds]
    own: tuple[AnyMethod, ...] = (LinearInterpolation(), NMAR()) if has_metal else ()
    return (direct, *own, *others, PRESETS[measurement.modality]["balanced"].method)


def is_supervised(training: Training) -> bool:
    """Whether a training makes a reconstructor."""
    return not isinstance(training.train.objective, Denoising)


def name_of(title: str) -> str:
    """A title as a name: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _told_apart(names: Sequence[str]) -> list[str]:
    return [f"{name}-{names[:i].count(name) + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]
