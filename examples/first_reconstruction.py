"""An image of yours in, a picture out: the truth, the naive reconstruction, and the one with a score-based prior.

    python examples/first_reconstruction.py chest.dcm
    python examples/first_reconstruction.py head.nii.gz --prior mri-128 --acceleration 8 --slice 20
    python examples/first_reconstruction.py photo.png --pixel-mm 0.7
    python examples/first_reconstruction.py hounsfield.npy --pixel-mm 0.9 --views 60 --output mine.png

The measurement is simulated from the image on the prior's grid, without noise: a first look, no benchmark. Values:
DICOM and NIfTI as their files say (HU for CT, parts of the volume's percentile for MRI); .npy holds HU for CT or
magnitudes for MRI, (rows, columns); pictures are grey values from black (0) to white (1).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import MeasurementSpec
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.priors import load_prior, prior_names
from scoreinv.problem import InverseProblem, reconstruct
from storage.resample import prepare
from storage.sources import DicomSource, NiftiSource, Source
from storage.sources.source import mri_offset_and_scale
from tasks.planning.presets import PRESETS


def main() -> None:
    """Read, measure, reconstruct, draw; a mistake is one message."""
    options = arguments()
    try:
        run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(options.output)


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description="An image in, a picture of its reconstruction out.")
    parser.add_argument("image", type=Path, help="a slice: .dcm, .nii, .nii.gz, .npy, or a picture as .png")
    parser.add_argument("--prior", choices=prior_names(), default="ct-128", help="default: ct-128")
    parser.add_argument("--views", type=int, default=23, help="CT: directions measured over 180 degrees (default: 23)")
    parser.add_argument("--acceleration", type=int, default=8, help="MRI: how many times faster (default: 8)")
    parser.add_argument("--slice", type=int, help="of a volume, from 0 (default: the middle one)")
    parser.add_argument("--pixel-mm", type=float, help=".npy and pictures: side of a pixel (default: fills the grid)")
    parser.add_argument("--output", type=Path, default=Path("reconstruction.png"), help="default: reconstruction.png")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """The picture that was asked for."""
    prior, contract = load_prior(options.prior)
    grid = contract.image
    image = torch.from_numpy(read_image(options, grid))[None, None]
    is_ct = grid.modality == "ct"
    measurement: MeasurementSpec = (
        SparseViewCT(n_views=options.views) if is_ct else CartesianMRI(acceleration=options.acceleration)
    )
    operator = measurement.operator(grid.size)
    problem = InverseProblem(operator, operator.forward(image))
    method = PRESETS[grid.modality]["balanced"].method
    with torch.no_grad():
        step = reconstruct(method, problem, prior, noise=Noise(0, ["my slice"]))
    pictures = {"truth": image, measurement.direct_name: operator.direct(problem.y)}
    draw({**pictures, f"{method.label}, {step.nfe} network calls": step.x}, measurement.title(), options.output)


def read_image(options: argparse.Namespace, grid: ImageContract) -> np.ndarray:
    """The slice on the prior's grid, (size, size), values in [0, 1]."""
    path: Path = options.image
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if path.suffix == ".npy":
        values = physical(np.load(path), grid)
    elif path.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"):
        values = grid.low + (grid.high - grid.low) * grey_values(path)
    else:
        values, spacing = read_slice(path, options.slice, grid)
        return prepare(values, spacing, grid)[0]
    side = options.pixel_mm or grid.size * grid.pixel_mm / max(values.shape)
    return prepare(values, (side, side), grid)[0]


def read_slice(path: Path, number: int | None, grid: ImageContract) -> tuple[np.ndarray, tuple[float, float]]:
    """A slice of a medical file in physical values, and its pixel spacing."""
    is_nifti = path.name.endswith((".nii", ".nii.gz"))
    kind: type[Source] = NiftiSource if is_nifti else DicomSource
    source = kind.model_validate({"path": str(path), "modality": grid.modality})
    records = source.listing().slices
    place = len(records) // 2 if number is None else number
    if not 0 <= place < len(records):
        raise UserError(f"{path} has slices 0 to {len(records) - 1}, --slice {place} was asked for")
    return next(source.load([records[place]])), records[place].spacing_mm


def physical(values: np.ndarray, grid: ImageContract) -> np.ndarray:
    """HU as they are; magnitudes as parts of a high percentile of the foreground, as the sources do it."""
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise UserError(f"an array of real numbers (rows, columns) was wanted, got {values.dtype} {values.shape}")
    values = values.astype(np.float32)
    if grid.modality == "ct":
        return values
    offset, scale = mri_offset_and_scale(values, 99.5)
    return (values - offset) / scale


def grey_values(path: Path) -> np.ndarray:
    """A picture as grey values in [0, 1]; 16 bits stay 16 bits."""
    with Image.open(path) as picture:
        is_deep = picture.mode.startswith("I")
        values = np.asarray(picture if is_deep else picture.convert("L"), np.float32)
    return values / (65535 if is_deep else 255)


def draw(images: dict[str, Tensor], title: str, path: Path) -> None:
    """The images side by side, with their PSNR against the first."""
    truth = next(iter(images.values()))
    figure = Figure(figsize=(4 * len(images), 5), layout="constrained")
    for axis, (name, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        seen = image.clamp(0, 1)
        decibels = "" if image is truth else f"\n{psnr(seen, truth, data_range=1.0).item():.1f} dB"
        axis.imshow(seen[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(name + decibels)
        axis.set_axis_off()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
