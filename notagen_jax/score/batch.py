"""Runs a function over many scores in worker processes that may hang, crash or run out of memory."""

import contextlib
import multiprocessing
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from notagen_jax.errors import NotaGenError
from notagen_jax.score.refusal import ScoreError, describe

Item = TypeVar("Item")
Value = TypeVar("Value")

SECONDS_A_PIECE = 120.0
MEMORY_A_WORKER = 4 * 2**30
_PIECES_A_WORKER = 500
_PENDING_A_WORKER = 8


@dataclass(frozen=True)
class Done(Generic[Item, Value]):
    """An item and what the function made of it."""

    item: Item
    value: Value


@dataclass(frozen=True)
class Refused(Generic[Item]):
    """An item that the function refused, or that it did not come back from."""

    item: Item
    refusal: ScoreError


def run_isolated(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    processes: int = 1,
    seconds: float = SECONDS_A_PIECE,
    memory: int | None = MEMORY_A_WORKER,
) -> Generator[Done[Item, Value] | Refused[Item]]:
    """Yield the outcome of `function(item)` for each item, in the order of `items`.

    Each of `processes` workers handles many items; one that exceeds `seconds` or dies is replaced
    and its item refused. `memory` bounds a worker's address space in bytes (where the system has
    that limit). A bounded number of items is under way, so `items` may be long. `function` must be
    importable and its values picklable. Whatever it raises becomes the item's refusal (with the line
    of code where a fault arose), except a `NotaGenError` that is no
    `ScoreError` (a missing package), which is raised here.
    """
    try:
        from pebble import ProcessExpired, ProcessPool
    except ImportError as error:
        raise NotaGenError("score conversion needs pebble; install it with: pip install pebble") from error
    pool = ProcessPool(
        max_workers=processes,
        max_tasks=_PIECES_A_WORKER,
        initializer=_limit_memory,
        initargs=(memory,),
        context=multiprocessing.get_context("spawn"),
    )
    pending: deque[tuple[Item, Any]] = deque()

    def finish() -> Done[Item, Value] | Refused[Item]:
        item, future = pending.popleft()
        try:
            value, refusal = future.result()
        except FutureTimeout:
            refusal = ScoreError(f"it took longer than {seconds:g} s")
        except ProcessExpired as error:
            refusal = ScoreError("the converter crashed on it", f"exit status {error.exitcode}")
        if refusal is None:
            return Done(item, value)
        return Refused(item, refusal if refusal.place else refusal.at(str(item)))

    try:
        for item in items:
            pending.append((item, pool.schedule(_guarded, args=(function, item), timeout=seconds)))
            if len(pending) >= processes * _PENDING_A_WORKER:
                yield finish()
        while pending:
            yield finish()
    finally:
        pool.stop()
        pool.join()


def _guarded(function: Callable[[Item], Value], item: Item) -> tuple[Value | None, ScoreError | None]:
    try:
        return function(item), None
    except ScoreError as error:
        return None, error
    except MemoryError:
        return None, ScoreError("it needs too much memory")
    except NotaGenError:
        raise
    except Exception as error:
        return None, ScoreError("the converter crashed on it", f"{describe(error)}, {_place(error)}")


def _place(error: Exception) -> str:
    """Where an exception was raised, as `folder/file.py:line`."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"


def _limit_memory(limit: int | None) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    if limit is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bounded = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(ValueError, OSError):  # systems that know the limit and do not set it
            resource.setrlimit(resource.RLIMIT_AS, (bounded, hard))
