"""What an image value means: the contract between data sets, operators and trained models.

CT values are a fixed linear map of Hounsfield units, MRI values are scaled by a high percentile of
the volume. No per-image normalisation exists anywhere, so a measurement keeps its physical scale.

A trained model is a prior, which knows images alone, or a reconstructor, which was trained for one measurement.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from scoreinv.errors import UserError
from scoreinv.modality import MODALITIES
from scoreinv.modality import Modality as Modality
from scoreinv.spec import Json, Spec

MAX_PIXEL_RATIO = 1.1
"""Pixels that are this much larger or smaller than those that a model was trained for are still served."""

WATER_PER_MM = 0.0192
"""Linear attenuation of water at 70 keV in 1/mm (NIST XCOM: 0.1929 cm^2/g)."""


class ImageContract(Spec):
    """The grid and the values of square images.

    A value of 0 is ``low`` and a value of 1 is ``high``: in Hounsfield units for CT, in units of the
    volume's normalising percentile for MRI.
    """

    modality: Modality = Field(description="ct: Hounsfield units; mri: magnitude images.")
    size: int = Field(ge=8, le=4096, description="Pixels along each side.")
    pixel_mm: float = Field(gt=0, le=100, title="Pixel size", description="Side of a pixel in millimetres.")
    low: float = Field(description="What a value of 0 means (HU for CT, 0 for MRI).")
    high: float = Field(description="What a value of 1 means (HU for CT, 1 percentile unit for MRI).")
    n_channels: int = Field(1, ge=1, le=16, title="Channels", description="1: real images; 2: real and imaginary part.")

    @model_validator(mode="after")
    def _values_span_a_range(self) -> "ImageContract":
        if self.low >= self.high:
            raise ValueError(f"low={self.low} must be below high={self.high}: they are the values of black and white")
        return self

    def stored_shape(self, *, factor: int = 1) -> tuple[int, ...]:
        """Of one image as stores hold it, on a grid finer by ``factor``: (size, size), or (n_channels, size, size)."""
        side = self.size * factor
        return (side, side) if self.n_channels == 1 else (self.n_channels, side, side)

    def attenuation_per_pixel(self) -> float:
        """Line integral of attenuation through one pixel of value 1, after air (0) is subtracted.

        Raises:
            ValueError: if this is not a CT contract whose value 0 is air.
        """
        traits = MODALITIES[self.modality]
        if not traits.attenuates or self.low > traits.background:
            raise UserError(f"attenuation needs CT values that are 0 in air, got {self.modality} with low={self.low}")
        return WATER_PER_MM * self.pixel_mm * (self.high - self.low) / 1000


def in_band(image: ImageContract, band: int) -> ImageContract:
    """The contract of the low frequencies of images: ``band`` pixels a side over the same field of view.

    Raises:
        UserError: if the images have no more pixels than the band.
    """
    if band >= image.size:
        raise UserError(f"band={band} must be less than the {image.size} pixels of the images: lower it")
    return image.model_copy(update={"size": band, "pixel_mm": image.pixel_mm * image.size / band})


class ModelContract(Spec):
    """What any trained model expects and where it comes from; published beside its weights."""

    kind: Literal["prior", "reconstructor"]
    name: str
    image: ImageContract
    network: dict[str, Json] = Field(description="The network's spec.")
    training_data: list[str] = Field(description="Names of the data sets the model has seen, with their licences.")
    licence: str
    images_seen: int = Field(ge=0)
    sha256: str = Field(description="Of the weights file.")
    versions: dict[str, str] = Field(default_factory=dict)
    slices: tuple[str, ...] = Field(
        (),
        description="Checksums of slices it was trained on, by which reports know them; not all need be there.",
    )

    def require_weights(self, weights: bytes, where: str) -> None:
        """Refuse weights that are not those of this contract; ``where`` says in the message which model it is.

        Raises:
            UserError: with both checksums.
        """
        found = hashlib.sha256(weights).hexdigest()
        if found != self.sha256:
            raise UserError(
                f"{self.kind} {where} is damaged (its weights have sha256 {found}, the contract says "
                f"{self.sha256}): fetch it again"
            )

    def seen(self, checksums: Sequence[str]) -> list[int]:
        """The places, among slices of these checksums, of those that it was trained on."""
        known = frozenset(filter(None, self.slices))
        return [place for place, checksum in enumerate(checksums) if checksum in known]

    def served_sizes(self) -> tuple[int, int]:
        """The least and the largest side of images that it serves at its pixel size, in pixels."""
        return self.image.size, self.image.size

    def mismatch(self, image: ImageContract) -> str | None:
        """Why images under another contract cannot use this model, as one sentence; None if they can."""
        for field in ("modality", "low", "high", "n_channels"):
            ours, theirs = getattr(self.image, field), getattr(image, field)
            if ours != theirs:
                return (
                    f"{self.kind} {self.name!r} was trained for {field}={ours} but the data have {field}={theirs}: "
                    f"ingest the data with {field}={ours}, or choose another {self.kind}"
                )
        least, most = self.served_sizes()
        is_alike = 1 / MAX_PIXEL_RATIO < image.pixel_mm / self.image.pixel_mm < MAX_PIXEL_RATIO
        if least <= image.size <= most and is_alike:
            return None
        sizes, pixel_mm = str(least) if least == most else f"{least} to {most}", f"{self.image.pixel_mm:g}"
        return (
            f"{self.kind} {self.name!r} is for images with a side of {sizes} pixels of {pixel_mm} mm but the data have "
            f"{image.size} of {image.pixel_mm:g} mm: ingest the data with size={sizes} and pixel_mm={pixel_mm}, or "
            f"choose another {self.kind}"
        )


class CoarsePart(Spec):
    """The model within a prior to which it leaves the low frequencies of its images, or a share of them."""

    size: int = Field(ge=8, description="Pixels a side of the coarse grid, over the field of view of the images.")
    network: dict[str, Json]
    preconditioning: dict[str, Json]
    sigma_min: float = Field(gt=0, description="On the coarse grid.")
    images_seen: int = Field(ge=0)
    share: float = Field(
        ge=0, le=1, description="Of the low frequencies that are this part's; the rest is the prior's own."
    )


class PriorContract(ModelContract):
    """That of a prior: a denoiser, which serves every measurement of its images."""

    kind: Literal["prior"] = "prior"
    preconditioning: dict[str, Json] = Field(description="The preconditioning's spec.")
    sigma_min: float = Field(gt=0)
    sigma_max: float = Field(gt=0)
    sizes: tuple[int, int] | None = Field(
        None, description="The least and the largest side that it serves at its pixel size; none: its own alone."
    )
    coarse: CoarsePart | None = Field(
        None, description="What makes a share of the low frequencies, if there is such a part."
    )

    @model_validator(mode="after")
    def _levels_are_ordered(self) -> "PriorContract":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} must be below sigma_max={self.sigma_max}")
        return self

    @model_validator(mode="after")
    def _its_own_size_is_served(self) -> "PriorContract":
        least, most = self.served_sizes()
        if not least <= self.image.size <= most:
            raise ValueError(f"sizes={least} to {most} must hold the prior's own size={self.image.size}")
        return self

    def served_sizes(self) -> tuple[int, int]:
        """As ``ModelContract.served_sizes``."""
        return self.sizes or super().served_sizes()


class ReconstructorContract(ModelContract):
    """That of a reconstructor: it was trained for one measurement, and is told apart from others of its kind."""

    kind: Literal["reconstructor"] = "reconstructor"
    measurement: dict[str, Json] = Field(description="The measurement's spec.")

    def is_of_kind(self, measurement: Spec) -> bool:
        """Whether it reads data of this measurement at all; with other options it may still do badly."""
        return bool(self.measurement["kind"] == measurement.model_dump(mode="json")["kind"])

    def other_measurement(self, measurement: Spec) -> str | None:
        """In what this measurement is another than the one that it was trained for, as a clause; None if in nothing."""
        theirs = measurement.model_dump(mode="json")
        name, ours = "kind", self.measurement
        if self.is_of_kind(measurement):
            # Read as a spec of today: options that came later are at their default.
            ours = type(measurement).model_validate(ours).model_dump(mode="json")
            name = next((option for option in theirs if ours[option] != theirs[option]), "")
        if not name:
            return None
        return (
            f"reconstructor {self.name!r} was trained for {name}={ours[name]} but the data were measured with "
            f"{name}={theirs[name]}"
        )


Contract = Annotated[PriorContract | ReconstructorContract, Field(discriminator="kind")]


def parse_contract(content: bytes) -> PriorContract | ReconstructorContract:
    """The contract in a JSON file; one from before there were reconstructors is a prior's.

    Raises:
        ValueError: if it is no contract.
    """
    given: Any = json.loads(content)
    if isinstance(given, dict):
        given = {"kind": "prior", **given}
    return TypeAdapter[PriorContract | ReconstructorContract](Contract).validate_python(given)
