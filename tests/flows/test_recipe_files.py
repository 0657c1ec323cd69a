"""Recipes from files, with changes from the command line; and what is said of wrong ones."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.recipe_errors import SHOWN, RecipeError
from flows.recipe_files import find_recipe, load_execution, load_recipe
from scoreinv.contract import ImageContract
from storage.errors import StoreNotFound
from storage.sources import NiftiSource
from storage.uri import write_bytes
from tasks.recipes import IngestRecipe, PipelineRecipe
from tasks.running.shards import Execution

IMAGE = ImageContract(modality="mri", size=16, pixel_mm=1.5, low=0, high=1).model_dump_json()
CHANGES = ("source.kind=nifti", "source.path=scans", "source.select.every=3")


@pytest.mark.parametrize("changes", list(itertools.permutations(CHANGES)))
def test_a_kind_may_come_after_the_options_under_it(changes: tuple[str, ...]) -> None:
    recipe = load_recipe(IngestRecipe, None, [f"image={IMAGE}", *changes])
    source = recipe.model_dump(mode="json")["source"]
    assert (source["kind"], source["path"], source["select"]["every"]) == ("nifti", "scans", 3)


def test_a_kind_clears_what_a_whole_value_set_before_it() -> None:
    changes = ["source={kind: dicom, path: scans, select: {every: 3}}", "source.path=other", "source.kind=nifti"]
    source = load_recipe(IngestRecipe, None, [f"image={IMAGE}", *changes]).model_dump(mode="json")["source"]
    assert (source["kind"], source["path"], source["select"]["every"]) == ("nifti", "other", 1)


VALUES = (
    "/data/Patient #3",
    "CT: chest",
    "007",
    "1e3",
    "0o17",
    "true",
    "null",
    "~",
    "on",
    "12:30",
    "[draft] scans",
    "{x",
    " a ",
    "&a",
    "*",
    "!x",
    "a=b",
    "'s",
    "“x”",
)


@pytest.mark.parametrize("text", VALUES)
def test_text_on_the_command_line_is_kept_as_it_stands(text: str) -> None:
    source = load_recipe(IngestRecipe, None, [f"image={IMAGE}", "source.kind=nifti", f"source.path={text}"]).source
    assert isinstance(source, NiftiSource)
    assert source.path == text


def test_a_command_line_value_is_a_number_a_list_or_quoted_where_it_says_so() -> None:
    changes = ["source.kind=nifti", "source.select.every=023", "source.percentile=6e1", 'source.path="a # b"']
    recipe = load_recipe(IngestRecipe, None, [f"image={IMAGE}", *changes, 'source.only_subjects=[007, "a,b", on]'])
    assert isinstance(recipe.source, NiftiSource)
    assert (recipe.source.select.every, recipe.source.percentile, recipe.source.path) == (23, 60.0, "a # b")
    assert recipe.source.only_subjects == ("007", "a,b", "on")


FILE = """\
source:
  kind: nifti
  path: 2024
  only_subjects: [0042, 1e3, yes]
  select: {every: 023, max_slices: null}
