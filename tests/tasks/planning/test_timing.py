"""What follows from timings, and that they are taken; never how long something took."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from scoreinv.baselines import TotalVariation
from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers import DDS, PredictorCorrector
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.start import TVStart
from tasks.planning.timing import machine_workers, time_on
from tasks.running.cluster import Inline, LocalWorkers
from tasks.workers import probe
from tasks.workers.probe import ProbeJob, choose_batch_size, choose_precision
from tests.tasks import tiny


def job(prior: str, *methods: Method) -> ProbeJob:
    return ProbeJob(
        prior=prior,
        image=tiny.MRI,
        device="cpu",
        batch_sizes=(1, 3),
        measurement=CartesianMRI(acceleration=2),
        methods=methods,
    )


def test_bfloat16_must_be_clearly_faster() -> None:
    """Each at its own best batch size."""
    assert choose_precision({"float32": {1: 1.0, 2: 0.8}, "bfloat16": {1: 0.9, 2: 0.75}}) == "float32"
    assert choose_precision({"float32": {1: 1.0, 2: 0.8}, "bfloat16": {1: 0.5, 2: 0.9}}) == "bfloat16"
    assert choose_precision({"float32": {1: 1.0}}) == "float32"


def test_the_smallest_batch_that_is_nearly_the_fastest() -> None:
    assert choose_batch_size({1: 1.0, 2: 0.6, 4: 0.51, 8: 0.5, 16: 0.55}) == 4
    assert choose_batch_size({1: 0.5}) == 1


def test_a_machine_has_a_worker() -> None:
    assert machine_workers("cpu") >= 1


@pytest.mark.parametrize("cluster", [Inline(), LocalWorkers(n_workers=2)], ids=["inline", "two workers"])
def test_everything_is_timed_on_every_worker(tmp_path: Path, cluster: Inline | LocalWorkers) -> None:
    methods = (DDS(grid=SigmaGrid(n_levels=4)), PredictorCorrector(grid=SigmaGrid(n_levels=9)), TotalVariation())
    timing, n_workers = time_on(cluster, job(tiny.prior(tmp_path), *methods))
    assert n_workers == (1 if isinstance(cluster, Inline) else 2)
    assert set(timing.calls) >= {"float32"}
    for seconds in timing.calls.values():
        assert list(seconds) == [1, 3]
        assert min(seconds.values()) > 0
    assert timing.batch_size in (1, 3)
    assert timing.device == "cpu"
    assert len(timing.methods) == 3
    assert min(timing.methods) > 0


@pytest.mark.parametrize("may_gain", [True, False])
def test_bfloat16_is_tried_only_where_it_may_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_gain: bool
) -> None:
    monkeypatch.setattr(probe, "CALL_SECONDS", 0.0)
    monkeypatch.setattr(probe, "bfloat16_may_gain", lambda device: may_gain)
    timing = probe.probe(job(tiny.prior(tmp_path)))
    assert list(timing.calls) == (["float32", "bfloat16"] if may_gain else ["float32"])


def _problem(*, batch_size: int) -> InverseProblem:
    operator = CartesianMRI(acceleration=2).operator(16)
    return InverseProblem(operator, operator.forward(torch.rand(batch_size, 1, 16, 16)))


class Clocked(Method):
    """Its start takes 5 seconds of a clock, each of its steps, with two network calls, 2 seconds."""

    label: ClassVar[str] = "clocked"
    now: ClassVar[float] = 0.0

    @property
    def n_calls(self) -> int:
        return 2000

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        Clocked.now += 5
        for index in range(1000):
            Clocked.now += 2
            for _ in range(2):
                denoiser(problem.y.real, torch.ones(1))
            yield Step(index, 0.0, problem.y)


def test_a_method_is_extrapolated_from_its_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: Clocked.now)
    problem = _problem(batch_size=4)
    assert probe._method_seconds(Clocked(), problem, lambda x, sigma: x) == pytest.approx((5 + 1000 * 2) / 4)
    # Of 1000 steps two were enough.
    assert Clocked.now == 5 + 2 * 2


def test_a_long_start_is_extrapolated_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of TV takes 1 second of the clock here, and nothing else takes any."""
    clock = [0.0]
    whole = TotalVariation.steps

    def ticking(self: TotalVariation, *rest: object) -> Iterator[Step]:
        for step in whole(self, *rest):  # type: ignore[arg-type]
            clock[0] += 1
            yield step

    monkeypatch.setattr(TotalVariation, "steps", ticking)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    problem = _problem(batch_size=1)
    method = DDS(start=TVStart(n_iters=500), grid=SigmaGrid(n_levels=3))
    assert probe._method_seconds(method, problem, lambda x, sigma: x) == pytest.approx(500)
    assert clock[0] < 10
