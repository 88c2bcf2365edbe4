"""How good a CLaMP 2 model is on labelled scores: retrieval and linear probes.

    python -m eval.clamp2_quality --clamp2 runs/judge --half second --data.sources FOLDER…

Retrieval, on the held-out splits: the sentence of every prompt that occurs there is a text; for each
piece the texts are ranked by cosine, and the piece's own should come first (top 1, mean reciprocal
rank). Of the first text, each label is also counted alone. Disorder: how often the own sentence is
nearer to the piece than to the same piece with every voice's bars in an order of their own
(`eval.disorder`), where 50 % is guessing. Linear probes (`eval.label_accuracy`):
logistic regressions on the music tower's own features of the pieces that the model was not trained
on, a fifth of them for the test.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from eval.disorder import disordered
from eval.label_accuracy import label_classifiers
from notagen_jax import clamp2
from notagen_jax.clamp2.label_text import label_sentence
from notagen_jax.clamp2.m3_patches import encode
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.labels import Prompt
from notagen_jax.notation.restore import restore_rests
from notagen_jax.preference import cosines
from train.corpus import Corpus, has_held_out, open_corpus
from train.score_pieces import in_half

LABELS = ("period", "instrumentation", "composer")


@dataclass(frozen=True)
class Quality:
    """Measure retrieval and linear probes of a CLaMP 2 model."""

    sources: Annotated[tuple[str, ...], tyro.conf.arg(name="data.sources")]
    """Folders of built data sets with labels."""
    clamp2: str = "judge"
    """The model: an official .pth, a converted folder, a training run, or the packaged "judge"."""
    tokenizer: Path | None = None
    """Folder of the text tower's tokenizer, for weights that bring none."""
    half: Literal["all", "first", "second"] = "all"
    """Which training pieces the probes use beside the held-out ones: those the model has not seen."""
    probes: int = 2000
    """Most training pieces used for the probes."""
    seed: int = 0
    """Seed of the choice of those and of the test split."""
    json: Path | None = None
    """Write the figures to this file too."""


def run(options: Quality) -> dict[str, Any]:
    """Measure, print and return the figures; raises `NotaGenError`."""
    if not options.sources:
        raise NotaGenError("no data: give --data.sources the folders of built data sets")
    enable_compilation_cache()
    model = clamp2.load(options.clamp2, tokenizer=options.tokenizer)
    held = pieces([open_corpus(f, "validation") for f in options.sources if has_held_out(f)], "all")
    unseen = pieces([open_corpus(folder, "train") for folder in options.sources], options.half)
    order = np.random.default_rng(options.seed).permutation(len(unseen))[: options.probes]
    used = [*held, *(unseen[place] for place in order)]
    texts = [restore_rests(corpus.text(piece, corpus.original_key(piece), False)) for corpus, piece in used]
    prompts = [Prompt(*corpus.label(piece)) for corpus, piece in used]

    tower = model.music_features(texts, projected=False, progress=_progress)
    labels = {name: [getattr(prompt, name) for prompt in prompts] for name in LABELS}
    classifiers, _ = label_classifiers(tower, labels, options.seed)
    figures: dict[str, Any] = {
        "model": options.clamp2,
        "probes": {
            name: {
                "test_accuracy": fitted.test_accuracy,
                "majority": fitted.majority,
                "classes": len(fitted.classes),
                "test_pieces": fitted.test_pieces,
            }
            for name, fitted in classifiers.items()
        },
    }
    if held and model.config.has_text:
        music = model.music_features(texts[: len(held)])
        figures["retrieval"] = retrieval(model, music, prompts[: len(held)])
        mixed = in_disorder(texts[: len(held)], model.config.patch_size, options.seed)
        if mixed:
            figures["disorder"] = told_from_disorder(
                model,
                music[list(mixed)],
                model.patch_features(list(mixed.values())),
                [prompts[place] for place in mixed],
            )
    show(figures)
    if options.json is not None:
        write_atomic(options.json, json.dumps(figures, indent=1) + "\n")
    return figures


