"""A small tokenizer for label sentences: `python -m train.label_tokenizer --data.sources FOLDER…`.

A unigram model (as XLM-RoBERTa's, with its special tokens in its order) learned from every sentence
about the labels of the sources, held-out pieces included, so that it knows their letters.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from notagen_jax.clamp2.label_text import all_texts
from notagen_jax.clamp2.tokenizer import BEGIN, PAD, SEPARATOR, TOKENIZER_FILE, UNKNOWN
from notagen_jax.errors import NotaGenError
from notagen_jax.files import write_atomic
from notagen_jax.labels import PERIODS, Prompt
from train.corpus import has_held_out, open_corpus


@dataclass(frozen=True)
class LabelTokenizer:
    """Learn a tokenizer from the labels of built data sets."""

    sources: Annotated[tuple[str, ...], tyro.conf.arg(name="data.sources")]
    """Folders of built data sets with labels."""
    out: Path
    """Folder to write tokenizer.json to."""
    vocabulary: int = 512
    """Most tokens, special ones included."""


def run(options: LabelTokenizer) -> int:
    """Learn and write the tokenizer; returns the number of its tokens. Raises `NotaGenError`."""
    corpora = [open_corpus(folder, "train") for folder in options.sources]
    corpora += [open_corpus(folder, "validation") for folder in options.sources if has_held_out(folder)]
    prompts = {Prompt(*corpus.label(piece)) for corpus in corpora for piece in range(len(corpus))}
    if not prompts:
        raise NotaGenError("no labels: give --data.sources folders of built data sets with labels")
    # Every period, so that a prompt of one that these sources lack has its words too.
    prompts |= {Prompt(period, p.composer, p.instrumentation) for p in prompts for period in PERIODS}
    tokens = learn(sorted(text for prompt in prompts for text in all_texts(prompt)), options.vocabulary)
    write_atomic(options.out / TOKENIZER_FILE, tokens.to_str(pretty=False))
    return int(tokens.get_vocab_size())


def learn(texts: list[str], vocabulary: int):  # type: ignore[no-untyped-def]
    """A `tokenizers.Tokenizer` of at most `vocabulary` tokens, learned from `texts`."""
    try:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    except ImportError as error:
        raise NotaGenError(
            'learning a tokenizer needs the tokenizers package; run `pip install "notagen-jax[text]"`'
        ) from error
    special = [BEGIN, PAD, SEPARATOR, UNKNOWN]
    learned = Tokenizer(models.Unigram())
    learned.normalizer = normalizers.NFKC()
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    learned.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=special, unk_token=UNKNOWN, show_progress=False
    )
    learned.train_from_iterator(texts, trainer)
    learned.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {SEPARATOR}",
        special_tokens=[(mark, learned.token_to_id(mark)) for mark in (BEGIN, SEPARATOR)],
    )
    return learned


if __name__ == "__main__":
    options = tyro.cli(LabelTokenizer, prog="python -m train.label_tokenizer", description=__doc__)
    try:
        print(f"{options.out / TOKENIZER_FILE}: {run(options)} tokens")
    except NotaGenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
