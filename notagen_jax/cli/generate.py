"""`notagen generate`: compose pieces and write them in every format."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from notagen_jax import checkpoints
from notagen_jax.checkpoints import Checkpoint
from notagen_jax.checkpoints.advice import ADVISED
from notagen_jax.cli.tune_input import read_tune
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.labels import PROMPTS, Prompt, nearest
from notagen_jax.notation import FORMATS, render_piece
from notagen_jax.sampling import (
    Progress,
    Sample,
    SamplingInterrupted,
    SamplingSettings,
    generate,
    settings_for,
)


@dataclasses.dataclass(frozen=True)
class Generate:
    """Compose pieces in the style of a prompt, or go on from a score, and write them as files.

    Each piece is written as NAME.abc, .musicxml, .mid, -1.svg …, .pdf, with NAME.raw.abc (the text
    as the model wrote it) and NAME.validity.json. report.json sums up the run.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out")
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
    """Files to write: any of abc, xml (MusicXML), midi, svg, pdf."""
    batch: int = 0
    """Pieces of a batch, of which a CPU draws several at once; 0 chooses by the machine."""
    top_k: int | None = None
    """Keep this many of the likeliest characters. Default: what the checkpoint advises, else 9."""
    top_p: float | None = None
    """Of those, keep the fewest whose probabilities reach this sum. Default: as advised, else 0.9."""
    temperature: float | None = None
    """Flatten (above 1) or sharpen (below 1) what is left. Default: as advised, else 1.2."""
    bar_attempts: int | None = None
    """Draw a bar until its voices agree, so often at most; 1 takes any. Default: as advised, else 1."""
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
        raise NotaGenError(
            f"--formats: {', '.join(unknown) or 'nothing given'}; choose from {', '.join(FORMATS)}"
        )
    if options.number < 1 or options.batch < 0:
        raise NotaGenError(
            f"-n ({options.number}) must be at least 1, and --batch ({options.batch}) not negative"
        )
    enable_compilation_cache()
    checkpoint = checkpoints.load(options.checkpoint)
    if options.list_prompts:
        if checkpoint.labels is None:
            print(f"{options.checkpoint} names no prompts; the paper's are these", file=sys.stderr)
        for prompt in checkpoint.labels or PROMPTS:
            print(f"{prompt.period}; {prompt.composer}; {prompt.instrumentation}")
        return 0
    settings = settings_for(
        checkpoint,
        top_k=options.top_k,
        top_p=options.top_p,
        temperature=options.temperature,
        bar_attempts=options.bar_attempts,
        max_chars=options.max_chars,
        max_seconds=60 * options.max_minutes,
    )
    start, title, stem = starting_text(options, checkpoint)
    writer = PieceWriter(options.out, stem, title, options.formats, settings)
    seeds = range(options.seed, options.seed + options.number)
    try:
        generate(
            checkpoint.config,
            checkpoint.params,
            [start] * options.number,
            seeds,
            settings,
            progress=writer,
            batch_size=options.batch or None,
        )
    except SamplingInterrupted as interrupt:
        writer.keep(interrupt.samples)
        raise
    return writer.close()


class PieceWriter:
    """Writes each piece as soon as it is sampled, so that a run cut short keeps what it had."""

    def __init__(
        self, out: Path, stem: str, title: str | None, formats: tuple[str, ...], settings: SamplingSettings
    ) -> None:
        """Raises `NotaGenError` at once when `out` cannot be written."""
        self.out = out
        self.stem = stem
        self.title = title
        self.formats = formats
        self.drawn = {name: getattr(settings, name) for name in ADVISED}
        self.outcomes: list[dict[str, Any]] = []
        self._interactive = sys.stderr.isatty()
        self._write_report()

    def __call__(self, progress: Progress) -> None:
        """The progress callback of sampling."""
        if self._interactive:
            print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)
        for piece in progress.moved:
            if piece.sample is not None:
                self._write(piece.sample)

    def _write(self, sample: Sample) -> None:
        name = f"{self.stem}-{sample.seed}"
        rendered = render_piece(sample.text, self.out, name, formats=self.formats, title=self.title)
        error = rendered.error or (None if sample.finished else f"not finished: {sample.reason}")
        aligned = rendered.validity is not None and rendered.validity.aligned
        state = error or ("aligned" if aligned else f"see {name}.validity.json: bars of unequal length")
        clear = "\r\x1b[K" if self._interactive else ""
        print(f"{clear}{name}: {sample.patches} patches, {sample.seconds:.1f} s; {state}", file=sys.stderr)
        self.outcomes.append(
            {
                "name": name,
                "seed": sample.seed,
                **self.drawn,
                "patches": sample.patches,
                "bars_redrawn": sample.bars_redrawn,
                "finished": sample.finished,
                "aligned": aligned,
                "error": error,
                "files": [path.name for path in rendered.files],
            }
        )
        self._write_report()

    def keep(self, samples: list[Sample]) -> None:
        """Write the raw text of pieces that were begun and not finished."""
        written = {outcome["seed"] for outcome in self.outcomes}
        for sample in samples:
            if sample.seed not in written:
                write_atomic(self.out / f"{self.stem}-{sample.seed}.raw.abc", sample.text)

    def _write_report(self) -> None:
        write_atomic(
            self.out / "report.json",
            json.dumps(sorted(self.outcomes, key=lambda outcome: outcome["seed"]), indent=1) + "\n",
        )

    def close(self) -> int:
        """Print the summary; 1 when a piece was not finished or not written in every format."""
        good = sum(outcome["error"] is None for outcome in self.outcomes)
        aligned = sum(outcome["aligned"] for outcome in self.outcomes)
        total = len(self.outcomes)
        print(f"{good} of {total} pieces written whole to {self.out}, {aligned} with every bar aligned")
        return 0 if good == total else 1


def starting_text(options: Generate, checkpoint: Checkpoint) -> tuple[str, str | None, str]:
    """The text to go on from, a title for the page, and the stem of the file names.

    Raises `NotaGenError` on a missing prompt, one the model was not trained on, or a bad prefix.
    """
    labels = (options.period, options.composer, options.instrumentation)
    if options.prefix is not None:
        if any(labels):
            raise NotaGenError("--prefix goes without --period, --composer and --instrumentation")
        return read_tune(options.prefix), options.prefix.stem, options.prefix.stem
    missing = [
        f"--{name}"
        for name, label in zip(("period", "composer", "instrumentation"), labels, strict=True)
        if not label
    ]
    if missing:
        raise NotaGenError(
            f"the prompt lacks {', '.join(missing)}; `--list-prompts` shows those of a checkpoint"
        )
    prompt = Prompt(*labels)
    known = checkpoint.labels or PROMPTS
    if prompt not in known and not options.force:
        near = "\n".join(f"  {p.period}; {p.composer}; {p.instrumentation}" for p in nearest(prompt, known))
        whose = options.checkpoint if checkpoint.labels else "the paper's model"
        raise NotaGenError(
            f"{whose} was not trained on {'; '.join(labels)}. The nearest prompts are\n{near}\n"
            "Choose one of them, or add --force."
        )
    stem = re.sub(
        r"[^a-z0-9]+", "-", f"{prompt.composer.split(',')[0]} {prompt.instrumentation}".lower()
    ).strip("-")
    return prompt.lines(), f"{prompt.composer} ({prompt.instrumentation})", stem
