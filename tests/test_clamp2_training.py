"""Training CLaMP 2: batches pure in (seed, step), whole tiny runs, the loss over several devices."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from notagen_jax import clamp2
from notagen_jax.checkpoints.layout import tree_shapes
from notagen_jax.clamp2.label_text import all_texts, label_sentence, sample_text
from notagen_jax.clamp2.names import official_tensors
from notagen_jax.errors import NotaGenError
from notagen_jax.labels import Prompt
from notagen_jax.score import KEYS
from tests.clamp2_models import TINY, TINY_M3, torch_clamp2
from train import clamp2 as contrastive
from train import clamp2_start, m3_pretrain
from train.clamp2_config import Clamp2RunConfig, ScoreDataConfig
from train.config import OptimizerConfig
from train.corpus import Corpus
from train.label_tokenizer import learn
from train.score_pieces import ScorePieces, in_half
from train.step import AXIS

DATA = Path(__file__).parent / "data"
TEXTS = [
    (DATA / f"reduced_{name}.abc").read_bytes()
    for name in ("bach_bwv379", "schroter_geburtstag", "reichardt_wenn_ich_ihn")
]
PROMPTS = [
    Prompt("Baroque", "Bach, Johann Sebastian", "Choral"),
    Prompt("Classical", "Schroter, Corona", "Art Song"),
    Prompt("Classical", "Reichardt, Louise", "Art Song"),
]


def corpus(copies: int = 4) -> Corpus:
    """Three real pieces, each several times under other names, all keys alike."""
    rows = []
    for number in range(3 * copies):
        prompt = PROMPTS[number % 3]
        row = {
            "name": f"piece {number}".encode(),
            "period": prompt.period.encode(),
            "composer": prompt.composer.encode(),
            "instrumentation": prompt.instrumentation.encode(),
            "original_key": 7,
            "text": TEXTS[number % 3],
        }
        rows += [row] * len(KEYS)
    return Corpus("made-up", rows)


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A source whose training split has twelve pieces and whose held-out split three."""
    monkeypatch.setattr(clamp2_start, "open_corpus", lambda _, split: corpus(4 if split == "train" else 1))
    monkeypatch.setattr(clamp2_start, "has_held_out", lambda _: True)
    return ("made-up",)


def m3_config(run: Path, sources: tuple[str, ...], **changes: object) -> Clamp2RunConfig:
    settings = dict(
        model=TINY_M3.replace(music_layers=1, decoder_layers=1),
        data=ScoreDataConfig(sources=sources, keys="original", rows=2, length=16),
        optimizer=OptimizerConfig(3e-3, warmup_steps=2, clip=1.0),
        run=run,
        steps=3,
        log_every=1,
        evaluate_every=3,
        evaluate_rows=2,
    )
    return Clamp2RunConfig(**{**settings, **changes})


def test_label_sentences_name_every_label():
    prompt = PROMPTS[0]
    assert label_sentence(prompt) == "A Baroque choral work by Bach, Johann Sebastian"
    texts = all_texts(prompt)
    assert "Baroque period" in texts
    assert "Johann Sebastian Bach" in texts
    drawn = {sample_text(prompt, np.random.default_rng(seed)) for seed in range(60)}
    assert {text for text in drawn if "</s>" not in text} <= {*texts}
    assert any("</s>" in text for text in drawn)
    assert {part for text in drawn for part in text.split("</s>")} <= {*texts}


def test_the_halves_divide_the_pieces():
    names = [f"piece {number}" for number in range(200)]
    first = {name for name in names if in_half(name, "first")}
    second = {name for name in names if in_half(name, "second")}
    assert not first & second
    assert first | second == set(names)
    assert 70 < len(first) < 130
    assert all(in_half(name, "all") for name in names)


