"""Where the result of a recipe lies: its reference, from what decides it and nothing else.

Without Prefect, so that a command sees quickly whether there is anything to do (``tasks/finished.py``).
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from scoreinv.shipped import calibration_json, calibration_names
from scoreinv.spec import digest_of
from storage.listing import Listing
from storage.sources import PhantomSource
from storage.uri import join, read_bytes
from tasks.recipes import CalibrateRecipe, EvaluateRecipe, IngestRecipe, MeasureRecipe, ReconstructRecipe, ReportRecipe
from tasks.workers.calibrate import VERSION as ERRORS
from tasks.workers.evaluate import VERSION as METRICS
from tasks.workers.ingest import VERSION as IMAGES
from tasks.workers.measure import VERSION as DATA
from tasks.workers.reconstruct import VERSION as METHODS
from tasks.workspace import locate, reference

_FOLDER = Path(__file__).parent

_PAGE_MAKERS = ("report.py", "study.py", "comparison.py", "means.py", "people.py", "rendering/**/*.*")
"""The files that decide what a report shows of its scores, within this folder."""


def of_dataset(recipe: IngestRecipe, listing: Listing) -> str:
    """The reference of the data set of what a source holds."""
    # What a source does is in the fingerprint, which holds every value it found.
    return of_images(recipe, listing.fingerprint)


def of_images(recipe: IngestRecipe, listing: str) -> str:
    """The reference of the data set with this listing, by its digest, on the grid of a recipe."""
    return reference("datasets", digest_of(grid_of(recipe), listing, IMAGES))


def grid_of(recipe: IngestRecipe) -> str:
    """A digest of all that decides images but where they come from."""
    return recipe.model_copy(update={"source": PhantomSource()}).digest()


def of_measurements(recipe: MeasureRecipe) -> str:
    """The reference of the measurements of a recipe."""
    return reference("measurements", digest_of(recipe.digest(), DATA))


def of_reconstructions(recipe: ReconstructRecipe, prior_sha256: str) -> str:
    """The reference of the reconstructions of a recipe, by the weights that its prior has now; empty: none.

    And by what a shipped calibration holds now, whose name alone does not say it.
    """
    named = recipe.reconstruction.calibration
    shipped = [_sha256([calibration_json(named)])] if named in calibration_names() else []
    return reference("reconstructions", digest_of(recipe.digest(), prior_sha256, METHODS, *shipped))


def of_calibration(recipe: CalibrateRecipe) -> str:
    """The reference of the calibration of a recipe."""
    return reference("calibrations", digest_of(recipe.digest(), ERRORS))


def of_scores(recipe: EvaluateRecipe) -> str:
    """The reference of the scores of a recipe."""
    return reference("scores", digest_of(recipe.digest(), METRICS))


def of_report(recipe: ReportRecipe) -> str:
    """The reference of the report of a recipe, without its page."""
    return reference("reports", recipe.digest())


def seal_of_report(workspace: str, recipe: ReportRecipe, page: bytes, versions: Mapping[str, str]) -> str:
    """12 hexadecimal digits of a page and of all it was made from: scores, packages, and the code that makes pages.

    A report with another seal is not up to date, or not whole.

    Raises:
        StoreNotFound: if there are no such scores.
    """
    tables = [read_bytes(join(locate(workspace, ref, "scores"), "scores.json")) for ref in recipe.scores]
    return digest_of(recipe.digest(), _sha256(tables), dict(versions), _makers(), _sha256([page]))


@lru_cache(maxsize=1)
def _makers() -> str:
    files = sorted(path for pattern in _PAGE_MAKERS for path in _FOLDER.glob(pattern) if path.suffix != ".pyc")
    return _sha256([path.read_bytes() for path in files])


def _sha256(contents: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
