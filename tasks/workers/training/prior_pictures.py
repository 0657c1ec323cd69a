"""Pictures of a prior: how its training went, and what it draws when nothing is measured.

python -m tasks.workers.training.prior_pictures FOLDER      makes them for a training that is still running, too
"""

import io
import sys
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.denoiser import ScoreModel
from scoreinv.metrics.image import magnitude
from scoreinv.noise import Noise
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.heun import prior_samples
from storage.uri import join, write_bytes
from tasks.workers.priors import load_prior
from tasks.workers.training.curve import CurveRow, error_names, read_curve

N_SAMPLES = 8
N_LEVELS = 40
"""With 79 network calls the variance of a Gaussian prior comes out within 4 %."""


def write_curve_picture(uri: str) -> None:
    """Put curve.png beside the model that is trained in a folder."""
    write_bytes(join(uri, "prior", "curve.png"), _png(curve_figure(read_curve(uri))))


@torch.no_grad()
def write_pictures(uri: str, model: ScoreModel, image: ImageContract, grid: SigmaGrid) -> None:
    """Put samples.png and curve.png beside the prior that is trained in a folder."""
    device = next(model.parameters()).device
    noise = Noise(0, [f"sample-{i}" for i in range(N_SAMPLES)], purpose="picture")
    samples = prior_samples(model, grid, (image.n_channels, image.size, image.size), noise, device=device)
    write_bytes(join(uri, "prior", "samples.png"), _png(samples_figure(samples)))
    write_curve_picture(uri)


def sampling_grid(sigma_min: float, sigma_max: float) -> SigmaGrid:
    """The noise levels that the samples of a prior go through."""
    return SigmaGrid(n_levels=N_LEVELS, sigma_min=sigma_min, sigma_max=sigma_max)


def samples_figure(samples: Tensor) -> Figure:
    """The samples in two rows, black at 0 and white at 1; of complex images the magnitude."""
    figure = Figure(figsize=(10, 5.1), layout="constrained")
    for axis, image in zip(
        figure.subplots(2, -(-len(samples) // 2)).flat, magnitude(samples)[:, 0].cpu(), strict=False
    ):
        axis.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
    for axis in figure.axes:
        axis.set_axis_off()
    return figure


def curve_figure(rows: Sequence[CurveRow]) -> Figure:
    """The training loss, and the error on held-out images at each noise level, over the images seen."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    loss, validation = figure.subplots(1, 2)
    learned = [row for row in rows if row.loss is not None]
    loss.plot([row.images_seen for row in learned], [row.loss for row in learned], marker=".")
    loss.set(xlabel="images seen", ylabel="training loss", yscale="log")
    _plot_validation(validation, [row for row in rows if row.validation_rmse])
    for axis in (loss, validation):
        axis.locator_params(axis="x", nbins=6)
    return figure


def _plot_validation(axis: Axes, rows: Sequence[CurveRow]) -> None:
    axis.set(xlabel="images seen", ylabel="RMSE on held-out images", yscale="log")
    if not rows:
        axis.text(0.5, 0.5, "no subject is held out", transform=axis.transAxes, ha="center")
        return
    for index, name in reversed(list(enumerate(error_names(rows[-1])))):
        seen, errors = [row.images_seen for row in rows], [row.validation_rmse[index] for row in rows]
        # Late in a training the lines look level: the label says how far they still fell.
        axis.plot(seen, errors, marker=".", label=f"{name}  ({100 * (errors[-1] / errors[0] - 1):+.1f} %)")
    axis.legend(
        title="noise level (change)" if rows[-1].sigmas else "(change)", loc="center left", bbox_to_anchor=(1, 0.5)
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def main(uri: str) -> None:
    """Make the pictures of the prior that was last published in a folder."""
    model, contract = load_prior(join(uri, "prior"), "auto", "float32")
    write_pictures(uri, model, contract.image, sampling_grid(contract.sigma_min, contract.sigma_max))
    print(f"wrote samples.png and curve.png into {join(uri, 'prior')}")


if __name__ == "__main__":
    main(sys.argv[1])
