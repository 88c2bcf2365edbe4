"""How sound a model's pieces are: `python -m eval.samples --checkpoint C --out DIR` samples and judges them.

For every prompt the share of pieces that come to their end, become MusicXML without losing a note,
have all voices aligned and in one key, and are taken by three readers that this project did not
write. The texts stay in `DIR/samples.jsonl`; the verdicts on each piece in `DIR/verdicts.jsonl`, the
shares in `DIR/report.json`. The same command goes on where it was stopped.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.progress import Progress

from eval import readers
from notagen_jax import checkpoints
from notagen_jax.checkpoints.adapters import weights_digest
from notagen_jax.compilation import enable_compilation_cache
from notagen_jax.cores import usable_cores
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_json, write_atomic
from notagen_jax.labels import Prompt
from notagen_jax.notation import check, restore_rests
from notagen_jax.notation.keys import voices_apart
from notagen_jax.notation.musicxml import to_musicxml
from notagen_jax.sampling import SamplingSettings, settings_for
from notagen_jax.score.batch import Done, run_isolated
from train.clamp_dpo.samples import PARTIAL_FOLDER, SAMPLES_FILE, Drawn, Request, draw
from train.progress import say_to_stderr

VERDICTS_FILE = "verdicts.jsonl"
REPORT_FILE = "report.json"
SETTINGS_FILE = "settings.json"


@dataclasses.dataclass(frozen=True)
class Samples:
    """Sample pieces from a checkpoint and tell how many open, align and come to their end."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the texts and verdicts."""
    checkpoint: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "mini"
    """Anything that `notagen generate --checkpoint` takes."""
    prompts: tuple[str, ...] = ()
    """Prompts as "Period; Composer; Instrumentation"; empty: all that the checkpoint was trained on."""
    number: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 16
    """Pieces of each prompt."""
    seed: int = 0
    """Seed of the first piece of each prompt; the next ones take the next seeds."""
    top_k: int | None = None
    """Keep this many of the likeliest characters. Default: what the checkpoint advises, else 9."""
    top_p: float | None = None
    """Of those, keep the fewest whose probabilities reach this sum. Default: as advised, else 0.9."""
    temperature: float | None = None
    """Flatten (above 1) or sharpen (below 1) what is left. Default: as advised, else 1.2."""
    bar_attempts: int | None = None
    """Draw a bar until its voices agree, so often at most; 1 takes any. Default: as advised, else 1."""
    max_patches: int | None = None
    """Give a piece up after so many patches; None: the official limit of 102,400 characters."""
    batch: int = 16
    """Pieces of a batch, of which a CPU draws several at once."""
    processes: int = dataclasses.field(default_factory=lambda: min(8, usable_cores()))
    """Pieces judged at the same time."""

    def __post_init__(self) -> None:
        for name in ("number", "batch", "processes"):
            if getattr(self, name) < 1:
                raise NotaGenError(f"--{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found of one piece; a reason is None where there is nothing to say."""

    name: str
    style: str
    finished: bool
    bars: int = 0
    misaligned: int = 0
    """Bars whose voices differ in length."""
    aligned: bool = False
    """Whether all voices agree in bar count, bar lines and bar lengths."""
    one_key: bool = False
    """Whether all voices stand in one key signature in every bar, transposing and percussion ones aside."""
    bars_redrawn: int | None = None
    """How often a bar was drawn again; None: not noted."""
    not_converted: str | None = None
    """Why it did not become MusicXML whole."""
    abc2midi: str | None = None
    verovio: str | None = None
    music21: str | None = None

    @property
    def opens(self) -> bool:
        """Whether the piece became MusicXML and all three readers take it."""
        return not (self.not_converted or self.abc2midi or self.verovio or self.music21)

    def taken_by_none(self, reason: str) -> "Verdict":
        """The verdict on a piece that came to no reader, for one reason."""
        return dataclasses.replace(
            self, not_converted=reason, abc2midi=reason, verovio=reason, music21=reason
        )


def judge(piece: Drawn) -> Verdict:
    """The verdict on a sampled piece. Never raises on bad music."""
    verdict = Verdict(piece.name, piece.style, piece.finished, bars_redrawn=piece.bars_redrawn)
    try:
        interleaved = restore_rests(piece.text)
    except NotaGenError as error:
        return verdict.taken_by_none(str(error))
    validity = check(interleaved)
    verdict = dataclasses.replace(
        verdict,
        bars=validity.bars,
        misaligned=len(validity.misaligned),
        aligned=validity.aligned,
        one_key=not voices_apart(interleaved),
        abc2midi=readers.abc2midi_fault(interleaved),
    )
    try:
        score = to_musicxml(interleaved)
    except NotaGenError as error:
        reason = str(error)
        return dataclasses.replace(verdict, not_converted=reason, verovio=reason, music21=reason)
    return dataclasses.replace(
        verdict, verovio=readers.verovio_fault(score), music21=readers.music21_fault(score)
    )


def summarise(verdicts: Sequence[Verdict]) -> dict[str, float | int | None]:
    """Shares (0 … 1) over a set of pieces.

    `bar_alignment_error` is the share of all bars whose voices differ in length (paper section 4.3),
    1 where there are no bars; `bars` and `bars_redrawn` (None: not noted) are means of a piece.
    """
    pieces, bars = len(verdicts), sum(verdict.bars for verdict in verdicts)
    redrawn = [verdict.bars_redrawn for verdict in verdicts if verdict.bars_redrawn is not None]

    def share(flags: Sequence[bool]) -> float:
        return sum(flags) / pieces

    return {
        "pieces": pieces,
        "finished": share([verdict.finished for verdict in verdicts]),
        "converted": share([verdict.not_converted is None for verdict in verdicts]),
        "aligned": share([verdict.aligned for verdict in verdicts]),
        "bar_alignment_error": sum(v.misaligned for v in verdicts) / bars if bars else 1.0,
        "one_key": share([verdict.one_key for verdict in verdicts]),
        "bars": bars / pieces,
        "bars_redrawn": sum(redrawn) / pieces if len(redrawn) == pieces else None,
        **{name: share([getattr(verdict, name) is None for verdict in verdicts]) for name in readers.READERS},
        "opens": share([verdict.opens for verdict in verdicts]),
    }


def parse_prompt(text: str) -> Prompt:
    """A prompt written as `Period; Composer; Instrumentation`; raises `NotaGenError` when it is not."""
    labels = [label.strip() for label in text.split(";")]
    if len(labels) != 3:
        raise NotaGenError(f'--prompts {text!r}: write it as "Period; Composer; Instrumentation"')
    return Prompt(*labels)


def run(options: Samples) -> dict[str, Any]:
    """Sample what is missing, judge every piece, print the table and return the report."""
    readers.check_installed()
    enable_compilation_cache()
    checkpoint = checkpoints.load(options.checkpoint)
    prompts = [parse_prompt(text) for text in options.prompts] or list(checkpoint.labels or ())
    if not prompts:
        raise NotaGenError(f"{options.checkpoint} names no prompts; give some with --prompts")
    styles = {"; ".join(dataclasses.astuple(prompt)): prompt.lines() for prompt in prompts}
    wanted = [
        Request(f"{place:03d}-{seed}", style, start, seed)
        for place, (style, start) in enumerate(styles.items())
        for seed in range(options.seed, options.seed + options.number)
    ]
    settings = settings_for(
        checkpoint,
        top_k=options.top_k,
        top_p=options.top_p,
        temperature=options.temperature,
        bar_attempts=options.bar_attempts,
        max_patches=options.max_patches,
        max_seconds=float("inf"),
    )
    weights = weights_digest(checkpoint.params)
    _check_settings(
        options.out, {"weights": weights, "prompts": list(styles), **dataclasses.asdict(settings)}
    )
    batch = min(options.batch, len(wanted))
    drawn = draw(options.out, lambda: checkpoint, wanted, settings, batch, say_to_stderr)
    verdicts = judge_all(drawn, options.processes)
    lines = [json.dumps({**dataclasses.asdict(v), "opens": v.opens}) + "\n" for v in verdicts]
    write_atomic(options.out / VERDICTS_FILE, "".join(lines))
    report = {
        "checkpoint": options.checkpoint,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "temperature": settings.temperature,
        "bar_attempts": settings.bar_attempts,
        "overall": summarise(verdicts),
        "prompts": {style: summarise([v for v in verdicts if v.style == style]) for style in styles},
    }
    write_atomic(options.out / REPORT_FILE, json.dumps(report, indent=1) + "\n")
    show(report)
    return report


def _check_settings(out: Path, asked: dict[str, Any]) -> None:
    """Note how the samples in a folder are drawn; raises `NotaGenError` when they were drawn otherwise."""
    path = out / SETTINGS_FILE
    kept = read_json(path, "delete the folder, and its samples are drawn again") if path.is_file() else None
    if not isinstance(kept, dict):
        if (out / SAMPLES_FILE).is_file() or (out / PARTIAL_FOLDER).is_dir():
            raise NotaGenError(
                f"{out}: has samples but no {SETTINGS_FILE} that tells how they were drawn; choose another "
                "--out, or delete the folder"
            )
        kept = asked
    # A setting that came after the folder was begun is what it was without it.
    kept = {**dataclasses.asdict(SamplingSettings()), **kept}
    changed = [name for name in asked if kept.get(name) != asked[name]]
    if changed:
        raise NotaGenError(
            f"{out}: its samples were drawn with other settings ({', '.join(changed)}; {SETTINGS_FILE} tells "
            "them); give these again, choose another --out, or delete the folder"
        )
    write_atomic(path, json.dumps(asked, indent=1) + "\n")


def judge_all(drawn: Sequence[Drawn], processes: int) -> list[Verdict]:
    """Verdicts in the order of the pieces; one that a judge crashes on or never ends with is not taken."""
    verdicts = []
    with Progress(transient=True) as bar:
        task = bar.add_task("judging", total=len(drawn))
        for outcome in run_isolated(judge, drawn, processes, memory=None):
            if isinstance(outcome, Done):
                verdicts.append(outcome.value)
            else:
                piece = outcome.item
                verdict = Verdict(piece.name, piece.style, piece.finished, bars_redrawn=piece.bars_redrawn)
                verdicts.append(verdict.taken_by_none(outcome.refusal.reason))
            bar.advance(task)
    return verdicts


COLUMNS = {
    "finished": "finished",
    "converted": "MusicXML",
    "aligned": "aligned",
    "bar_alignment_error": "BAE",
    "one_key": "one key",
    "abc2midi": "abc2midi",
    "verovio": "verovio",
    "music21": "music21",
    "opens": "all three",
}
"""Measures that are printed, and what stands above them."""


def show(report: dict[str, Any]) -> None:
    """Print the shares as a table, in percent (BAE: bar alignment error)."""
    rows = {**report["prompts"], "overall": report["overall"]}
    width = max(map(len, rows))
    drawn = f"temperature {report['temperature']:g}, bar attempts {report['bar_attempts']}"
    print(f"{report['checkpoint']}, {drawn}; percent of the pieces")
    print("  ".join([" " * width, "pieces", *COLUMNS.values()]))
    for name, row in rows.items():
        shares = [f"{100 * row[column]:{len(head)}.0f}" for column, head in COLUMNS.items()]
        print("  ".join([f"{name:{width}}", f"{row['pieces']:6d}", *shares]))


def main() -> None:
    """Entry point: exit 1 with one message on a mendable error."""
    try:
        run(tyro.cli(Samples, prog="python -m eval.samples", description=__doc__))
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
