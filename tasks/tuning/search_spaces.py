"""Which numbers of a method can be tuned, and between which values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from scoreinv.problem import Method
from scoreinv.spec import Spec, note_moved

Value = None | bool | int | float | str
"""Of one option of a method."""

Values = dict[str, Value]
"""Dotted key -> value."""

MethodT = TypeVar("MethodT", bound=Method)


EARLIER_KEYS = {
    "eta": "renoise.eta",
    "temperature": "renoise.temperature",
    "noise_floor": "data_floor",
    "start_factor": "start.factor",
}
"""What options of methods are called now that had other keys."""


class SearchRange(Spec):
    """The values that one option of a method may take: between two, or one of a few."""

    key: str = Field(min_length=1, description="Of the option within the method, as strength or grid.sigma_max.")
    low: float | None = Field(None, description="The smallest value; whole for an option that counts.")
    high: float | None = Field(None, description="The largest value.")
    is_log: bool = Field(False, description="Search evenly in the logarithm: where a factor matters, not a difference.")
    choices: tuple[Value, ...] = Field((), description="In place of low and high: the values to choose from.")

    @field_validator("key")
    @classmethod
    def _read_earlier_keys(cls, key: str) -> str:
        if key in EARLIER_KEYS:
            note_moved(key, EARLIER_KEYS[key])
        return EARLIER_KEYS.get(key, key)

    @model_validator(mode="after")
    def _is_one_of_two_kinds(self) -> "SearchRange":
        if self.choices:
            if (self.low, self.high, self.is_log) != (None, None, False):
                raise ValueError(f"{self.key}: choices stand in place of low, high and is_log")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(f"{self.key}: low must be below high (or choices given), got {self.low} and {self.high}")
        elif self.is_log and self.low <= 0:
            raise ValueError(f"{self.key}: a logarithm needs low above 0, got {self.low}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high.

        Raises:
            ValueError: if there are choices in their place.
        """
        if self.low is None or self.high is None:
            raise ValueError(f"{self.key} has choices, not bounds")
        return self.low, self.high

    def beyond(self, value: Value) -> float | None:
        """The next value outside, if a value is in the last 5 % of the range on either side; None if it is not."""
        if self.choices or not isinstance(value, int | float) or not self.holds(value):
            return None
        low, high, place = (math.log(x) if self.is_log else x for x in (*self.bounds, value))
        margin = 0.05 * (high - low)
        if low + margin < place < high - margin:
            return None
        outside = low - margin if place <= low + margin else high + margin
        return math.exp(outside) if self.is_log else outside

    def holds(self, value: Value) -> bool:
        """Whether a value is one that may be tried."""
        if self.choices:
            return value in self.choices
        low, high = self.bounds
        return isinstance(value, int | float) and low <= value <= high


Search = tuple[SearchRange, ...]


def _between(key: str, low: float, high: float, *, is_log: bool = False) -> SearchRange:
    return SearchRange(key=key, low=low, high=high, is_log=is_log)


SIGMA_MAX = _between("grid.sigma_max", 0.1, 10, is_log=True)
"""From below the error of a direct image to where nothing of it is left."""

# What Song et al. 2022 (arXiv:2111.08005) tune, also by Bayesian optimisation; their ranges of the SNR differ between
# CT and MRI, these hold both.
LAMBDA, SNR = _between("strength", 0, 1), _between("snr", 0.05, 0.8)
ETA = _between("renoise.eta", 0, 1)
RATE = _between("rate", 0.05, 3, is_log=True)

DEFAULT_SEARCH: dict[str, Search] = {
    "tv": (_between("weight", 1e-5, 0.1, is_log=True),),
    "wavelet": (_between("weight", 1e-5, 0.1, is_log=True),),
    "cgls": (_between("n_iters", 2, 60, is_log=True),),
    "dds": (
        ETA,
        _between("renoise.temperature", 0.3, 1),
        SIGMA_MAX,
        _between("strength", 0.3, 30, is_log=True),
        _between("data_floor", 0, 0.003),
    ),
    "diffpir": (_between("strength", 0.03, 30, is_log=True), ETA, SIGMA_MAX),
    "daps": (SIGMA_MAX, _between("data_floor", 1e-4, 0.03, is_log=True)),
    "dpir": (
        _between("strength", 0.1, 10, is_log=True),
        _between("grid.sigma_max", 0.03, 1, is_log=True),
        _between("grid.sigma_min", 0.001, 0.02, is_log=True),
        _between("data_floor", 1e-5, 0.01, is_log=True),
    ),
    "bregman": (
        _between("memory", 0.3, 0.95),
        _between("relaxation", 0, 1.2),
        _between("first_noise", 0, 1),
        SIGMA_MAX,
    ),
    "red_diff": (_between("strength", 0.03, 30, is_log=True), _between("rate", 0.005, 0.3, is_log=True)),
    "dps": (_between("zeta", 0.3, 30, is_log=True), ETA, SIGMA_MAX),
    "pigdm": (ETA, SIGMA_MAX, _between("n_cg", 3, 30, is_log=True)),
    "projection": (LAMBDA, SNR),
    "langevin_projection": (LAMBDA, SNR),
    "score_sde": (RATE, SNR),
    "langevin": (RATE, SNR),
}
"""By kind of method: what decides how good it is and follows from no formula. Costs stay as they are: the number of
network calls is in none of these."""


