"""A few rounds of commands that race, and that a loss would be seen."""

from pathlib import Path

import pytest

from benchmarks.races import Race, Round, snapshot, table


@pytest.mark.parametrize("stage", ["measure", "evaluate"])
def test_nothing_is_lost_by_commands_that_race(stage: str, tmp_path: Path) -> None:
    """The second round kills some."""
    race = Race(stage, tmp_path)
    for number in range(2):
        found = race.round(2, number)
        assert (found.n_lost, found.n_differing, found.others) == (0, 0, ())
        assert found.n_done + found.n_killed == 2
    # What is lost or changed is counted.
    whole, (store,) = snapshot(tmp_path / "calm"), list((tmp_path / "calm").glob(f"{ENDS[stage]}/*"))
    assert whole == race.expected
    (store / "done" / "1.json").unlink()
    assert set(whole) - set(snapshot(tmp_path / "calm"))


ENDS = {"measure": "measurements", "evaluate": "scores"}


def test_a_table_adds_rounds_up() -> None:
    sums = {"n_killed": 1, "n_done": 1, "n_lost": 0, "n_differing": 3}
    one = Round(stage="tune", n_commands=2, number=0, others=("a", "b"), seconds=1.0, **sums)
    assert table([one, one]).splitlines()[-1] == "| tune | 2 | 2 | 2 | 2 | 0 | 6 | 4 |"
