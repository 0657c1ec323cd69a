"""What a report is made of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoreinv.modality import Window
from tasks.people import Compared, OverPeople

Image = NDArray[np.floating[Any]]

CSV, PARQUET, LATEX = "Scores of every slice, CSV", "Scores of every slice, Parquet", "Table for a paper, LaTeX"
"""The files beside a page; there may be no Parquet."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What one method made of a slice.

    Attributes:
        method: its name.
        image: (height, width), in the unit of the panel.
        std: standard deviation of posterior samples, None if there is a single one.
        half_width: of the calibrated 90 % interval around the image, None if it has none.
        n_samples: how many these are.
        scores: of this slice, by metric.
    """

    method: str
    image: Image
    std: Image | None = None
    n_samples: int = 1
    scores: Mapping[str, float] = field(default_factory=dict)
    half_width: Image | None = None

    @property
    def doubt(self) -> Image | None:
        """How unsure the image is: its calibrated interval, or else how far its samples lie apart."""
        return self.std if self.half_width is None else self.half_width


@dataclass(frozen=True, eq=False)
class Panel:
    """One slice: the truth, and what every method made of it.

    Attributes:
        title: which slice this is.
        truth: (height, width), in the unit of ``value_label``, as are all images; None if nobody knows it.
        pictures: of the methods, the naive one first.
        value_label: the unit, such as HU; empty for values without one.
        windows: the values shown from black to white, the usual window first.
        pixel_mm: side of a pixel in millimetres.
        above_air: values above are of a body, lungs too.
    """

    title: str
    truth: Image | None
    pictures: Sequence[Picture]
    value_label: str
    windows: Sequence[Window]
    pixel_mm: float
    above_air: float = -math.inf

    def __post_init__(self) -> None:
        images = [image for one in self.pictures for image in (one.image, one.std, one.half_width)]
        shapes = {image.shape for image in (self.truth, *images) if image is not None}
        if len(shapes) != 1 or not self.pictures or self.pictures[0].image.ndim != 2:
            raise ValueError(f"panel {self.title!r} needs images (height, width) of one shape, got {sorted(shapes)}")
        if not self.windows or any(not window.low < window.high for window in self.windows):
            raise ValueError(f"panel {self.title!r} needs windows with low < high to show values, got {self.windows}")
        if not self.pixel_mm > 0:
            raise ValueError(f"panel {self.title!r} needs pixel_mm > 0 for its scale bar, got {self.pixel_mm}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of its images."""
        height, width = self.pictures[0].image.shape
        return height, width


@dataclass(frozen=True)
class MethodRow:
    """A method's metrics over ``n`` slices, each as (mean, standard deviation), and what a slice costs.

    ``counts`` says of how many slices a mean is, where it is not of all: a metric may be infinite or undefined. Of
    ``n_failed`` of the slices the method has no image.
    """

    method: str
    n: int
    nfe: int
    seconds_per_slice: float | None
    metrics: Mapping[str, tuple[float, float]]
    counts: Mapping[str, int] = field(default_factory=dict)
    n_failed: int = 0


class SliceRow(NamedTuple):
    """One slice of a person: the metric that people are listed by, of each method that has it."""

    person: str
    name: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class People:
    """The methods over people, each with the mean of their slices.

    Attributes:
        reference: the method that the others are compared with; empty for none.
        compared: metric -> method -> mean, gain and p.
        means: metric -> method -> person -> mean.
        listed: the metric that people and slices are listed by.
        slices: all of them, person by person.
    """

    reference: str
    compared: Mapping[str, Mapping[str, Compared]]
    means: Mapping[str, Mapping[str, Mapping[str, float]]]
    listed: str
    slices: Sequence[SliceRow] = ()

    @property
    def names(self) -> list[str]:
        """All people."""
        return list(dict.fromkeys(person for one in self.means[self.listed].values() for person in one))


class Curve(NamedTuple):
    """A method over settings.

    Attributes:
        method: its name.
        needs: what it has learned from: nothing, prior or reconstructor.
        points: over people, one for each setting; None where it has no scores.
    """

    method: str
    needs: str
    points: Sequence[OverPeople | None]


@dataclass(frozen=True)
class Across:
    """The methods of several sections, whose measurements differ in one number.

    Attributes:
        axis: what that is.
        values: of the sections, ascending.
        metric: of the curves.
        curves: one for each method.
        trained_at: the value that networks were trained for, if there are any, and they agree.
    """

    axis: str
    values: Sequence[float]
    metric: str
    curves: Sequence[Curve]
    trained_at: float | None = None


@dataclass(frozen=True)
class ReportSection:
    """One measurement of one data set: its methods, some slices, and the recipe that makes them again.

    Attributes:
        heading: what was measured of what.
        intro: sentences below it.
        warnings: why what is below may not hold, in red.
        rows: the methods over slices.
        panels: some slices.
        recipe_yaml: makes the results again.
        baseline: the row that the others are compared with; empty for none.
        people: the methods over people, if there are several.
        files: what lies beside the page, by what it is.
        stores: references of what the section was made from, by what they are.
    """

    heading: str
    intro: Sequence[str] = ()
    warnings: Sequence[str] = ()
    rows: Sequence[MethodRow] = ()
    panels: Sequence[Panel] = ()
    recipe_yaml: str = ""
    baseline: str = ""
    people: People | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict)
