"""The tune command and flow: what is refused and shown, and from a tuning to the reconstruction by its best recipe."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from storage.shards import ShardedStore
from tasks.tuning.trials import best_of, read_trials
from tests.flows.conftest import Command
from tests.tasks import tiny

TV = ("measurements=measurements/tiny", "reconstruction.method={kind: tv, weight: 1.0e-4, n_iters: 10}")
INLINE = "execution.cluster.kind=inline"


def test_a_dry_run_shows_what_is_searched_and_the_cost(command: Command) -> None:
    changes = ("reconstruction={method: {kind: dds}, prior: ct-128, n_samples: 2}", "n_trials=10", "n_slices=3")
    code, out, err = command("tune", "measurements=measurements/tiny", *changes, "--dry-run")
    assert code == 0, err
    assert "# 10 trials of dds on up to 3 slices: 3000 network calls" in out
    assert "#   renoise.eta: 0 to 1\n" in out
    assert "#   grid.sigma_max: 0.1 to 10 by factors\n" in out
    code, out, _ = command("tune", *TV, "search=[{key: n_iters, choices: [10, 20]}]", "--dry-run")
    assert "# 40 trials of tv on up to 16 slices\n#   n_iters: 10, 20\n" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("search=[{key: weigth, low: 0, high: 1}]", "no option 'weigth': choose weight, noise_weight, n_iters"),
        ("search=[{key: weight, low: -1, high: 1}]", "weight=-1.0 is not allowed: Input should be greater than or"),
        ("search=[{key: weight, low: 1, high: 0}]", "weight: low must be below high"),
        ("reconstruction.method={kind: direct}", "method 'direct' has no numbers to tune by default"),
        ("metric=psrn", "metric: must be 'psnr', 'ssim'"),
    ],
)
def test_a_mistake_is_one_message_that_says_what_is_allowed(command: Command, change: str, message: str) -> None:
    code, _, err = command("tune", *TV, change, "--dry-run")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("prefect_server")
def test_the_best_recipe_of_a_tuning_reconstructs(command: Command, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    tiny.measurements(workspace, tiny.dataset(workspace, n=4))
    code, _, err = command("tune", *TV, "subjects=[nobody]", INLINE)
    assert (code, "there is no subject nobody: choose of" in err) == (1, True)

    code, out, err = command("tune", *TV, "n_trials=3", INLINE)
    assert code == 0, err
    tuning = Path(out.strip().splitlines()[-1])
    assert tuning.parent == workspace / "tuning"
    assert {path.name for path in tuning.iterdir()} == {"trials", "recipe.json", "best.yaml", "trials.png", "lease"}
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    assert {"table", "image", "progress"} <= {str(artifact.type) for artifact in artifacts}

    assert command("tune", *TV, "n_trials=5", INLINE)[1].strip().splitlines()[-1] == str(tuning)
    trials = read_trials(str(tuning))
    assert len(trials) == 5

    code, out, err = command("reconstruct", str(tuning / "best.yaml"), INLINE)
    assert code == 0, err
    store = ShardedStore.open(out.strip().splitlines()[-1])
    assert store.attrs["recipe"]["reconstruction"]["method"]["weight"] == best_of(trials).values["weight"]
