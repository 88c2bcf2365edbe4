"""Runs a function over many scores in worker processes that may hang, crash or run out of memory."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
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
class Outcome(Generic[Item, Value]):
    """What became of one item: its `value`, or the `refusal` that it met (then `value` is None)."""

    item: Item
    value: Value | None
    refusal: ScoreError | None


def run_isolated(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    processes: int = 1,
    seconds: float = SECONDS_A_PIECE,
    memory: int | None = MEMORY_A_WORKER,
) -> Iterator[Outcome[Item, Value]]:
    """Yield the outcome of `function(item)` for each item, in the order of `items`.

    Each of `processes` workers handles many items; one that exceeds `seconds` or dies is replaced
    and its item refused. `memory` bounds a worker's address space in bytes (where the system has
    that limit). A bounded number of items is under way, so `items` may be long. `function` must be
    importable and its values picklable. Whatever it raises becomes the item's refusal, except a
    `NotaGenError` that is no `ScoreError` (a missing package), which is raised here.
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

    def finish() -> Outcome[Item, Value]:
        item, future = pending.popleft()
        try:
            value, refusal = future.result()
        except FutureTimeout:
            refusal, value = ScoreError(f"it took longer than {seconds:g} s"), None
        except ProcessExpired as error:
            detail = f"exit status {error.exitcode}"
            refusal, value = ScoreError("the converter crashed on it", detail), None
        if refusal is not None and not refusal.place:
            refusal = refusal.at(str(item))
        return Outcome(item, value, refusal)

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
        return None, ScoreError("the converter crashed on it", describe(error))


def _limit_memory(limit: int | None) -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    if limit is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        bounded = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bounded, hard))
