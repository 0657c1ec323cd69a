"""A default that changes has a new version, so that no old result is taken for a new one."""

from copy import deepcopy

from tests.defaults import changed, current, known


def test_no_default_changed_without_a_new_version() -> None:
    assert changed(known(), current()) == [], "raise `version` of the class, then run: python -m tests.defaults"


def test_every_default_is_written_down() -> None:
    names = {
        where: {(kind, option) for kind, one in kinds.items() for option in one["defaults"]}
        for where, kinds in (("file", known()), ("code", current()))
    }
    assert names["code"] - names["file"] == set(), "run: python -m tests.defaults"
    versions = [{kind: one["version"] for kind, one in kinds.items()} for kinds in (known(), current())]
    assert versions[0] == versions[1], "run: python -m tests.defaults"


def test_another_default_is_noticed_and_a_new_option_or_version_is_not() -> None:
    old = {"TV": {"version": 1, "defaults": {"n_iters": 500, "grid": {"n": 1}}}}
    new = deepcopy(old)
    new["TV"]["defaults"]["is_fast"] = False
    new["TV"]["defaults"]["grid"]["is_even"] = False
    assert changed(old, new) == []
    new["TV"]["defaults"]["grid"] = {"n": 2}
    assert changed(old, new) == ["TV.grid"]
    assert changed(old, {"TV": {**new["TV"], "version": 2}}) == []
