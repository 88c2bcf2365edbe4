"""The ground truth of a run: the pieces of every prompt, in the form that CLaMP 2 reads."""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text
from notagen_jax.labels import Prompt, nearest
from notagen_jax.notation import restore_rests
from train.corpus import open_corpus

BUILT = "dataset_info.json"
"""The file that tells a built data set from a folder of ABC."""


@dataclasses.dataclass(frozen=True)
class TruePiece:
    """A ground-truth piece."""

    name: str
    """Data set and name in it, or the file's path."""
    text: str
    """Interleaved ABC in the piece's own key."""


@dataclasses.dataclass(frozen=True)
class Style:
    """A prompt and its ground truth."""

    prompt: Prompt | None
    """None for a model that takes no prompt: all pieces are of one style."""
    pieces: tuple[TruePiece, ...]

    @property
    def name(self) -> str:
        """The prompt in letters that fit a file name."""
        if self.prompt is None:
            return "all"
        labels = (self.prompt.composer, self.prompt.instrumentation, self.prompt.period)
        return re.sub(r"[^a-z0-9]+", "-", " ".join(labels).lower()).strip("-")

    @property
    def title(self) -> str:
        """The prompt for people."""
        return "no prompt" if self.prompt is None else title(self.prompt)

    @property
    def lines(self) -> str:
        """The text that sampling starts from."""
        return "" if self.prompt is None else self.prompt.lines()


@dataclasses.dataclass(frozen=True)
class Account:
    """Which prompts a run works on, and why the others are left out."""

    used: tuple[Style, ...]
    left_out: tuple[tuple[Style, str], ...]

    def rows(self) -> list[dict[str, object]]:
        """One JSON-ready row for every prompt that has ground truth."""
        reasons = [(style, "") for style in self.used] + list(self.left_out)
        return [
            {"prompt": style.title, "name": style.name, "ground_truth": len(style.pieces), "left_out": reason}
            for style, reason in reasons
        ]


def title(prompt: Prompt) -> str:
    """A prompt as the command line takes it: `Period; Composer; Instrumentation`."""
    return f"{prompt.period}; {prompt.composer}; {prompt.instrumentation}"


def read_styles(sources: Sequence[str], split: str = "train") -> list[Style]:
    """The pieces of every prompt in the sources, most pieces first.

    A source is a built data set (of which `split` is read), a folder whose sub-folders
    `Period_Composer_Instrumentation` hold interleaved ABC, or a folder that itself holds it: one
    style without a prompt. Raises `NotaGenError` when a source is none of these, or mixes them.
    """
    if not sources:
        raise NotaGenError(
            "no ground truth: give --ground-truth the folders of built data sets, or of interleaved ABC"
        )
    pieces: dict[Prompt | None, list[TruePiece]] = {}
    for source in sources:
        found = _built(source, split) if (Path(source) / BUILT).is_file() else _folder(Path(source))
        for prompt, piece in found:
            pieces.setdefault(prompt, []).append(piece)
    if None in pieces and len(pieces) > 1:
        raise NotaGenError(
            "the ground truth mixes pieces with and without a prompt; put those without into "
            "sub-folders named Period_Composer_Instrumentation"
        )
    styles = [Style(prompt, tuple(members)) for prompt, members in pieces.items()]
    same = [name for name, count in Counter(style.name for style in styles).items() if count > 1]
    if same:
        raise NotaGenError(f"two prompts differ only in signs that file names cannot hold: {', '.join(same)}")
    return sorted(styles, key=lambda style: (-len(style.pieces), style.name))


def choose_styles(
    styles: Sequence[Style],
    known: Collection[Prompt] | None,
    more_than: int = 10,
    most: int = 0,
    only: Sequence[str] = (),
) -> Account:
    """The prompts to work on: those with more than `more_than` pieces that the model knows.

    known:     prompts that the model was trained on; None lets every prompt pass
    more_than: the paper leaves out prompts with ten pieces or fewer
    most:      keep so many of them, those with most pieces; 0 keeps all
    only:      keep just these, each as `Period; Composer; Instrumentation`

    Raises `NotaGenError` when `only` names a prompt without ground truth or nothing is left.
    """
    by_title = {style.title: style for style in styles}
    for name in only:
        if name not in by_title:
            prompts = [style.prompt for style in styles if style.prompt is not None]
            period, composer, instrumentation = (*(p.strip() for p in name.split(";")), "", "", "")[:3]
            closest = nearest((period, composer, instrumentation), prompts)
            near = "; or ".join(title(prompt) for prompt in closest[:3])
            raise NotaGenError(f"--prompts: no ground truth for {name!r}; the nearest that have some: {near}")
    used: list[Style] = []
    left_out: list[tuple[Style, str]] = []
    for style in styles:
        count = len(style.pieces)
        if only and style.title not in only:
            reason = "not asked for"
        elif count <= more_than:
            reason = f"{count} ground-truth pieces, not more than {more_than}"
        elif known is not None and style.prompt is not None and style.prompt not in known:
            reason = "the checkpoint was not trained on it"
        elif most and len(used) == most:
            reason = f"not among the {most} prompts with most pieces"
        else:
            used.append(style)
            continue
        left_out.append((style, reason))
    if not used:
        listed = "; ".join(f"{style.title}: {reason}" for style, reason in left_out[:3])
        raise NotaGenError(
            f"no prompt is left of {len(styles)} ({listed}…); lower --more-than, or give more ground truth"
        )
    return Account(tuple(used), tuple(left_out))


def _built(folder: str, split: str) -> list[tuple[Prompt | None, TruePiece]]:
    """The pieces of a built data set in their own keys, rests restored."""
    corpus = open_corpus(folder, split)
    found: list[tuple[Prompt | None, TruePiece]] = []
    for piece in range(len(corpus)):
        name = f"{corpus.name}/{corpus.piece_name(piece)}"
        try:
            text = restore_rests(corpus.text(piece, corpus.original_key(piece), prompt=False))
        except NotaGenError as error:
            raise NotaGenError(f"{folder}: piece {name}: {error}; build the data set again") from error
        found.append((Prompt(*corpus.label(piece)), TruePiece(name, text)))
    return found


def _folder(folder: Path) -> list[tuple[Prompt | None, TruePiece]]:
    """The ABC files in a folder, by the prompt that the name of their sub-folder spells."""
    if not folder.is_dir():
        raise NotaGenError(f"{folder}: no such folder; give a built data set or a folder of interleaved ABC")
    found: list[tuple[Prompt | None, TruePiece]] = []
    for path in sorted(folder.rglob("*.abc")):
        inside = path.parent.relative_to(folder).parts
        prompt = _spelled(path, inside[0]) if inside else None
        try:
            text = restore_rests(read_text(path, "give interleaved ABC in UTF-8"))
        except NotaGenError as error:
            raise NotaGenError(f"{path}: {error}") from error
        found.append((prompt, TruePiece(str(path.relative_to(folder)), text)))
    if not found:
        raise NotaGenError(f"{folder}: neither a built data set ({BUILT}) nor a folder with .abc files")
    return found


def _spelled(path: Path, name: str) -> Prompt:
    parts = name.split("_")
    if len(parts) != 3:
        raise NotaGenError(
            f"{path}: its folder {name!r} spells no prompt; name it Period_Composer_Instrumentation, "
            'such as "Romantic_Schubert, Franz_Art Song"'
        )
    return Prompt(*parts)
