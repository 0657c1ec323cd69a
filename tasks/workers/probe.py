"""What network calls and methods cost where this runs: a few of each, timed.

On a worker the thread count, the memory settings and the neighbours are those of the real run.
"""

import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import torch

from scoreinv.contract import ImageContract
from scoreinv.denoiser import Denoiser
from scoreinv.measurement import simulate
from scoreinv.methods import AnyMethod
from scoreinv.noise import Noise
from scoreinv.operators import AnyMeasurement
from scoreinv.operators.linear import ProjectorName
from scoreinv.phantoms import shepp_logan
from scoreinv.problem import InverseProblem, Method, run
from scoreinv.samplers.start import DirectStart, GradedTVStart, TVStart
from scoreinv.spec import Spec
from tasks.workers.priors import load_prior, pick_device

Precision = Literal["float32", "bfloat16"]

CALL_SECONDS = 0.5
"""A call is repeated so long, and the fastest counts: the first is slow, and others use the machine as well."""

LONG_CALL_SECONDS = 0.5
"""Batches larger than one whose call takes so long are not tried: there is no overhead left to share."""

STEPS_SECONDS = 1.0
"""Steps of a method are timed so long, two at least."""

BFLOAT16_GAIN = 0.9
"""bfloat16 must take at most this part of the time of float32 to be chosen."""

NEAR_BEST = 1.05
"""Of the batch sizes that take at most this much longer an image than the best one, the smallest is chosen."""

Calls = dict[Precision, dict[int, float]]
"""Seconds per image of one network call, by batch size; without the precisions that were not worth a try."""


class ProbeJob(Spec):
    """What to time: a network on batches, and methods with it on a measurement."""

    prior: str
    image: ImageContract
    device: str
    batch_sizes: tuple[int, ...]
    measurement: AnyMeasurement
    methods: tuple[AnyMethod, ...]
    projector: ProjectorName = "matrix"


class Timing(NamedTuple):
    """Seconds of network calls, what follows from them, and each method's seconds for one image."""

    device: str
    machine: str
    calls: Calls
    precision: Precision
    batch_size: int
    methods: list[float]


def probe(job: ProbeJob) -> Timing:
    """Time network calls; then methods, at the precision and batch size that follow.

    Raises:
        MemoryError: if a single image does not fit into the GPU's memory.
    """
    device = pick_device(job.device)
    with torch.no_grad():
        calls = _calls(job, device)
        precision = choose_precision(calls)
        batch_size = choose_batch_size(calls[precision])
        problem = _problem(job, batch_size, device)
        network, _ = load_prior(job.prior, job.device, precision)
        # Presets may differ in the number of samples alone.
        seconds = {method: _method_seconds(method, problem, network) for method in dict.fromkeys(job.methods)}
    return Timing(device.type, _machine(device), calls, precision, batch_size, [seconds[one] for one in job.methods])


def choose_precision(calls: Calls) -> Precision:
    """float32, unless bfloat16 is clearly faster, each at its best batch size."""
    fastest = {precision: min(seconds.values()) for precision, seconds in calls.items()}
    return "bfloat16" if fastest.get("bfloat16", torch.inf) <= BFLOAT16_GAIN * fastest["float32"] else "float32"


def choose_batch_size(seconds: dict[int, float]) -> int:
    """The smallest that is nearly the fastest: it takes less memory, and workers finish more evenly."""
    limit = NEAR_BEST * min(seconds.values())
    return min(size for size, value in seconds.items() if value <= limit)


def _calls(job: ProbeJob, device: torch.device) -> Calls:
    precisions: list[Precision] = ["float32", "bfloat16"] if bfloat16_may_gain(device) else ["float32"]
    return {p: _seconds_per_image(load_prior(job.prior, job.device, p)[0], job, device) for p in precisions}


def bfloat16_may_gain(device: torch.device) -> bool:
    """Whether a convolution is faster in it; without instructions for it, a CPU takes ten times longer."""
    if device.type == "cuda":
        return True
    x, weight = torch.rand(1, 64, 64, 64), torch.rand(64, 64, 3, 3)
    full = _seconds(partial(torch.conv2d, x, weight), device)
    return _seconds(partial(torch.conv2d, x.bfloat16(), weight.bfloat16()), device) < full


def _seconds_per_image(network: Denoiser, job: ProbeJob, device: torch.device) -> dict[int, float]:
    """Of one call, by batch size, as far as larger batches fit and make sense."""
    found: dict[int, float] = {}
    for size in job.batch_sizes:
        x = torch.rand(size, job.image.n_channels, job.image.size, job.image.size, device=device)
        try:
            seconds = _seconds(partial(network, x, x.new_tensor(0.5)), device)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        found[size] = seconds / size
        if seconds > LONG_CALL_SECONDS:
            break
    if not found:
        raise MemoryError("one image at a time does not fit into the GPU's memory: use a smaller prior or a larger GPU")
    return found


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of the fastest of some calls, two at least."""
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < CALL_SECONDS:
        start = time.perf_counter()
        call()
        _wait(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _method_seconds(method: Method, problem: InverseProblem, network: Denoiser) -> float:
    """Of a method for one image, extrapolated from its first steps."""
    start = getattr(method, "start", DirectStart())
    if isinstance(start, TVStart | GradedTVStart):
        # It would be all of the first step, which has to be waited for.
        rest = method.model_copy(update={"start": DirectStart()})
        return _method_seconds(start.method, problem, network) + _method_seconds(rest, problem, network)
    laps = list(_laps(method, problem, network))
    (n_first, first), (n_last, last) = laps[0], laps[-1]
    n_all = method.n_calls or getattr(method, "n_iters", 1)
    each = (last - first) / max(n_last - n_first, 1)
    return (first + each * (n_all - n_first)) / len(problem.y)


def _laps(method: Method, problem: InverseProblem, network: Denoiser) -> Iterator[tuple[int, float]]:
    """Network calls (or steps, without a network) and seconds since the start, after each of the first steps."""
    noise = Noise(0, [str(place) for place in range(len(problem.y))], purpose="timing")
    start = time.perf_counter()
    for step in run(method, problem, network, noise=noise):
        _wait(problem.y.device)
        seconds = time.perf_counter() - start
        yield step.nfe or step.index + 1, seconds
        if step.index > 0 and seconds > STEPS_SECONDS:
            return


def _problem(job: ProbeJob, batch_size: int, device: torch.device) -> InverseProblem:
    """Data of a phantom, once for every place of the batch; the operator has been used, which is slow at first."""
    names = [str(place) for place in range(batch_size)]
    phantom = torch.from_numpy(shepp_logan(job.image.size)).expand(batch_size, job.image.n_channels, -1, -1)
    data = simulate(job.measurement, phantom.contiguous(), job.image, Noise(0, names, purpose="timing"))
    problem = InverseProblem.of(job.measurement, data.to(device), job.image, projector=job.projector)
    problem.operator.normal(problem.operator.direct(problem.y))
    return problem


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    n_threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {n_threads} thread{'s' if n_threads > 1 else ''} each"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
