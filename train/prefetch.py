"""Batches made ahead of need: in threads of this process, or by Grain in processes of their own."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")

AHEAD = 4
"""Batches that a process holds ready."""


def ahead(make: Callable[[int], Value], first: int, workers: int) -> Iterator[Value]:
    """Yield `make(first)`, `make(first + 1)`, … without end, in that order.

    With `workers`, so many processes make them (`make` must be picklable); where Grain is not
    installed, and with 0, a thread of this process does. The values are the same. What `make`
    raises is raised here, at its place in the order.
    """
    if workers:
        try:
            import grain  # noqa: F401
        except ImportError:
            print(
                f"data.workers {workers}: Grain is not installed, so the batches are made in this process "
                "(pip install grain)",
                file=sys.stderr,
            )
        else:
            return _by_processes(make, first, workers)
    return _by_thread(make, first)


def _by_thread(make: Callable[[int], Value], first: int) -> Iterator[Value]:
    pending: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        try:
            step = first
            while True:
                while len(pending) < AHEAD:
                    pending.append(pool.submit(make, step))
                    step += 1
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _by_processes(make: Callable[[int], Value], first: int, workers: int) -> Iterator[Value]:
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags, which no command line here parses
        flags.FLAGS.mark_as_parsed()
    dataset = (
        grain.MapDataset.range(first, sys.maxsize)
        .map(make)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        .mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=AHEAD))
    )
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()
