"""Reconstructors: networks that are trained for one measurement, one file each."""

from typing import Annotated

from pydantic import Field, TypeAdapter

from scoreinv.contract import ImageContract, ReconstructorContract
from scoreinv.nets import NCSNpp, UNet
from scoreinv.reconstructors.cascade_densenet import CascadeDenseNet
from scoreinv.reconstructors.dudornet import DuDoRNet
from scoreinv.reconstructors.neumann import Neumann
from scoreinv.reconstructors.reconstructor import Reconstructor, ReconstructorSpec
from scoreinv.reconstructors.refined import Refined
from scoreinv.reconstructors.sin_prn import SinPrn
from scoreinv.reconstructors.sinogram_gan import SinogramGAN
from scoreinv.reconstructors.unrolled import Unrolled

AnyModel = Annotated[
    UNet | NCSNpp | Unrolled | CascadeDenseNet | DuDoRNet | Neumann | SinogramGAN | SinPrn,
    Field(discriminator="kind"),
]
"""What a training may be of: a network of images, or a reconstructor."""

__all__ = [
    "AnyModel",
    "CascadeDenseNet",
    "DuDoRNet",
    "Neumann",
    "Reconstructor",
    "ReconstructorSpec",
    "Refined",
    "SinPrn",
    "SinogramGAN",
    "Unrolled",
    "label_of",
    "reconstructor_of",
]


def reconstructor_of(network: AnyModel, image: ImageContract) -> Reconstructor:
    """A new reconstructor of such images: the one that is named, or the direct reconstruction, refined by the network.

    Raises:
        UserError: if it is for data of another modality.
    """
    if isinstance(network, ReconstructorSpec):
        return network.build(image)
    return Refined(network.build(image.n_channels, image.n_channels))


def label_of(contract: ReconstructorContract) -> str:
    """What people call a reconstructor."""
    network = TypeAdapter[AnyModel](AnyModel).validate_python(contract.network)
    return network.label if isinstance(network, ReconstructorSpec) else Refined.label