def test_batches_depend_on_the_step_alone():
    data = ScoreDataConfig(keys="near", rows=4, length=16, hide_instruments=0.5, balance=0.5)
    tokenizer = clamp2_tokenizer()

    def batches(step: int, process: int = 0, processes: int = 1) -> dict[str, np.ndarray]:
        pieces = ScorePieces([corpus()], data, 64, seed=3)
        return next(contrastive.PairBatches(pieces, tokenizer, 20).batches(step, process, processes))

    whole = batches(5)
    assert whole["patches"].shape == (4, 16, 64)
    assert whole["tokens"].shape == (4, 20)
    stream = contrastive.PairBatches(ScorePieces([corpus()], data, 64, seed=3), tokenizer, 20).batches(3)
    later = [next(stream) for _ in range(3)][2]
    halves = [batches(5, process, 2) for process in (0, 1)]
    for name, array in whole.items():
        np.testing.assert_array_equal(later[name], array)
        np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)
    assert not np.array_equal(batches(6)["patches"], whole["patches"])
    pieces = ScorePieces([corpus()], data, 64, seed=3)
    assert len(set(pieces.names(5))) == 4
    assert pieces.fingerprint != ScorePieces([corpus()], data, 64, seed=4).fingerprint


def test_rare_prompts_are_evened_up():
    """One of ten pieces has a prompt of its own; balance 1 gives each of the three prompts a third."""
    rows = corpus(9).rows
    ours = Corpus("made-up", [row for row in rows if row["composer"] != b"Reichardt, Louise"][: 10 * 15])
    rare = [{**row, "composer": b"Lang, Josephine"} for row in ours.rows[:15]]
    ours = Corpus("made-up", rare + [{**row, "composer": b"Bach"} for row in ours.rows[15:]])

    def share(balance: float) -> float:
        pieces = ScorePieces([ours], ScoreDataConfig(rows=1, balance=balance), 64, seed=0)
        return float(np.mean([pieces.drawn(step)[0] == 0 for step in range(600)]))

    assert share(0.0) == pytest.approx(0.1, abs=0.04)
    assert share(1.0) == pytest.approx(1 / 3, abs=0.07)


def test_too_few_pieces_are_refused():
    with pytest.raises(NotaGenError, match=r"pieces to train on, fewer than data\.rows \(13\)"):
        ScorePieces([corpus()], ScoreDataConfig(rows=13), 64, seed=0)


def clamp2_tokenizer():
    from notagen_jax.clamp2.tokenizer import FastTokenizer

    learned = learn([text for prompt in PROMPTS for text in all_texts(prompt)], 100)

    class Learned(FastTokenizer):
        def __init__(self) -> None:
            self._tokenizer = learned

    return Learned()


