"""Batches of packed pieces: which pieces, in which key, in which row, as pure functions of the seed.

An epoch's plan depends only on (seed, epoch), so a run that stops after any batch goes on with the
next one exactly, whatever was in flight.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from notagen_jax.config import PATCH_SIZE
from notagen_jax.errors import NotaGenError
from notagen_jax.patches import Piece, encode_piece, window
from notagen_jax.score import KEYS
from train.config import DataConfig

PITCH_CLASSES = {
    name: pitch
    for pitch, names in enumerate(["C", "C# Db", "D", "Eb", "E", "F", "F# Gb", "G", "Ab", "A", "Bb", "B Cb"])
    for name in names.split()
}
NEAR_WEIGHTS = np.array([1, 2, 3, 4, 3, 2, 1]) / 16
"""Fine-tuning: chance of a key -3 … +3 semitones from the original (paper section 3.3)."""
ENHARMONIC = {1: (("Db", "C#"), 0.8), 11: (("B", "Cb"), 0.8), 6: (("F#", "Gb"), 0.5)}
"""Pitch classes with two names and the chance of the first."""


class Rows(Protocol):
    """Records in the form of the builders: row 15·piece + key, fields `text`, `period` and so on."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One split of one data set, read piece by piece in any key."""

    name: str
    rows: Rows

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.rows) // len(KEYS)

    def original_key(self, piece: int) -> int:
        """Index in `KEYS` of the key that the piece was written in."""
        return int(self.rows[piece * len(KEYS)]["original_key"])

    def text(self, piece: int, key: int, prompt: bool) -> str:
        """Reduced text of a piece in a key, headed by the prompt's lines and `%end` if asked."""
        row = self.rows[piece * len(KEYS) + key]
        text = row["text"].decode()
        if not prompt:
            return text
        labels = (row[field].decode() for field in ("period", "composer", "instrumentation"))
        return "".join(f"%{label}\n" for label in labels) + "%end\n" + text

    def label(self, piece: int) -> tuple[str, str, str]:
        """Period, composer and instrumentation of a piece."""
        row = self.rows[piece * len(KEYS)]
        return row["period"].decode(), row["composer"].decode(), row["instrumentation"].decode()


def open_corpus(folder: str, split: str) -> Corpus:
    """Open one split ("train", "validation") of a built data set by its folder.

    Raises `NotaGenError` when the folder holds no data set, the split is missing or broken, or tfds
    is not installed.
    """
    splits = _splits(folder)
    if split not in splits:
        raise NotaGenError(f"{folder}: the data set has no {split} split, only {', '.join(splits) or 'none'}")
    rows = splits[split]
    if not len(rows) or len(rows) % len(KEYS):
        raise NotaGenError(
            f"{folder}: the {split} split holds {len(rows)} rows, not 15 a piece; build it again"
        )
    return Corpus("/".join(Path(folder).parts[-3:-1]), rows)


def has_held_out(folder: str) -> bool:
    """Whether a built data set is large enough to have a validation split with pieces in it."""
    return len(_splits(folder).get("validation", ())) > 0


