"""Perplexity of a model on whole pieces: `python -m eval.perplexity --checkpoint C --data FOLDER…`.

Per character, as the paper prints it (e to the mean negative log-likelihood of a character, section
4.3), and per patch. A piece longer than the model's window is read window by window, as it would be
composed (`eval.stream_windows`), and every character is counted once.
"""

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.progress import Progress

from eval.stream_windows import stream_windows
from notagen_jax import checkpoints
from notagen_jax.char_chunks import char_nll_sum
from notagen_jax.cli.tune_input import read_tune
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.config import PATCH_SIZE, ModelConfig
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.losses import target_mask
from notagen_jax.model import PatchDecoder
from notagen_jax.patches import Piece, encode_piece
from train.corpus import Corpus, open_corpus

BUCKET = 256
"""Lengths are padded to multiples of this, so that few programs are compiled."""
CHUNKS = 16
"""Parts of a window that the character decoder takes one by one."""


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """Perplexity per character and per patch, overall and by label."""

    files: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Files of reduced ABC, instead of data sets or beside them."""
    checkpoint: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "mini"
    """Anything that `notagen generate --checkpoint` takes."""
    data: tuple[str, ...] = ()
    """Folders of built data sets, whose pieces are read in their own keys."""
    split: str = "validation"
    """Split of the data sets."""
    prompts: bool | None = None
    """Whether the pieces of data sets begin with their prompts; by default where the model knows prompts."""
    batch: int = 4
    """Windows computed together."""
    most: int = 0
    """Only so many pieces of each data set; 0 takes all."""
    json: Path | None = None
    """Write all figures, those of every piece included, to this file."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.most < 0:
            raise NotaGenError(
                f"--batch ({self.batch}) must be at least 1, --most ({self.most}) not negative"
            )


class Scored(NamedTuple):
    """A piece's likelihood."""

    name: str
    labels: tuple[str, ...]
    """Period, composer, instrumentation; empty for a file."""
    nll: float
    """Sum over its target characters, nats."""
    characters: int
    patches: int