image: {modality: mri, size: 0100, pixel_mm: 1.5e0, low: 0, high: 1}
shard_size: 0o17
execution:
"""


@pytest.mark.parametrize("encode", [str.encode, lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()])
def test_a_file_says_what_its_writer_wrote(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    (tmp_path / "x.yaml").write_bytes(encode(FILE))
    recipe = load_recipe(IngestRecipe, tmp_path / "x.yaml", ["source.select.min_foreground=0.1"])
    assert isinstance(recipe.source, NiftiSource)
    assert recipe.source.path == "2024"
    assert recipe.source.only_subjects == ("0042", "1e3", "yes")
    assert (recipe.source.select.every, recipe.image.size, recipe.shard_size) == (23, 100, 15)
    assert load_execution(Execution(), tmp_path / "x.yaml") == Execution()


FILES = {
    "utf-16": ("a: 1".encode("utf-16"), "x.yaml is not UTF-8 (line 1): save it as UTF-8"),
    "latin-1": ("a: b\ntitle: Größe".encode("latin-1"), "x.yaml is not UTF-8 (line 2)"),
    "empty": (b"", "x.yaml must hold a mapping of keys to values, got nothing"),
    "comment": (b"# studies:", "x.yaml must hold a mapping of keys to values, got nothing"),
    "a list": (b"- a", "x.yaml must hold a mapping of keys to values, got a list"),
    "a number": (b"3", "x.yaml must hold a mapping of keys to values, got 3"),
    "twice": (b"shard_size: 1\nshard_size: 2", "x.yaml, line 2: the key 'shard_size' is there twice, in line 1"),
    "binary": (bytes(range(128)), "x.yaml, line 1: it holds the control character"),
    "large": (b"a: " + b"x" * 3_000_000, "characters, more than the"),
}


@pytest.mark.parametrize(("data", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_recipe_is_one_message(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(RecipeError) as refused:
        load_recipe(PipelineRecipe, tmp_path / "x.yaml")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


WRONG = {
    "image.sise=3": "image.sise: there is no such key, did you mean 'size'?",
    "pixel_mm=3": "pixel_mm: there is no such key here, did you mean 'source.pixel_mm' or 'image.pixel_mm'?",
    "image.foo=3": "image.foo: there is no such key: there are modality, size, pixel_mm, low, high",
    "source.select.evry=3": "source.select.evry: there is no such key, did you mean 'every'?",
    "source.path.x=3": "source.path.x: 'x' lies under a value that has no keys",
    "source.only_subjects.0=x": "source.only_subjects.0: '0' must be no number, as the list is empty",
    "image.size=many": "image.size: must be a whole number (got 'many')",
    "image.size=8.5": "image.size: must be a whole number (got 8.5)",
    "image.size=": "image.size: must be a whole number (got '')",
    "image.size=null": "image.size: must be a whole number (got nothing)",
    "image.low=1:30": "image.low: must be a number (got '1:30')",
    "image.modality=mr": "image.modality: must be 'ct' or 'mri' (got 'mr'), did you mean 'mri'?",
    "source.identities=perhaps": "source.identities: must be 'hashed' or 'kept' (got 'perhaps')",
    "source.only_subjects=a,b": "source.only_subjects: must be a list (got 'a,b'): write only_subjects=[a,b] on the",
    "source.only_subjects=a": "source.only_subjects: must be a list (got 'a'): write only_subjects=[a] on the command",
    "source.only_subjects=[a,b": "source.only_subjects: must be a list (got '[a,b'): line 1 is not YAML: ",
    "source.only_subjects=[a #2]": "text with , : # or brackets in it needs quotes",
    "source.path=[a]": "source.path: must be text: put quotes around it, as in 'path=\"[a]\"'",
    "source.select=3": "source.select: must hold keys and values (got 3): write select.key=value on the command line",
    "source={kind: dicom, kind: nifti}": "the key 'kind' is there twice",
    "source.kind=dicon": "source: there is no kind 'dicon', did you mean 'dicom'? Choose dicom, nifti, ",
    "source.path=\udcff": "source.path: '\\udcff' holds bytes that are not UTF-8",
    "size": "'size' is not a change: write key.path=value",
    "=3": "'=3' is not a change: write key.path=value",
}


@pytest.mark.parametrize(("change", "message"), WRONG.items())
def test_a_wrong_key_or_value_says_what_was_wanted(change: str, message: str) -> None:
    source = "source={kind: dicom, modality: mri, path: x, only_subjects: []}"
    with pytest.raises(RecipeError) as refused:
        load_recipe(IngestRecipe, None, [f"image={IMAGE}", source, change])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_many_faults_are_counted() -> None:
    changes = [f"image={IMAGE}", "source={kind: nifti, path: x}", *(f"key{i}=1" for i in range(50))]
    with pytest.raises(RecipeError) as refused:
        load_recipe(IngestRecipe, None, changes)
    assert len(str(refused.value).splitlines()) == SHOWN + 1
    assert str(refused.value).endswith(f"and {50 - SHOWN} more")


def test_a_recipe_may_lie_anywhere(tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}/run=1/recipe.yaml"
    write_bytes(
        uri, f"image: {IMAGE}\nsource: {{kind: phantom, modality: mri}}\nexecution: {{batch_size: 3}}\n".encode()
    )
    assert find_recipe(uri) == uri
    recipe = load_recipe(IngestRecipe, None, [f"image={IMAGE}", "source.kind=phantom", "source.modality=mri"])
    assert load_recipe(IngestRecipe, uri) == recipe
    assert load_execution(Execution(), uri).batch_size == 3
    with pytest.raises(StoreNotFound, match=f"there is no file {uri}.gone"):
        load_recipe(IngestRecipe, f"{uri}.gone")
