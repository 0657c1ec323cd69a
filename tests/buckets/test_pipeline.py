"""The whole pipeline in a bucket: its results, its requests, and what is said where there is no access."""

import json
from pathlib import Path

import pytest

from flows.pipeline import pipeline_flow
from flows.recipe_files import load_recipe
from storage.shards import ShardedStore
from storage.uri import join, list_names, read_json, write_bytes
from tasks.recipes import PipelineRecipe
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tests.buckets.servers import Server
from tests.buckets.sources import N_SERIES, N_SLICES, copy_to, recipe, write_source

N = N_SERIES * N_SLICES
N_SHARDS = N // 32
ALWAYS = 120
"""Requests of a pipeline, however large it is."""


def contents(workspace: str) -> dict[str, str]:
    """The results of the stages, with the digests of what they hold."""
    stages = ("datasets", "measurements", "reconstructions")
    uris = [join(workspace, stage, name) for stage in stages for name in list_names(join(workspace, stage))]
    return {uri.removeprefix(workspace): ShardedStore.open(uri).content_digest() for uri in uris}


@pytest.mark.usefixtures("prefect_server")
def test_from_bucket_to_bucket_as_from_folder_to_folder(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOREINV_SALT", "0123456789abcdef")
    here = write_source(tmp_path / "source")
    there = copy_to(here, join(bucket, "source"))
    write_bytes(join(bucket, "recipe.yaml"), json.dumps(recipe(there)).encode())
    before = len(s3.requests())
    wanted = load_recipe(PipelineRecipe, join(bucket, "recipe.yaml"))
    report = pipeline_flow(wanted, Execution(workspace=join(bucket, "results"), cluster=Inline()))
    first = s3.requests()[before:]
    again = pipeline_flow(wanted, Execution(workspace=join(bucket, "results"), cluster=Inline()))
    second = s3.requests()[before + len(first) :]
    local = PipelineRecipe.model_validate(recipe(str(here)))
    assert report == again == pipeline_flow(local, Execution(workspace=str(tmp_path / "results"), cluster=Inline()))
    made = contents(join(bucket, "results"))
    assert made == contents(str(tmp_path / "results"))
    assert len(made) == 3

    (dataset,) = [uri for uri in made if uri.startswith("/datasets")]
    manifest = read_json(join(bucket, f"results{dataset}", "manifest.json"))["manifest"]
    assert (manifest["n_slices"], len(manifest["rejected"])) == (N, 1)
    names = read_json(join(bucket, f"results{dataset}", "names.json"))
    assert [one["file"] for one in names["rejected"]] == ["p0/cut.dcm"]

    # Each file of the source comes once to be listed and once to be resampled.
    assert sum("/source/" in request.path for request in first) <= 2 * (N + 1)
    assert sum("/source/" in request.path for request in second) <= N + 1
    first, second = ([one for one in some if "/source" not in one.path] for some in (first, second))
    assert len(first) <= 3 * N
    assert len(second) <= N_SHARDS + ALWAYS
    print(f"\n{len(first) / N:.2f} requests per slice, then {len(second)} for {N_SHARDS} shards")
