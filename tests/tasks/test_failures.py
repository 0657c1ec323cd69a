"""A method that fails on a slice: the others have their images, and tables say what is missing and why."""

from pathlib import Path

import numpy as np
import pytest
import torch

from scoreinv.baselines import Direct
from scoreinv.errors import UserError
from storage.shards import ShardedStore
from tasks.recipes import Reconstruction
from tasks.running.mistakes import Failures, TooManyFailures
from tasks.workers.evaluate import Candidate, EvaluateJob, evaluate_shard
from tasks.workers.reconstruct import Inputs, draw_samples, reconstruct_shard
from tasks.workers.stores import simulation_of
from tests.tasks import tiny

BAD = 2


def spoilt(inputs: Inputs, places: list[int]) -> Inputs:
    """The same with data of these slices that no method can take."""
    problem = inputs.problem.part(torch.arange(tiny.N_SLICES))
    problem.y[places] = torch.nan
    return inputs._replace(problem=problem)


def refuse_nan(inputs: Inputs) -> None:
    """The network from now on raises where its input is no number."""

    def look(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if not arguments[0].isfinite().all():
            raise ArithmeticError("no number")

    assert isinstance(inputs.model, torch.nn.Module)
    inputs.model.register_forward_pre_hook(look)


@pytest.mark.parametrize("raises", [False, True])
def test_the_other_slices_of_the_batch_have_their_images(
    choice: Reconstruction, inputs: Inputs, *, raises: bool
) -> None:
    whole = draw_samples(choice, inputs, 8, lambda fraction: None)
    assert not whole.failures
    bad = spoilt(inputs, [BAD])
    if raises:
        refuse_nan(bad)
    drawn = draw_samples(choice, bad, 8, lambda fraction: None)
    reason = "ArithmeticError: no number" if raises else "the image is not finite"
    assert drawn.failures == {inputs.slice_ids[BAD]: reason}
    assert drawn.nfe == whole.nfe
    others = [place for place in range(tiny.N_SLICES) if place != BAD]
    np.testing.assert_allclose(drawn.samples[:, others], whole.samples[:, others], rtol=0, atol=1e-4)
    assert np.isnan(drawn.samples[:, BAD]).all()


def test_a_method_that_fails_on_every_slice_is_an_error(choice: Reconstruction, inputs: Inputs) -> None:
    bad = spoilt(inputs, list(range(tiny.N_SLICES)))
    refuse_nan(bad)
    with pytest.raises(ArithmeticError, match="no number"):
        draw_samples(choice, bad, 8, lambda fraction: None)


def test_what_the_machine_lacks_is_no_fault_of_a_slice(choice: Reconstruction, inputs: Inputs) -> None:
    def lose(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        raise OSError("the disk is gone")

    assert isinstance(inputs.model, torch.nn.Module)
    inputs.model.register_forward_pre_hook(lose)
    with pytest.raises(OSError, match="the disk is gone"):
        draw_samples(choice, inputs, 8, lambda fraction: None)


def test_scores_say_why_there_is_no_image(tmp_path: Path) -> None:
    dataset = tiny.dataset(tmp_path, n=tiny.N_SLICES, shard_size=tiny.N_SLICES)
    whole = tiny.measurements(tmp_path, dataset)
    data = ShardedStore.create(
        str(tmp_path / "measurements" / "spoilt"),
        n=tiny.N_SLICES,
        shard_size=tiny.N_SLICES,
        arrays=whole.layouts,
        attrs=whole.attrs,
    )
    arrays = {name: whole.read(name, 0, tiny.N_SLICES) for name in whole.layouts}
    arrays["y"][BAD] = np.nan
    data.write(data.plan()[0], arrays, record=whole.record(0))
    data.finish()
    job, store = tiny.reconstruction(data, tmp_path / "out", Reconstruction(method=Direct()))
    reconstruct_shard(job, 0, lambda fraction: None)
    store.finish()
    target = ShardedStore.create(
        str(tmp_path / "scores"), n=tiny.N_SLICES, shard_size=tiny.N_SLICES, arrays={}, attrs={}
    )
    candidate = Candidate(uri=store.uri, measurements=data.uri, measurement=simulation_of(data).measurement)
    evaluate_shard(EvaluateJob(dataset=dataset.uri, candidates=(candidate,), target=target.uri), 0, print)
    rows = target.record(0)["rows"]
    assert [row.get("failure") for row in rows] == [
        "the image is not finite" if place == BAD else None for place in range(tiny.N_SLICES)
    ]
    assert [row["psnr"] == "NaN" for row in rows] == [place == BAD for place in range(tiny.N_SLICES)]
    assert all(row[name] == "NaN" for row in rows[BAD : BAD + 1] for name in row if name.startswith(("mae", "ssim")))


def test_a_run_that_goes_on_fails_in_the_end() -> None:
    failures = Failures()
    failures.raise_any("all is there")
    for error in (UserError("lower the rate"), RuntimeError("a fault"), TooManyFailures("shard 3: gone")):
        with failures.noted(f"method {error}", (RuntimeError, UserError)):
            raise error
    with pytest.raises(OSError, match="disk"), failures.noted("method", (RuntimeError,)):
        raise OSError("disk")
    with pytest.raises(TooManyFailures, match="method lower the rate: lower the rate; .*; the rest is there") as caught:
        failures.raise_any("the rest is there")
    assert str(caught.value.__cause__) == "a fault"
