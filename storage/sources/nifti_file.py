"""One NIfTI file: its checked header and its voxels. Every file is treated as untrusted input.

What a header claims is compared with the file's size before anything is inflated or allocated; a compressed file is
inflated once, to its end, because only there its checksum and its length stand.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import nibabel
import numpy as np
from nibabel.nifti1 import intent_codes

from scoreinv.spec import Json
from storage.errors import SourceError
from storage.sources.files import damage_explained

MAX_VOXELS = 1 << 29
"""Of one volume: 2 GiB as float32."""

MAX_INFLATION, SMALL_BYTES = 250, 1 << 26
"""No scan of more than 64 MiB is compressed that well: this is a bomb."""

MAX_PADDING = 4096
"""Zeros that may follow the voxels, as tape blocks and some writers leave them."""

UNITS = (("no unit", 1.0), ("metre", 1000.0), ("millimetre", 1.0), ("micrometre", 1e-3))
"""By their codes: names, and millimetres per unit; without a unit millimetres are meant."""

VOXEL_MM = (1e-4, 100.0)
"""The sides of voxels, from microscopy to the gaps between single slices."""

MAX_FIELD_MM = 3000.0
"""No scanner sees a slice as wide as this."""

MAX_MEMBERS, MIN_MEMBER = 100, 256
"""So many parts may be as short as they like; more must have this many bytes on the average."""

_GZIP, _CHUNK, _PIECE = b"\x1f\x8b", 1 << 15, 1 << 20
"""Little is read at once, as what follows a part is copied at its end."""

_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_IMAGES = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}


class Scan(NamedTuple):
    """A volume as (slices, rows, columns) float32 in stored units, and where it lies, in mm."""

    values: np.ndarray
    spacing_mm: tuple[float, float]
    positions_mm: tuple[float, ...]
    geometry: dict[str, Json]
    intent: str
    """What the header says that the values are; "none" for an image."""


def read_scan(path: Path) -> Scan:
    """The volume of a .nii or .nii.gz file, turned to the closest canonical orientation.

    Raises:
        SourceError: if the file is damaged, claims more than it holds, is no volume of real numbers, or if its
            voxels have impossible sizes.
    """
    with damage_explained():
        size, on_disk = path.stat().st_size, path.stat().st_blocks * 512
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP
            file.seek(0)
            chunks = _inflated(file, size) if is_packed else iter(lambda: file.read(_PIECE), b"")
            # A file with holes takes little on the disk and is as good a bomb as a compressed one.
            image = _image(chunks, size, is_packed=is_packed, on_disk=min(size, on_disk or size))
        if not np.isfinite(image.affine).all():
            raise SourceError("its affine holds numbers that are not finite: write the right one into its header")
        factor = _mm_per_unit(image.header)
        canonical = nibabel.as_closest_canonical(image)
        voxels = np.asarray(canonical.dataobj, dtype=np.float32).reshape(canonical.shape[:3])
        affine = np.asarray(canonical.affine, float) * np.array([[factor], [factor], [factor], [1.0]])
        _check_sizes(np.linalg.norm(affine[:3, :3], axis=0), voxels.shape, image.header)
        return _upright(voxels, affine, nibabel.aff2axcodes(image.affine), _intent(image.header))


def _inflated(file: BinaryIO, file_size: int) -> Iterator[bytes]:
    """The content of a gzip file in pieces of bounded size; zlib compares checksum and length at every member's end."""
    n_members, unpacker, packed = 1, zlib.decompressobj(31), file.read(_CHUNK)
    while packed:
        if piece := unpacker.decompress(packed, _PIECE):
            yield piece
        packed = unpacker.unconsumed_tail
        if unpacker.eof:
            packed = _next_member(unpacker.unused_data, file)
            n_members += 1
            if n_members > MAX_MEMBERS + file_size // MIN_MEMBER:
                raise SourceError(f"its compressed stream has more than {n_members - 1} parts: it was not inflated")
            unpacker = zlib.decompressobj(31) if packed else unpacker
        elif not packed:
            packed = file.read(_CHUNK)
    # What is still held back comes out without more input.
    while not unpacker.eof and (piece := unpacker.decompress(b"", _PIECE)):
        yield piece
    if not unpacker.eof:
        raise SourceError("unreadable: damaged or truncated (the compressed stream has no end)")


def _next_member(rest: bytes, file: BinaryIO) -> bytes:
    """The beginning of what follows a member: another one, or nothing behind zeros."""
    rest = rest.lstrip(b"\0")
    while len(rest) < len(_GZIP) and (more := file.read(_CHUNK)):
        rest = (rest + more).lstrip(b"\0")
    if rest and not rest.startswith(_GZIP):
        raise SourceError("damaged: something else follows the end of the compressed stream")
    return rest


