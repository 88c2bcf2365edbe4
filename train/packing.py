"""Which pieces share a row: packing on the histogram of lengths, and the endless order of rows.

A row's *template* says which lengths stand in it. Templates are found once, from the histogram of
lengths alone, so the time does not grow with the number of pieces, and every epoch has the same
number of rows: row r of the endless stream is found at once, for any r. An epoch deals the pieces of
each length anew to the places of that length, and the rows anew to their order.
"""

import bisect
from collections.abc import Mapping

import numpy as np

WORTH_PACKING = 0.15
"""Share of the rows that packing must save to be chosen on its own."""

Template = tuple[int, ...]


def pack(histogram: Mapping[int, int], capacity: int) -> list[tuple[Template, int]]:
    """Rows of `capacity` for items of given lengths: best fit, the longest first.

    `histogram` maps a length (1 … capacity) to the number of items that have it. Returns templates,
    each the lengths that share a row, with the number of rows of that template; every item stands in
    exactly one row.
    """
    open_rows: dict[int, list[tuple[Template, int]]] = {capacity: []}
    gaps = [capacity]  # sorted; the spaces left in open rows, and that of a new row
    for length in sorted(histogram, reverse=True):
        left = histogram[length]
        while left:
            gap = gaps[bisect.bisect_left(gaps, length)]
            template, rows = open_rows[gap].pop() if open_rows[gap] else ((), left)
            if not open_rows[gap] and gap != capacity:
                del open_rows[gap], gaps[bisect.bisect_left(gaps, gap)]
            copies = gap // length
            full, rest = min(left // copies, rows), 0
            if full < rows and (rest := left - full * copies):
                _open(open_rows, gaps, (*template, *[length] * rest), 1, capacity)
            _open(open_rows, gaps, (*template, *[length] * copies), full, capacity)
            if template:
                _open(open_rows, gaps, template, rows - full - bool(rest), capacity)
            left -= full * copies + rest
    return sorted((row for rows in open_rows.values() for row in rows), reverse=True)


def _open(
    open_rows: dict[int, list[tuple[Template, int]]],
    gaps: list[int],
    template: Template,
    rows: int,
    capacity: int,
) -> None:
    """Note rows of a template under the space that they have left."""
    if not rows:
        return
    gap = capacity - sum(template)
    if gap not in open_rows:
        open_rows[gap] = []
        bisect.insort(gaps, gap)
    open_rows[gap].append((template, rows))


class RowOrder:
    """The rows of an endless stream of epochs, each a list of items; a pure function of the seed."""

    def __init__(self, room: np.ndarray, capacity: int, packing: str, seed: int) -> None:
        """room: int (items,), the places that each item takes, 1 … capacity; packing: auto, on, off.

        `auto` packs when that saves more than `WORTH_PACKING` of the rows of one item each.
        """
        self.seed = seed
        self.items = len(room)
        self._by_room = np.argsort(room, kind="stable").astype(np.int32)
        self._sorted = np.asarray(room)[self._by_room].astype(np.int32)
        values, starts, counts = np.unique(self._sorted, return_index=True, return_counts=True)
        histogram = dict(zip(values.tolist(), counts.tolist(), strict=True))
        alone: list[tuple[Template, int]] = [((length,), count) for length, count in histogram.items()]
        templates = alone if packing == "off" else pack(histogram, capacity)
        rows = sum(count for _, count in templates)
        if packing == "auto" and rows > (1 - WORTH_PACKING) * self.items:
            templates, rows = alone, self.items
        self.packed = templates is not alone
        self.rows = rows
        """Rows of an epoch."""
        self.padding = 1 - float(self._sorted.sum(dtype=np.int64)) / (rows * capacity)
        """Share of the places that no item takes."""
        self._first_row = np.cumsum([0, *[count for _, count in templates]])
        self._places = self._deal(templates, dict(zip(values.tolist(), starts.tolist(), strict=True)))
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @staticmethod
    def _deal(templates: list[tuple[Template, int]], free: dict[int, int]) -> list[list[int]]:
        """For each template, where the places of its lengths begin among all places sorted by length."""
        places = []
        for template, rows in templates:
            begins = []
            for length in template:
                begins.append(free[length])
                free[length] += rows
            places.append(begins)
        return places

    def row(self, number: int) -> tuple[int, list[int]]:
        """The epoch and the items of row `number` (from 0) of the stream."""
        epoch, position = divmod(number, self.rows)
        rows, items = self._epoch(epoch)
        row = int(rows[position])
        template = int(np.searchsorted(self._first_row, row, side="right")) - 1
        offset = row - int(self._first_row[template])
        return epoch, [int(items[begin + offset]) for begin in self._places[template]]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the rows, and the items by place, of one epoch; the last two are kept."""
        known = self._epochs.get(epoch)
        if known is None:
            rng = np.random.default_rng((self.seed, epoch))
            rows = rng.permutation(self.rows).astype(np.int32)
            items = self._by_room[np.lexsort((rng.random(self.items), self._sorted))]
            known = rows, items
            kept = {e: order for e, order in self._epochs.items() if e == epoch - 1}
            self._epochs = {**kept, epoch: known}
        return known
