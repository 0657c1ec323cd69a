"""The card of a trained model: what a person should know before using it."""

from collections.abc import Sequence

from scoreinv.contract import Contract, PriorContract
from scoreinv.modality import MODALITIES
from tasks.workers.training.curve import CurveRow, error_names, is_start_best


def prior_card(
    contract: Contract, rows: Sequence[CurveRow], n_images: int, *, initial: str = "", images_before: int = 0
) -> str:
    """A page of Markdown about a model that was trained on ``n_images`` different images.

    ``initial`` is the model whose weights it went on from, after ``images_before`` images.
    """
    image, total = contract.image, max([contract.images_seen, *(row.images_seen for row in rows)])
    told = [row for row in rows if row.images_seen <= contract.images_seen]
    hours = sum(row.seconds for row in rows) / 3600
    return "\n".join(
        [
            f"# {contract.name}\n",
            *_what_it_is(contract),
            "## Images it is for\n",
            f"- {image.size} x {image.size} pixels of {image.pixel_mm:g} mm{_other_sizes(contract)}",
            f"- 0 is {image.low:g} and 1 is {image.high:g} {MODALITIES[image.modality].in_words}",
            "\n## Training\n",
            f"- {contract.images_seen} images seen, drawn from {n_images} different ones and varied",
            *([f"- of them {images_before} as {initial}, from whose weights this training went on"] if initial else []),
            *_chosen(told, initial),
            *([f"- the best on held-out people of {total} images of training"] if total > contract.images_seen else []),
            f"- {hours:.1f} hours; {_parts(contract)}; their options are in contract.json",
            *_coarse(contract),
            "\n## Training data\n",
            *([f"- {name}" for name in contract.training_data] or ["Unstated."]),
            f"\n## Licence of the weights\n\n{contract.licence}\n",
            *_validation([row for row in told if row.validation_rmse]),
            *_limits(contract, n_images),
        ]
    )


def _what_it_is(contract: Contract) -> list[str]:
    modality = contract.image.modality.upper()
    if isinstance(contract, PriorContract):
        return [
            f"A score-based prior of {modality} slices: a network that estimates the clean image from a",
            f"noisy one at any noise level from {contract.sigma_min:g} to {contract.sigma_max:g}.\n",
        ]
    options = ", ".join(f"{name} {value}" for name, value in contract.measurement.items() if name != "kind")
    return [
        f"A reconstructor of {modality} slices: a network that makes the image of data of one measurement,",
        f"{contract.measurement['kind']} ({options}), and of no other.\n",
    ]


def _other_sizes(contract: Contract) -> str:
    least, most = contract.served_sizes()
    return "" if least == most else f", and any from {least} x {least} to {most} x {most}: it was trained on crops"


def _parts(contract: Contract) -> str:
    network = f"network {contract.network.get('kind')}"
    if isinstance(contract, PriorContract):
        return f"{network}, preconditioning {contract.preconditioning.get('kind')}"
    return network


def _coarse(contract: Contract) -> list[str]:
    part = contract.coarse if isinstance(contract, PriorContract) else None
    if part is None:
        return []
    return [
        f"- {100 * part.share:g} % of the low frequencies come from a coarse part on {part.size} x {part.size} pixels, "
        f"{part.images_seen} images seen; the errors below are without it"
    ]


def _chosen(rows: Sequence[CurveRow], initial: str) -> list[str]:
    """Which of several averages was published, or that none was worth it."""
    if is_start_best(rows):
        return [f"- it did not help on held-out people: these are the weights of {initial}, unchanged"]
    if not rows or not rows[-1].half_life:
        return []
    lengths = ", ".join(str(one) for one in rows[-1].rmse_by_half_life)
    return [
        f"- weights averaged with a half-life of {rows[-1].half_life} images, of {lengths} the best on held-out people"
    ]


def _validation(rows: Sequence[CurveRow]) -> list[str]:
    if not rows:
        return ["## Validation\n\nNo subject was held out, so that its error on new people is unknown.\n"]
    first, last = rows[0], rows[-1]
    before_it = ", before this training" if first.loss is None else ""
    table = zip(error_names(last), first.validation_rmse, last.validation_rmse, strict=True)
    what, head = ("denoised images", "noise level") if last.sigmas else ("reconstructions", "of")
    return [
        f"## Validation\n\nRoot mean squared error of {what} of people it was not trained on.\n",
        f"| {head} | after {first.images_seen} images{before_it} | after {last.images_seen} images |",
        "|---|---|---|",
        *(f"| {name} | {before:.4f} | {after:.4f} |" for name, before, after in table),
        "",
    ]


def _limits(contract: Contract, n_images: int) -> list[str]:
    measured = "" if isinstance(contract, PriorContract) else ", measured as above"
    return [
        "## Limits\n",
        "- For research. Not for diagnosis, and not tested for any clinical use.",
        f"- It knows what {n_images} training images show: people, scanners, body parts and diseases that are rare or",
        "  missing there are reconstructed less well, and details may be invented or left out.",
        f"- Only for {contract.image.modality.upper()} on the grid and the scale above{measured}; others are refused.",
        "",
    ]
