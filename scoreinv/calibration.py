"""Intervals that hold: half widths from the errors of people whose truth is known (split conformal prediction).

Pixels of a reconstruction are put into cells: by their value (air, lung, soft tissue ...) and by how uneven the image
is around them, or, where there are several samples, how far these lie apart. Errors grow with both. In every cell the
quantile of the absolute errors over people, each counting alike, is the half width that an interval needs there
(Vovk, Lindsay, Nouretdinov and Gammerman 2003, Mondrian confidence machines; Angelopoulos and Bates 2023,
doi:10.1561/2200000101). That holds whatever the method and however wrong its own spread, for people and data like
those it was measured on: so a calibration names its method, model and measurement, and is for no others.

That is of all pixels of a cell, and a lesion is few of them. So half widths are wider where the data themselves say
that the image lacks something (``scoreinv.metrics.structures.lacking``): the errors that are counted are what goes
beyond that, and nearly everywhere else intervals are as wide as they would be.

People, scanners and settings differ in how well they are reconstructed, and views that are left out tell by how much
without a truth (``scoreinv.cross_validation``). Where images have been checked so, errors are counted relative to what
that leads to expect (normalised conformal prediction; Papadopoulos, Gammerman and Vovk 2008): intervals then are wider
by as much as an image is expected to be worse than those of the calibration's people, also in other settings.

Slices of one person are alike, so people are what is exchanged: the quantile is raised until, leaving each person out
in turn, the others' half widths cover them as often as promised in the mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field, JsonValue, ValidationError
from torch import Tensor
from torch.nn.functional import avg_pool2d

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.linalg import spread
from scoreinv.measurement import MeasurementSpec
from scoreinv.metrics.image import magnitude
from scoreinv.spec import Spec

LEVELS = (0.8, 0.9, 0.95)
"""What intervals promise."""

NEIGHBOURS = 5
"""Pixels along each side of the square in which an image is even or uneven."""

ACTIVITIES = tuple(np.geomspace(2e-3, 0.25, 9).tolist())
"""The bounds between even and uneven surroundings, on the scale of the images."""

ERRORS = np.geomspace(1e-4, 4.0, 200)
"""The bounds of the bins in which errors are counted."""

_LOWER = np.concatenate([[0.0], ERRORS[:-1]])

GAIN = 6.0
"""How many times what data say that an image lacks widens its intervals (``python -m benchmarks.widening``)."""

WHOLE_PIXELS = 100
"""Of a person in a cell, with which they count there like everybody; fewer count in proportion."""

LEAST_PEOPLE = 2.0
"""Who must count in a cell for it to have a half width of its own; half of the people, where there are fewer than 4."""

LEAST_SCALE = 0.5
"""By how much intervals become narrower at most, however little is expected: views that are left out err, too."""

LEAST_PIXELS = 20
"""Of a person in a class, below which nothing is said of how often they were covered there."""

RAISED = np.linspace(0, 0.9, 46)
"""By which shares of what is left to 1 a quantile is raised, to choose the least that covers people left out."""


class Estimate(NamedTuple):
    """Images (batch, n_channels, height, width) and what tells how sure they are, of the same shape.

    Attributes:
        images: of one sample each, or the means of several.
        std: the deviation of the samples; None where there is one.
        lacks: what the data say that the images lack; None if nothing says so.
        expected: the mean square error of each image by views that are left out, (batch,), NaN where they do not tell;
            None if nobody asked them.
    """

    images: Tensor
    std: Tensor | None = None
    lacks: Tensor | None = None
    expected: Tensor | None = None


class Calibration(Spec):
    """Half widths, and what they are for; published by a calibration.

    Cells are ordered by value, and within that by unevenness.
    """

    image: ImageContract
    method: dict[str, JsonValue] = Field(description="Of the reconstruction, with all its options.")
    prior_sha256: str = Field("", description="Of the weights; empty without a trained model.")
    n_samples: int = Field(1, ge=1)
    measurement: dict[str, JsonValue]
    is_exact: bool | None = Field(
        None, description="Whether data were of images on the very grid; not known of calibrations of before."
    )
    gain: float = Field(
        0.0,
        ge=0,
        description="How many times what an image lacks widens its intervals; 0 in older calibrations.",
    )
    typical: tuple[float, ...] = Field(
        (),
        description="For each cell the error that goes with what views left out expect; empty if they were not asked.",
    )
    bounds: tuple[float, ...] = Field(description="Between the classes of values, on the scale of the images.")
    levels: tuple[float, ...] = LEVELS
    half_widths: tuple[tuple[float, ...], ...] = Field(description="One row for each level, one number for each cell.")
    covered: tuple[float, ...] = Field(
        description="For each level the share of pixels of people left out that was covered, but for the lowest class."
    )
    covered_by_class: tuple[tuple[float | None, ...], ...] = Field(description="The same for each class of values.")
    n_people: int = Field(ge=2)
    n_slices: int = Field(ge=2)

    def half_width(self, estimate: Estimate, *, level: float = 0.9) -> Tensor:
        """Of the interval around each pixel, (batch, 1, height, width), on the scale of the images.

        Args:
            estimate: the images.
            level: one of ``levels``.

        Raises:
            ValueError: if there is no such level, or the deviation is missing or not wanted.
        """
        if level not in self.levels:
            raise ValueError(f"there are intervals of {self.levels}, not of {level}: take one of these")
        if (estimate.std is None) != (self.n_samples == 1):
            raise ValueError(f"this calibration is for n_samples={self.n_samples}: give the deviation of samples then")
        widths = torch.tensor(self.half_widths[self.levels.index(level)]).to(estimate.images)
        scale = spread(self.scale(estimate), estimate.images)
        return scale * widths[cells_of(estimate, self.bounds)] + widening(estimate, self.gain)

    def scale(self, estimate: Estimate) -> Tensor:
        """How many times as wide as those of the calibration's people intervals are, (batch,); 1 if nothing tells.

        Raises:
            ValueError: if it takes what views left out expect, and that is missing.
        """
        if not self.typical:
            return estimate.images.new_ones(len(estimate.images))
        if estimate.expected is None:
            raise ValueError("this calibration takes what views that are left out expect: give the expected errors")
        typical = torch.tensor(self.typical).to(estimate.images)[cells_of(estimate, self.bounds)]
        ratio = (estimate.expected / typical.square().flatten(1).mean(1)).sqrt()
        return torch.where(estimate.expected > 0, ratio.clamp_min(LEAST_SCALE), 1.0)

    def mismatch(self, other: "Use") -> str | None:
        """Why it says nothing of other reconstructions, as one sentence; None if it may."""
        pairs = {
            "images": (self.image, other.image),
            "method": (_as_today(self.method, other.method), other.method),
            "weights of the prior": (self.prior_sha256, other.prior_sha256),
            "n_samples": (self.n_samples, other.n_samples),
        }
        for name, (ours, theirs) in pairs.items():
            if ours != theirs:
                return (
                    f"the calibration is of other {name} than the reconstruction: calibrate reconstructions made as "
                    f"these are ({_differing(self.method if ours is None else ours, theirs)})"
                )
        theirs = other.measurement.model_dump(mode="json")["kind"]
        if self.measurement["kind"] != theirs:
            return (
                f"the calibration is for {self.measurement['kind']!r} data, not {theirs!r}: "
                "calibrate reconstructions of such data"
            )
        return None

    def elsewhere(self, measurement: Spec, *, is_exact: bool) -> str:
        """In what data were measured otherwise, as a clause: intervals need not hold. Empty if in nothing."""
        if self.is_exact not in (None, is_exact):
            grids = ("finer images or a scanner", "images on the very grid of the result")
            return (
                f"intervals were calibrated with data of {grids[not is_exact]}, but these data are of {grids[is_exact]}"
            )
        known, theirs = _as_today(self.measurement, measurement), measurement.model_dump(mode="json")
        ours = self.measurement if known is None else known.model_dump(mode="json")
        name = next((name for name in theirs if theirs[name] != ours.get(name)), "")
        if not name:
            return ""
        told = f"{name}={ours.get(name)} but the data were measured with {name}={theirs[name]}"
        return f"intervals were calibrated at {told}"


class Use(NamedTuple):
    """What a calibration is of, and what it may serve."""

    image: ImageContract
    method: Spec
    prior_sha256: str
    n_samples: int
    measurement: MeasurementSpec
    is_exact: bool = False


def cells_of(estimate: Estimate, bounds: Sequence[float]) -> Tensor:
    """The cell of each pixel, (batch, 1, height, width), int64."""
    values = magnitude(estimate.images)
    activity = unevenness(values) if estimate.std is None else magnitude(estimate.std)
    values = values.contiguous()
    classes = torch.bucketize(values, torch.tensor(bounds).to(values), right=True)
    return classes * (len(ACTIVITIES) + 1) + torch.bucketize(activity, torch.tensor(ACTIVITIES).to(values))


def n_cells(bounds: Sequence[float]) -> int:
    """Of how many cells pixels are, with these bounds between classes of values."""
    return (len(bounds) + 1) * (len(ACTIVITIES) + 1)


def widening(estimate: Estimate, gain: float) -> Tensor:
    """What intervals are wider by than those of their cell, (batch, 1, height, width)."""
    if estimate.lacks is None:
        return torch.zeros_like(estimate.images[:, :1])
    return gain * magnitude(estimate.lacks).abs()


def unevenness(values: Tensor) -> Tensor:
    """The standard deviation of values (batch, 1, height, width) around each pixel."""
    means = [
        avg_pool2d(x, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2, count_include_pad=False)
        for x in (values, values.square())
    ]
    return (means[1] - means[0].square()).clamp_min(0).sqrt()


def counted(estimate: Estimate, truth: Tensor, bounds: Sequence[float], gain: float = GAIN) -> np.ndarray:
    """The errors of each image beyond the widening of its intervals, (batch, n_cells, len(ERRORS) + 1), int64."""
    errors = (magnitude(estimate.images) - magnitude(truth)).abs()
    errors = (errors - widening(estimate, gain)).clamp_min(0)
    bins = torch.bucketize(errors, torch.tensor(ERRORS).to(errors))
    n_bins = len(ERRORS) + 1
    flat = cells_of(estimate, bounds) * n_bins + bins
    each = [torch.bincount(one.flatten(), minlength=n_cells(bounds) * n_bins) for one in flat]
    return torch.stack(each).view(len(truth), n_cells(bounds), n_bins).numpy()


def relative(
    people: Sequence[np.ndarray], expected: Sequence[float], level: float = 0.9
) -> tuple[list[np.ndarray], np.ndarray]:
    """Errors relative to what is expected of each person, and what is typical.

    Args:
        people: the counted errors of each, (n_cells, len(ERRORS) + 1).
        expected: of each the mean square error by views that are left out; not above 0 where they do not tell.
        level: of the intervals that errors are compared with.

    Returns:
        The errors of each as they would be if all were as well reconstructed, and the typical error of each cell.
    """
    widths = calibrated(people, [level]).half_widths[0]
    n_pixels = np.stack([one.sum(1) for one in people]).astype(float)
    squares = n_pixels @ widths**2 / n_pixels.sum(1)
    wanted = np.array(expected, float)
    is_known = wanted > 0
    ratios = np.sqrt(np.where(is_known, wanted, squares) / squares)
    usual = float(np.median(ratios[is_known])) if is_known.any() else 1.0
    scales = np.where(is_known, np.maximum(ratios / usual, LEAST_SCALE), 1.0)
    return [_divided(one, scale) for one, scale in zip(people, scales, strict=True)], widths * usual


def _divided(counts: np.ndarray, scale: float) -> np.ndarray:
    """The counts of errors that are divided by a scale: moved along the bins, which are even in the logarithm."""
    n_bins = counts.shape[1]
    places = np.arange(n_bins) - np.log(scale) / np.log(ERRORS[1] / ERRORS[0])
    # What is next to nothing, or beyond all, stays so.
    places = np.concatenate([[0.0], places[1:-1].clip(0, n_bins - 1), [n_bins - 1.0]])
    lower = np.minimum(places.astype(int), n_bins - 2)
    moves = np.zeros((n_bins, n_bins))
    moves[np.arange(n_bins), lower] = lower + 1 - places
    moves[np.arange(n_bins), lower + 1] = places - lower
    moved: np.ndarray = counts @ moves
    return moved


class Table(NamedTuple):
    """What people's errors lead to: half widths (n_levels, n_cells), and the coverage of people left out."""

    half_widths: np.ndarray
    covered: np.ndarray
    covered_by_class: np.ndarray