def pieces(corpora: Sequence[Corpus], half: str) -> list[tuple[Corpus, int]]:
    """The pieces of some corpora that are in a half."""
    return [
        (corpus, piece)
        for corpus in corpora
        for piece in range(len(corpus))
        if in_half(corpus.piece_name(piece), half)
    ]


def retrieval(model: clamp2.Clamp2, music: np.ndarray, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Ranks of every piece's own sentence among those of all prompts, for features (n, D)."""
    known = sorted(set(prompts))
    table = cosines(music, model.text_features([label_sentence(prompt) for prompt in known]))
    own = np.array([known.index(prompt) for prompt in prompts])
    ranks = 1 + (table > table[np.arange(len(own)), own][:, None]).sum(axis=1)
    first = [known[place] for place in table.argmax(axis=1)]
    return {
        "pieces": len(prompts),
        "texts": len(known),
        "top_1": float(np.mean(ranks == 1)),
        "top_5": float(np.mean(ranks <= 5)),
        "mean_reciprocal_rank": float(np.mean(1 / ranks)),
        "first_has_label": {
            name: float(
                np.mean([getattr(a, name) == getattr(b, name) for a, b in zip(first, prompts, strict=True)])
            )
            for name in LABELS
        },
    }


def in_disorder(texts: Sequence[str], patch_size: int, seed: int) -> dict[int, np.ndarray]:
    """The patches of pieces with every voice's bars in an order of their own, by the piece's place.

    A piece whose bars have no other order (one a voice, or all of them special) is left out.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for place, text in enumerate(texts):
        piece = encode(text, patch_size)
        mixed = disordered(piece, rng)
        if not np.array_equal(mixed, piece):
            found[place] = mixed
    return found


def told_from_disorder(
    model: clamp2.Clamp2, music: np.ndarray, mixed: np.ndarray, prompts: Sequence[Prompt]
) -> dict[str, float]:
    """How the own sentence likes pieces, and the same in disorder: features (n, D) each.

    own_nearer is the share of pieces that their sentence is nearer to than to the disordered one;
    piece and disordered are the mean cosines.
    """
    sentences = model.text_features([label_sentence(prompt) for prompt in prompts])
    piece, disorder = (cosines(side, sentences).diagonal() for side in (music, mixed))
    return {
        "own_nearer": float(np.mean(piece > disorder)),
        "piece": float(piece.mean()),
        "disordered": float(disorder.mean()),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    table = Table(title=f"{figures['model']}: linear probes")
    for column in ("label", "accuracy", "commonest label", "classes", "test pieces"):
        table.add_column(column, justify="left" if column == "label" else "right")
    for name, row in figures["probes"].items():
        table.add_row(
            name,
            f"{row['test_accuracy']:.3f}",
            f"{row['majority']:.3f}",
            str(row["classes"]),
            str(row["test_pieces"]),
        )
    Console().print(table)
    told = figures.get("disorder")
    if told:
        print(
            f"disorder: the own sentence is nearer in {told['own_nearer']:.3f} of the pieces; mean cosine "
            f"{told['piece']:.3f}, in disorder {told['disordered']:.3f}"
        )
    found = figures.get("retrieval")
    if found:
        parts = ", ".join(f"{name} {share:.3f}" for name, share in found["first_has_label"].items())
        print(
            f"retrieval of {found['pieces']} held-out pieces among {found['texts']} texts: top 1 "
            f"{found['top_1']:.3f}, top 5 {found['top_5']:.3f}, mean reciprocal rank "
            f"{found['mean_reciprocal_rank']:.3f}; the first text has the right {parts}"
        )


def _progress(done: int, total: int) -> None:
    print(f"\r{done}/{total} segments", end="" if done < total else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    options = tyro.cli(Quality, prog="python -m eval.clamp2_quality", description=__doc__)
    try:
        run(options)
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
