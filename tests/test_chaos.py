"""One round of each kind of faults that costs seconds, and that a loss would be seen."""

from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import DOCUMENT, KEPT, TABLE
from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Said
from benchmarks.chaos.kinds import BEGIN, CHEAP, END, KINDS, put_short_table, short_table
from benchmarks.chaos.leftovers import files_left
from benchmarks.chaos.processes import Kill
from benchmarks.chaos.real import said_in
from benchmarks.chaos.rounds import FOUND, HEAD, Round, bad_counts, read_rounds, table

SEED = 1


@pytest.mark.parametrize("kind", CHEAP)
def test_nothing_is_lost_by_faults(kind: str, tmp_path: Path) -> None:
    with KINDS[kind](tmp_path / kind) as bench:
        found = bench.round(SEED, 0)
    assert bad_counts(found) == {}, (found.program_faults, found.details)
    assert found.n_commands > 1
    assert found.n_done + found.n_killed + found.n_explained >= found.n_commands


def test_what_is_lost_changed_or_left_is_counted(tmp_path: Path) -> None:
    with Kill(tmp_path / "kill") as bench:
        bench.prepare("ingest")
        expected = bench.expected["ingest"]
        (store,) = bench.workspace.glob("datasets/*")
        marker, success = store / "done" / "1.json", store / "_SUCCESS"
        content = marker.read_bytes()
        marker.write_bytes(content[:-10])
        lost, rows, _, details = bench.compared()
        assert (lost > 0, rows) == (True, 0)
        assert [text for text in details if text.startswith("lost datasets/")] == details[:3]
        assert "done/1.json is damaged" in details[3]
        marker.write_bytes(content)
        assert bench.compared() == (0, 0, 0, [])
        bench.expected["ingest"] = {key: value + "x" * ("manifest" in key) for key, value in expected.items()}
        assert bench.compared()[2] == 1
        success.with_name(".x.partial").touch()
        (bench.temporary / "left").touch()
        assert len(files_left(bench.temporary, bench.workspace)) == 2


def test_the_last_words_of_a_real_command_are_told_apart() -> None:
    failed = Said("fault", "ended with exit code 1")
    assert said_in("", Said("fault", "ended with exit code 0")) == Said("done")
    assert said_in("working\nerror: the disk is full\n", failed) == Said("explained", "error: the disk is full")
    assert said_in("Traceback (most recent call last):\nerror: x\n", failed).how == "fault"
    assert said_in("error: this is a fault of scoreinv, not of what you asked for\n", failed).how == "fault"
    assert said_in("working\n", failed).how == "fault"
    assert said_in("", Said("killed")) == Said("killed")


def test_a_table_adds_rounds_up() -> None:
    names = [name for name in Round.model_fields if name.startswith("n_")]
    sums = dict.fromkeys(names, 1) | {"n_twice": None}
    one = Round(
        kind="kill",
        stage="study",
        seed=0,
        number=0,
        faults={"a": 2, "b": 1},
        explanations=(),
        program_faults=("a", "b"),
        seconds=1.0,
        **sums,
    )
    head, _, first, both = table([one, one.model_copy(update={"number": 1})]).splitlines()[:4]
    assert first == "| kill | 2 | 6 | 2 | 2 | 2 | 2 | 0 | 2 | 2 | 2 | 4 | 2 | 2 |"
    assert both.startswith("| all | 2 | 6 |")
    assert head.count("|") == first.count("|")
    assert "| a | 4 |" in table([one, one])
    assert bad_counts(one)["faults of the program"] == 2


def test_the_document_holds_what_is_kept() -> None:
    rounds = read_rounds(KEPT)
    assert short_table(rounds) in DOCUMENT.read_text()
    assert TABLE.read_text() == f"{HEAD}\n{table(rounds)}\n\n{FOUND}"
    assert [one for one in rounds if bad_counts(one).keys() & {"lost", "lost rows", "differing"}] == []


def test_a_table_is_put_between_the_marks_of_a_document(tmp_path: Path) -> None:
    document, rounds = tmp_path / "a.md", read_rounds(KEPT)[:3]
    document.write_text(f"# A\n{BEGIN}\nold\n{END}\nafter\n")
    put_short_table(document, rounds)
    text = document.read_text()
    assert short_table(rounds) in text
    assert ("old" not in text, text.startswith("# A\n"), text.endswith("\nafter\n")) == (True, True, True)
    document.write_text("no marks")
    put_short_table(document, rounds)
    assert document.read_text() == "no marks"


def test_every_kind_says_what_it_disturbs() -> None:
    for name, kind in KINDS.items():
        assert kind.kind == name
        assert kind.disturb is not Bench.disturb
