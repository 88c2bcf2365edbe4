"""The training piece closest to a sampled one, by text: `python -m eval.similarity FILE… --data FOLDER…`.

The measure is containment, the share of a sample's text that stands in one training piece, whatever
the keys of both (`train.clamp_dpo.copying`).
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tyro

from notagen_jax.cli.tune_input import read_tune
from notagen_jax.errors import NotaGenError
from notagen_jax.score import KEYS
from train.clamp_dpo.copying import KnownPieces
from train.corpus import Corpus, open_corpus


def training_pieces(corpora: Sequence[Corpus]) -> KnownPieces:
    """The pieces of some corpora, to compare reduced ABC with."""
    return KnownPieces(
        (f"{corpus.name}: {corpus.piece_name(piece)}", corpus.text(piece, KEYS.index("C"), prompt=False))
        for corpus in corpora
        for piece in range(len(corpus))
    )


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


def run(options: Similarity) -> None:
    """Print the closest piece of each sample; raises `NotaGenError` on what cannot be read."""
    if not options.data or not options.files:
        raise NotaGenError("give --data the folders that the model was trained on, and sampled files")
    pieces = training_pieces([open_corpus(folder, options.split) for folder in options.data])
    for name, text in sampled(options.files):
        found = pieces.closest(text)
        if found is None:
            raise NotaGenError(f"--data: the {options.split} split holds no piece to compare with")
        print(json.dumps({"file": name, **found._asdict()}), flush=True)


def main() -> None:
    """Entry point: exit 1 with one message on a mendable error."""
    try:
        run(tyro.cli(Similarity, prog="python -m eval.similarity", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
