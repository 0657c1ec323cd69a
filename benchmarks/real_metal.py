"""Metal that was in the scanner: pictures of every method beside the scanner's image; nobody has the truth.

    python -m benchmarks.real_metal "{kind: nifti, path: FOLDER, modality: ct}" "{kind: openkbp, path: FOLDER}"

Of each source the slice with most metal, on the grid of the prior. Its data are the line integrals of the scanner's own
image, values of metal included, as no rays were kept: metal is found in them, and what it hides is taken away. Streaks
that the image has elsewhere are thereby in the data, as far as they are not of the rays that metal hides. Draws
docs/real-metal.png, with metal as it was found in orange.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor

from benchmarks.metal import around, coloured, in_hu
from scoreinv.baselines import NMAR, LinearInterpolation
from scoreinv.contract import ImageContract
from scoreinv.denoiser import Denoiser
from scoreinv.measurement import Noiseless
from scoreinv.noise import Noise
from scoreinv.operators.ct import CTOperator
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.problem import InverseProblem, reconstruct
from storage.resample import resample
from storage.sources import AnySource, Source
from tasks.planning.presets import BASELINES, PRESETS
from tasks.workers.priors import load_prior

METAL_HU = 2500.0
METHODS = {
    "LI": LinearInterpolation(),
    "NMAR": NMAR(),
    "TV": BASELINES["ct"].method,
    "score-based": PRESETS["ct"]["balanced"].method,
}


def main() -> None:
    """Reconstruct the slices and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help="as YAML")
    parser.add_argument("--prior", default="ct-128")
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--threshold", type=float, default=1200.0, help="HU of metal (default: %(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("docs/real-metal.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    denoiser, contract = load_prior(options.prior, "cpu", "float32")
    spec = MetalCT(n_views=options.views, threshold_hu=options.threshold, noise=Noiseless())
    sources = [TypeAdapter[Source](AnySource).validate_python(yaml.safe_load(text)) for text in options.sources]
    rows = [row_of(slice_of(source, contract.image), spec, contract.image, denoiser) for source in sources]
    draw(rows, options.picture)


def slice_of(source: Source, image: ImageContract) -> Tensor:
    """The slice with most metal (1, 1, size, size), its high values as they are."""
    records = source.listing().slices
    slices = zip(records, source.load(records), strict=True)
    record, values = max(slices, key=lambda one: int((one[1] > METAL_HU).sum()))
    print(record.slice_id, f"{values.max():.0f} HU", flush=True)
    relative = np.clip((values.astype(np.float64) - image.low) / (image.high - image.low), 0, None)
    found = resample(relative, record.spacing_mm, size=image.size, pixel_mm=image.pixel_mm)
    return torch.from_numpy(found).float()[None, None]


@torch.no_grad()
def row_of(x: Tensor, spec: MetalCT, image: ImageContract, denoiser: Denoiser) -> dict[str, Tensor]:
    """Pictures (height, width, 3) of the scanner's image and of every method's."""
    whole = CTOperator(spec.geometry(image.size))
    measured = spec.split(whole.forward(x), torch.zeros(1), image)
    hidden = 100 * float((measured.context["seen"] == 0).double().mean())
    print(f"metal hides {hidden:.1f} % of the rays", flush=True)
    problem, metal = InverseProblem.of(spec, measured, image), measured.context["metal"][0, 0]
    images = {"scanner": x, **{name: _image(one, problem, denoiser) for name, one in METHODS.items()}}
    return {name: coloured(in_hu(one[0, 0], image), metal)[around(metal)] for name, one in images.items()}


def _image(method: object, problem: InverseProblem, denoiser: Denoiser) -> Tensor:
    return reconstruct(method, problem, denoiser, noise=Noise(0, ["real"])).x  # type: ignore[arg-type]


def draw(rows: list[dict[str, Tensor]], picture: Path) -> None:
    """A row for each slice, a column for each image."""
    n = len(rows[0])
    figure, axes = plt.subplots(len(rows), n, figsize=(2.4 * n, 2.6 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis, (title, one) in zip(line, row.items(), strict=True):
            axis.imshow(one)
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
