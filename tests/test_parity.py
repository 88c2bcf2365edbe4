"""The same numbers as PyTorch: loss, logits, log-probabilities and every gradient, in float32."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from notagen_jax.checkpoints.names import TIED, UNUSED, official_tensors, stack_params, unstack_params
from notagen_jax.config import ModelConfig
from notagen_jax.losses import log_probability, nll
from notagen_jax.model import NotaGen
from notagen_jax.patches import encode_training

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from eval.torch_reference import TorchNotaGen, filter_probs  # noqa: E402

CONFIG = ModelConfig(128, 2, 2, 96, dropout=0.0, attention_dropout=0.0)
TOLERANCE = 1e-5
DATA = Path(__file__).parent / "data"
CHORALE, LIED, LONG = (
    encode_training((DATA / f"reduced_{name}.abc").read_text(encoding="ascii"), CONFIG.patch_length)
    for name in ("bach_bwv379", "schroter_geburtstag", "reichardt_wenn_ich_ihn")
)


def padded(*pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pieces as rows (B, P, 16) of one batch and 1 at their patches (B, P), 0 after them."""
    length = CONFIG.patch_length
    patches = np.zeros((len(pieces), length, 16), np.uint8)
    real = np.zeros((len(pieces), length), np.int32)
    for row, piece in enumerate(pieces):
        patches[row, : len(piece)] = piece
        real[row, : len(piece)] = 1
    return patches, real


BATCHES = {
    "whole": padded(CHORALE),
    "cut at the window": padded(LONG),
    "padded": padded(CHORALE, LIED),
}


def twin_of(scale: float | None) -> TorchNotaGen:
    """The PyTorch model, as it is initialised or with weights of the standard deviation `scale`."""
    torch.manual_seed(0)
    twin = TorchNotaGen(CONFIG).eval()
    if scale is not None:
        with torch.no_grad():
            for name, weights in twin.named_parameters():
                weights.normal_(0.0, scale)
                if ".ln_" in name and name.endswith("weight"):
                    weights.add_(1.0)
    return twin


# Initial weights make every prediction nearly uniform; large ones do not. Beyond 0.15 the rounding of
# float32 alone, PyTorch's own against float64, comes near the tolerance.
@pytest.fixture(scope="module", params=[None, 0.15], ids=["initial weights", "large weights"])
def models(request: pytest.FixtureRequest) -> tuple[TorchNotaGen, dict[str, Any]]:
    """Both models with the same weights."""
    twin = twin_of(request.param)
    state = twin.state_dict()
    return twin, stack_params(CONFIG, lambda name: state[name].numpy())


def relative_error(found: object, expected: object) -> float:
    """Largest difference relative to the largest expected value."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / np.abs(b).max())


def torch_gradients(
    twin: TorchNotaGen, patches: np.ndarray, real: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    twin.zero_grad()
    loss = twin(torch.from_numpy(patches.astype(np.int64)), torch.from_numpy(real))
    loss.backward()
    gradients = {name: weights.grad for name, weights in twin.named_parameters() if weights.grad is not None}
    return loss.item(), {name: gradient.numpy().copy() for name, gradient in gradients.items()}


value_and_grad = jax.jit(
    jax.value_and_grad(lambda params, patches, segments: nll(CONFIG, params, patches, segments))
)
logits_of = jax.jit(lambda params, patches: NotaGen(CONFIG).apply({"params": params}, patches))
log_probability_of = jax.jit(lambda params, patches: log_probability(CONFIG, params, patches))


def gradient_errors(found: Any, expected: dict[str, np.ndarray]) -> dict[str, float]:
    """Relative error of each official tensor's gradient."""
    read = unstack_params(CONFIG, found)
    names = [tensor.name for tensor in official_tensors(CONFIG) if tensor.name not in (TIED, UNUSED)]
    assert set(names) == set(expected)
    return {name: relative_error(read(name), expected[name]) for name in names}


@pytest.mark.parametrize("batch", BATCHES)
def test_loss_and_every_gradient(models: tuple[TorchNotaGen, dict[str, Any]], batch: str):
    twin, params = models
    patches, real = BATCHES[batch]
    expected, gradients = torch_gradients(twin, patches, real)
    loss, found = value_and_grad(params, patches, real)
    assert abs(float(loss) - expected) <= TOLERANCE * expected
    errors = gradient_errors(found, gradients)
    assert max(errors.values()) <= TOLERANCE, sorted(errors.items(), key=lambda item: -item[1])[:5]


