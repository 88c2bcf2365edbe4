"""`notagen generate`: compose pieces and write them in every format."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.labels import Prompt, nearest

if TYPE_CHECKING:
    from notagen_jax.checkpoints import Checkpoint
    from notagen_jax.sampling import Sample

FORMATS = ("abc", "musicxml", "midi", "svg", "pdf")


@dataclasses.dataclass(frozen=True)
class Generate:
    """Compose pieces in the style of a prompt, or go on from a score, and write them as files.

    Each piece is written as NAME.abc, .musicxml, .mid, -1.svg …, .pdf, with NAME.raw.abc (the text
    as the model wrote it) and NAME.validity.json. report.json sums up the run.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the files; made when it does not exist."""
    period: str = ""
    """Baroque, Classical or Romantic."""
    composer: str = ""
    """As "Last, First" in ASCII: "Bach, Johann Sebastian"."""
    instrumentation: str = ""
    """Keyboard, Chamber, Orchestral, Art Song, Choral or Vocal-Orchestral."""
    prefix: Path | None = None
    """Go on from this text instead of a prompt: reduced ABC, whole or broken off anywhere."""
    number: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1
    """How many pieces."""
    seed: int = 0
    """Seed of the first piece; the next ones take the next seeds."""
    checkpoint: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "mini"
    """An official .pth, a converted folder, a training run, or the packaged "mini"."""
    formats: tuple[str, ...] = FORMATS
    """Files to write: any of abc, musicxml, midi, svg, pdf."""
    batch: int = 8
    """Most pieces sampled at the same time."""
    top_k: int = 9
    """Keep this many of the likeliest characters."""
    top_p: float = 0.9
    """Of those, keep the fewest whose probabilities reach this sum."""
    temperature: float = 1.2
    """Flatten (above 1) or sharpen (below 1) what is left."""
    max_chars: int = 102_400
    """Give a piece up at this length."""
    max_minutes: float = 20.0
    """Give up the pieces of a batch after this time."""
    force: bool = False
    """Use the prompt even if the model was not trained on it."""
    list_prompts: bool = False
    """Print the prompts that the checkpoint was trained on, and stop."""


def run(options: Generate) -> int:
    """Sample, restore, check and write; 1 when a piece could not be finished or written."""
    unknown = sorted(set(options.formats) - set(FORMATS))
    if unknown or not options.formats:
        raise NotaGenError(f"--formats: {unknown or 'nothing given'}; choose from {', '.join(FORMATS)}")
    if options.number < 1 or options.batch < 1:
        raise NotaGenError(f"-n ({options.number}) and --batch ({options.batch}) must be at least 1")
    from notagen_jax import checkpoints
    from notagen_jax.compilation import enable_compilation_cache

    enable_compilation_cache()
    checkpoint = checkpoints.load(options.checkpoint)
    if options.list_prompts:
        for label in checkpoint.labels or ():
            print("; ".join(label))
        return 0
    start, title, stem = starting_text(options, checkpoint)
    write_atomic(options.out / "report.json", "[]\n")  # an unwritable folder fails before the work, not after
    outcomes = []
    for first in range(0, options.number, options.batch):
        seeds = range(options.seed + first, options.seed + min(first + options.batch, options.number))
        for sample in sample_batch(checkpoint, start, list(seeds), options):
            outcomes.append(write_piece(sample, f"{stem}-{sample.seed}", title, options))
            write_atomic(options.out / "report.json", json.dumps(outcomes, indent=1) + "\n")
    good = sum(outcome["error"] is None for outcome in outcomes)
    aligned = sum(bool(outcome["aligned"]) for outcome in outcomes)
    print(f"{good} of {len(outcomes)} pieces written to {options.out}, {aligned} with all bars aligned")
    return 0 if good == len(outcomes) else 1


def starting_text(options: Generate, checkpoint: "Checkpoint") -> tuple[str, str | None, str]:
    """The text to go on from, a title for the page, and the stem of the file names.

    Raises `NotaGenError` on a missing prompt, one the model was not trained on, or a bad prefix.
    """
    labels = (options.period, options.composer, options.instrumentation)
    if options.prefix is not None:
        if any(labels):
            raise NotaGenError("--prefix goes without --period, --composer and --instrumentation")
        from notagen_jax.cli.loglik import read_text

        try:
            return read_text(options.prefix), options.prefix.stem, options.prefix.stem
        except NotaGenError as error:
            raise NotaGenError(f"{options.prefix}: {error}") from error
    missing = [
        f"--{name}" for name, label in zip(("period", "composer", "instrumentation"), labels, strict=True) if not label
    ]
    if missing:
        raise NotaGenError(f"the prompt lacks {', '.join(missing)}; see `notagen generate --list-prompts --out .`")
    prompt = Prompt(*labels)
    known = [Prompt(*label) for label in checkpoint.labels or ()]
    if known and prompt not in known and not options.force:
        near = "\n".join(f"  {p.period}; {p.composer}; {p.instrumentation}" for p in nearest(prompt, known))
        raise NotaGenError(
            f"{options.checkpoint} was not trained on {'; '.join(labels)}. The nearest prompts are\n{near}\n"
            "Choose one of them, or add --force."
        )
    stem = re.sub(r"[^a-z0-9]+", "-", f"{prompt.composer.split(',')[0]} {prompt.instrumentation}".lower()).strip("-")
    return prompt.lines(), f"{prompt.composer} ({prompt.instrumentation})", stem


def sample_batch(
    checkpoint: "Checkpoint", start: str, seeds: list[int], options: Generate
) -> "list[Sample]":
    """One batch of samples, with progress on standard error."""
    from notagen_jax.sampling import SamplingSettings, generate

    settings = SamplingSettings(
        top_k=options.top_k,
        top_p=options.top_p,
        temperature=options.temperature,
        max_chars=options.max_chars,
        max_seconds=60 * options.max_minutes,
    )
    return generate(
        checkpoint.config, checkpoint.params, [start] * len(seeds), seeds, settings, progress=print_progress()
    )


def print_progress() -> Callable[[Any], None]:
    """A progress callback that keeps one line of standard error up to date."""
    interactive = sys.stderr.isatty()

    def show(progress: Any) -> None:
        if interactive:
            print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)

    return show


def write_piece(sample: "Sample", stem: str, title: str | None, options: Generate) -> dict[str, Any]:
    """Write one sample's files and say what came of it, as a record for report.json."""
    from notagen_jax.notation import render_piece

    rendered = render_piece(sample.text, options.out, stem, formats=options.formats, title=title)
    error = rendered.error or (None if sample.finished else f"not finished: {sample.reason}")
    aligned = rendered.validity is not None and rendered.validity.aligned
    state = error or ("aligned" if aligned else "bars of unequal length, see its validity.json")
    print(f"{stem}: {sample.patches} patches in {sample.seconds:.1f} s; {state}", file=sys.stderr)
    return {
        "name": stem,
        "seed": sample.seed,
        "patches": sample.patches,
        "finished": sample.finished,
        "aligned": aligned,
        "error": error,
        "files": [str(path) for path in rendered.files],
    }
