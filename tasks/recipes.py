"""Recipes: everything that decides a stage's result.

A stage's result lies at ``<workspace>/<stage>/<digest>``, and the digest follows from the recipe, which
refers to its inputs by theirs. The same recipe is found again whoever computed it, and how.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, field_validator, model_validator

from scoreinv.contract import ImageContract, in_band
from scoreinv.methods import AnyMethod
from scoreinv.nets import UNet
from scoreinv.operators import AnyMeasurement
from scoreinv.reconstructors import AnyModel, ReconstructorSpec
from scoreinv.samplers import DDS
from scoreinv.spec import MAX_SEED, Json, Spec, digest_of
from scoreinv.training.augment import Augmentation
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import AnyObjective, Denoising
from storage.sources import AnySource
from tasks.planning.presets import PresetName
from tasks.tuning.search_spaces import Search, SearchRange, check_search, default_search


class IngestRecipe(Spec):
    """Images of one modality from any source, on one grid, in one unit, as a zarr store."""

    source: AnySource = Field(title="Source", description="Where the images come from.")
    image: ImageContract = Field(title="Image", description="The grid and the values to bring them to.")
    fine_factor: Literal[1, 2, 4] = Field(
        1, description="Also keep the images on a grid this many times finer, to simulate measurements from."
    )
    shard_size: int = Field(32, ge=1, le=256, description="Slices per shard: the unit of work and of resume.")

    @model_validator(mode="after")
    def _source_holds_such_images(self) -> "IngestRecipe":
        # Several sources and OpenKBP have no such option.
        modality = getattr(self.source, "modality", self.image.modality)
        if modality != self.image.modality:
            raise ValueError(
                f"source.modality={modality!r} but image.modality={self.image.modality!r}: set the one that is wrong"
            )
        return self


class Simulation(Spec):
    """Measurements simulated from images."""

    measurement: AnyMeasurement = Field(title="Measurement")
    uses_fine_images: bool = Field(
        False,
        description="Simulate from the finer grid, so that the data are not made by the operator that inverts them.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the measurement noise.")


class MeasureRecipe(Spec):
    """A simulation of every image of a data set."""

    dataset: str = Field(description="Reference of the data set, as datasets/0a1b2c3d4e5f.")
    simulation: Simulation = Field(title="Simulation")


class TrainRecipe(Spec):
    """A prior or a reconstructor: which network learns what from which images, and how."""

    moved: ClassVar[Mapping[str, str]] = {
        "training.levels": "objective.levels",
        "preconditioning": "objective.preconditioning",
    }

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Of the model, for example ct-128.")
    datasets: tuple[str, ...] = Field(
        min_length=1, description="References of the data sets, as datasets/0a1b2c3d4e5f."
    )
    initial: str = Field(
        "",
        description="A model of the same network whose weights to go on from, as ct-128 or priors/0a1b2c3d4e5f; "
        "n_images counts those it has seen. Empty: from random weights.",
    )
    network: AnyModel = Field(
        UNet(), title="Network", description="Of images, or, of a supervised training, also a reconstructor."
    )
    objective: AnyObjective = Field(Denoising(), title="Objective")
    training: TrainSpec = Field(TrainSpec(), title="Training")
    augmentation: Augmentation = Field(Augmentation(), title="Augmentation")
    band: int = Field(
        0,
        ge=0,
        description="Pixels a side of a coarser grid: the model is one of the images' low frequencies alone, for "
        "another's coarse part. 0: of the images.",
    )
    coarse: str = Field(
        "",
        description="A prior trained with band, as priors/0a1b2c3d4e5f, to which the published one leaves the low "
        "frequencies; it must be done before. Empty: none, or that of the prior to go on from.",
    )
    coarse_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Of the low frequencies that are the coarse prior's; the rest stays with the other.",
    )
    shares: tuple[NonNegativeFloat, ...] = Field(
        (), description="Relative chance of each data set; empty: by their sizes."
    )
    balance_power: float = Field(
        0.5, ge=0, le=1, description="Subjects with n slices are drawn n^power times as often as those with one."
    )
    validation_subjects: tuple[str, ...] = Field(
        (), description="Subjects that are held out, to measure on; named as their source does."
    )
    validation_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of the subjects that are not named, to be held out as well: the same ones for the same names, at "
        "least one. 0: nobody.",
    )
    validate_every: int = Field(8_000, ge=1, description="Images between two validations and checkpoints.")
    training_data: tuple[str, ...] = Field((), description="What the model has seen, with licences: for its card.")
    licence: str = Field("unstated", description="Under which the weights may be used.")

    @field_validator("objective", mode="before")
    @classmethod
    def _objectives_were_denoising(cls, given: Any) -> Any:
        return {"kind": "denoising", **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _a_prior_is_of_images(self) -> "TrainRecipe":
        if isinstance(self.objective, Denoising) and isinstance(self.network, ReconstructorSpec):
            raise ValueError(
                f"network.kind={self.network.kind!r} reconstructs, so it needs objective.kind='supervised' or "
                "'adversarial': choose one, or network.kind='unet' for a prior"
            )
        return self

    @field_validator("shares")
    @classmethod
    def _some_share_counts(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if shares and not any(shares):
            raise ValueError("all shares are 0: give one data set a chance")
        return shares

    def model_image(self, image: ImageContract) -> ImageContract:
        """The images that the model is for, of the data sets' images.

        Raises:
            UserError: if the band is not less than these.
        """
        return in_band(image, self.band) if self.band else image

    def for_digest(self) -> dict[str, Json]:
        """As ``Spec.for_digest``, but the options of a denoiser stay where they lay before there were other objectives.

        Trainings that were begun then have that address, and go on.
        """
        chosen: dict[str, Any] = super().for_digest()
        if isinstance(self.objective, Denoising) and "objective" in chosen:
            own = chosen.pop("objective")
            if "preconditioning" in own:
                chosen["preconditioning"] = own["preconditioning"]
            if "levels" in own:
                chosen["training"] = {**chosen.get("training", {}), "levels": own["levels"]}
            if "crop" in own:
                chosen["objective"] = {"crop": own["crop"]}
        return chosen

    def address(self, initial_sha256: str = "", coarse_sha256: str = "") -> str:
        """The digest of what decides the weights, and of nothing else.

        Args:
            initial_sha256: of the weights of ``initial``; a name says nothing: it is published again and again.
            coarse_sha256: of those of ``coarse``.
        """
        coarse: list[str | float] = [coarse_sha256, self.coarse_share] if coarse_sha256 else []
        return digest_of(self._without_texts().digest(), initial_sha256, *coarse)

    def trunk(self, initial_sha256: str = "") -> str:
        """The address without the length of the training and of its cooldown.

        Trainings that differ in these alone are the same until the first of them cools down: so far they share a
        checkpoint, from which the longer one goes on.
        """
        training = self.training.model_copy(update={"n_images": 1, "cooldown_images": 0})
        return self.model_copy(update={"training": training}).address(initial_sha256)

    def _without_texts(self) -> "TrainRecipe":
        texts = {"name": "prior", "training_data": (), "licence": ""}
        return self.model_copy(update={**texts, "initial": "", "coarse": "", "coarse_share": 0.5, "validate_every": 1})


class Reconstruction(Spec):
    """One method with its options, applied to every slice."""

    method: AnyMethod = Field(DDS(), title="Method")
    prior: str = Field(
        "",
        description="Shipped (ct-128, mri-128), as priors/0a1b2c3d4e5f, or 'trained' in a study, or trained/NAME in a "
        "pipeline; empty: none. Of a method that needs a reconstructor: that.",
    )
    n_samples: int = Field(1, ge=1, le=256, description="Posterior samples per slice; mean and deviation are kept.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the sampler's noise.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Of the network; all else is float32.")
    calibration: str = Field(
        "",
        description="Shipped (ct-128, mri-128), or as calibrations/0a1b2c3d4e5f, of the same method, model and "
        "measurement: half widths of 90 % intervals then lie beside the images.",
    )
    is_cross_validated: bool = Field(
        False,
        description="Make each image again without some of the views, and let these tell how far it is off: scores "
        "then have a PSNR by views left out, also where nobody knows the truth. Of CT; twice the calls.",
    )

    @model_validator(mode="after")
    def _prior_where_needed(self) -> "Reconstruction":
        if self.method.needs != "nothing" and not self.prior:
            known = "a shipped one, or priors/<digest>" if self.method.needs == "prior" else "priors/<digest>"
            raise ValueError(f"method {self.method.kind!r} needs a {self.method.needs}: name {known}")
        if not self.method.is_stochastic and self.n_samples > 1:
            raise ValueError(f"method {self.method.kind!r} gives the same image every time: n_samples must be 1")
        if self.method.needs == "reconstructor" and self.is_cross_validated:
            raise ValueError(
                f"method {self.method.kind!r} was trained for all views, and says nothing of itself with fewer: set "
                "is_cross_validated=false"
            )
        return self


class ReconstructRecipe(Spec):
    """Images from measurements."""

    measurements: str = Field(description="Reference of the measurements, as measurements/0a1b2c3d4e5f.")
    reconstruction: Reconstruction = Field(title="Reconstruction")


class TuneRecipe(Spec):
    """A search for the best few numbers of a method, on slices whose truth is known."""

    measurements: str = Field(
        description="Reference of the measurements to tune on, as measurements/0a1b2c3d4e5f: of other people than "
        "those whose results are reported."
    )
    reconstruction: Reconstruction = Field(title="Reconstruction", description="The first trial; the rest vary it.")
    search: tuple[SearchRange, ...] = Field(
        (), title="Search", description="What to tune, between which values; empty: the ranges chosen for the method."
    )
    n_trials: int = Field(40, ge=1, le=10_000, description="Of which the first is the method as given.")
    n_slices: int = Field(
        16, ge=1, description="At most so many slices to measure on, spread evenly; the same in every trial."
    )
    subjects: tuple[str, ...] = Field(
        (), description="Take the slices of these subjects only, named as their source does; empty: of all."
    )
    metric: Literal["psnr", "ssim", "psnr_circle", "ssim_circle"] = Field(
        "psnr", description="Whose mean over the slices is made as large as can be; circle: as the paper takes it."
    )
    seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Of the search; the sampler's noise has its own, the same in every trial."
    )

    @model_validator(mode="after")
    def _ranges_fit_the_method(self) -> "TuneRecipe":
        check_search(self.reconstruction.method, self.space())
        return self

    def space(self) -> Search:
        """The ranges that are searched."""
        return self.search or default_search(self.reconstruction.method)

    def address(self) -> str:
        """The digest without the number of trials, so that more of them continue fewer; with the ranges in full."""
        return self.model_copy(update={"n_trials": 1, "search": self.space()}).digest()


class CalibrateRecipe(Spec):
    """How wide intervals must be, from reconstructions of people whose truth is known."""

    reconstructions: str = Field(
        description="Reference, as reconstructions/0a1b2c3d4e5f: of other people than those whose results are reported."
    )


class EvaluateRecipe(Spec):
    """Metrics of reconstructions against the images that were measured."""

    reconstructions: tuple[str, ...] = Field(
        min_length=1, description="References, as reconstructions/0a1b2c3d4e5f; of one data set."
    )


class ReportRecipe(Spec):
    """One page with pictures and a table per study."""

    title: str = Field("Reconstructions", min_length=1, description="Heading of the report.")
    scores: tuple[str, ...] = Field(
        min_length=1, description="References of evaluations, as scores/0a1b2c3d4e5f; one per study."
    )
    names: tuple[str, ...] = Field((), description="Of the studies, to stand in their headings; empty: none.")
    n_pictures: int = Field(3, ge=1, le=50, description="Slices shown per study, spread evenly over the data set.")
    missing: tuple[str, ...] = Field(
        (), description="What failed and is not in the scores, said at the top of the page."
    )

    @model_validator(mode="after")
    def _a_name_for_each(self) -> "ReportRecipe":
        if self.names and len(self.names) != len(self.scores):
            raise ValueError(f"names holds {len(self.names)} for {len(self.scores)} scores: give one for each, or none")
        return self


OWN = "trained"
"""How a study names the model of its own training."""

TRAINED = "trained/"
"""How the names begin of models that are trained for all studies."""


class Training(Spec):
    """A prior that is trained before it is used, on images of its own."""

    ingest: tuple[IngestRecipe, ...] = Field(
        min_length=1, description="One per collection; the data sets of ``train``."
    )
    train: TrainRecipe = Field(title="Train", description="Its datasets are replaced by those ingested here.")

    @model_validator(mode="after")
    def _a_share_for_each(self) -> "Training":
        if self.train.shares and len(self.train.shares) != len(self.ingest):
            raise ValueError(
                f"train.shares holds {len(self.train.shares)} for {len(self.ingest)} of ingest: give each one"
            )
        return self


class Study(Spec):
    """One data set, one measurement, several methods side by side."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Lower-case letters, digits and hyphens.")
    ingest: IngestRecipe | None = Field(None, title="Ingest", description="Makes the data set.")
    dataset: str = Field("", description="In place of ingest: a data set that is there, as datasets/0a1b2c3d4e5f.")
    simulation: Simulation = Field(title="Simulation")
    reconstructions: tuple[Reconstruction, ...] = Field(min_length=1, description="Methods to compare.")
    training: Training | None = Field(None, title="Training", description="Makes the prior called 'trained'.")

    @model_validator(mode="after")
    def _images_come_from_one_place(self) -> "Study":
        if (self.ingest is None) == (not self.dataset):
            raise ValueError(f"study {self.name!r} needs either ingest or dataset, one of the two")
        if self.ingest and self.simulation.uses_fine_images and self.ingest.fine_factor == 1:
            raise ValueError(f"study {self.name!r}: simulation.uses_fine_images needs ingest.fine_factor=2 or 4")
        return self

    @model_validator(mode="after")
    def _trained_prior_is_made(self) -> "Study":
        if self.training is None and any(choice.prior == OWN for choice in self.reconstructions):
            raise ValueError(f"study {self.name!r} uses the prior 'trained' but has no training: add one")
        return self