@pytest.mark.parametrize("batch", BATCHES)
def test_logits_and_sequence_log_probability(models: tuple[TorchNotaGen, dict[str, Any]], batch: str):
    twin, params = models
    patches, real = BATCHES[batch]
    with torch.no_grad():
        arrays = torch.from_numpy(patches.astype(np.int64)), torch.from_numpy(real)
        expected_logits = twin.logits(*arrays).numpy()
        expected_sums = twin.log_probability(*arrays).numpy()
        targets = twin.targets(*arrays).numpy()
    logits = np.asarray(logits_of(params, patches))
    # The official code hides pads from attention, which only changes what stands after an eos.
    assert relative_error(logits[targets], expected_logits[targets]) <= TOLERANCE
    assert relative_error(log_probability_of(params, patches), expected_sums) <= TOLERANCE


def test_packed_pieces_give_the_loss_and_gradients_of_separate_rows(
    models: tuple[TorchNotaGen, dict[str, Any]],
):
    twin, params = models
    patches, real = padded(CHORALE[:40], LIED[:30], LONG[:20])
    expected, gradients = torch_gradients(twin, patches, real)
    packed = np.zeros((1, 96, 16), np.uint8)
    segments = np.zeros((1, 96), np.int32)
    start = 0
    for number, piece in enumerate((CHORALE[:40], LIED[:30], LONG[:20]), start=1):
        packed[0, start : start + len(piece)] = piece
        segments[0, start : start + len(piece)] = number
        start += len(piece)
    # Nothing in the padding may count.
    packed[0, start:] = np.random.default_rng(0).integers(0, 128, (96 - start, 16))
    loss, found = value_and_grad(params, packed, segments)
    assert abs(float(loss) - expected) <= TOLERANCE * expected
    errors = gradient_errors(found, gradients)
    assert max(errors.values()) <= TOLERANCE, sorted(errors.items(), key=lambda item: -item[1])[:5]


def test_what_stands_in_padding_changes_nothing(models: tuple[TorchNotaGen, dict[str, Any]]):
    _, params = models
    patches, real = BATCHES["padded"]
    garbage = np.where(real[..., None] > 0, patches, 77).astype(np.uint8)
    assert (garbage != patches).any()
    loss, gradients = value_and_grad(params, patches, real)
    garbage_loss, garbage_gradients = value_and_grad(params, garbage, real)
    assert loss == garbage_loss
    jax.tree.map(np.testing.assert_array_equal, gradients, garbage_gradients)


def test_the_loss_is_a_mean_over_tokens_not_over_pieces(models: tuple[TorchNotaGen, dict[str, Any]]):
    _, params = models
    losses = [float(value_and_grad(params, *padded(piece))[0]) for piece in (CHORALE, LIED)]
    targets = [int((piece[1:] != 0).sum()) for piece in (CHORALE, LIED)]
    whole = float(value_and_grad(params, *BATCHES["padded"])[0])
    assert whole == pytest.approx(np.average(losses, weights=targets), rel=TOLERANCE)


def test_next_character_distribution_while_sampling(models: tuple[TorchNotaGen, dict[str, Any]]):
    twin, params = models
    patches = LIED[:40]
    logits = np.asarray(logits_of(params, padded(patches)[0]))[0, len(patches) - 2]
    tensor = torch.from_numpy(patches.astype(np.int64))
    # A patch's characters up to its eos: the official sampler never shows the decoder a pad.
    length = int(np.argmax(patches[-1] == 2)) + 1 if (patches[-1] == 2).any() else 16
    for index in range(length):
        expected = twin.next_char_probs(tensor[:-1], tensor[-1, :index]).numpy()
        assert relative_error(jax.nn.softmax(jnp.asarray(logits[index])), expected) <= TOLERANCE


def test_reference_filters_come_in_the_official_order():
    probs = np.zeros(128)
    probs[[10, 20, 30, 40]] = [0.5, 0.3, 0.15, 0.05]
    # Top 3 renormalised: .526 .316 .158; the first two reach .8; then temperature on what is left.
    kept = filter_probs(probs, top_k=3, top_p=0.8, temperature=2.0)
    weights = np.sqrt([0.5, 0.3])
    np.testing.assert_allclose(kept[[10, 20]], weights / weights.sum(), rtol=1e-12)
    assert kept.sum() == pytest.approx(1)
    assert (np.delete(kept, [10, 20]) == 0).all()


def test_reference_sampling_follows_its_model():
    twin = twin_of(0.2)
    prompt = torch.from_numpy(LIED[:5].astype(np.int64))
    piece = twin.sample(prompt, 3, np.random.default_rng(0))
    assert piece.shape[1] == 16
    assert 6 <= len(piece) <= 8
    assert (piece[:5] == prompt).all()
    for patch in piece[5:].tolist():
        drawn = patch.index(2) + 1 if 2 in patch else 16
        assert all(char == 0 for char in patch[drawn:])
    likeliest = twin.next_char_probs(piece[:5], piece[5, :0]).topk(9).indices
    assert int(piece[5, 0]) in likeliest.tolist()
