"""Drawing the samples of a stage: a seed each, each kept when it stops, in the end one JSON-lines file."""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from notagen_jax.checkpoints import Checkpoint
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.sampling import Progress, Sampler, SamplingSettings
from train.clamp_dpo.ground_truth import Style
from train.progress import clock

SAMPLES_FILE = "samples.jsonl"
PARTIAL_FOLDER = "samples.partial"
_REMEDY = "delete it, and the same command draws it again"

Purpose = Literal["selection", "evaluation", "training"]


@dataclasses.dataclass(frozen=True)
class Request:
    """A piece to sample."""

    name: str
    """`STYLE-NUMBER`, unique in its stage."""
    style: str
    """Name of its style."""
    start: str
    """The text that sampling starts from."""
    seed: int
    """64 bits, its own."""
    length: float = 0.0
    """Mean characters of the ground truth of its style: about how long it will be; 0: not known."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A sampled piece, as one line of `samples.jsonl` holds it."""

    name: str
    style: str
    seed: int
    finished: bool
    reason: str
    patches: int
    text: str
    """As the model wrote it: the prompt first, stream headers in."""
    bars_redrawn: int | None = None
    """How often a bar was drawn again because its voices did not agree; None: not noted."""


def piece_seed(seed: int, purpose: Purpose, iteration: int, style: str, number: int) -> int:
    """The seed of one piece, 64 bits: a hash of the run's seed and all that names the piece.

    So a piece keeps its seed when others are added, and evaluation never sees a seed that selection
    saw.
    """
    named = json.dumps([seed, purpose, iteration, style, number])
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], "big")


def requests(
    styles: Sequence[Style], count: int, seed: int, purpose: Purpose, iteration: int
) -> list[Request]:
    """`count` pieces of every style."""
    return [
        Request(
            f"{style.name}-{number:04d}",
            style.name,
            style.lines,
            piece_seed(seed, purpose, iteration, style.name, number),
            sum(len(piece.text) for piece in style.pieces) / max(len(style.pieces), 1),
        )
        for style in styles
        for number in range(count)
    ]


def draw(
    folder: Path,
    open_checkpoint: Callable[[], Checkpoint],
    wanted: Sequence[Request],
    settings: SamplingSettings,
    batch_size: int,
    say: Callable[[str], object],
) -> list[Drawn]:
    """The samples in `folder`, drawing those that are not there yet.

    Every piece is written when it stops, so that a run killed at any time loses only the pieces under
    way; the whole is then written as `samples.jsonl`. `settings` must set no limit of time, or the
    same seed would give other pieces on another machine. Raises `NotaGenError` when the folder holds
    samples of other requests.
    """
    whole = folder / SAMPLES_FILE
    partial = folder / PARTIAL_FOLDER
    if not whole.is_file():
        missing = [request for request in wanted if not (partial / f"{request.name}.json").is_file()]
        if missing:
            _sample(partial, open_checkpoint(), missing, len(wanted), settings, batch_size, say)
        kept = [read_text(partial / f"{request.name}.json", _REMEDY) for request in wanted]
        write_atomic(whole, "".join(kept))
    shutil.rmtree(partial, ignore_errors=True)
    drawn = read_samples(whole)
    if [(d.name, d.style, d.seed) for d in drawn] != [(r.name, r.style, r.seed) for r in wanted]:
        raise NotaGenError(f"{whole}: holds other samples than this run asks for; {_REMEDY}")
    return drawn


def read_samples(path: Path) -> list[Drawn]:
    """The samples in a `samples.jsonl`; raises `NotaGenError` naming a line that is none."""
    drawn = []
    for number, line in enumerate(read_text(path, _REMEDY).splitlines(), 1):
        try:
            drawn.append(Drawn(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise NotaGenError(f"{path}, line {number}: not a sample ({error}); {_REMEDY}") from error
    return drawn


def _sample(
    partial: Path,
    checkpoint: Checkpoint,
    missing: Sequence[Request],
    total: int,
    settings: SamplingSettings,
    batch_size: int,
    say: Callable[[str], object],
) -> None:
    """Draw the missing pieces and write each as it stops.

    The long ones are begun first, so that at the end few rows stand idle beside one that goes on.
    """
    missing = sorted(missing, key=lambda request: -request.length)
    keeper = _Keeper(partial, missing, total, say)
    sampler = Sampler(checkpoint.config, checkpoint.params, batch_size)
    sampler.generate(
        [request.start for request in missing], [request.seed for request in missing], settings, keeper
    )


class _Keeper:
    """The progress callback of sampling: writes what has stopped, and a line now and then."""

    SECONDS = 10.0
    """Between two lines."""

    def __init__(
        self, partial: Path, missing: Sequence[Request], total: int, say: Callable[[str], object]
    ) -> None:
        self._partial, self._missing, self._say = partial, missing, say
        self._before, self._total = total - len(missing), total
        self._said = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        for piece in progress.moved:
            if piece.sample is None:
                continue
            request, sample = self._missing[piece.index], piece.sample
            drawn = Drawn(
                request.name,
                request.style,
                sample.seed,
                sample.finished,
                sample.reason,
                sample.patches,
                sample.text,
                sample.bars_redrawn,
            )
            write_atomic(self._partial / f"{request.name}.json", line(dataclasses.asdict(drawn)))
        now = time.monotonic()
        if now - self._said >= self.SECONDS or progress.stopped == progress.total:
            self._said = now
            done = self._before + progress.stopped
            speed = progress.characters / max(progress.seconds, 1e-9)
            left = progress.total - progress.stopped
            eta = clock(progress.seconds / progress.stopped * left) if progress.stopped else "unknown"
            self._say(f"{done} of {self._total} pieces, {speed:.0f} characters a second, ETA {eta}")


def line(record: dict[str, Any]) -> str:
    """A record as one line of a JSON-lines file."""
    return json.dumps(record) + "\n"
