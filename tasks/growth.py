"""What a workspace knows of its sources and of the shards that are there, in the folder ``catalogue``.

Without Prefect, so that a command sees quickly whether anything is new.
"""

from scoreinv.spec import digest_of
from storage.datasets import DatasetStore
from storage.errors import StoreError
from storage.identities import Hasher
from storage.sources.catalogue import VERSION as READING
from storage.sources.catalogue import Catalogue
from storage.uri import join, read_json, remove_unfinished, write_json
from tasks import addresses
from tasks.recipes import IngestRecipe
from tasks.workers.ingest import VERSION as IMAGES

FOLDER = "catalogue"


def catalogue_of(workspace: str) -> Catalogue:
    """What was found in files; people are compared by hashes."""
    return Catalogue(join(workspace, FOLDER, "sources"), Hasher(workspace))


def known_folder(recipe: IngestRecipe, workspace: str) -> str:
    """Where it is kept which slices the data sets of a recipe's grid hold."""
    return join(workspace, FOLDER, "shards", digest_of(addresses.grid_of(recipe), IMAGES))


def seen_before(recipe: IngestRecipe, workspace: str, seen: str) -> str:
    """The reference of the data set that was made of just these files, by the digest of their stamps.

    Empty if the digest is, or if there is none that is finished and, as far as is quickly seen, undamaged.
    """
    try:
        note = read_json(_note(recipe, workspace)) if seen else {}
        ref = str(note["dataset"]) if note.get("seen") == seen else ""
    except (StoreError, AttributeError, KeyError):
        return ""
    return ref if ref and _is_whole(join(workspace, ref)) else ""


def _is_whole(uri: str) -> bool:
    try:
        dataset = DatasetStore.open(uri)
        return bool(dataset.records) and dataset.shards.is_whole()
    except StoreError:
        return False


def note_seen(recipe: IngestRecipe, workspace: str, seen: str, ref: str) -> None:
    """Remembers which data set was made of these files, if their digest is not empty, and tidies the catalogue up."""
    if seen:
        write_json(_note(recipe, workspace), {"seen": seen, "dataset": ref})
    remove_unfinished(join(workspace, FOLDER))


def _note(recipe: IngestRecipe, workspace: str) -> str:
    return join(workspace, FOLDER, "sources", f"{digest_of(recipe.digest(), IMAGES, READING)}.json")
