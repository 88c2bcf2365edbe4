"""The same numbers as PyTorch: features, losses and gradients, in float32."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax import clamp2
from notagen_jax.checkpoints.layout import stack, unstack
from notagen_jax.clamp2 import losses, m3_patches
from notagen_jax.clamp2.masking import mask_piece
from notagen_jax.clamp2.model import Clamp2Model
from notagen_jax.clamp2.names import official_tensors
from notagen_jax.errors import NotaGenError
from tests.clamp2_models import TINY, TINY_M3, pieces, torch_clamp2, torch_m3
from train.m3_pretrain import masked_batch

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOLERANCE = 1e-5
UNUSED = ("pooler", ".base.embeddings.word_embeddings")


class Codes:
    """A tokenizer of single characters between the marks."""

    vocabulary = TINY.text_vocabulary

    def encode(self, text: str) -> list[int]:
        return [0, *(4 + ord(char) % 100 for char in text), 2]


def params_of(model: Any, config: clamp2.Clamp2Config) -> dict[str, Any]:
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    return stack(official_tensors(config), state.__getitem__)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def as_on(backend: str, model: clamp2.Clamp2, monkeypatch: pytest.MonkeyPatch) -> clamp2.Clamp2:
    """The model, not yet placed on a device, computed in the form that this backend would choose."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    return dataclasses.replace(model)


@pytest.fixture(scope="module")
def reference() -> Any:
    return torch_clamp2()


