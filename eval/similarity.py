"""The training piece closest to a sampled one, by text: `python -m eval.similarity --data FOLDER… FILE…`.

Two texts are compared in one key and in the normal form of the data sets (notes, rests, ties, repeats
and the order of voices; no header, annotation or blank). The measure is containment: the share of a
sample's runs of `RUN` characters that stand somewhere in the training piece. A sample that copies a
piece whole has 1; unrelated music of one style shares the common figures of an accompaniment.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from notagen_jax.cli.tune_input import read_tune
from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS
from notagen_jax.score.spelling import major_key
from tfds_builders.normal_form import normal_form
from train.corpus import Corpus, open_corpus

RUN = 24
"""Characters of a run: about two bars of one voice of a chorale."""

_FACTORS = np.random.default_rng(0).integers(1, 1 << 63, RUN, dtype=np.uint64)


class Closest(NamedTuple):
    """The training piece that holds most of a sample."""

    piece: str
    """Name of the training piece."""
    containment: float
    """Share of the sample's runs that stand in it, 0 … 1."""


def runs(text: str) -> np.ndarray:
    """The distinct runs of `RUN` characters of a text as 64-bit hashes, sorted: uint64 (n,)."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.uint64)
    if len(codes) < RUN:
        return np.zeros(0, np.uint64)
    # A random linear function modulo 2^64: different runs meet about once in 2^60.
    hashes = np.zeros(len(codes) - RUN + 1, np.uint64)
    for place, factor in enumerate(_FACTORS):
        hashes += codes[place : place + len(hashes)] * factor
    return np.unique(hashes)


def containment(sample: np.ndarray, piece: np.ndarray) -> float:
    """Share of the runs of a sample that stand in a piece; both as `runs` gives them. 0 without runs."""
    return float(np.isin(sample, piece, assume_unique=True).mean()) if len(sample) else 0.0


class TrainingPieces:
    """The pieces that samples are compared with; each key is read when the first sample in it comes."""

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self._corpora = corpora
        self._by_key: dict[int, tuple[list[str], np.ndarray, np.ndarray]] = {}

    def closest(self, text: str) -> Closest:
        """The piece that holds most of a sampled text (reduced ABC, stream headers or not).

        Raises `NotaGenError` when the text has no key that pieces are known in.
        """
        field = next((line[2:].strip() for line in text.splitlines() if line.startswith("K:")), "none")
        names, hashes, owners = self._key(KEYS.index(major_key(field)))
        sample = runs(normal_form(text))
        found = np.bincount(owners[np.isin(hashes, sample)], minlength=len(names))
        best = int(found.argmax())
        return Closest(names[best], float(found[best] / max(len(sample), 1)))

    def _key(self, key: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Names of the pieces; all their runs in one key, and the number of the piece of each."""
        if key not in self._by_key:
            names, hashes = [], []
            for corpus in self._corpora:
                for piece in range(len(corpus)):
                    names.append(f"{corpus.name}: {corpus.piece_name(piece)}")
                    hashes.append(runs(normal_form(corpus.text(piece, key, prompt=False))))
            owners = np.repeat(np.arange(len(hashes)), [len(found) for found in hashes])
            self._by_key[key] = names, np.concatenate(hashes), owners
        return self._by_key[key]


@dataclasses.dataclass(frozen=True)
class Similarity:
    """For each piece the training piece that holds most of it; one JSON line a piece."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """Sampled pieces: files of reduced ABC, or a samples.jsonl of `python -m eval.samples`."""
    data: tuple[str, ...] = ()
    """Folders of the built data sets that the model was trained on."""
    split: str = "train"
    """Split of the data sets."""


def sampled(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(name, text) of the pieces in files; raises `NotaGenError` on one that cannot be read."""
    for path in files:
        text = read_tune(path)
        if path.suffix != ".jsonl":
            yield str(path), text
            continue
        for number, line in enumerate(text.splitlines(), 1):
            try:
                record = json.loads(line)
                yield f"{path}:{record['name']}", record["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise NotaGenError(f"{path}, line {number}: not a sample ({error}); sample again") from error


def run(options: Similarity) -> int:
    """Print the closest piece of each sample; 1 when any could not be compared (named on standard error)."""
    if not options.data or not options.files:
        raise NotaGenError("give --data the folders that the model was trained on, and sampled files")
    pieces = TrainingPieces([open_corpus(folder, options.split) for folder in options.data])
    failed = 0
    for name, text in sampled(options.files):
        try:
            print(json.dumps({"file": name, **pieces.closest(text)._asdict()}), flush=True)
        except NotaGenError as error:
            failed += 1
            print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    """Entry point: exit 1 with one message on a mendable error."""
    try:
        sys.exit(run(tyro.cli(Similarity, description=__doc__)))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