class PipelineRecipe(Spec):
    """Ingest, measure, reconstruct, evaluate and report, for one or more studies."""

    title: str = Field("Reconstructions", min_length=1, description="Heading of the report.")
    trainings: tuple[Training, ...] = Field(
        (), description="Models that are trained first; every study may name one as trained/NAME, by its train.name."
    )
    studies: tuple[Study, ...] = Field(
        min_length=1, description="Each with its own data set, measurement and methods; one section of the report."
    )
    n_pictures: int = Field(3, ge=1, le=50, description="Slices shown per study, spread evenly over the data set.")

    @field_validator("studies")
    @classmethod
    def _names_differ(cls, studies: tuple[Study, ...]) -> tuple[Study, ...]:
        names = [study.name for study in studies]
        if len(set(names)) < len(names):
            raise ValueError(f"studies need different names, got {names}")
        return studies

    @field_validator("trainings")
    @classmethod
    def _models_differ(cls, trainings: tuple[Training, ...]) -> tuple[Training, ...]:
        names = [training.train.name for training in trainings]
        if len(set(names)) < len(names):
            raise ValueError(f"trainings need different names, got {names}")
        return trainings

    def training_of(self, study: Study, prior: str) -> Training | None:
        """What trains the model that a study names so; None if it is there already."""
        if prior == OWN:
            return study.training
        return next((one for one in self.trainings if trained_name(one) == prior), None)