def test_m3_then_clamp2_train_resume_and_open(sources, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(clamp2_start, "has_held_out", lambda _: False)
        m3_pretrain.pretrain(m3_config(tmp_path / "m3", sources))
    log = [json.loads(line) for line in (tmp_path / "m3" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if entry["kind"] == "train"]
    assert losses[-1] < losses[0]
    m3 = clamp2.load(tmp_path / "m3")
    assert m3.config.decoder_layers == 1

    (tmp_path / "tokenizer").mkdir()
    learn([text for prompt in PROMPTS for text in all_texts(prompt)], 100).save(
        str(tmp_path / "tokenizer" / "tokenizer.json")
    )
    config = m3_config(
        tmp_path / "clamp2",
        sources,
        model=TINY.replace(text_layers=1, text_intermediate_size=64),
        init=str(tmp_path / "m3"),
        tokenizer=str(tmp_path / "tokenizer"),
        steps=2,
        evaluate_every=2,
    )
    # The tower of M3 is the first value of CLaMP 2's.
    model, params, _ = clamp2_start.start_clamp2(dataclasses.replace(config, run=tmp_path / "other"))
    assert model.music_layers == 1
    np.testing.assert_array_equal(params["music"]["table"], m3.params["music"]["table"])

    losses = contrastive.train(config)
    assert 0 <= losses["pairs/music_to_text"] <= 1
    opened = clamp2.load(tmp_path / "clamp2")
    assert opened.source.name == "2"
    assert not np.array_equal(opened.params["music"]["table"], m3.params["music"]["table"])
    assert opened.text_features([label_sentence(PROMPTS[0])]).shape == (1, 40)
    # The run goes on with its own sizes and tokenizer.
    model, _, tokenizer = clamp2_start.start_clamp2(dataclasses.replace(config, init="", tokenizer=""))
    assert model.sizes == opened.config.sizes
    assert tokenizer.encode("Bach") == opened.tokenizer.encode("Bach")


def test_starting_points_are_checked(sources, tmp_path):
    with pytest.raises(NotaGenError, match=r"give --data\.sources"):
        m3_pretrain.pretrain(m3_config(tmp_path / "m3", ()))
    with pytest.raises(NotaGenError, match="longer than the music tower"):
        m3_pretrain.pretrain(
            m3_config(tmp_path / "m3", sources, data=ScoreDataConfig(sources=sources, rows=2, length=99))
        )
    config = m3_config(tmp_path / "clamp2", sources, model=TINY)
    with pytest.raises(NotaGenError, match="no tokenizer; give --tokenizer"):
        contrastive.train(config)
    with pytest.raises(NotaGenError, match="accumulate must be 1"):
        contrastive.train(dataclasses.replace(config, accumulate=2))
    learn(["abc " + chr(code) for code in range(200, 500)], 400).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(NotaGenError, match="tokens, but the text tower has 120"):
        contrastive.train(dataclasses.replace(config, tokenizer=str(tmp_path)))


def test_a_text_tower_starts_from_xlm_roberta(sources, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    state = torch_clamp2().text_model.state_dict()
    published = {f"roberta.{name}": tensor for name, tensor in state.items() if "pooler" not in name}
    published["lm_head.bias"] = torch.zeros(120)
    save_file(published, tmp_path / "model.safetensors")
    learn(["a song"] * 3, 100).save(str(tmp_path / "tokenizer.json"))
    settings = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_eps": 1e-5}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config = m3_config(
        tmp_path / "run",
        sources,
        model=TINY.replace(text_layers=1, text_vocabulary=7, text_positions=40),
        tokenizer=str(tmp_path),
        text_init=str(tmp_path),
    )
    model, params, _ = clamp2_start.start_clamp2(config)
    assert (model.text_vocabulary, model.text_layers, model.text_heads) == (120, 2, 4)
    words = state["embeddings.word_embeddings.weight"].numpy()
    np.testing.assert_array_equal(params["text"]["words"], words)
    kernel = state["encoder.layer.1.attention.self.key.weight"].numpy().T
    np.testing.assert_array_equal(params["text"]["encoder"]["layers"]["key"]["kernel"][1], kernel)
    with pytest.raises(NotaGenError, match=r"no model\.safetensors"):
        clamp2_start.start_clamp2(dataclasses.replace(config, text_init=str(tmp_path / "run")))


def test_the_pairs_of_all_devices_are_compared():
    """Two devices with two pairs each give the loss and gradient of one with four."""
    rng = np.random.default_rng(0)
    batch = {
        "patches": rng.integers(3, 128, (4, 8, 64)).astype(np.uint8),
        "segments": (np.arange(8) < np.array([8, 5, 3, 7])[:, None]).astype(np.int32),
        "tokens": rng.integers(4, 120, (4, 6)).astype(np.int32),
    }
    loss = contrastive.contrastive_loss(TINY)
    shapes = tree_shapes(official_tensors(TINY))
    params = jax.tree_util.tree_map_with_path(
        lambda path, shape: np.float32(("scale" in str(path[-1])) + 0.2 * rng.normal(size=shape)),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )

    def one(params):
        sums = loss(params, {}, batch, None)
        return sums.total, sums

    def two(params):
        parts = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batch)
        sums = jax.vmap(lambda part: loss(params, {}, part, None), axis_name=AXIS)(parts)
        sums = jax.tree.map(lambda x: x.sum(axis=0), sums)
        return sums.total, sums

    (_, whole), expected = jax.jit(jax.value_and_grad(one, has_aux=True))(params)
    (_, parts), found = jax.jit(jax.value_and_grad(two, has_aux=True))(params)
    assert float(whole.weight) == float(parts.weight) == 4
    assert float(whole.total) > 1
    np.testing.assert_allclose(parts.total, whole.total, rtol=1e-5)
    assert jax.tree.map(float, parts.metrics) == jax.tree.map(float, whole.metrics)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    for leaf, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(other, leaf, rtol=0, atol=1e-5 * largest)
