"""YAML as recipes are written in it: what a person wrote is what is read.

Values are those of the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): 023 is 23, 0o17 is 15,
1e-4 is a number; on, no, 12:30, 1_000 and dates are text. PyYAML knows YAML 1.1 alone, so only its events are used.
What stands for more than it shows is bounded: depth, size, and what aliases repeat.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from scoreinv.errors import UserError

MAX_CHARACTERS = 1 << 19
MAX_NODES = 20_000
"""Values, lists and mappings of a text, those that aliases repeat included."""
MAX_DEPTH = 40

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = dict.fromkeys(("", "~", "null", "Null", "NULL"), None)
_BOOLEANS = dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_BASES = {"0o": 8, "0x": 16}
_MAX_DIGITS = 400
"""A longer row of digits is text; Python itself refuses to read one of 4,300."""

_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\ud800-\udfff]+")
"""Control characters; and surrogates, which stand for bytes that are not UTF-8."""

_CORE = "tag:yaml.org,2002:"
_TAGS = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str", list: "seq", dict: "map"}


class YamlError(UserError):
    """A text that is not YAML, or not such as a recipe may hold; the message names the line."""


@dataclass(frozen=True)
class Written:
    """A number, a truth value or nothing, and how it was written: so it can be text where text is wanted."""

    text: str
    value: bool | int | float | None


class _Anchor(NamedTuple):
    content: Any
    n_nodes: int
    height: int


def read_yaml(text: str) -> Any:
    """Mappings, lists, str and Written of a text with one YAML document.

    Raises:
        YamlError: if the text is not YAML, has another document, a key twice, tags, or is too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"it has {len(text)} characters, more than the {MAX_CHARACTERS} that a recipe may have")
    try:
        return _Reader(text).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"line {mark.line + 1 if mark else 1} is not YAML: {_problem(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"line {line}: it holds the control character {chr(error.character)!r}: take it out") from error


def read_scalar(text: str) -> str | Written:
    """What an unquoted text means by the core schema.

    Raises:
        YamlError: if it holds control characters or is not Unicode.
    """
    require_readable(text)
    if text in _WORDS or text in _BOOLEANS:
        return Written(text, _BOOLEANS.get(text))
    if len(text) <= _MAX_DIGITS and _INTEGER.fullmatch(text):
        return Written(text, int(text, _BASES.get(text[:2], 10)))
    if len(text) <= _MAX_DIGITS and _FLOAT.fullmatch(text):
        # Python writes .inf and .nan without the point.
        return Written(text, float(text.replace(".", "") if text[-1] in "fFnN" else text))
    return text


def require_readable(text: str) -> None:
    """Refuse text that cannot stand in a recipe.

    Raises:
        YamlError: naming the characters.
    """
    if found := _UNREADABLE.search(text):
        kind = "bytes that are not UTF-8" if found[0] >= "\ud800" else "a control character"
        shown = ascii(text if len(text) < 60 else f"{text[:56]} ...")
        raise YamlError(f"{shown} holds {kind} ({found[0]!a}): rename it, or take them out")


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(filter(None, (error.context, error.problem)))
    return f"{problem}: indent with spaces" if r"'\t'" in problem else problem


class _Reader:
    """One pass over the events of a text."""

    def __init__(self, text: str) -> None:
        self.events: Iterator[Any] = yaml.parse(text, Loader=yaml.SafeLoader)
        self.anchors: dict[str, _Anchor | None] = {}
        """None while what an anchor names is still being read."""
        self.n_nodes = 0

    def document(self) -> Any:
        """The content of the only document; None if there is none."""
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        content = self._node(next(self.events), 0)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _refusal(after, "another YAML document begins: a recipe is one document")
        return content

    def _node(self, event: Any, depth: int) -> Any:
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise _refusal(event, f"values lie more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        before = self.n_nodes
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        content = self._content(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchor(content, 1 + self.n_nodes - before, _height(content))
        return content

    def _content(self, event: Any, depth: int) -> Any:
        content: Any
        if isinstance(event, yaml.ScalarEvent):
            content = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            content = []
            while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
                content.append(self._node(item, depth + 1))
        else:
            content = self._mapping(depth)
        tag = _CORE + _TAGS[type(content.value if isinstance(content, Written) else content)]
        if event.tag not in (None, "!", tag):
            raise _refusal(event, f"the tag {event.tag.replace(_CORE, '!!')} is not for recipes: leave it out")
        return content

    def _scalar(self, event: yaml.ScalarEvent) -> str | Written:
        is_plain = event.style is None and event.tag in (
            None,
            *(_CORE + name for name in _TAGS.values() if name != "str"),
        )
        try:
            require_readable(event.value)
        except YamlError as error:
            raise _refusal(event, str(error)) from error
        return read_scalar(event.value) if is_plain else event.value

    def _mapping(self, depth: int) -> dict[str, Any]:
        content: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise _refusal(key, "a key must be a word")
            name, line = key.value, _line(key)
            if name in lines:
                raise _refusal(key, f"the key {name!r} is there twice, in line {lines[name]} and here: keep one")
            lines[name] = line
            value = self._node(next(self.events), depth + 1)
            if name == "<<" and key.style is None:
                merged = _merged(key, value)
            else:
                content[name] = value
        return merged | content

    def _alias(self, event: yaml.AliasEvent, depth: int) -> Any:
        if event.anchor not in self.anchors:
            raise _refusal(event, f"*{event.anchor} stands for nothing: there is no &{event.anchor} before it")
        anchor = self.anchors[event.anchor]
        if anchor is None:
            raise _refusal(event, f"*{event.anchor} stands for something that it is a part of")
        self._count(event, anchor.n_nodes)
        if depth + anchor.height > MAX_DEPTH:
            raise _refusal(event, f"values lie more than {MAX_DEPTH} levels deep")
        # A copy, as a change of one place shall not change the others.
        return copy.deepcopy(anchor.content)

    def _count(self, event: Any, n: int) -> None:
        self.n_nodes += n
        if self.n_nodes > MAX_NODES:
            raise _refusal(event, f"there are more than {MAX_NODES} values, with those that aliases repeat")


def _merged(event: Any, value: Any) -> dict[str, Any]:
    """What a key << brings in: the keys of a mapping, or of several, of which the first wins."""
    mappings = value if isinstance(value, list) else [value]
    if not all(isinstance(mapping, dict) for mapping in mappings):
        raise _refusal(event, "<< takes a mapping, or a list of mappings")
    merged: dict[str, Any] = {}
    for mapping in reversed(mappings):
        merged |= mapping
    return merged


def _height(content: Any) -> int:
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return 1 + max(map(_height, inner), default=-1) if isinstance(content, dict | list) else 0


def _refusal(event: Any, reason: str) -> YamlError:
    return YamlError(f"line {_line(event)}: {reason}")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
