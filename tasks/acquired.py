"""Measurements that a scanner made, in the place of simulated ones: the same store, without images behind it.

From here on nothing differs: ``reconstruct``, ``evaluate`` and ``report`` take the reference. Where nobody has the
truth, scores are the data's residual against their noise and the spread of the samples.
"""

import hashlib
from collections.abc import Sequence

from scoreinv.contract import ImageContract
from scoreinv.measurement import Measured
from scoreinv.operators import AnyMeasurement
from scoreinv.spec import Json, digest_of
from storage.shards import ShardedStore
from storage.uri import join
from tasks.measure import layouts
from tasks.workers.measure import VERSION, arrays_of
from tasks.workers.stores import Identity
from tasks.workspace import reference


def keep_acquired(
    workspace: str,
    measured: Measured,
    identities: Sequence[Identity],
    *,
    measurement: AnyMeasurement,
    image: ImageContract,
    shard_size: int = 32,
) -> str:
    """The reference of the measurements, which are written where they are not there yet.

    Args:
        workspace: folder or bucket of all results.
        measured: data, their noise, and what the operator needs of each slice, as ``measurement`` says.
        identities: whose each slice is; names decide the samplers' noise, so no two may be the same.
        measurement: what was measured.
        image: the grid and the values of the images that are looked for.
        shard_size: slices per shard.

    Raises:
        ValueError: if the names are not one for each slice, or the data are not of this measurement.
    """
    names = [one.slice_id for one in identities]
    if len(set(names)) != len(measured.y):
        raise ValueError(f"{len(measured.y)} slices need as many different slice_ids, got {len(set(names))}")
    arrays = arrays_of(measured)
    content = [hashlib.sha256(values.tobytes()).hexdigest() for _, values in sorted(arrays.items())]
    digest = digest_of(measurement.digest(), image.digest(), [list(one) for one in identities], content, VERSION)
    store = ShardedStore.create(
        join(workspace, reference("measurements", digest)),
        n=len(names),
        shard_size=shard_size,
        arrays=layouts(measurement, image),
        attrs={"measurement": measurement.model_dump(mode="json"), "image": image.model_dump(mode="json")},
    )
    for shard in store.pending():
        of_shard = slice(shard.start, shard.stop)
        record: dict[str, Json] = {
            "slice_ids": names[of_shard],
            "identities": [list(one) for one in identities[of_shard]],
        }
        store.write(shard, {name: values[of_shard] for name, values in arrays.items()}, record=record)
    store.finish()
    return reference("measurements", digest)