@pytest.fixture(scope="module")
def model(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> clamp2.Clamp2:
    path = tmp_path_factory.mktemp("official") / "weights_clamp2.pth"
    torch.save({"model": reference.state_dict(), "epoch": 1}, path)
    opened = clamp2.load(path)
    assert opened.config == clamp2.Clamp2Config(**TINY.sizes, text_heads=1, text_length=32)
    return dataclasses.replace(opened, tokenizer=Codes())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_music_features_equal_the_official_procedure(model, reference, backend, monkeypatch):
    model = as_on(backend, model, monkeypatch)
    texts = pieces()
    whole = m3_patches.decode(m3_patches.encode(texts[2]))
    texts.append(cut_to(whole, TINY.patch_length))
    encoded = [m3_patches.encode(text) for text in texts]
    lengths = [len(patches) for patches in encoded]
    assert lengths[0] < TINY.patch_length < lengths[1]
    assert lengths[2] > 2 * TINY.patch_length
    assert lengths[3] == TINY.patch_length
    expected = np.stack([reference.music_feature(patches) for patches in encoded])
    found = model.music_features(texts)
    assert found.dtype == np.float32
    assert found.shape == (4, TINY.feature_size)
    assert relative_error(found, expected) < TOLERANCE
    # However the segments are batched, and in whatever company.
    np.testing.assert_allclose(model.music_features(texts, batch_size=1), found, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.music_features(texts[1:2])[0], found[1], rtol=0, atol=1e-5)


def cut_to(text: str, length: int) -> str:
    """As many whole lines of a text, and header lines, as make exactly `length` patches."""
    lines = text.splitlines(keepends=True)
    while len(m3_patches.encode("".join(lines))) > length:
        lines.pop()
    while len(m3_patches.encode("".join(lines))) < length:
        lines.insert(0, "N:\n")
    return "".join(lines)


def test_features_without_the_projection_are_the_tower_s_mean(model, reference):
    (text,) = pieces()[:1]
    patches = m3_patches.encode(text)
    with torch.no_grad():
        hidden = reference.music_model(
            torch.from_numpy(patches.astype(np.int64))[None], torch.ones(1, len(patches))
        )
    found = model.music_features([text], projected=False)
    assert relative_error(found[0], hidden[0].mean(0).numpy()) < TOLERANCE


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_text_features_equal_the_official_procedure(model, reference, backend, monkeypatch):
    model = as_on(backend, model, monkeypatch)
    texts = ["A song", "x" * 30, "x" * 31, "a\nlong text of several lines\nand another" * 2]
    expected = np.stack(
        [
            reference.text_feature(np.array(Codes().encode("</s>".join(dict.fromkeys(text.split("\n"))))))
            for text in texts
        ]
    )
    found = model.text_features(texts)
    assert found.shape == (4, TINY.feature_size)
    assert relative_error(found, expected) < TOLERANCE


def test_no_text_gives_no_row(model):
    assert model.music_features([]).shape == (0, TINY.feature_size)
    assert model.text_features([]).shape == (0, TINY.feature_size)


def test_what_cannot_be_encoded_is_named(model):
    with pytest.raises(NotaGenError, match="text 2 of 2: no music"):
        model.music_features([pieces()[0], "\n"])


def test_progress_counts_segments(model):
    seen: list[tuple[int, int]] = []
    model.music_features(pieces(), batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def gradients_equal(found: Any, module: Any, config: clamp2.Clamp2Config) -> None:
    """Compare a gradient tree with the gradients of a PyTorch module, tensor by tensor."""
    read = unstack(official_tensors(config), jax.device_get(found))
    for name, parameter in module.named_parameters():
        if any(part in name for part in UNUSED):
            assert parameter.grad is None or not parameter.grad.abs().max()
            continue
        expected = parameter.grad.numpy()
        scale = np.abs(expected).max()
        # The attention does not depend on the bias of the keys: its gradient is rounding noise.
        if name.endswith("attention.self.key.bias"):
            assert np.abs(read(name)).max() < 1e-6
            continue
        assert np.abs(read(name) - expected).max() <= TOLERANCE * max(scale, 1e-3), name


def test_reconstruction_equals_pytorch():
    config, module = TINY_M3, torch_m3()
    texts = pieces()[:2]
    originals = [m3_patches.encode(text)[: config.patch_length] for text in texts]
    masked = [mask_piece(patches, np.random.default_rng(seed)) for seed, patches in enumerate(originals)]
    batch = masked_batch(
        originals, [m.inputs for m in masked], [m.chosen for m in masked], config.patch_length
    )

    def mean(params: Any) -> jax.Array:
        total, weight = losses.reconstruction_nll(
            config, params, batch["patches"], batch["segments"], batch["chosen"], batch["targets"]
        )
        return total / weight

    loss, gradient = jax.jit(jax.value_and_grad(mean))(params_of(module, config))
    targets, chosen = np.zeros(batch["patches"].shape, np.int64), np.zeros(batch["segments"].shape, bool)
    for row, (patches, piece) in enumerate(zip(originals, masked, strict=True)):
        targets[row, : len(patches)] = patches
        chosen[row, piece.chosen] = True
    expected = module(
        torch.from_numpy(batch["patches"].astype(np.int64)),
        torch.from_numpy(batch["segments"]).float(),
        torch.from_numpy(chosen),
        torch.from_numpy(targets),
    )
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=TOLERANCE)
    gradients_equal(gradient, module, config)


def test_contrastive_loss_equals_pytorch(reference):
    config = TINY
    rng = np.random.default_rng(0)
    patches = rng.integers(3, 128, (4, 20, 64)).astype(np.uint8)
    segments = np.arange(20) < np.array([20, 13, 7, 18])[:, None]
    tokens = rng.integers(4, 120, (4, 12)).astype(np.int32)
    tokens[1, 8:] = tokens[3, 3:] = 1

    def mean(params: Any) -> jax.Array:
        towers = Clamp2Model(config)
        music = towers.apply({"params": params}, patches, segments, method=towers.music_features)
        text = towers.apply({"params": params}, tokens, tokens != 1, method=towers.text_features)
        total, _ = losses.contrastive_sums(music, text, music, text)
        return total / 4

    loss, gradient = jax.jit(jax.value_and_grad(mean))(params_of(reference, config))
    reference.zero_grad()
    expected = reference.contrastive_loss(
        reference.music(torch.from_numpy(patches.astype(np.int64)), torch.from_numpy(segments).float()),
        reference.text(torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(tokens != 1).float()),
    )
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=TOLERANCE)
    gradients_equal(gradient, reference, config)


def test_contrastive_sums_state_the_formula():
    rng = np.random.default_rng(1)
    music, text = rng.normal(size=(2, 5, 8))
    total, nearest = losses.contrastive_sums(
        *(jnp.asarray(x, jnp.float32) for x in (music, text, music, text))
    )
    logits = music @ text.T
    entropies = [
        -(table - np.log(np.exp(table).sum(axis=1, keepdims=True))).diagonal() for table in (logits, logits.T)
    ]
    assert float(total) == pytest.approx(np.mean(entropies, axis=0).sum(), rel=1e-5)
    assert float(nearest["music_to_text"]) == (logits.argmax(axis=1) == np.arange(5)).sum()
    assert float(nearest["text_to_music"]) == (logits.argmax(axis=0) == np.arange(5)).sum()
