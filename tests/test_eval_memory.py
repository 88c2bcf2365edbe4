"""Memory of an update: what is counted exactly, and that the goals for `large` leave room for activations."""

import dataclasses
import math

import jax

from eval.memory import bytes_each, update_memory
from notagen_jax.config import ModelConfig
from notagen_jax.lora import LoraConfig, adapter_shapes
from notagen_jax.model import init_params
from train import optimizer as optimizers
from train.config import DataConfig
from train.configs.large_finetune import CONFIG as LARGE
from train.configs.large_lora import CONFIG as LARGE_LORA
from train.devices import Devices


def count(shapes: object) -> int:
    """Numbers in a tree of shapes."""
    leaves = jax.tree.leaves(shapes, is_leaf=lambda node: isinstance(node, tuple))
    return sum(math.prod(shape) for shape in leaves)


def test_the_parts_of_an_update_of_adapters():
    model = ModelConfig(64, 1, 1, 16, dropout=0.0, attention_dropout=0.0)
    config = dataclasses.replace(
        LARGE_LORA, model=model, lora=LoraConfig(rank=2), data=DataConfig(rows=1, length=16), accumulate=1
    )
    memory = update_memory(config)
    adapters = 4 * count(adapter_shapes(model, config.lora))
    assert memory.frozen == 2 * model.parameters  # bfloat16, and no gradient, no moment
    assert memory.params == adapters
    assert 2 * adapters <= memory.optimizer <= 2 * adapters + 64  # two moments and the counters
    held = memory.params + memory.optimizer + memory.frozen
    assert held + memory.temporaries <= memory.peak < held + memory.temporaries + 4096  # a batch


def test_what_large_holds_leaves_room_in_16_and_8_gigabytes():
    # `python -m eval.memory large --data.rows 1` compiles the update too, which takes a minute: 10.9 GB.
    model = LARGE.model
    assert (model.dtype, model.remat, LARGE.data.length) == ("bfloat16", True, 1024)
    assert LARGE_LORA.model == model
    assert 0 < model.char_chunk <= 64  # what bounds the activations of the character decoder
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    state = Devices(LARGE.devices).shapes(shapes, optimizers.make(LARGE.optimizer, LARGE.steps))
    assert bytes_each(state.params) == 4 * model.parameters
    assert bytes_each(state) < 6.3e9
    assert 2 * model.parameters + 16 * count(adapter_shapes(model, LARGE_LORA.lora)) < 1.2e9
