"""The tokenizer of the text tower, from a local folder.

`tokenizer.json` is read with the light `tokenizers` package; where there is only XLM-RoBERTa's
`sentencepiece.bpe.model`, the `sentencepiece` package reads that. Both come with the `text` extra.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from notagen_jax.clamp2.config import TEXT_PAD, Clamp2Config
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text

TOKENIZER_FILE = "tokenizer.json"
SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "sentencepiece.model", "tokenizer.model")
BEGIN, SEPARATOR, UNKNOWN = "<s>", "</s>", "<unk>"
PAD = "<pad>"
_REMEDY = (
    "give a folder with XLM-RoBERTa's tokenizer.json (or sentencepiece.bpe.model): "
    "clamp2.load(path, tokenizer=FOLDER), or convert with `notagen convert … --tokenizer FOLDER`"
)
_INSTALL = 'run `pip install "notagen-jax[text]"`'


class Tokenizer(Protocol):
    """Text to tokens."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, begin and end marks included; `</s>` in it separates its parts."""
        ...


class FastTokenizer:
    """A `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        """Raises `NotaGenError` when `tokenizers` is missing or the file is not a tokenizer."""
        try:
            import tokenizers
        except ImportError as error:
            raise NotaGenError(f"{path}: reading it needs the tokenizers package; {_INSTALL}") from error
        text = read_text(path, _REMEDY)
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception
            raise NotaGenError(f"{path}: not a tokenizer ({error}); {_REMEDY}") from error
        pad = self._tokenizer.token_to_id(PAD)
        if pad not in (None, TEXT_PAD) or self._tokenizer.token_to_id(SEPARATOR) is None:
            raise NotaGenError(
                f"{path}: not a tokenizer in XLM-RoBERTa's form (pad must be token {TEXT_PAD}, and "
                f"{SEPARATOR} the separator); {_REMEDY}"
            )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, begin and end marks included."""
        return list(self._tokenizer.encode(text).ids)


class SentencePieceTokenizer:
    """A SentencePiece model in XLM-RoBERTa's numbering: `<s> <pad> </s> <unk>`, then the pieces."""

    def __init__(self, path: Path) -> None:
        """Raises `NotaGenError` when `sentencepiece` is missing or the file is not a model."""
        try:
            import sentencepiece
        except ImportError as error:
            raise NotaGenError(f"{path}: reading it needs the sentencepiece package; {_INSTALL}") from error
        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise NotaGenError(f"{path}: not a SentencePiece model ({error}); {_REMEDY}") from error

    @property
    def vocabulary(self) -> int:
        """Number of tokens, the mask token at the end included."""
        return int(self._model.get_piece_size()) + 2

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, begin and end marks included.

        SentencePiece counts `<unk> <s> </s>` first, XLM-RoBERTa one more: pieces move by one, and
        the unknown one is 3.
        """
        ids = [0]
        for number, part in enumerate(re.split(re.escape(SEPARATOR), text)):
            ids += [2] if number else []
            ids += [piece + 1 if piece else 3 for piece in self._model.encode(part)]
        return [*ids, 2]


class OpenedWhenUsed:
    """A tokenizer file that is opened at its first use, so that scores need no tokenizer package."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return open_tokenizer(self._path)

    @property
    def vocabulary(self) -> int:
        """Number of tokens; raises `NotaGenError` as `open_tokenizer`."""
        return self._tokenizer.vocabulary

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; raises `NotaGenError` as `open_tokenizer`."""
        return self._tokenizer.encode(text)


def find_tokenizer(folder: Path) -> Path | None:
    """The tokenizer file in a folder, `tokenizer.json` first; None when there is none."""
    names = (TOKENIZER_FILE, *SENTENCEPIECE_FILES)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def open_tokenizer(path: Path) -> Tokenizer:
    """Open the tokenizer in a folder, or a tokenizer file.

    Raises `NotaGenError` when there is none, its package is missing, or it cannot be read.
    """
    file = find_tokenizer(path) if path.is_dir() else path
    if file is None or not file.is_file():
        raise NotaGenError(f"{path}: no tokenizer here; {_REMEDY}")
    return SentencePieceTokenizer(file) if file.suffix == ".model" else FastTokenizer(file)


def with_text_settings(config: Clamp2Config, folder: Path) -> Clamp2Config:
    """The configuration with what a text model's own `config.json` beside its tokenizer tells.

    Shapes tell neither the number of attention heads nor the epsilon of the layer norms. A folder
    without such a file leaves `config` as it is. Raises `NotaGenError` on one of another model.
    """
    path = folder / "config.json"
    if not config.has_text or not path.is_file():
        return config
    try:
        fields = json.loads(read_text(path, _REMEDY))
    except (ValueError, RecursionError) as error:
        raise NotaGenError(f"{path}: not a JSON file ({error}); {_REMEDY}") from error
    if not isinstance(fields, dict) or "num_attention_heads" not in fields:
        return config
    sizes = {"hidden_size": config.text_hidden_size, "num_hidden_layers": config.text_layers}
    other = [
        f"{name} {fields.get(name)}, not {size}" for name, size in sizes.items() if fields.get(name) != size
    ]
    if other:
        raise NotaGenError(
            f"{path}: of another text model than the checkpoint's ({'; '.join(other)}); {_REMEDY}"
        )
    return config.replace(
        text_heads=fields["num_attention_heads"],
        text_norm_epsilon=fields.get("layer_norm_eps", config.text_norm_epsilon),
    )


def join_lines(text: str) -> str:
    """A text as the text tower reads it: its different lines, in order, joined by the separator.

    The official code joins them in an arbitrary order.
    """
    lines: Sequence[str] = list(dict.fromkeys(line for line in text.split("\n") if line))
    return SEPARATOR.join(lines)