def calibrated(people: Sequence[np.ndarray], levels: Sequence[float] = LEVELS) -> Table:
    """The half widths of each level, from the counted errors of each person (n_cells, len(ERRORS) + 1).

    Raises:
        UserError: if there are fewer than two people.
    """
    if len(people) < 2:
        raise UserError(f"a calibration needs two people or more whose truth is known, not {len(people)}")
    counts = np.stack(people).astype(float)
    by_class = counts.reshape(len(people), -1, len(ACTIVITIES) + 1, counts.shape[2]).sum(2)
    sums = [_without_each(one) for one in (counts, by_class, counts.sum(1)[:, None])]
    found = [_of_level(counts, sums, level) for level in levels]
    return Table(*(np.stack(parts) for parts in zip(*found, strict=True)))


class _Sums(NamedTuple):
    """Of groups of cells: how the errors of all people but one lie, for each of them, and last of all people.

    ``cumulative`` is the share of errors up to each bin (n_people + 1, n_groups, n_bins), ``weight`` as how many people
    they count (n_people + 1, n_groups).
    """

    cumulative: np.ndarray
    weight: np.ndarray


def _without_each(counts: np.ndarray) -> _Sums:
    shares = counts / np.maximum(counts.sum(2), WHOLE_PIXELS)[..., None]
    sums = shares.sum(0) - np.concatenate([shares, np.zeros_like(shares[:1])])
    weight = sums.sum(2)
    return _Sums(np.cumsum(sums, 2) / np.maximum(weight, 1e-9)[..., None], weight)


