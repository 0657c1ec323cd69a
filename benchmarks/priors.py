"""Which noise levels, weights, augmentation, balance and position channels teach a prior most: a branching comparison.

    python benchmarks/priors.py train.yaml --workspace workspace --keep workspace/branches

Short trainings from scratch always favour no augmentation, so every variant goes on from one checkpoint of a
training: the same weights, optimiser state, draws and number of images, with a learning rate that falls to zero.
Their averaged weights denoise the held-out subjects under the same noise. A row is the mean over slices of
ln(error / error of the recipe as it is), in percent, with the standard error of that mean; less is better.

train.yaml is what ``scoreinv train`` took: it names the data sets and gives the place of the checkpoint. Finished
variants are kept, so a comparison that was stopped goes on. With --scratch all start untrained instead.
"""

import argparse
import math
import re
from pathlib import Path

import torch
from torch import Tensor

from flows.recipe_files import load_recipe
from scoreinv.denoiser import Denoiser, ScoreModel, log_uniform_sigmas
from scoreinv.nets import AnyNetwork
from scoreinv.sde import VE
from scoreinv.spec import Json, Spec
from scoreinv.training.checkpoint import build_model, restore
from scoreinv.training.data import ImageBatches
from scoreinv.training.ema import EMA
from scoreinv.training.levels import SDELevels
from scoreinv.training.loop import TrainState, train
from scoreinv.training.objectives import MODEL, Denoising
from storage.models import read_contract
from tasks.recipes import TrainRecipe
from tasks.workers.training.training_images import TrainingImages, read_images

N_SIGMAS = 9
N_PARTS = 6
N_AT_ONCE = 4
CHECKPOINT = "the checkpoint's average"
BASE = "the recipe"
VARIANTS: dict[str, dict[str, Json]] = {
    BASE: {},
    "the recipe, other draws": {"training": {"seed": 1}},
    "no augmentation": {"augmentation": {"probability": 0, "can_flip": False, "gain": 0}},
    "flips only": {"augmentation": {"probability": 0, "gain": 0}},
    "stronger augmentation": {"augmentation": {"probability": 0.9, "degrees": 20, "zoom": 0.25, "shift": 0.1}},
    "no gain": {"augmentation": {"gain": 0}},
    "levels even in the logarithm": {"objective": {"levels": {"even_share": 1}}},
    "levels centred at exp(-2.5)": {"objective": {"levels": {"mean": -2.5}}},
    "levels centred at exp(-1.2)": {"objective": {"levels": {"mean": -1.2}}},
    "even levels, weight 1/sigma^2": {"objective": {"levels": {"kind": "sde"}}},
    "subjects alike": {"balance_power": 0},
    "slices alike": {"balance_power": 1},
    "no position": {"network": {"has_position": False}},
}
"""What each variant changes in the recipe."""


def main() -> None:
    """Train what is not kept yet, and print one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="the training's recipe")
    parser.add_argument("--workspace", type=Path, required=True, help="with the data sets and the training")
    parser.add_argument("--keep", type=Path, required=True, help="folder for the errors of finished variants")
    parser.add_argument("--checkpoint", type=Path, help="default: the training's place in the workspace")
    parser.add_argument("--scratch", action="store_true", help="start untrained")
    parser.add_argument("--images", type=int, default=1200, help="per variant (default: %(default)s)")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(TrainRecipe, options.recipe)
    checkpoint = options.checkpoint or options.workspace / "trainings" / trunk(recipe) / "checkpoint.pt"
    content = b"" if options.scratch else checkpoint.read_bytes()
    compare(recipe, content, options)


def compare(recipe: TrainRecipe, content: bytes, options: argparse.Namespace) -> None:
    """Print the table, the recipe as it is first."""
    uris = [str(options.workspace / name) for name in recipe.datasets]
    images = read_images(recipe, uris)
    seen = start(recipe, recipe, content).images_seen
    print(f"{seen} images seen before, {options.images} in each branch, {len(images.held_out)} held-out slices\n")
    sigmas = sigmas_of(recipe)
    bands = [f"{group[0]:.2g} to {group[-1]:.2g}" for group in torch.split(sigmas, N_SIGMAS // 3)]
    print(f"| variant | all levels | {' | '.join(bands)} |\n| --- | ---: | ---: | ---: | ---: |", flush=True)
    names = [BASE, *([CHECKPOINT] if content else []), *(name for name in options.variants if name != BASE)]
    base = torch.empty(0)
    for name in names:
        errors = kept_errors(name, recipe, content, images, options)
        base = errors if name == BASE else base
        print(row(name, errors, base), flush=True)


def kept_errors(
    name: str, recipe: TrainRecipe, content: bytes, images: TrainingImages, options: argparse.Namespace
) -> Tensor:
    """Errors of a variant at each level on each slice, (levels, slices), from the folder or by training."""
    path: Path = options.keep / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.pt"
    if not path.exists():
        n_images = 0 if name == CHECKPOINT else options.images
        chosen, uris = changed(recipe, name), [str(options.workspace / one) for one in recipe.datasets]
        same_draws = chosen.balance_power == recipe.balance_power
        state = branch(recipe, chosen, content, images if same_draws else read_images(chosen, uris), n_images)
        torch.save(slice_errors(state.ema.model, images.held_out, sigmas_of(recipe)), path)
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def changed(recipe: TrainRecipe, name: str) -> TrainRecipe:
    """The recipe with a variant's changes."""
    changes = VARIANTS.get(name, {})
    if changes.get("objective") == {"levels": {"kind": "sde"}}:
        levels = denoising(recipe).levels
        sde = SDELevels(sde=VE(sigma_min=levels.sigma_min, sigma_max=levels.sigma_max))
        return recipe.model_copy(update={"objective": denoising(recipe).model_copy(update={"levels": sde})})
    return TrainRecipe.model_validate(merged(recipe, changes))


