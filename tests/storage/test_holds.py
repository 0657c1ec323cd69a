"""One holder at a time: refused by name, taken over from the dead."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from storage import holds
from storage.errors import StoreHeld
from storage.holds import Holder, held, refuse_held
from storage.uri import exists, join, locked, read_json, write_json


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "prior") if request.param == "local" else f"memory://{tmp_path.name}/prior"


def other(**changes: object) -> Holder:
    """A holder on another machine that is alive."""
    now = time.time()
    given = {"token": "x", "host": "elsewhere", "pid": 1, "started": 0.0, "since": now, "beat": now}
    return Holder.model_validate({**given, **changes})


def test_a_second_holder_is_refused_by_name_until_the_first_has_left(uri: str) -> None:
    with held(uri):
        with pytest.raises(
            StoreHeld, match=rf"process {psutil.Process().pid} on {socket.gethostname()} since 20.* UTC"
        ):
            refuse_held(uri)
        with pytest.raises(StoreHeld, match="wait for it or end it"), held(uri):
            pass
        assert exists(join(uri, "holder.json"))
    with held(uri):
        pass
    assert not exists(join(uri, "holder.json"))


def test_a_holder_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    uri = str(tmp_path / "prior")
    script = f"from storage.holds import held\nwith held({uri!r}):\n print('in', flush=True)\n input()"
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    with pytest.raises(StoreHeld, match=f"process {holder.pid} "):
        refuse_held(uri)
    holder.kill()
    holder.communicate()
    refuse_held(uri)
    with held(uri):
        assert read_json(join(uri, "holder.json"))["pid"] == psutil.Process().pid


def test_a_process_of_the_same_number_is_another(uri: str) -> None:
    mine = psutil.Process()
    same = other(host=socket.gethostname(), pid=mine.pid, started=mine.create_time() - 1000)
    write_json(join(uri, "holder.json"), same.model_dump(mode="json"))
    refuse_held(uri)


def test_a_holder_elsewhere_lives_while_it_beats(uri: str) -> None:
    write_json(join(uri, "holder.json"), other().model_dump(mode="json"))
    with pytest.raises(StoreHeld, match="process 1 on elsewhere"):
        refuse_held(uri)
    silent = other(beat=time.time() - holds.DEAD_SECONDS - 1)
    write_json(join(uri, "holder.json"), silent.model_dump(mode="json"))
    with held(uri):
        pass


def test_a_holder_beats_and_does_not_take_back_what_was_taken_over(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "BEAT_SECONDS", 0.05)
    with held(uri):
        before = read_json(join(uri, "holder.json"))["beat"]
        end = time.monotonic() + 20
        while read_json(join(uri, "holder.json"))["beat"] == before and time.monotonic() < end:
            time.sleep(0.05)
        assert read_json(join(uri, "holder.json"))["beat"] > before
        with locked(uri):
            write_json(join(uri, "holder.json"), other().model_dump(mode="json"))
        time.sleep(0.3)
        assert read_json(join(uri, "holder.json"))["token"] == "x"
    assert exists(join(uri, "holder.json"))


def test_a_damaged_note_holds_nothing(uri: str) -> None:
    write_json(join(uri, "holder.json"), {"pid": "?"})
    with held(uri):
        pass
