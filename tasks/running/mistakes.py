"""Which errors are a person's or the machine's to mend, and which are faults of the program."""

from collections.abc import Iterator
from contextlib import contextmanager

from scoreinv.errors import MissingPackage, UserError
from storage.errors import StoreError

MENDABLE = (UserError, MissingPackage, StoreError, OSError, MemoryError)
"""Wrong options, missing packages, stores that lack something, files and networks, too little memory."""

OUT_OF_MEMORY = "there is too little memory: lower execution.batch_size or the number of workers"

_TORCH_OUT_OF_MEMORY = ("CUDA out of memory", "can't allocate memory")
"""What torch says in a RuntimeError."""


class TooManyFailures(RuntimeError):  # noqa: N818  (says what happened, as the errors of storage do)
    """Some shards failed, so the store cannot be finished; what is done is kept.

    Its cause is the first of their errors that is a fault of the program, if any is.
    """


class Failures:
    """What fails of a run that goes on with the rest: what it is, and why; the run fails in the end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.fault: BaseException | None = None

    @contextmanager
    def noted(self, what: str, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
        """Do something that may fail by errors of these kinds."""
        try:
            yield
        except kinds as error:
            is_ours = isinstance(error, TooManyFailures)
            self.add(what, str(error) if is_ours else explain(error) or f"{type(error).__name__}: {error}")
            self.fault = self.fault or (error.__cause__ if is_ours else None if explain(error) else error)

    def add(self, what: str, why: str) -> None:
        """Something has failed."""
        self.said.append(f"{what}: {why}")

    def raise_any(self, made: str) -> None:
        """Fail if anything did; ``made`` says what there is all the same.

        Raises:
            TooManyFailures: its cause is the first fault of the program, if any is.
        """
        if self.said:
            raise TooManyFailures("; ".join([*self.said, made])) from self.fault


_UNREACHABLE = "Failed to reach API at"
"""What Prefect says in a RuntimeError."""


def explain(error: BaseException) -> str | None:
    """The message of an error that can be mended; None for a fault of the program."""
    if isinstance(error, TooManyFailures):
        return str(error) if error.__cause__ is None else None
    if isinstance(error, MemoryError) or any(said in str(error) for said in _TORCH_OUT_OF_MEMORY):
        return (str(error) if isinstance(error, MemoryError) else "") or OUT_OF_MEMORY
    if str(error).startswith(_UNREACHABLE) or any(base.__module__ == "httpx" for base in type(error).__mro__):
        reason = str(error) or type(error).__name__
        return f"the Prefect server does not answer ({reason}): start it, or unset PREFECT_API_URL"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__ if isinstance(error, MENDABLE) else None
