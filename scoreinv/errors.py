"""Errors that whoever runs the program can mend; every other error is a fault of the program.

The difference decides what is shown: the message alone, or the traceback. So what a person may meet who has done
nothing but write a recipe is one of these (or an error of storage, or of the machine: OSError, MemoryError). Each has
one base and one text, to come back from a worker as what it was.
"""


class UserError(ValueError):
    """An option, or several that do not fit together or to the data; the message says what to change."""


class MissingPackage(ImportError):  # noqa: N818  (says what is the matter)
    """An option needs a package that is not installed; the message names it."""
