"""What all results in a workspace hold, times apart: a digest for every shard, row and file that is whole."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoreinv.spec import digest_of
from storage.errors import StoreError
from storage.joined import open_store
from storage.scores import read_scores
from storage.shards import ShardedStore
from storage.verify import STAGES, problems_of


def contents(workspace: Path) -> dict[str, str]:
    """Digests by what they are of; what is not whole is missing and said, as ``scoreinv verify --all`` says it."""
    stages = [workspace / stage for stage in STAGES if (workspace / stage).is_dir()]
    parts = (_parts_of(stage.name, path) for stage in stages for path in sorted(stage.iterdir()))
    return {key: digest_of(_timeless(value)) for part in parts for key, value in part}


def _parts_of(stage: str, path: Path) -> Iterator[tuple[str, Any]]:
    head = f"{stage}/{path.name}"
    try:
        problems = problems_of(stage, str(path))
        if problems:
            print(f"  {head}: {problems}", file=sys.stderr)
        else:
            yield f"{head} is whole", True
        yield from ((f"{head} {name}", value) for name, value in _contents(stage, path))
    except (StoreError, OSError) as error:
        print(f"  {head}: {error}", file=sys.stderr)


def _contents(stage: str, path: Path) -> Iterator[tuple[str, Any]]:
    if stage == "reports":
        page = (path / "report.html").read_text().replace(str(path.parents[1]), "")
        yield "page", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", page)
    elif stage == "priors":
        for file in sorted((path / "prior").glob("*.safetensors"))[-1:]:
            yield "weights", hashlib.sha256(file.read_bytes()).hexdigest()
        for i, line in enumerate((path / "curve.jsonl").read_text().splitlines()):
            yield f"row {i}", json.loads(line)
    elif stage == "tuning":
        for record in sorted(path.glob("trials/*/trial.json")):
            content = json.loads(record.read_text())
            yield record.parent.name, {key: value for key, value in content.items() if key != "seal"}
        yield "best.yaml", (path / "best.yaml").read_text()
    else:
        yield from _shards(open_store(str(path)))
        if stage == "scores":
            yield from ((f"row {i}", {**row, "seconds": 0}) for i, row in enumerate(read_scores(str(path))))


def _shards(store: ShardedStore) -> Iterator[tuple[str, Any]]:
    for shard, record in zip(store.plan(), store.records(), strict=True):
        yield f"record {shard.index}", record
        for name in store.layouts:
            values = store.read(name, shard.start, shard.stop)
            yield f"shard {shard.index} of {name}", digest_of_array(values)
    yield "manifest", store.manifest()


def digest_of_array(values: np.ndarray) -> str:
    """Of its values."""
    return hashlib.sha256(values.tobytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(item) for key, item in value.items() if not key.startswith("seconds")}
    return [_timeless(item) for item in value] if isinstance(value, list | tuple) else str(value)
