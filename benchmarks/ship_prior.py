"""Put a trained prior among those that ship: weights in half precision, contract, card and pictures.

    python -m benchmarks.ship_prior workspace/priors/DIGEST ct-256

Half precision halves what every clone and every wheel carries. It is said how far the denoised images move by it, as a
part of the denoising error: noise of several levels on the example slices of the modality, whom no prior has seen.
"""

import argparse
import hashlib
import io
from pathlib import Path

import torch
from PIL import Image

from scoreinv.contract import PriorContract
from scoreinv.denoiser import ScoreModel
from scoreinv.priors import prior_from
from scoreinv.training.checkpoint import weights_bytes
from storage.models import load
from storage.resample import prepare
from storage.sources import DicomSource, NiftiSource
from storage.uri import join, read_bytes

ROOT = Path(__file__).parents[1]
EXAMPLES = {"ct": DicomSource(path="shipped:ct"), "mri": NiftiSource(path="shipped:mri")}
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0)
N_COLORS = 64
"""Pictures of 256 gray values are three times as large and look the same."""


def main() -> None:
    """Write the files and print what half precision costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", help="folder of a training, with prior/ in it")
    parser.add_argument("name", help="how recipes will call it")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the checkout (default: this one)")
    options = parser.parse_args()
    place = join(options.trained, "prior")
    weights, contract = load(place)
    if not isinstance(contract, PriorContract):
        raise SystemExit(f"{place} is a {contract.kind}: only priors ship")
    exact = prior_from(weights, contract)
    half = weights_bytes(exact, dtype=torch.float16)
    contract = contract.model_copy(update={"name": options.name, "sha256": hashlib.sha256(half).hexdigest()})
    files = {
        "safetensors": half,
        "json": (contract.model_dump_json(indent=1) + "\n").encode(),
        "md": read_bytes(join(place, "card.md")),
    }
    for ending, content in files.items():
        (options.root / "scoreinv" / "priors" / f"{options.name}.{ending}").write_bytes(content)
    for picture in ("curve", "samples"):
        image = Image.open(io.BytesIO(read_bytes(join(place, f"{picture}.png")))).convert("P", colors=N_COLORS)
        image.save(options.root / "docs" / "priors" / f"{options.name}-{picture}.png", optimize=True)
    print(f"{options.name}: {len(half) / 1e6:.1f} MB, {contract.images_seen} images seen")
    print("\n".join(cost_of_rounding(exact, prior_from(half, contract), contract)))


@torch.no_grad()
def cost_of_rounding(exact: ScoreModel, rounded: ScoreModel, contract: PriorContract) -> list[str]:
    """At each level the root mean square of the difference over that of the denoising error."""
    source = EXAMPLES[contract.image.modality]
    records = source.listing().slices[::3]
    pairs = zip(records, source.load(records), strict=True)
    images = [prepare(values, record.spacing_mm, contract.image)[0] for record, values in pairs]
    truth = torch.stack([torch.from_numpy(image) for image in images])[:, None].float()
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    lines = []
    for level in LEVELS:
        found, other = (model(truth + level * noise, torch.full((len(truth),), level)) for model in (exact, rounded))
        share = (other - found).square().mean().sqrt() / (found - truth).square().mean().sqrt()
        lines.append(f"noise level {level:g}: half precision moves images by {100 * float(share):.2g} % of their error")
    return lines


if __name__ == "__main__":
    main()
