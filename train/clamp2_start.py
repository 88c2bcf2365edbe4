"""Where a CLaMP 2 run starts: its own checkpoints, another model's weights, or fresh ones; its data."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from notagen_jax import clamp2
from notagen_jax.checkpoints.training import MODEL_FILE, STEPS_FOLDER
from notagen_jax.clamp2.config import DECODER_SIZES, MUSIC_SIZES, Clamp2Config
from notagen_jax.clamp2.model import init_params
from notagen_jax.clamp2.text_weights import read_xlm_roberta
from notagen_jax.clamp2.tokenizer import Tokenizer, find_tokenizer, open_tokenizer, with_text_settings
from notagen_jax.errors import NotaGenError
from notagen_jax.files import read_text, write_atomic
from train.clamp2_config import Clamp2RunConfig
from train.corpus import Corpus, has_held_out, open_corpus
from train.score_pieces import ScorePieces


def training_corpora(config: Clamp2RunConfig) -> list[Corpus]:
    """The training splits of the sources; raises `NotaGenError` when none is given or one is broken."""
    if not config.data.sources:
        raise NotaGenError("no data: give --data.sources the folders of built data sets")
    return [open_corpus(folder, "train") for folder in config.data.sources]


def held_out_pieces(config: Clamp2RunConfig, patch_size: int) -> dict[str, ScorePieces]:
    """The held-out pieces of all sources together, of both halves, under "pairs"; {} when too few."""
    held = [open_corpus(folder, "validation") for folder in config.data.sources if has_held_out(folder)]
    data = dataclasses.replace(config.data, half="all", weights=(), balance=0.0)
    if sum(map(len, held)) < data.rows:
        return {}
    return {"pairs": ScorePieces(held, data, patch_size, seed=0)}


def start_m3(config: Clamp2RunConfig) -> tuple[Clamp2Config, Any]:
    """Model and first parameters of masked pre-training.

    From the run's own checkpoints with its sizes, from the M3 model `init`, or fresh.
    """
    model = _own_sizes(config)
    if model is not None or not config.init:
        model = model or config.model
        return model, _fresh(model, config.seed)
    start = clamp2.load(config.init)
    if not start.config.decoder_layers:
        raise NotaGenError(f"{config.init}: has no decoder; give an M3 model, or leave --init out")
    return _sized(config.model, start.config.sizes), start.params


def start_clamp2(config: Clamp2RunConfig) -> tuple[Clamp2Config, Any, Tokenizer]:
    """Model, first parameters and tokenizer of contrastive training.

    From the run's own checkpoints with its sizes; else the music tower of `init` (M3 or CLaMP 2), the
    text tower of `text_init` or of a CLaMP 2 `init`, and what neither gives fresh. The tokenizer is
    copied into the run. Raises `NotaGenError` when it has more tokens than the text tower.
    """
    tokenizer, file = _tokenizer(config)
    model = _own_sizes(config)
    if model is not None:
        return model, _fresh(model, config.seed), _checked(tokenizer, model, file)
    model, given = config.model, {}
    if config.init:
        start = clamp2.load(config.init)
        names = MUSIC_SIZES if start.config.decoder_layers else tuple(start.config.sizes)
        model = _sized(model, {name: start.config.sizes[name] for name in names if name not in DECODER_SIZES})
        model = model.replace(text_heads=start.config.text_heads or model.text_heads)
        given = {name: tree for name, tree in start.params.items() if name != "decoder"}
    if config.text_init:
        sizes, text = read_xlm_roberta(Path(config.text_init))
        model = with_text_settings(
            model.replace(**sizes, text_heads=sizes["text_hidden_size"] // 64), Path(config.text_init)
        )
        given = {**given, "text": text}
        given.pop("text_projection", None)
    params = {**jax.device_get(_fresh(model, config.seed)), **given}
    _checked(tokenizer, model, file)
    config.run.mkdir(parents=True, exist_ok=True)
    write_atomic(config.run / file.name, file.read_bytes())
    return model, params, tokenizer


def _fresh(model: Clamp2Config, seed: int) -> Any:
    return jax.jit(init_params, static_argnums=0)(model, jax.random.key(seed))


def _own_sizes(config: Clamp2RunConfig) -> Clamp2Config | None:
    """The model of a run that has checkpoints to go on from, with the arithmetic asked for; else None."""
    if not any(path.name.isdecimal() for path in (config.run / STEPS_FOLDER).glob("*")):
        return None
    path = config.run / MODEL_FILE
    before = Clamp2Config.from_json(read_text(path, "choose another --run folder"), str(path))
    heads = {"text_heads": before.text_heads, "text_norm_epsilon": before.text_norm_epsilon}
    return config.model.replace(**before.sizes, **heads)


def _sized(model: Clamp2Config, sizes: dict[str, int]) -> Clamp2Config:
    return model.replace(**sizes)


def _tokenizer(config: Clamp2RunConfig) -> tuple[Tokenizer, Path]:
    """The tokenizer that is asked for, else the run's own, and its file."""
    place = Path(config.tokenizer) if config.tokenizer else config.run
    file = find_tokenizer(place) if place.is_dir() else place
    if file is None or not file.is_file():
        raise NotaGenError(
            f"{place}: no tokenizer; give --tokenizer a folder with the text tower's tokenizer.json "
            "(one for label sentences: `python -m train.label_tokenizer`)"
        )
    return open_tokenizer(file), file


def _checked(tokenizer: Tokenizer, model: Clamp2Config, file: Path) -> Tokenizer:
    if tokenizer.vocabulary > model.text_vocabulary:
        raise NotaGenError(
            f"{file}: {tokenizer.vocabulary} tokens, but the text tower has {model.text_vocabulary}; "
            "set --model.text-vocabulary, or give the tokenizer of that text tower"
        )
    return tokenizer
