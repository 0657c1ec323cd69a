"""Bring one shard of a listing onto the grid of the data set."""

from scoreinv.spec import Spec
from storage.sources import AnySource
from tasks.running.shards import Report
from tasks.workers.stores import open_dataset

VERSION = 1
"""Of how slices become images (resampling, values, the finer grid): part of the address of data sets, raised when
images change. How a source is read needs none: every value that it finds is in the address."""


class IngestJob(Spec):
    """Where the slices come from and where they go."""

    source: AnySource
    target: str


def ingest_shard(job: IngestJob, index: int, report: Report) -> None:
    """Read, convert, resample and write the slices of one shard."""
    target = open_dataset(job.target, finished=False)
    target.ingest(target.shards.plan()[index], job.source.load)
