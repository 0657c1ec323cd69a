"""YAML means what YAML 1.2 says, and what is large, deep or double is refused with its line."""

import time

import pytest

from flows.yaml_text import MAX_DEPTH, MAX_NODES, Written, YamlError, read_scalar, read_yaml

NUMBERS = {
    "023": 23,
    "09": 9,
    "-0100": -100,
    "0o17": 15,
    "0x1F": 31,
    "1e-4": 1e-4,
    "1E5": 1e5,
    "+.5": 0.5,
    "1.": 1.0,
    "-.INF": float("-inf"),
    "true": True,
    "FALSE": False,
    "~": None,
    "null": None,
    "": None,
}
TEXTS = (
    "on",
    "off",
    "yes",
    "no",
    "y",
    "12:30",
    "190:20:30",
    "2020-01-01",
    "1_000",
    "0b11",
    "1,000",
    "٣",
    "²",
    "1e",
    "=",
)


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_and_words_are_those_of_the_core_schema(text: str) -> None:
    read = read_scalar(text)
    assert isinstance(read, Written)
    assert (read.value, type(read.value), read.text) == (NUMBERS[text], type(NUMBERS[text]), text)
    assert read_yaml(f"key: {text}") == {"key": read}


@pytest.mark.parametrize("text", TEXTS)
def test_all_else_is_text(text: str) -> None:
    assert read_scalar(text) == text
    assert read_yaml(f"key: {text}") == {"key": text}


def test_quotes_and_tags_make_text() -> None:
    assert read_yaml("""[ '023', "on", !!str 5, ! 6, !!str ]""") == ["023", "on", "5", "6", ""]
    assert read_yaml("key: |\n  023\n") == {"key": "023\n"}


def test_not_a_number_and_numbers_too_large() -> None:
    nan = read_scalar(".NaN")
    assert isinstance(nan, Written)
    assert nan.value != nan.value
    assert read_scalar("1e999") == Written("1e999", float("inf"))
    assert read_scalar("9" * 5000) == "9" * 5000


def test_aliases_are_copies_and_merge_keys_give_way() -> None:
    read = read_yaml("a: &a {x: p, y: q}\nb: *a\nc: {<<: *a, y: r}\nd: {<<: [{x: 1st}, *a]}")
    assert (read["b"], read["c"], read["d"]) == (read["a"], {"x": "p", "y": "r"}, {"x": "1st", "y": "q"})
    read["b"]["x"] = "other"
    assert read["a"]["x"] == "p"


REFUSED = {
    "a: 1\nb: 2\na: 3": "line 3: the key 'a' is there twice, in line 1 and here",
    "a:\n  b: 1\n  'b': 2": "line 3: the key 'b' is there twice, in line 2 and here",
    "a: {b: 1, c: {d: 1, d: 2}}": "line 1: the key 'd' is there twice",
    "{a: {}, a: {}}": "the key 'a' is there twice",
    "a: &x {<<: {}, <<: {}}": "the key '<<' is there twice",
    "a: &x [*x]": r"line 1: \*x stands for something that it is a part of",
    "a: &x\n  <<: *x": r"line 2: \*x stands for something that it is a part of",
    "a: *x": r"\*x stands for nothing",
    "<<: 3": "<< takes a mapping",
    "? [a]\n: 1": "a key must be a word",
    "a: 1\n---\nb: 2": "line 2: another YAML document begins",
    "a: 1\n--- 2": "line 2: another YAML document begins",
    "a: !!python/object/apply:os.system [ls]": "the tag !!python/object/apply:os.system is not for recipes",
    "a: !!binary aGk=": "the tag !!binary",
    "a: !!timestamp 2020-01-01": "the tag !!timestamp",
    "a: !!int 1.5": "the tag !!int",
    "!!set {a}": "the tag !!set",
    "a: !mine b": "the tag !mine",
    "a:\n\tb: 1": "line 2 is not YAML: .*indent with spaces",
    "a: b: c": "line 1 is not YAML: mapping values are not allowed here",
    "a: [1,\n": "is not YAML",
    "a: b\nc: \0": r"line 2: it holds the control character '\\x00'",
    'a: "\\0"': "holds a control character",
    'a: "\\ud800"': "holds bytes that are not UTF-8",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items())
def test_what_no_recipe_holds_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(YamlError, match=message):
        read_yaml(text)


def _laughs(n: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, n)]
    return "\n".join(lines)


def _ladder(n: int) -> str:
    depth = MAX_DEPTH // 2
    rungs = [f"a{i}: &a{i} {'[' * depth}*a{i - 1}{']' * depth}" for i in range(1, n)]
    return "\n".join([f"a0: &a0 {'[' * depth}{']' * depth}", *rungs])


BOMBS = {
    "laughs": (_laughs(12), f"more than {MAX_NODES} values"),
    "merged laughs": (
        "a: &a {x: 1}\n" + "".join(f"{i}: &b{i} {{<<: [{', '.join(['*a'] * 500)}]}}\n" for i in range(60)),
        f"more than {MAX_NODES} values",
    ),
    "ladder of aliases": (_ladder(500), f"more than {MAX_DEPTH} levels"),
    "brackets": ("[" * 100_000, f"more than {MAX_DEPTH} levels"),
    "braces": ("{a: " * 50_000, f"more than {MAX_DEPTH} levels"),
    "dashes": ("- " * 100_000, f"more than {MAX_DEPTH} levels"),
    "questions": ("? " * 100_000, "a key must be a word"),
    "items": ("[" + "x," * 30_000 + "]", f"more than {MAX_NODES} values"),
    "characters": ("#" * 600_000, "characters, more than"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_bombs_are_defused_before_they_take_time(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(YamlError, match=message):
        read_yaml(text)
    assert time.process_time() - start < 10
