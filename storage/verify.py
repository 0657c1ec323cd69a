"""What is wrong with results: one function per kind of result, which returns sentences and changes nothing.

``discard_damaged`` makes exactly the damaged parts pending again; the command that made a result then makes them again.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from storage.datasets import DatasetStore
from storage.errors import StoreError, StoreNotFound
from storage.joined import open_store
from storage.models import is_whole_archive, load
from storage.plans import plan_problem, read_if_whole, restore_plan
from storage.reports import SUMMARY
from storage.scores import rows_of, score_files
from storage.shards import ShardedStore
from storage.uri import delete, exists, join, list_names, read_bytes, size_of


def problems_of(stage: str, uri: str) -> list[str]:
    """What is wrong with a result of a stage, as sentences: what is damaged, or else what is yet to be made."""
    return list(_CHECKS[stage](uri))


def discard_damaged(stage: str, uri: str) -> None:
    """Makes what is damaged pending again; what is whole stays.

    Raises:
        StoreError: if a store's plan is lost, which the command that made the store puts anew.
    """
    if stage == "tuning":
        for folder in _trials(uri):
            if plan_problem(folder) and not restore_plan(folder):
                _forget_trial(folder)
            else:
                ShardedStore.open(folder, finished=False).repair()
            if _is_damaged(join(folder, "trial.json")):
                delete(join(folder, "trial.json"))
    elif stage == "priors":
        _discard_damaged_prior(uri)
    elif stage != "reports":
        if not restore_plan(uri):
            raise StoreError(f"{plan_problem(uri)}, and so is its copy: run the command that made the store again")
        open_store(uri, finished=False).repair()
        if stage == "datasets":
            DatasetStore.open(uri, finished=False).restore_rejected()


def finish_if_all_is_there(uri: str) -> None:
    """Finishes a data set whose shards are all there: its manifest follows from its listing.

    Raises:
        StoreError: if the listing is damaged.
    """
    dataset = DatasetStore.open(uri, finished=False)
    if not dataset.shards.is_finished() and not dataset.shards.pending():
        dataset.finish()


def _store(uri: str) -> Iterator[str]:
    if problem := plan_problem(uri):
        yield problem
        return
    store = open_store(uri, finished=False)
    problems = store.verify()
    yield from problems
    if not problems and not store.is_finished():
        yield store.what_is_missing()


def _dataset(uri: str) -> Iterator[str]:
    yield from _store(uri)
    if plan_problem(uri):
        return
    try:
        len(DatasetStore.open(uri, finished=False).listing.slices)
    except StoreError as error:
        yield str(error)


def _scores(uri: str) -> Iterator[str]:
    problems = list(_store(uri))
    yield from problems
    if not problems:
        for name, content in score_files(rows_of(open_store(uri))).items():
            if not exists(join(uri, name)) or read_bytes(join(uri, name)) != content:
                yield f"{join(uri, name)} does not hold the scores of the shards"
        yield from _empty(uri, "table.md")


def _prior(uri: str) -> Iterator[str]:
    prior = join(uri, "prior")
    try:
        load(prior)
    except StoreNotFound as error:
        yield f"{prior} is not published, or what is published is gone: {error}"
    except StoreError as error:
        yield str(error)
    yield from _empty(prior, "card.md")
    if exists(join(uri, "checkpoint.pt")) and not is_whole_archive(read_bytes(join(uri, "checkpoint.pt"))):
        yield f"{join(uri, 'checkpoint.pt')} is damaged"
    yield from _not_json(uri, "recipe.json")


def _tuning(uri: str) -> Iterator[str]:
    trials = _trials(uri)
    for folder in trials:
        if problem := plan_problem(folder):
            yield problem
        else:
            yield from ShardedStore.open(folder, finished=False).verify()
        if _is_damaged(join(folder, "trial.json")):
            yield f"{join(folder, 'trial.json')} is damaged"
    if not trials:
        yield f"{uri} has no trials"
    for folder in trials:
        if not exists(join(folder, "trial.json")):
            yield f"{folder} has not ended: run the tune command again, it goes on there"
    yield from _not_json(uri, "recipe.json")
    for name in ("best.yaml", "trials.png"):
        yield from _empty(uri, name)


def _report(uri: str) -> Iterator[str]:
    page = join(uri, "report.html")
    if not size_of(page) or not read_bytes(page).rstrip().endswith(b"</html>"):
        state = "damaged" if exists(page) else "gone"
        yield f"{page} is {state}: run the report command again, which always writes it anew"
    yield from _empty(uri, SUMMARY)


_CHECKS: dict[str, Callable[[str], Iterator[str]]] = {
    "datasets": _dataset,
    "measurements": _store,
    "reconstructions": _store,
    "calibrations": _store,
    "scores": _scores,
    "priors": _prior,
    "tuning": _tuning,
    "reports": _report,
}

STAGES = tuple(_CHECKS)
"""The kinds of results, in an order in which each is made of those before it."""


def _is_damaged(uri: str) -> bool:
    return exists(uri) and read_if_whole(uri) is None


def _empty(uri: str, name: str) -> Iterator[str]:
    if not size_of(join(uri, name)):
        yield f"{join(uri, name)} is {'empty' if exists(join(uri, name)) else 'gone'}"


def _not_json(uri: str, name: str) -> Iterator[str]:
    if _recipe_file(uri) is None:
        yield f"{join(uri, name)} is {'damaged' if exists(join(uri, name)) else 'gone'}"


def recipe_of(stage: str, uri: str) -> dict[str, Any] | None:
    """The recipe that a result was made from; None if it is not kept, or is damaged."""
    if stage in ("measurements", "reconstructions", "calibrations", "scores"):
        return dict(open_store(uri, finished=False).attrs["recipe"])
    return _recipe_file(uri) if stage in ("priors", "tuning") else None


def _recipe_file(uri: str) -> dict[str, Any] | None:
    try:
        found = json.loads(read_bytes(join(uri, "recipe.json")))
    except (StoreError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _trials(uri: str) -> list[str]:
    return [join(uri, "trials", name) for name in list_names(join(uri, "trials"))]


def _forget_trial(folder: str) -> None:
    """What a trial tried is lost, and with it what its slices are of."""
    for name in list_names(join(folder, "done")):
        delete(join(folder, "done", name))
    for name in ("trial.json", "plan.json"):
        delete(join(folder, name))


def _discard_damaged_prior(uri: str) -> None:
    prior = join(uri, "prior")
    try:
        load(prior)
    except (StoreError, ValidationError):
        # Without a contract it is not published; the training publishes it again from its checkpoint.
        delete(join(prior, "contract.json"))
    if exists(join(uri, "checkpoint.pt")) and not is_whole_archive(read_bytes(join(uri, "checkpoint.pt"))):
        delete(join(uri, "checkpoint.pt"))
