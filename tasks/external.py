"""Images that another program made of measurements, in the place of reconstructions made here.

From here on nothing differs: ``evaluate`` and ``report`` take the reference. So a method that is written elsewhere,
in whatever language, is compared with all others on the same slices and the same data.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from scoreinv.baselines import External
from scoreinv.errors import UserError
from storage.joined import open_store
from storage.uri import join
from tasks import addresses
from tasks.recipes import Reconstruction, ReconstructRecipe
from tasks.reconstruct import reconstruction_store
from tasks.workers.priors import image_contract
from tasks.workers.stores import read_names
from tasks.workspace import locate


def keep_images(
    workspace: str,
    measurements: str,
    images: np.ndarray,
    slice_ids: Sequence[str],
    *,
    name: str,
    seconds_per_slice: float = 0.0,
) -> str:
    """The reference of the reconstructions, which are written where they are not there yet.

    Args:
        workspace: folder or bucket of all results.
        measurements: that the images were made of, as measurements/0a1b2c3d4e5f.
        images: (n, size, size), or (n, n_channels, size, size) of several channels, on the scale of the data set, where
            0 is ``low`` and 1 is ``high`` of its contract.
        slice_ids: whose each image is, in any order: one for every slice of the measurements.
        name: of the method, as reports show it.
        seconds_per_slice: that it took.

    Raises:
        StoreNotFound: if there are no such measurements.
        UserError: if an image is missing, too many, of another shape, or not finite.
    """
    store = open_store(locate(workspace, measurements, "measurements"))
    names, shape = read_names(store, range(store.n)), image_contract(store.attrs).stored_shape()
    if sorted(slice_ids) != sorted(names):
        missing = sorted(set(names) - set(slice_ids))[:3]
        raise UserError(f"{len(slice_ids)} images for {store.n} slices: give each one, such as {missing or names[:3]}")
    if images.shape != (len(names), *shape):
        raise UserError(f"images have shape {images.shape}: {measurements} wants {(len(names), *shape)}")
    if not np.isfinite(images).all():
        raise UserError(f"images of {name!r} hold values that are no numbers: mend them, or leave the method out")
    places = {slice_id: place for place, slice_id in enumerate(slice_ids)}
    ordered = np.ascontiguousarray(images[[places[one] for one in names]], np.float32)
    method = External(name=name, content=hashlib.sha256(ordered.tobytes()).hexdigest()[:16])
    recipe = ReconstructRecipe(measurements=measurements, reconstruction=Reconstruction(method=method))
    ref = addresses.of_reconstructions(recipe, "")
    target = reconstruction_store(recipe, store, join(workspace, ref))
    for shard in target.pending():
        record = {"nfe": 0, "seconds": seconds_per_slice * (shard.stop - shard.start)}
        of_shard = {"sample": ordered[shard.start : shard.stop]}
        target.write(shard, of_shard, record={**record, "seconds_per_slice": seconds_per_slice})
    target.finish()
    return ref
