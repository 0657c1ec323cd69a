"""Training on the card: its rates in several ways, and a training that ends when its time is up.

A training has as many images as its time allows, by the rate that it has had so far: the learning rate falls to zero
over the last quarter of the time, whatever the card. Whenever an average errs less on held-out people than all before,
its weights are written.
"""

import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch

from benchmarks.gpu.packed import Images, Plan, Trained, read_images, read_weights, write_weights
from benchmarks.gpu.results import rows_of
from benchmarks.gpu.setting import Row, Setting, device_name, wait
from scoreinv.training.best import best_half_life, better_of
from scoreinv.training.checkpoint import build_models, go_on_from
from scoreinv.training.data import ImageBatches
from scoreinv.training.device import prefer_speed
from scoreinv.training.loop import TrainSpec, TrainState, TrainStep, train
from scoreinv.training.objectives import MODEL

N_CURVE = 8
"""Validations of a training."""
COOLDOWN = 0.25
"""Of the time."""
N_WARM = 10
"""Steps that do not count: compiling, and trying which convolutions are fastest."""


class Way(NamedTuple):
    """How a network is run."""

    name: str
    compiled: str = ""
    """The compiler's mode; empty: as it is written."""
    is_channels_last: bool = False


WAYS = (
    Way("eager"),
    Way("compiled", "default", is_channels_last=True),
    # A replayed graph is one call of the CPU, where a small network is hundreds.
    Way("compiled, graphs", "reduce-overhead", is_channels_last=True),
    Way("eager, channels last", is_channels_last=True),
)


class Trial(NamedTuple):
    """A state, and what it is trained on."""

    state: TrainState
    batches: ImageBatches
    images: Images


def begin(setting: Setting, way: Way, spec: TrainSpec) -> Trial:
    """A training's beginning on the device, from the weights of an earlier result or those that are packed, or new."""
    plan, device = setting.plan, setting.device
    prefer_speed(device)
    model = build_models(plan.objective, plan.network, plan.image, seed=spec.seed)[MODEL]
    layout = torch.channels_last if way.is_channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    state = TrainState.fresh({MODEL: model}, spec)
    weights, seen = weights_before(setting)
    if weights:
        go_on_from(state, weights, seen)
    if way.compiled:
        # What was compiled for another batch would be compiled for all sizes now, which is slower.
        torch.compiler.reset()
        model.get_submodule("network").compile(mode=way.compiled)  # type: ignore[no-untyped-call]
    images = read_images(setting.packed, size=plan.image.size)
    batches = ImageBatches(
        images.train.to(device),
        plan.image.size,
        weights=images.weights,
        augmentation=plan.augmentation,
        device=device,
    )
    return Trial(state, batches, images)


def weights_before(setting: Setting) -> tuple[bytes, int]:
    """Weights to go on from, and the images that they have seen; none if there are none."""
    if setting.earlier is not None:
        trained = Trained.model_validate_json((setting.earlier / "trained.json").read_text())
        return read_weights(setting.earlier), trained.images_seen
    return read_weights(setting.packed), setting.plan.initial_seen


def rates(setting: Setting) -> Iterator[Row]:
    """Images a second in each way, for each batch; the most likely ones first."""
    sizes = (2, 4) if setting.is_small else (32, 64, 128)
    # A CPU compiles for half a minute: a test goes without.
    ways = [way for way in WAYS if not (setting.is_small and way.compiled)]
    for size in sizes:
        for way in ways if size == sizes[0] else ways[:-1]:
            yield {"way": way.name, "batch": size, **_rate(setting, way, size)}


def _rate(setting: Setting, way: Way, size: int) -> Row:
    spec = setting.plan.training.model_copy(update={"batch_size": size, "n_images": 10**12, "cooldown_images": 0})
    try:
        trial = begin(setting, way, spec)
        steps = train(trial.state, trial.batches, setting.plan.objective, spec)
        start = time.perf_counter()
        for _ in islice(steps, setting.choice(1, N_WARM)):
            pass
        wait(setting.device)
        warm, n = time.perf_counter() - start, setting.choice(2, 40)
        start = time.perf_counter()
        for _ in islice(steps, n):
            pass
        wait(setting.device)
    except (RuntimeError, MemoryError) as error:
        # One way that fails leaves the others.
        return {"error": str(error).splitlines()[0][:200]}
    rate = n * size / (time.perf_counter() - start)
    return {"images_per_second": round(rate, 1), "warm_seconds": round(warm, 1), "peak_gib": peak_gib(setting.device)}


def peak_gib(device: torch.device) -> float:
    """Of the card's memory since the last call."""
    if device.type != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return round(peak, 2)


def fastest(setting: Setting) -> Way:
    """The way that had the highest rate at the training's batch, or at the first; the first where none was measured."""
    measured = [row for row in rows_of(setting.result, "training rates") if "images_per_second" in row]
    sizes = [row["batch"] for row in measured]
    wanted = setting.plan.training.batch_size
    size = wanted if wanted in sizes else next(iter(sizes), wanted)
    found = {row["way"]: row["images_per_second"] for row in measured if row["batch"] == size}
    return max(WAYS, key=lambda way: found.get(way.name, 0.0))