@functools.partial(jax.jit, static_argnums=0)
def counted_nll(
    config: ModelConfig, params: Any, patches: jax.Array, first: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Negative log-likelihood (nats) and number of the characters that count, float32 and int32.

    patches uint8 (B, P, 16), zero after the end of a window; first int32 (B,): see `Window`. The
    character decoder runs only over the patches that count, as far as they are filled.
    """
    chunked = config.replace(char_chunk=-(-patches.shape[1] // CHUNKS))
    vectors = jnp.asarray(PatchDecoder(chunked).apply({"params": params["patch_decoder"]}, patches))
    counted = jnp.arange(1, patches.shape[1]) >= first[:, None]
    targets = target_mask(patches) & counted[..., None]
    decoder = {"params": params["char_decoder"]}
    return char_nll_sum(chunked, decoder, vectors[:, :-1], patches[:, 1:], targets), targets.sum()


def score(
    config: ModelConfig, params: Any, pieces: Iterable[tuple[str, tuple[str, ...], Piece]], batch: int
) -> Iterator[Scored]:
    """Score whole pieces, given as (name, labels, piece), in their order; `batch` windows at a time."""
    params = jax.device_put(params)
    for name, labels, piece in pieces:
        try:
            parts = stream_windows(piece, config.patch_length)
        except NotaGenError as error:
            raise NotaGenError(f"{name}: {error}") from error
        nll, characters = 0.0, 0
        for start in range(0, len(parts), batch):
            group = parts[start : start + batch]
            longest = max(len(part.patches) for part in group)
            rows = np.zeros(
                (len(group), min(-(-longest // BUCKET) * BUCKET, config.patch_length), PATCH_SIZE), np.uint8
            )
            for row, part in zip(rows, group, strict=True):
                row[: len(part.patches)] = part.patches
            first = np.array([part.first for part in group], np.int32)
            total, count = jax.device_get(counted_nll(config, params, rows, first))
            nll += float(total)
            characters += int(count)
        yield Scored(name, labels, nll, characters, piece.length - 1)


def figures(pieces: Sequence[Scored]) -> dict[str, float | int]:
    """Perplexities over a set of pieces: means over all their characters and patches, not over pieces."""
    nll = sum(piece.nll for piece in pieces)
    characters = sum(piece.characters for piece in pieces)
    patches = sum(piece.patches for piece in pieces)
    return {
        "pieces": len(pieces),
        "characters": characters,
        "patches": patches,
        "perplexity_char": math.exp(nll / characters),
        "perplexity_patch": math.exp(min(nll / patches, 700.0)),
        "bits_per_char": nll / characters / math.log(2),
    }


def corpus_pieces(corpus: Corpus, prompts: bool, most: int) -> Iterator[tuple[str, tuple[str, ...], Piece]]:
    """The pieces of a split in their own keys, named and labelled; `most` 0 takes all."""
    for number in range(min(len(corpus), most or len(corpus))):
        name = corpus.piece_name(number)
        text = corpus.text(number, corpus.original_key(number), prompts)
        try:
            yield name, corpus.label(number), encode_piece(text)
        except NotaGenError as error:
            raise NotaGenError(f"{corpus.name}, {name}: {error}") from error


def file_pieces(files: Sequence[Path]) -> Iterator[tuple[str, tuple[str, ...], Piece]]:
    """The pieces in files of reduced ABC; raises `NotaGenError` naming one that cannot be encoded."""
    for path in files:
        text = read_tune(path)
        try:
            yield str(path), (), encode_piece(text)
        except NotaGenError as error:
            raise NotaGenError(f"{path}: {error}") from error


def run(options: Perplexity) -> dict[str, Any]:
    """Score every piece, print the table and return the figures."""
    if not options.data and not options.files:
        raise NotaGenError("nothing to score: give --data folders of built data sets, or files")
    enable_compilation_cache()
    checkpoint = checkpoints.load(options.checkpoint)
    prompts = checkpoint.labels is not None if options.prompts is None else options.prompts
    corpora = [open_corpus(folder, options.split) for folder in options.data]
    total = len(options.files) + sum(min(len(c), options.most or len(c)) for c in corpora)
    scored = []
    with Progress(transient=True) as bar:
        task = bar.add_task("scoring", total=total)
        sources = [corpus_pieces(corpus, prompts, options.most) for corpus in corpora]
        for source in (*sources, file_pieces(options.files)):
            for piece in score(checkpoint.config, checkpoint.params, source, options.batch):
                scored.append(piece)
                bar.advance(task)
    groups: dict[str, list[Scored]] = {}
    for place, kind in enumerate(("period", "composer", "instrumentation")):
        for piece in scored:
            if piece.labels:
                groups.setdefault(f"{kind}: {piece.labels[place]}", []).append(piece)
    report = {
        "checkpoint": options.checkpoint,
        "overall": figures(scored),
        "by_label": {label: figures(pieces) for label, pieces in sorted(groups.items())},
        "pieces": [piece._asdict() for piece in scored],
    }
    show(report)
    if options.json is not None:
        write_atomic(options.json, json.dumps(report, indent=1) + "\n")
    return report


def show(report: dict[str, Any]) -> None:
    """Print the figures as a table."""
    rows = {**report["by_label"], "overall": report["overall"]}
    width = max(map(len, rows))
    print(f"{'':{width}}  pieces  characters  perplexity/char  bits/char  perplexity/patch")
    for name, row in rows.items():
        print(
            f"{name:{width}}  {row['pieces']:6d}  {row['characters']:10d}  {row['perplexity_char']:15.4f}"
            f"  {row['bits_per_char']:9.4f}  {row['perplexity_patch']:16.4g}"
        )


def main() -> None:
    """Entry point: exit 1 with one message on a mendable error."""
    try:
        run(tyro.cli(Perplexity, prog="python -m eval.perplexity", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
