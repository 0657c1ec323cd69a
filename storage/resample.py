"""From a source's pixels to the data set's: a fixed value range and a square grid of square pixels.

Resampling conserves: the running integral along an axis is interpolated by a monotone cubic (PCHIP,
Fritsch and Butland 1984) and differenced at the edges of the new pixels, so that every new pixel is
the mean of the image over the new pixel's area. It follows that

- a constant stays constant, the sum of value times area is kept, and an unchanged grid changes nothing;
- shrinking averages over areas (no aliasing from skipped pixels), growing is smooth, and values that
  are not negative stay so;
- the image on a grid is the block mean of the image on a finer grid.

One rule makes the last point exact: the image is always made on a finer grid (``fine_factor`` times
finer; twice, if no fine image is wanted) and the image itself is the block mean of that.
"""

import numpy as np

from scoreinv.contract import ImageContract


def prepare(
    values: np.ndarray, spacing_mm: tuple[float, float], contract: ImageContract, *, fine_factor: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The image (size, size) under a contract and the fine image it is the block mean of, both float32 in [0, 1].

    Args:
        values: physical values, (rows, columns).
        spacing_mm: distance between rows and between columns of ``values``.
        fine_factor: pixels of the fine image along a pixel of the image; 1 means that none is wanted, and the
            fine image returned is the twice finer one that was used on the way.
    """
    factor = fine_factor if fine_factor > 1 else 2
    scaled = normalise(values, contract)
    fine = resample(scaled, spacing_mm, size=contract.size * factor, pixel_mm=contract.pixel_mm / factor)
    fine = fine.clip(0, 1).astype(np.float32)
    return block_mean(fine, factor), fine


def normalise(values: np.ndarray, contract: ImageContract) -> np.ndarray:
    """Physical values mapped linearly from [low, high] to [0, 1], clipped there; float64."""
    return np.clip((values.astype(np.float64) - contract.low) / (contract.high - contract.low), 0, 1)


def resample(image: np.ndarray, spacing_mm: tuple[float, float], *, size: int, pixel_mm: float) -> np.ndarray:
    """The image's means over the pixels of a (size, size) grid with the same centre; 0 outside the image.

    Args:
        image: (rows, columns), 0 being the background.
        spacing_mm: distance between rows and between columns of ``image``.
    """
    means = _means_along_rows(image, _edges(image.shape[0], spacing_mm[0], size, pixel_mm))
    return _means_along_rows(means.T, _edges(image.shape[1], spacing_mm[1], size, pixel_mm)).T


def block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of factor x factor pixels."""
    rows, columns = image.shape
    blocks = image.reshape(rows // factor, factor, columns // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64), dtype=image.dtype)


def _edges(n: int, spacing_mm: float, size: int, pixel_mm: float) -> np.ndarray:
    """The new pixels' edges, in old pixels from the old image's edge."""
    return n / 2 + (np.arange(size + 1) - size / 2) * pixel_mm / spacing_mm


def _means_along_rows(image: np.ndarray, edges: np.ndarray) -> np.ndarray:
    from scipy.interpolate import PchipInterpolator  # half a second, which a command may not need

    n = image.shape[0]
    integral = np.zeros((n + 1, image.shape[1]))
    np.cumsum(image, axis=0, out=integral[1:])
    # Clipping the edges makes everything outside the image background.
    at_edges = PchipInterpolator(np.arange(n + 1), integral, axis=0)(edges.clip(0, n))
    return np.asarray(np.diff(at_edges, axis=0) / (edges[1] - edges[0]))