class Clock:
    """How far a training may go in its time."""

    def __init__(self, spec: TrainSpec, end: float) -> None:
        self.spec, self.end = spec, end
        self.mark: tuple[float, int] | None = None

    def started(self, images_seen: int) -> None:
        """The steps that do not count are done."""
        self.mark = time.monotonic(), images_seen

    def rate(self, images_seen: int) -> float:
        """Images a second since."""
        assert self.mark is not None
        return (images_seen - self.mark[1]) / max(time.monotonic() - self.mark[0], 1e-9)

    def planned(self, images_seen: int, cooldown_images: int) -> TrainSpec:
        """The training that ends when the time does."""
        left = max(round(self.rate(images_seen) * (self.end - time.monotonic())), self.spec.batch_size)
        n = images_seen + left
        return self.spec.model_copy(update={"n_images": n, "cooldown_images": min(cooldown_images or n, n)})


def training(setting: Setting) -> Iterator[Row]:
    """Train for the part's seconds; a row for each validation."""
    start = time.monotonic()
    way, plan = fastest(setting), setting.plan
    spec = plan.training.model_copy(update={"n_images": 10**12, "cooldown_images": 0})
    trial = begin(setting, way, spec)
    yield {
        "way": way.name,
        "batch": spec.batch_size,
        "parameters": sum(one.numel() for one in trial.state.model.parameters()),
        "images": len(trial.images.weights),
        "images_before": trial.state.images_seen,
    }
    clock = Clock(spec, start + setting.seconds)
    for _ in islice(train(trial.state, trial.batches, plan.objective, spec), setting.choice(1, N_WARM)):
        pass
    clock.started(trial.state.images_seen)
    # The rate of a first stretch tells how long the cooldown is, in images.
    cooldown = 0
    for stretch in range(1, N_CURVE + 1):
        if stretch > 1 and time.monotonic() > clock.end:
            break
        until = start + setting.seconds * stretch / N_CURVE
        row = _stretch(setting, trial, clock, until, cooldown)
        cooldown = cooldown or round(clock.rate(trial.state.images_seen) * COOLDOWN * setting.seconds)
        yield {**row, **_validated(setting, trial), "images_per_second": round(clock.rate(trial.state.images_seen), 1)}


def _stretch(setting: Setting, trial: Trial, clock: Clock, until: float, cooldown: int) -> Row:
    """Train until a time, in chunks of which each knows how long the whole will be."""
    losses, begun, step = list[torch.Tensor](), time.monotonic(), None
    while time.monotonic() < until or step is None:
        spec = clock.planned(trial.state.images_seen, cooldown) if cooldown else clock.spec
        for step in _chunk(setting, trial, spec, until):
            losses.append(step.loss)
    return {
        "images_seen": trial.state.images_seen,
        "loss": float(torch.stack(losses).mean()),
        "learning_rate": step.learning_rate,
        "seconds": round(time.monotonic() - begun, 2),
    }


def _chunk(setting: Setting, trial: Trial, spec: TrainSpec, until: float) -> Iterator[TrainStep]:
    """A few steps; a GPU is waited for at their end, so that the clock counts what is done."""
    for step in islice(train(trial.state, trial.batches, setting.plan.objective, spec), setting.choice(1, 20)):
        yield step
        if time.monotonic() > until:
            break
    wait(setting.device)


def _validated(setting: Setting, trial: Trial) -> Row:
    """Errors on held-out people; the weights are written if they are the best so far."""
    plan, state = setting.plan, trial.state
    held_out = trial.images.held_out.to(setting.device)[: setting.choice(2, 64)]
    errors = {int(ema.half_life): plan.objective.errors(ema.model, held_out, plan.image) for ema in state.emas}
    half_life, before = best_half_life(errors), state.best
    state.best = better_of(before, state.emas, errors, state.images_seen)
    if state.best is not before:
        _write(setting, trial, plan)
    return {
        "sigmas": list(plan.objective.sigmas()),
        "validation_rmse": list(errors[half_life]),
        "half_life": half_life,
        "rmse_by_half_life": {str(one): list(values) for one, values in errors.items()},
        "is_best": state.best is not before,
    }


def _write(setting: Setting, trial: Trial, plan: Plan) -> None:
    best = trial.state.best
    assert best is not None
    network = {name.removeprefix("network."): one for name, one in best.weights.items() if name.startswith("network.")}
    write_weights(setting.result, network)
    trained = Trained(
        images_seen=best.images_seen,
        half_life=best.half_life,
        device=device_name(setting.device),
        n_images=len(trial.images.weights),
        recipe=plan.recipe,
        image=plan.image,
        slices=plan.slices,
    )
    (setting.result / "trained.json").write_text(trained.model_dump_json(indent=1) + "\n")