def denoising(recipe: TrainRecipe) -> Denoising:
    """The recipe's objective, which is a prior's."""
    assert isinstance(recipe.objective, Denoising), "this comparison is of priors: name a recipe of one"
    return recipe.objective


def merged(spec: Spec, changes: dict[str, Json]) -> dict[str, Json]:
    """The options of a spec with some replaced, at any depth."""
    content = spec.model_dump(mode="json")
    for name, value in changes.items():
        content[name] = merged(getattr(spec, name), value) if isinstance(value, dict) else value
    return content


def branch(
    recipe: TrainRecipe, chosen: TrainRecipe, content: bytes, images: TrainingImages, n_images: int
) -> TrainState:
    """The state after so many more images of the chosen recipe; without any, that of the checkpoint."""
    state = start(recipe, chosen, content)
    if n_images:
        # The average of the branch alone: that of the checkpoint would hide what the branch has learned.
        state.emas = (EMA(state.model, half_life=n_images / 10),)
    batches = ImageBatches(
        images.images,
        images.contract.size,
        weights=images.weights,
        augmentation=chosen.augmentation,
        device=torch.device("cpu"),
    )
    seen, training = state.images_seen, chosen.training
    for part in range(N_PARTS):
        rate, stop = training.learning_rate * (1 - part / N_PARTS), seen + n_images * (part + 1) // N_PARTS
        part_of_it = training.model_copy(update={"learning_rate": rate, "n_images": max(stop, 1)})
        for _ in train(state, batches, chosen.objective, part_of_it):
            pass
    model = state.ema.model
    assert isinstance(model, ScoreModel)
    model.autocast_dtype = torch.bfloat16
    return state


def trunk(recipe: TrainRecipe) -> str:
    """The name of the training's folder."""
    return recipe.trunk(read_contract(recipe.initial).sha256 if recipe.initial else "")


def start(recipe: TrainRecipe, chosen: TrainRecipe, content: bytes) -> TrainState:
    """The checkpoint's state, its position channels cut off where the chosen network has none; fresh without one."""
    state = fresh(recipe.network if content else chosen.network, recipe)
    if not content:
        return state
    restore(state, content, trunk(recipe))
    if chosen.network == recipe.network:
        return state
    smaller = fresh(chosen.network, recipe)
    for to, source in ((smaller.model, state.model), (smaller.ema.model, state.ema.model)):
        to.load_state_dict(cut(source.state_dict(), to.state_dict()))
    for mine, theirs in zip(smaller.model.parameters(), state.model.parameters(), strict=True):
        moments = state.optimizers[MODEL].state[theirs].items()
        smaller.optimizers[MODEL].state[mine] = {key: first(v, mine) for key, v in moments}
    smaller.images_seen = state.images_seen
    return smaller


def fresh(network: AnyNetwork, recipe: TrainRecipe) -> TrainState:
    """An untrained state of a network, otherwise as the recipe says."""
    return TrainState.fresh({MODEL: build_model(network, denoising(recipe).preconditioning)}, recipe.training)


def cut(source: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
    """The source's tensors, with the target's number of input channels."""
    return {name: first(value, target[name]) for name, value in source.items()}


def first(value: Tensor, like: Tensor) -> Tensor:
    """As many input channels of a convolution as ``like`` has: images come before positions."""
    return value[:, : like.shape[1]].clone() if value.ndim == 4 else value.clone()


def sigmas_of(recipe: TrainRecipe) -> Tensor:
    """The noise levels to measure at."""
    levels = denoising(recipe).levels
    return log_uniform_sigmas(N_SIGMAS, levels.sigma_min, levels.sigma_max)


@torch.no_grad()
def slice_errors(denoiser: Denoiser, images: Tensor, sigmas: Tensor) -> Tensor:
    """Root mean squared denoising error at each level on each slice, (levels, slices), under the same noise."""
    normal = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    rows = []
    for sigma in sigmas:
        pairs = zip(torch.split(images, N_AT_ONCE), torch.split(normal, N_AT_ONCE), strict=True)
        denoised = torch.cat([denoiser(x + sigma * noise, sigma.expand(len(x))) for x, noise in pairs])
        rows.append((denoised - images).square().flatten(1).mean(1).sqrt())
    return torch.stack(rows)


def row(name: str, errors: Tensor, base: Tensor) -> str:
    """Paired differences in percent over all levels and three bands of them."""
    if name == BASE:
        root = errors.log().mean(1).exp()
        means = [root.log().mean().exp(), *(part.log().mean().exp() for part in torch.split(root, N_SIGMAS // 3))]
        return f"| {name} | {' | '.join(f'{mean:.4f}' for mean in means)} |"
    ratio = 100 * (errors / base).log()
    parts = [ratio, *torch.split(ratio, N_SIGMAS // 3)]
    cells = [f"{part.mean():+.2f} ± {part.mean(0).std() / math.sqrt(part.shape[1]):.2f}" for part in parts]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
