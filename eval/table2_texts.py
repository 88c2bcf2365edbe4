"""The measures of Table 2 that compare texts: perplexity on held-out pieces, closeness to training pieces.

Both need the built data sets of a run; with a folder of ABC as ground truth there is neither. What was
measured is kept in a file and not measured again.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.perplexity import figures, score
from eval.similarity import training_pieces
from notagen_jax import checkpoints
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from notagen_jax.labels import Prompt
from notagen_jax.patches import encode_piece
from train.clamp_dpo.copying import KnownPieces
from train.clamp_dpo.features import texts_digest
from train.clamp_dpo.ground_truth import BUILT
from train.corpus import has_held_out, open_corpus

_REMEDY = "delete it, and run the same command again"


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A held-out piece, as a policy reads it."""

    name: str
    labels: tuple[str, str, str]
    text: str
    """Reduced ABC in its own key, headed by its prompt and `%end`."""


@dataclasses.dataclass(frozen=True)
class Copying:
    """How close some pieces come to training pieces, by `train.clamp_dpo.copying`."""

    mean: float
    """Mean over the pieces of the largest share of a piece's text that stands in one training piece."""
    largest: float
    name: str
    """The piece with the largest share, and the training piece that it stands in."""
    training_piece: str | None


class Texts:
    """The built data sets of a run."""

    def __init__(self, sources: Sequence[str], split: str, prompts: Collection[Prompt | None]) -> None:
        """`prompts` are those that the run works on; the pieces of others are not held out for it."""
        self._folders = [source for source in sources if (Path(source) / BUILT).is_file()]
        self._split, self._prompts = split, prompts

    @cached_property
    def held_out(self) -> list[HeldOut]:
        """The pieces of the validation splits with the run's prompts."""
        found = []
        for folder in self._folders:
            if not has_held_out(folder):
                continue
            corpus = open_corpus(folder, "validation")
            for piece in range(len(corpus)):
                labels = corpus.label(piece)
                if Prompt(*labels) in self._prompts:
                    text = corpus.text(piece, corpus.original_key(piece), prompt=True)
                    found.append(HeldOut(corpus.piece_name(piece), labels, text))
        return found

    @cached_property
    def training(self) -> KnownPieces | None:
        """The training pieces, of all prompts."""
        corpora = [open_corpus(folder, self._split) for folder in self._folders]
        return training_pieces(corpora) if corpora else None

    def perplexity(self, place: Path, checkpoint: str | Path, say: Callable[[str], object]) -> float | None:
        """Perplexity a character of a checkpoint on the held-out pieces, whole, by stream windows.

        None when there are none. Kept in the file `place`.
        """
        if not self.held_out:
            return None
        digest = texts_digest(piece.text for piece in self.held_out)
        known = _kept(place, digest)
        if known is None:
            model = checkpoints.load(checkpoint)
            pieces = [(piece.name, piece.labels, encode_piece(piece.text)) for piece in self.held_out]
            say(f"perplexity of {checkpoint} on {len(pieces)} pieces")
            known = figures(list(score(model.config, model.params, pieces, 4)))
            _keep(place, digest, known)
        return float(known["perplexity_char"])

    def copying(
        self, place: Path, pieces: Sequence[tuple[str, str]], say: Callable[[str], object]
    ) -> Copying | None:
        """How close pieces, given as (name, reduced text), come to training pieces.

        None without training pieces. The closest training piece of each is kept in the file `place`.
        """
        if self.training is None or not pieces:
            return None
        digest = texts_digest(text for _, text in pieces)
        known = _kept(place, digest)
        if known is None:
            say(f"closest training pieces of {len(pieces)} pieces")
            known = [{"name": name, **self._closest(text)} for name, text in pieces]
            _keep(place, digest, known)
        most = max(known, key=lambda row: row["containment"])
        mean = sum(row["containment"] for row in known) / len(known)
        return Copying(mean, most["containment"], most["name"], most["piece"])

    def _closest(self, text: str) -> dict[str, Any]:
        found = None if self.training is None else self.training.closest(text)
        return {"piece": None, "containment": 0.0} if found is None else found._asdict()


def _keep(place: Path, digest: str, found: Any) -> None:
    write_atomic(place, json.dumps({"texts": digest, "found": found}, indent=1) + "\n")


def _kept(place: Path, digest: str) -> Any:
    """What a file holds about these texts; None when there is no file, or it is about others."""
    if not place.is_file():
        return None
    try:
        stored = json.loads(read_text(place, _REMEDY))
        return stored["found"] if stored["texts"] == digest else None
    except (ValueError, KeyError, TypeError) as error:
        raise NotaGenError(f"{place}: not what this command writes ({error}); {_REMEDY}") from error
