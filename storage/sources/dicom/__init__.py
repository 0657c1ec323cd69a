"""Slices from folders of DICOM files.

``content`` reads one file's bytes, ``meaning`` says what kind of an image it is, ``header`` what it takes to sort it,
``pixels`` its physical values; ``people`` tells whose files are whose, ``stacks`` which slices are one volume, and
``source`` is what a recipe names.
"""

from storage.sources.dicom.source import DicomSource

__all__ = ["DicomSource"]