def _splits(folder: str) -> dict[str, Rows]:
    """The splits of a built data set by name."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise NotaGenError(
            "reading data sets needs the data extra: pip install 'notagen-jax[data]'"
        ) from error
    if not (Path(folder) / "dataset_info.json").is_file():
        raise NotaGenError(
            f"{folder}: no built data set here; build one with `python -m tfds_builders.build`"
        )
    return dict(tfds.builder_from_directory(folder).as_data_source())


def choose_key(original: int, policy: str, rng: np.random.Generator) -> int:
    """Index in `KEYS` of the key to train on, by the policy of `DataConfig.keys`."""
    if policy == "original":
        return original
    if policy == "uniform":
        return int(rng.integers(len(KEYS)))
    pitch = (PITCH_CLASSES[KEYS[original]] + int(rng.choice(7, p=NEAR_WEIGHTS)) - 3) % 12
    if pitch in ENHARMONIC:
        (first, second), chance = ENHARMONIC[pitch]
        return KEYS.index(first if rng.random() < chance else second)
    return KEYS.index(next(name for name, value in PITCH_CLASSES.items() if value == pitch))


@dataclasses.dataclass(frozen=True)
class Item:
    """One piece of an epoch: where it is, in which key, and the seed of its window."""

    corpus: int
    piece: int
    key: int
    window_seed: int


def pack(lengths: Sequence[int], capacity: int, open_rows: int = 64) -> list[list[int]]:
    """Distribute items over rows of `capacity`: each goes to the fullest open row that takes it.

    Returns the item numbers of each row; every item stands in exactly one. A row that nothing can
    join any more, or the fullest of more than `open_rows`, is closed.
    """
    closed: list[list[int]] = []
    rows: list[tuple[int, list[int]]] = []
    for item, length in enumerate(lengths):
        fitting = [i for i, (used, _) in enumerate(rows) if used + length <= capacity]
        if fitting:
            best = max(fitting, key=lambda i: rows[i][0])
            rows[best] = (rows[best][0] + length, [*rows[best][1], item])
        else:
            rows.append((length, [item]))
        if len(rows) > open_rows:
            fullest = max(range(len(rows)), key=lambda i: rows[i][0])
            closed.append(rows.pop(fullest)[1])
    return closed + [items for _, items in rows]


class Loader:
    """Batches of packed rows from weighted corpora; batch b of epoch e is a function of the seed."""

    def __init__(self, corpora: Sequence[Corpus], config: DataConfig, seed: int) -> None:
        """Raises `NotaGenError` on a piece that cannot be encoded, naming the corpus and the piece."""
        self.corpora = corpora
        self.config = config
        self.seed = seed
        weights = config.weights or (1,) * len(corpora)
        self._pieces = [
            (c, piece)
            for c, (corpus, weight) in enumerate(zip(corpora, weights, strict=True))
            for piece in range(len(corpus))
            for _ in range(weight)
        ]
        self._original = {item: corpora[item[0]].original_key(item[1]) for item in set(self._pieces)}
        self._lengths: dict[tuple[int, int, int], int] = {}
        self._plans: dict[int, list[list[Item]]] = {}

    @property
    def fingerprint(self) -> str:
        """Digest of all that the order of the data depends on."""
        sizes = [(corpus.name, len(corpus)) for corpus in self.corpora]
        settings = dataclasses.replace(self.config, sources=())
        return hashlib.sha256(repr((sizes, settings, self.seed)).encode()).hexdigest()[:16]

    def _piece(self, item: Item) -> Piece:
        corpus = self.corpora[item.corpus]
        try:
            return encode_piece(corpus.text(item.piece, item.key, self.config.prompts))
        except NotaGenError as error:
            raise NotaGenError(f"{corpus.name}, piece {item.piece} in {KEYS[item.key]}: {error}") from error

    def _length(self, item: Item) -> int:
        """Patches that a piece takes of a row; one that must be cut counts as a whole row.

        A window near the end of a long piece can be shorter than the row. Its length is not used, so
        that the plan depends only on the pieces and keys, never on the windows drawn before.
        """
        known = self._lengths.get((item.corpus, item.piece, item.key))
        if known is None:
            known = min(self._piece(item).length, self.config.length)
            self._lengths[item.corpus, item.piece, item.key] = known
        return known

    def plan(self, epoch: int) -> list[list[Item]]:
        """The rows of an epoch, each a list of pieces that fit it, in training order."""
        if epoch not in self._plans:
            rng = np.random.default_rng((self.seed, epoch))
            items = []
            for index in rng.permutation(len(self._pieces)):
                corpus, piece = self._pieces[index]
                key = choose_key(self._original[corpus, piece], self.config.keys, rng)
                items.append(Item(corpus, piece, key, int(rng.integers(2**31))))
            rows = pack([self._length(item) for item in items], self.config.length)
            order = rng.permutation(len(rows))
            self._plans = {epoch: [[items[i] for i in rows[row]] for row in order]}
        return self._plans[epoch]

    def row(self, items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
        """One packed row: patches uint8 (length, 16) and segments int32 (length,), 0 for padding."""
        patches = np.zeros((self.config.length, PATCH_SIZE), np.uint8)
        segments = np.zeros(self.config.length, np.int32)
        start = 0
        for number, item in enumerate(items, 1):
            encoded = window(self._piece(item), self.config.length, np.random.default_rng(item.window_seed))
            patches[start : start + len(encoded)] = encoded
            segments[start : start + len(encoded)] = number
            start += len(encoded)
        return patches, segments

    def batches(
        self, epoch: int = 0, batch: int = 0
    ) -> Iterator[tuple[dict[str, np.ndarray], dict[str, int]]]:
        """Endless batches from a position: ({patches, segments}, position of the batch after it).

        patches uint8 (rows, length, 16), segments int32 (rows, length). The last batch of an epoch
        is filled up with empty rows.
        """
        rows = self.config.rows
        while True:
            plan = self.plan(epoch)
            for start in range(batch * rows, len(plan), rows):
                chosen = plan[start : start + rows]
                made = [self.row(items) for items in chosen + [[]] * (rows - len(chosen))]
                patches, segments = (np.stack(arrays) for arrays in zip(*made, strict=True))
                batch += 1
                after = {"epoch": epoch, "batch": batch}
                if start + rows >= len(plan):
                    after = {"epoch": epoch + 1, "batch": 0}
                yield {"patches": patches, "segments": segments}, after
            epoch, batch = epoch + 1, 0


class StepBatches:
    """A loader's batches by step: the epochs one after the other."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.fingerprint = loader.fingerprint

    def _place(self, step: int) -> tuple[int, int]:
        """Epoch and batch in it of a step."""
        epoch, rows = 0, self._loader.config.rows
        while step >= (size := -(-len(self._loader.plan(epoch)) // rows)):
            epoch, step = epoch + 1, step - size
        return epoch, step

    def batches(self, step: int, process: int = 0, processes: int = 1) -> Iterator[dict[str, np.ndarray]]:
        """The batch of update `step` and all after it: this process's contiguous share of their rows."""
        share = self._loader.config.rows // processes
        for batch, _ in self._loader.batches(*self._place(step)):
            yield {name: array[process * share :][:share] for name, array in batch.items()}

    def names(self, step: int) -> list[str]:
        """The pieces in the batch of update `step`."""
        epoch, batch = self._place(step)
        rows = self._loader.config.rows
        return [
            f"{self._loader.corpora[item.corpus].name}, piece {item.piece} in {KEYS[item.key]}"
            for items in self._loader.plan(epoch)[batch * rows :][:rows]
            for item in items
        ]


def held_out_batches(corpus: Corpus, config: DataConfig, most_rows: int) -> list[dict[str, np.ndarray]]:
    """The held-out pieces of a corpus in their own keys, cut at the head, the same at every call."""
    settings = dataclasses.replace(config, keys="original", sources=(), weights=())
    loader = Loader([corpus], settings, seed=0)
    batches = []
    for batch, position in loader.batches():
        batches.append(batch)
        if position["epoch"] or len(batches) * config.rows >= most_rows:
            return batches
    return batches
