"""Official tensor names and the sizes that follow from their shapes."""

import numpy as np
import pytest

from notagen_jax.checkpoints import names
from notagen_jax.config import PRESETS, ModelConfig
from notagen_jax.errors import NotaGenError

CONFIG = ModelConfig(64, 2, 1, 24)


@pytest.mark.parametrize("preset", PRESETS)
def test_sizes_come_from_the_shapes(preset: str):
    shapes = {tensor.name: tensor.shape for tensor in names.official_tensors(PRESETS[preset])}
    assert names.config_from_shapes(shapes, "x") == PRESETS[preset]
    stored = sum(
        int(np.prod(shape)) for name, shape in shapes.items() if name not in (names.TIED, names.UNUSED)
    )
    assert stored == PRESETS[preset].parameters
    other = PRESETS[preset].replace(patch_length=77)
    shapes["patch_level_decoder.base.wpe.weight"] = (77, other.hidden_size)
    assert names.config_from_shapes(shapes, "x") == ModelConfig(
        other.hidden_size, other.patch_layers, other.char_layers, 77
    )


def test_every_wrong_tensor_is_named_in_one_error():
    shapes = {tensor.name: tensor.shape for tensor in names.official_tensors(CONFIG)}
    del shapes["patch_level_decoder.base.h.0.ln_1.bias"], shapes["char_level_decoder.base.lm_head.weight"]
    shapes["patch_level_decoder.extra"] = (1,)
    shapes["char_level_decoder.base.transformer.h.0.mlp.c_fc.weight"] = (256, 64)
    with pytest.raises(NotaGenError) as caught:
        names.config_from_shapes(shapes, "weights.pth")
    message = str(caught.value)
    for part in (
        "weights.pth",
        "missing: patch_level_decoder.base.h.0.ln_1.bias, char_level_decoder.base.lm_head.weight;",
        "unknown: patch_level_decoder.extra;",
        "char_level_decoder.base.transformer.h.0.mlp.c_fc.weight is (256, 64), expected (64, 256)",
    ):
        assert part in message


def test_a_layer_index_out_of_reason_is_an_unknown_name():
    shapes = {tensor.name: tensor.shape for tensor in names.official_tensors(CONFIG)}
    shapes["patch_level_decoder.base.h.999999999.ln_1.bias"] = (64,)
    with pytest.raises(NotaGenError, match=r"unknown: patch_level_decoder\.base\.h\.999999999\.ln_1\.bias"):
        names.config_from_shapes(shapes, "x")


@pytest.mark.parametrize("digits", [5, 5000])
def test_a_layer_index_of_many_digits_is_an_unknown_name(digits: int):
    shapes = {tensor.name: tensor.shape for tensor in names.official_tensors(CONFIG)}
    shapes[f"patch_level_decoder.base.h.{'7' * digits}.ln_1.bias"] = (64,)
    with pytest.raises(NotaGenError, match=r"unknown: patch_level_decoder\.base\.h\.7+\.ln_1\.bias\."):
        names.config_from_shapes(shapes, "x")


def test_stored_masks_of_older_versions_are_ignored():
    shapes = {tensor.name: tensor.shape for tensor in names.official_tensors(CONFIG)}
    for layer in range(2):
        shapes[f"patch_level_decoder.base.h.{layer}.attn.bias"] = (1, 1, 24, 24)
        shapes[f"patch_level_decoder.base.h.{layer}.attn.masked_bias"] = ()
    assert names.config_from_shapes(shapes, "x") == CONFIG


def test_another_model_is_told_apart():
    with pytest.raises(NotaGenError, match=r"no NotaGen tensors \(found music_model"):
        names.config_from_shapes({"music_model.base.embeddings.LayerNorm.bias": (768,)}, "clamp2.pth")
    with pytest.raises(NotaGenError, match="none at all"):
        names.config_from_shapes({}, "empty.pth")