def _image(chunks: Iterator[bytes], file_size: int, *, is_packed: bool, on_disk: int) -> Any:
    """The image of a stream that holds just what its header claims; the header is judged first."""
    content = io.BytesIO()
    while content.tell() < max(_HEADERS) and (chunk := next(chunks, b"")):
        content.write(chunk)
    first = content.getvalue()[: max(_HEADERS)]
    kind = _header_size(first)
    header = _HEADERS[kind](first[:kind], check=False)
    end = _claimed(header)
    if not is_packed and end > file_size:
        raise SourceError(f"unreadable: truncated, it has {file_size} bytes and its header claims {end}")
    _refuse_bomb(end, on_disk)
    while content.tell() <= end + MAX_PADDING and (chunk := next(chunks, b"")):
        content.write(chunk)
    _check_length(content, end)
    content.seek(0)
    return _IMAGES[kind].from_stream(content)


def _header_size(first: bytes) -> int:
    sizes = {int.from_bytes(first[:4], order) for order in ("little", "big")}  # type: ignore[arg-type]
    for kind in _HEADERS:
        if kind in sizes and len(first) >= kind:
            return kind
    raise SourceError("unreadable: it does not begin with a NIfTI header (damaged, truncated or of another format)")


def _claimed(header: Any) -> int:
    """Where the voxels end, as the header says."""
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise SourceError(f"its shape is {shape}: a volume with three axes was wanted")
    n_voxels = int(np.prod(shape, dtype=object))
    if n_voxels > MAX_VOXELS:
        raise SourceError(f"its shape is {shape}: more than {MAX_VOXELS} voxels")
    if dtype.kind not in "iuf":
        raise SourceError(f"its voxels are {dtype}: real numbers were wanted (take the magnitude first)")
    _check_pixdim(header)
    return int(header.get_data_offset()) + n_voxels * int(dtype.itemsize)


def _refuse_bomb(end: int, on_disk: int) -> None:
    if end > max(MAX_INFLATION * on_disk, SMALL_BYTES):
        raise SourceError(
            f"its header claims {end} bytes, more than {MAX_INFLATION} times the {on_disk} bytes that the file takes: "
            "no scan is compressed that well, so it was not read"
        )


def _check_length(content: io.BytesIO, end: int) -> None:
    n_after = content.tell() - end
    if n_after < 0:
        raise SourceError(f"unreadable: truncated, it holds {content.tell()} bytes and its header claims {end}")
    with content.getbuffer() as view:
        if n_after > MAX_PADDING or any(view[end:]):
            raise SourceError(f"damaged: {n_after} bytes or more follow the voxels that its header describes")


def _check_pixdim(header: Any) -> None:
    # Before nibabel, which puts a 1 in place of a 0 and turns minus to plus.
    sizes = [float(size) for size in header["pixdim"][1:4]]
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        raise SourceError(
            f"its voxels have the sizes {_by(sizes)} (pixdim): finite numbers above 0 were wanted; "
            "write the right ones into its header"
        )


def _mm_per_unit(header: Any) -> float:
    code = int(header["xyzt_units"]) % 8
    if code >= len(UNITS):
        raise SourceError(f"its unit of length has the code {code} (xyzt_units): 0 to {len(UNITS) - 1} are known")
    return UNITS[code][1]


def _intent(header: Any) -> str:
    code = int(header["intent_code"])
    return str(intent_codes.label[code]) if code in intent_codes else f"code {code}"


def _check_sizes(sizes: np.ndarray, shape: tuple[int, ...], header: Any) -> None:
    unit = UNITS[int(header["xyzt_units"]) % 8][0]
    advice = f"(its header states {unit}); write the right sizes and unit (affine, pixdim, xyzt_units) into its header"
    low, high = VOXEL_MM
    if not (np.isfinite(sizes).all() and sizes.min() >= low and sizes.max() <= high):
        raise SourceError(f"its voxels measure {_by(sizes)} mm: {low:g} to {high:g} mm were wanted {advice}")
    fields = sizes[:2] * shape[:2]
    if fields.max() > MAX_FIELD_MM:
        raise SourceError(
            f"its slices measure {_by(fields)} mm, pixels {_by(sizes[:2])} mm: up to {MAX_FIELD_MM:g} mm were "
            f"wanted {advice}"
        )


def _by(sizes: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{float(size):g}" for size in sizes)


def _upright(voxels: np.ndarray, affine: np.ndarray, codes: Sequence[str], intent: str) -> Scan:
    x_mm, y_mm, _ = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    # (x, y, z) pointing right, anterior, superior -> (z, rows to posterior, columns to the patient's left).
    values = np.ascontiguousarray(voxels.transpose(2, 1, 0)[:, ::-1, ::-1])
    finite = np.isfinite(values)
    if not finite.any():
        raise SourceError("none of its voxels is a finite number")
    values[~finite] = values[finite].min()
    geometry: dict[str, Json] = {
        "affine": affine.tolist(),
        "stored_orientation": "".join(codes),
        "spacing_mm": [y_mm, x_mm],
        "n_slices": len(values),
        "n_not_finite": int((~finite).sum()),
    }
    positions = tuple(float(affine[2, 2] * k + affine[2, 3]) for k in range(len(values)))
    return Scan(values, (y_mm, x_mm), positions, geometry, intent)