def trained_name(training: Training) -> str:
    """How a pipeline's studies name the model that a training makes for all of them."""
    return f"{TRAINED}{training.train.name}"


def with_model(choice: Reconstruction, models: Mapping[str, str]) -> Reconstruction:
    """The choice with the reference of a trained model in place of the name that it goes by in a pipeline."""
    return choice.model_copy(update={"prior": models.get(choice.prior, choice.prior)})


def report_of(recipe: PipelineRecipe, scores: Mapping[str, str], missing: Sequence[str] = ()) -> ReportRecipe:
    """The report at the end of a pipeline, from the scores of its studies by their names."""
    return ReportRecipe(
        title=recipe.title,
        scores=tuple(scores.values()),
        names=tuple(scores) if len(scores) > 1 else (),
        n_pictures=recipe.n_pictures,
        missing=tuple(missing),
    )


class PlanRequest(Spec):
    """What a plan is asked for: images, what is measured of them, and how much time it may take."""

    source: AnySource | None = Field(None, title="Source", description="Images that are not ingested yet.")
    dataset: str = Field("", description="In place of source: a data set that is there, as datasets/0a1b2c3d4e5f.")
    measurement: AnyMeasurement = Field(title="Measurement", description="What is measured of the images.")
    preset: PresetName = Field(
        "balanced",
        description="One image of little, more or most time, or eight samples, whose spread is about right.",
    )
    prior: str = Field("", description="Use this one (ct-128, priors/0a1b2c3d4e5f); empty: the one that fits best.")
    max_volumes: int = Field(16, ge=1, description="Of a source, to read for the plan: every slice is decoded.")

    @model_validator(mode="after")
    def _images_come_from_one_place(self) -> "PlanRequest":
        if (self.source is None) == (not self.dataset):
            raise ValueError("a plan needs either source or dataset, one of the two: the images it is for")
        return self


class PlanRecipe(PlanRequest):
    """A plan that the command writes to a file of its user's choice; a form may not choose files of the machine."""

    output: str = Field("plan.yaml", min_length=1, description="The recipe that is written.")
    overwrite: bool = Field(False, description="Replace the output if it is there.")
