"""CLaMP 2 features of many scores, to one .npy file each: resumable.

    python -m eval.clamp2_features scores/ --out features/ --clamp2 checkpoints/clamp2
    python -m eval.clamp2_features sentences.txt --out features/       # one text a .txt file

A score's feature goes to `OUT/NAME.npy`, float32 (1, width) as the official extraction writes it; its
folder below the input is kept. Files that are there already are skipped, so that the same command
goes on after it was stopped; they are written whole or not at all.
"""

import io
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from notagen_jax import clamp2
from notagen_jax.clamp2.score_text import interleaved_texts
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.score.listing import find_scores, scores_in
from train.progress import clock

GROUP = 64
"""Scores whose features are computed and written together."""
TEXT_SUFFIX = ".txt"


@dataclass(frozen=True)
class Features:
    """Write the features of scores (ABC in any form, MusicXML, …) and of .txt files."""

    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Files, or folders of them."""
    out: Path
    """Folder of the .npy files."""
    clamp2: str = "judge"
    """CLaMP 2 weights: an official .pth, a converted folder, a training run, or the packaged "judge"."""
    tokenizer: Path | None = None
    """Folder of the text tower's tokenizer, for .txt files and weights that bring none."""
    m3: bool = False
    """The mean vectors of the music tower itself, before the projection."""
    batch_size: int | None = None
    """Segments computed together; by default of 256 patches on a CPU, 64 elsewhere."""


def run(options: Features) -> int:
    """Extract and report; 1 when any score could not be read. Raises `NotaGenError`."""
    if not options.inputs:
        raise NotaGenError("no inputs given; name files or folders of scores")
    todo, done = _todo(options)
    print(f"{len(todo) + done} files, {done} done before, {len(todo)} to do", file=sys.stderr)
    if not todo:
        return 0
    enable_compilation_cache()
    model = clamp2.load(options.clamp2, tokenizer=options.tokenizer)
    failed, finished, began = 0, 0, time.monotonic()
    for start in range(0, len(todo), GROUP):
        targets: list[Path] = []
        texts: list[str] = []
        for path, stem in todo[start : start + GROUP]:
            if path.suffix.lower() == TEXT_SUFFIX:
                text = read_text(path, "give UTF-8 text")
                _write(stem, model.text_features([text], batch_size=options.batch_size)[0])
                continue
            for target, found in _texts(path, stem):
                if isinstance(found, NotaGenError):
                    failed += 1
                    print(f"{found}", file=sys.stderr)
                else:
                    targets.append(target)
                    texts.append(found)
        features = model.music_features(texts, batch_size=options.batch_size, projected=not options.m3)
        for target, feature in zip(targets, features, strict=True):
            _write(target, feature)
        finished += len(todo[start : start + GROUP])
        rate = finished / (time.monotonic() - began)
        left = clock((len(todo) - finished) / rate)
        print(f"{finished}/{len(todo)} files  {rate:.1f} files/s  ETA {left}", file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} scores could not be read", file=sys.stderr)
    return 1 if failed else 0


def _todo(options: Features) -> tuple[list[tuple[Path, Path]], int]:
    """Files without all their features and the stems of those, and how many files have them."""
    todo, done = [], 0
    taken: dict[Path, Path] = {}
    for given in options.inputs:
        texts = sorted(given.rglob(f"*{TEXT_SUFFIX}")) if given.is_dir() else [given]
        files = [path for path in texts if path.suffix.lower() == TEXT_SUFFIX]
        if given.is_dir() or not files:
            files += find_scores([given], options.out)
        for path in files:
            below = path.relative_to(given) if given.is_dir() else Path(path.name)
            stem = options.out / below.with_suffix("")
            if stem in taken:
                raise NotaGenError(
                    f"{path} and {taken[stem]}: both features would be {stem}.npy; rename one, or extract "
                    "them to two folders"
                )
            taken[stem] = path
            if all(target.with_name(target.name + ".npy").is_file() for target in _targets(path, stem)):
                done += 1
            else:
                todo.append((path, stem))
    return todo, done


def _targets(path: Path, stem: Path) -> list[Path]:
    """The stems of the features of a file: itself, or each of its tunes."""
    if path.suffix.lower() == TEXT_SUFFIX:
        return [stem]
    return [
        stem.with_name(f"{stem.name}.{score.tune}" if score.tune else stem.name) for score in scores_in(path)
    ]


def _texts(path: Path, stem: Path) -> Iterator[tuple[Path, str | NotaGenError]]:
    """The stem and text (or refusal) of each score in a file."""
    found = list(interleaved_texts(path))
    targets = _targets(path, stem)
    if len(targets) != len(found):  # interleaved text is one piece, whatever `X:` fields stand in it
        targets = [stem]
    for target, piece in zip(targets, found, strict=True):
        yield target, piece if isinstance(piece, NotaGenError) else piece[1]


def _write(stem: Path, feature: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, feature[None])
    write_atomic(stem.with_name(stem.name + ".npy"), stream.getvalue())


if __name__ == "__main__":
    options = tyro.cli(Features, prog="python -m eval.clamp2_features", description=__doc__)
    try:
        sys.exit(run(options))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