def default_search(method: Method) -> Search:
    """The ranges to tune a method in if nobody says otherwise.

    Raises:
        ValueError: if the method has nothing to tune.
    """
    kind = method.kind
    if kind not in DEFAULT_SEARCH:
        raise ValueError(f"method {kind!r} has no numbers to tune by default: name some under search, or tune another")
    return DEFAULT_SEARCH[kind]


def check_search(method: Method, search: Search) -> None:
    """Refuse ranges that do not belong to the method.

    Raises:
        ValueError: if a key is unknown or named twice, or one of its values is not allowed; says what is.
    """
    keys = [one.key for one in search]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"search names {', '.join(sorted(twice))} more than once: give each option one range")
    fields = options(method)
    for one in search:
        if one.key not in fields:
            raise ValueError(f"search: method {method.kind!r} has no option {one.key!r}: choose {', '.join(fields)}")
        for value in _extremes(one, fields[one.key]):
            _try(method, one.key, value)


def _extremes(one: SearchRange, field: FieldInfo) -> Sequence[Value]:
    if one.choices:
        return one.choices
    if not {int, float} & _types(field):
        raise ValueError(f"search: {one.key} is not a number: give choices in place of low and high")
    if is_whole(field) and not all(bound.is_integer() for bound in one.bounds):
        raise ValueError(f"search: {one.key} counts: low and high must be whole numbers, got {one.low} and {one.high}")
    return one.bounds


def _try(method: Method, key: str, value: Value) -> None:
    try:
        with_values(method, {key: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"search: {key}={value} is not allowed: {reason}") from error


def with_values(method: MethodT, values: Mapping[str, Value]) -> MethodT:
    """The method with some options set, by their dotted keys.

    Raises:
        ValidationError: if a value is not allowed.
    """
    content = method.model_dump()
    for key, value in values.items():
        *above, last = key.split(".")
        owner = content
        for name in above:
            owner = owner[name]
        owner[last] = value
    return type(method).model_validate(content)


def is_allowed(method: Method, values: Mapping[str, Value]) -> bool:
    """Whether the method takes these values together."""
    try:
        with_values(method, values)
    except ValidationError:
        return False
    return True


def may_be_wider(method: Method, one: SearchRange, value: Value) -> bool:
    """Whether a better value may lie beyond an end of the range that this one is near."""
    outside = one.beyond(value)
    if outside is None:
        return False
    if is_whole(options(method)[one.key]):
        outside = math.floor(outside) if outside < one.bounds[0] else math.ceil(outside)
    return is_allowed(method, {one.key: outside})


def values_of(method: Method, search: Search) -> Values:
    """What the method has for the options that are searched."""
    return {one.key: _value(method, one.key) for one in search}


def _value(method: Method, key: str) -> Value:
    found: Any = method
    for name in key.split("."):
        found = getattr(found, name)
    return found  # type: ignore[no-any-return]


def options(spec: Spec) -> dict[str, FieldInfo]:
    """The field of every option by its dotted key, those of nested options as well."""
    return dict(_options(spec, ""))


def _options(spec: Spec, prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if isinstance(value, Spec):
            yield from _options(value, f"{prefix}{name}.")
        elif name != "kind":
            yield f"{prefix}{name}", field


def is_whole(field: FieldInfo) -> bool:
    """Whether an option is a whole number."""
    return int in _types(field) and float not in _types(field)


def _types(field: FieldInfo) -> set[Any]:
    """The option's type, or those it may have where it may have several."""
    return {field.annotation, *get_args(field.annotation)}
