"""The card of a prior: what a person should know before using it."""

from collections.abc import Sequence

from scoreinv.contract import PriorContract
from scoreinv.modality import MODALITIES
from tasks.workers.curve import CurveRow


def prior_card(
    contract: PriorContract, rows: Sequence[CurveRow], n_images: int, *, initial: str = "", images_before: int = 0
) -> str:
    """A page of Markdown about a prior that was trained on ``n_images`` different images.

    ``initial`` is the prior whose weights it went on from, after ``images_before`` images.
    """
    image = contract.image
    hours = sum(row.seconds for row in rows) / 3600
    return "\n".join(
        [
            f"# {contract.name}\n",
            f"A score-based prior of {image.modality.upper()} slices: a network that estimates the clean image from a",
            f"noisy one at any noise level from {contract.sigma_min:g} to {contract.sigma_max:g}.\n",
            "## Images it is for\n",
            f"- {image.size} x {image.size} pixels of {image.pixel_mm:g} mm",
            f"- 0 is {image.low:g} and 1 is {image.high:g} {MODALITIES[image.modality].in_words}",
            "\n## Training\n",
            f"- {contract.images_seen} images seen, drawn from {n_images} different ones and varied",
            *([f"- of them {images_before} as {initial}, from whose weights this training went on"] if initial else []),
            f"- {hours:.1f} hours; network {contract.network.get('kind')}, preconditioning "
            f"{contract.preconditioning.get('kind')}; their options are in contract.json",
            "\n## Training data\n",
            *([f"- {name}" for name in contract.training_data] or ["Unstated."]),
            f"\n## Licence of the weights\n\n{contract.licence}\n",
            *_validation([row for row in rows if row.validation_rmse]),
            *_limits(contract, n_images),
        ]
    )


def _validation(rows: Sequence[CurveRow]) -> list[str]:
    if not rows:
        return ["## Validation\n\nNo subject was held out, so that its error on new people is unknown.\n"]
    first, last = rows[0], rows[-1]
    table = zip(last.sigmas, first.validation_rmse, last.validation_rmse, strict=True)
    return [
        "## Validation\n\nRoot mean squared error of denoised images of people it was not trained on.\n",
        f"| noise level | after {first.images_seen} images | after {last.images_seen} images |",
        "|---|---|---|",
        *(f"| {sigma:.3g} | {before:.4f} | {after:.4f} |" for sigma, before, after in table),
        "",
    ]


def _limits(contract: PriorContract, n_images: int) -> list[str]:
    return [
        "## Limits\n",
        "- For research. Not for diagnosis, and not tested for any clinical use.",
        f"- It knows what {n_images} training images show: people, scanners, body parts and diseases that are rare or",
        "  missing there are reconstructed less well, and details may be invented or left out.",
        f"- Only for {contract.image.modality.upper()} on the grid and the scale above; others are refused.",
        "",
    ]