def _of_level(counts: np.ndarray, sums: Sequence[_Sums], level: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Raise the quantile until people left out are covered; the last one if none does it."""
    n_people = len(counts)
    for share in RAISED:
        raised = level + share * (1 - level)
        covered = [_covered(counts[i], _widths(sums, i, raised, n_people - 1)) for i in range(n_people)]
        mean = float(np.nanmean([whole for whole, _ in covered]))
        if mean >= level:
            break
    by_class = np.array([by_class for _, by_class in covered])
    known = ~np.isnan(by_class)
    means = np.where(known.any(0), np.nansum(by_class, 0) / np.maximum(known.sum(0), 1), np.nan)
    return _widths(sums, n_people, raised, n_people), mean, means


def _widths(sums: Sequence[_Sums], left_out: int, level: float, n_people: int) -> np.ndarray:
    """Quantiles of each cell, (n_cells,); of one that few say anything of, those of its class, or of all pixels."""
    cells, classes, whole = (_quantile(one.cumulative[left_out], one.weight[left_out], level, n_people) for one in sums)
    classes = np.where(np.isnan(classes), whole, classes).repeat(len(ACTIVITIES) + 1)
    return np.where(np.isnan(cells), classes, cells)


def _quantile(cumulative: np.ndarray, weight: np.ndarray, level: float, n_people: int) -> np.ndarray:
    """Within the first bin with which the level is reached, of every group; NaN where too few people count."""
    places = np.minimum((cumulative < level - 1e-12).sum(1), len(ERRORS) - 1)
    rows = np.arange(len(places))
    before, there = np.where(places > 0, cumulative[rows, places - 1], 0), cumulative[rows, places]
    share = np.clip((level - before) / np.maximum(there - before, 1e-12), 0, 1)
    widths = _LOWER[places] + share * (ERRORS - _LOWER)[places]
    return np.where(weight >= min(LEAST_PEOPLE, n_people / 2), widths, np.nan)


def _covered(counts: np.ndarray, widths: np.ndarray) -> tuple[float, np.ndarray]:
    """The share of a person's pixels whose error is within the half widths, of all but the lowest class, and of each.

    The lowest is air, which is easy, and there is much of it. NaN of what a person has none.
    """
    shares = (widths[:, None] - _LOWER) / (ERRORS - _LOWER)
    n_inside, n = (counts[:, :-1] * shares.clip(0, 1)).sum(1), counts.sum(1)
    by_class = [x.reshape(-1, len(ACTIVITIES) + 1).sum(1) for x in (n_inside, n)]
    few = by_class[1] < LEAST_PIXELS
    n_body = by_class[1][1:].sum()
    whole = float(by_class[0][1:].sum() / n_body) if n_body else float("nan")
    return whole, np.where(few, np.nan, by_class[0] / np.maximum(by_class[1], 1))


def _as_today(options: Mapping[str, JsonValue], spec: Spec) -> Spec | None:
    """Kept options as a spec of this kind, those that came later at their default; None if they are of another kind."""
    try:
        return type(spec).model_validate(dict(options))
    except ValidationError:
        return None


def _as_json(value: object) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Spec) else value


def _differing(ours: object, theirs: object) -> str:
    ours, theirs = _as_json(ours), _as_json(theirs)
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        name = next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), "")
        return f"{name}: {ours.get(name)} there, {theirs.get(name)} here"
    return f"{ours} there, {theirs} here"
