"""The two decoders of NotaGen as Flax modules (paper section 3.1).

Both are pre-LayerNorm GPT-2 stacks. The layers of a stack are one scanned block, so compile time
does not grow with depth and every block parameter carries a leading layer axis.

Where the collection `adapters` holds a low-rank pair for a projection, its product is added (see
`notagen_jax.lora`).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from notagen_jax.config import HEAD_SIZE, PATCH_SIZE, VOCABULARY, ModelConfig

INIT_SCALE = 0.02
NORM_EPSILON = 1e-5


def matmul_precision(dtype: Any) -> jax.lax.Precision | None:
    """Precision of matrix products whose operands are `dtype`.

    GPUs and TPUs round float32 operands (to TF32, to bfloat16) unless told otherwise; float32 here
    means float32, bfloat16 the device's own way.
    """
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None


def dense_product(x: jax.Array, kernel: jax.Array, dimensions: Any, precision: Any) -> jax.Array:
    """The product of a dense layer: x (…, in), kernel (in, out) → (…, out); `dot_general` of `nn.Dense`.

    On a CPU the kernel's gradient is computed from a transposed copy of x: XLA's products that sum over
    the first axis of both operands reach about half of a CPU's speed.
    """
    if jax.default_backend() == "cpu":
        return _cpu_product(dimensions, precision, x, kernel)
    return jax.lax.dot_general(x, kernel, dimensions, precision=precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cpu_product(dimensions: Any, precision: Any, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, kernel, dimensions, precision=precision)


def _cpu_product_forward(dimensions: Any, precision: Any, x: jax.Array, kernel: jax.Array) -> Any:
    return _cpu_product(dimensions, precision, x, kernel), (x, kernel)


def _cpu_product_backward(
    _: Any, precision: Any, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    rows, gradients = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    to_x = jnp.matmul(gradients, kernel.T, precision=precision).reshape(x.shape)
    # Without the barrier XLA would fold the copy back into the product.
    transposed = jax.lax.optimization_barrier(rows.T)
    return to_x, jnp.matmul(transposed, gradients, precision=precision)


_cpu_product.defvjp(_cpu_product_forward, _cpu_product_backward)


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    dropout: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """Scaled dot-product attention with a float32 softmax.

    queries (B, T, heads, D); keys, values (B, S, heads, D); mask bool, broadcast to
    (B, heads, T, S), true where attention is allowed. Returns (B, T, heads, D).
    """
    precision = matmul_precision(queries.dtype)
    queries, keys, values = (_laid_out(x.swapaxes(1, 2)) for x in (queries, keys, values))
    scores = jnp.einsum(
        "bhtd,bhsd->bhts", queries, keys, precision=precision, preferred_element_type=jnp.float32
    )
    scores = jnp.where(mask, scores / math.sqrt(queries.shape[-1]), jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    if dropout is not None:
        weights = dropout(weights)
    attended = jnp.einsum("bhts,bhsd->bhtd", weights, values, precision=precision)
    return _laid_out(attended).swapaxes(1, 2)


def _laid_out(x: jax.Array) -> jax.Array:
    """x in memory in the order of its axes, where that is faster: a CPU's batched products read and
    write transposed operands slowly, and XLA folds transpositions into them unless told otherwise."""
    return jax.lax.optimization_barrier(x) if jax.default_backend() == "cpu" else x


def causal_mask(length: int, segments: jax.Array | None = None) -> jax.Array:
    """Which positions may attend to which: bool (1 or B, 1, length, length).

    `segments` int (B, length) numbers the pieces packed into each row; attention stays inside one.
    """
    mask = jnp.tril(jnp.ones((1, 1, length, length), bool))
    if segments is None:
        return mask
    return mask & (segments[:, None, :, None] == segments[:, None, None, :])


def segment_positions(segments: jax.Array) -> jax.Array:
    """Position of each patch inside its piece, int32 (B, P), for `segments` int (B, P)."""
    index = jnp.arange(segments.shape[1], dtype=jnp.int32)
    starts = jnp.concatenate(
        [jnp.ones_like(segments[:, :1], bool), segments[:, 1:] != segments[:, :-1]], axis=1
    )
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


class Block(nn.Module):
    """One pre-LayerNorm GPT-2 block.

    `project` and `finish` are its two halves around the attention, so that cached decoding runs
    the same parameters and arithmetic as the full forward pass.
    """

    config: ModelConfig
    layers: int
    """Depth of the whole stack; scales the initial residual projections as GPT-2 does."""
    flash: bool = False

    def setup(self) -> None:
        width = self.config.hidden_size
        dtype = jnp.dtype(self.config.dtype)
        residual_scale = INIT_SCALE / math.sqrt(2 * self.layers)

        def dense(features: int, scale: float = INIT_SCALE) -> nn.Dense:
            return nn.Dense(
                features,
                dtype=dtype,
                precision=matmul_precision(dtype),
                kernel_init=nn.initializers.normal(scale),
                dot_general=dense_product,
            )

        self.ln_1 = layer_norm(dtype)
        self.qkv = dense(3 * width)
        self.attention_out = dense(width, residual_scale)
        self.ln_2 = layer_norm(dtype)
        self.mlp_in = dense(4 * width)
        self.mlp_out = dense(width, residual_scale)
        self.attention_drop = nn.Dropout(self.config.attention_dropout)
        self.drop = nn.Dropout(self.config.dropout)

    def adapted(self, name: str, x: jax.Array) -> jax.Array:
        """The projection `name` of x (…, in) → (…, out), with its adapters if there are any."""
        projected = getattr(self, name)(x)
        pair: Any = self.get_variable("adapters", name)
        if pair is None:
            return projected
        down, up = (pair[part].astype(projected.dtype) for part in ("down", "up"))
        precision = matmul_precision(projected.dtype)
        low = jnp.einsum("...i,ir->...r", x.astype(projected.dtype), down, precision=precision)
        return projected + jnp.einsum("...r,ro->...o", low, up, precision=precision)

    def project(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values (…, heads, 64) of x (…, H)."""
        qkv = self.adapted("qkv", self.ln_1(x)).reshape(*x.shape[:-1], 3, self.config.heads, HEAD_SIZE)
        return qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :]

    def finish(self, x: jax.Array, attended: jax.Array, deterministic: bool = True) -> jax.Array:
        """Both residual additions: x (…, H), attended (…, heads, 64) → (…, H)."""
        out = self.adapted("attention_out", attended.reshape(x.shape))
        x = x + self.drop(out, deterministic=deterministic)
        out = self.adapted("mlp_out", nn.gelu(self.adapted("mlp_in", self.ln_2(x)), approximate=True))
        return x + self.drop(out, deterministic=deterministic)

    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> tuple[jax.Array, None]:
        """x (B, T, H), mask as in `attend` (None: causal) → (B, T, H), as a scan body."""
        queries, keys, values = self.project(x)
        if self.flash and mask is None:
            attended = jax.nn.dot_product_attention(
                queries, keys, values, is_causal=True, implementation="cudnn"
            )
        elif self.flash:
            attended = jax.nn.dot_product_attention(queries, keys, values, mask=mask, implementation="cudnn")
        else:
            if mask is None:
                mask = causal_mask(x.shape[1])
            active = self.config.attention_dropout > 0 and not deterministic
            dropout = (lambda weights: self.attention_drop(weights, deterministic=False)) if active else None
            attended = attend(queries, keys, values, mask, dropout)
        return self.finish(x, attended, deterministic), None


class Stack(nn.Module):
    """`layers` blocks and the final norm, scanned over the leading axis of their parameters."""

    config: ModelConfig
    layers: int
    flash: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """x (B, T, H) → (B, T, H)."""
        x = nn.Dropout(self.config.dropout)(x, deterministic=deterministic)
        block = nn.remat(Block, prevent_cse=False, static_argnums=(3,)) if self.config.remat else Block
        scanned = nn.scan(
            block,
            variable_axes={"params": 0, "adapters": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=self.layers,
            unroll=min(self.config.unroll, self.layers),
        )
        x, _ = scanned(self.config, self.layers, self.flash, name="blocks")(x, mask, deterministic)
        return layer_norm(jnp.dtype(self.config.dtype), name="ln_f")(x)


class PatchDecoder(nn.Module):
    """Patch-level decoder: patches (B, P, 16) → vectors (B, P, H); vector t predicts patch t+1."""

    config: ModelConfig

    def setup(self) -> None:
        init = nn.initializers.normal(INIT_SCALE)
        width = self.config.hidden_size
        self.table = self.param("table", init, (PATCH_SIZE * VOCABULARY, width))
        self.bias = self.param("bias", nn.initializers.zeros, (width,))
        self.wpe = self.param("wpe", init, (self.config.patch_length, width))
        self.stack = Stack(self.config, self.config.patch_layers, self.config.attention == "cudnn")

    def embed(self, patches: jax.Array, positions: jax.Array) -> jax.Array:
        """Patches (…, 16) at positions (…) → (…, H).

        A linear layer on one-hots is a sum of 16 rows of its table, one for each character.
        """
        rows = patches.astype(jnp.int32) + VOCABULARY * jnp.arange(PATCH_SIZE)
        embedded = self.table[rows].sum(axis=-2) + self.bias + self.wpe[positions]
        return embedded.astype(self.config.dtype)

    def __call__(
        self, patches: jax.Array, segments: jax.Array | None = None, deterministic: bool = True
    ) -> jax.Array:
        """patches uint8 (B, P, 16), segments int (B, P) or None → (B, P, H)."""
        length = patches.shape[1]
        if length > self.config.patch_length:
            raise ValueError(f"{length} patches exceed the model's window of {self.config.patch_length}")
        if segments is None:
            return self.stack(self.embed(patches, jnp.arange(length)), None, deterministic)
        x = self.embed(patches, segment_positions(segments))
        return self.stack(x, causal_mask(length, segments), deterministic)


class CharDecoder(nn.Module):
    """Character-level decoder: a patch vector and the characters so far → next-character logits."""

    config: ModelConfig

    def setup(self) -> None:
        init = nn.initializers.normal(INIT_SCALE)
        width = self.config.hidden_size
        self.wte = self.param("wte", init, (VOCABULARY, width))
        # Official checkpoints hold 17 positions; the 17th output predicts nothing and is not computed.
        self.wpe = self.param("wpe", init, (PATCH_SIZE + 1, width))
        self.stack = Stack(self.config, self.config.char_layers)

    def embed(self, characters: jax.Array) -> jax.Array:
        """Character ids (…) → (…, H), without position."""
        return self.wte[characters.astype(jnp.int32)].astype(self.config.dtype)

    def logits(self, x: jax.Array) -> jax.Array:
        """Vectors (…, H) → float32 (…, 128) by the tied character embedding."""
        wte = self.wte.astype(self.config.dtype)
        precision = matmul_precision(wte.dtype)
        return jnp.einsum("...h,vh->...v", x, wte, precision=precision, preferred_element_type=jnp.float32)

    def __call__(self, vectors: jax.Array, patches: jax.Array, deterministic: bool = True) -> jax.Array:
        """vectors (N, H), patches uint8 (N, n ≤ 16) → float32 (N, n, 128); output i predicts char i.

        The patch vector takes the place of the bos embedding. Fewer than 16 characters give the first
        outputs alone.
        """
        x = jnp.concatenate([vectors[:, None].astype(self.config.dtype), self.embed(patches[:, :-1])], axis=1)
        x = x + self.wpe[: patches.shape[1]].astype(self.config.dtype)
        return self.logits(self.stack(x, None, deterministic))


class NotaGen(nn.Module):
    """The whole model: patches (B, P, 16) → logits of patches 1 … P-1."""

    config: ModelConfig

    def setup(self) -> None:
        self.patch_decoder = PatchDecoder(self.config)
        self.char_decoder = CharDecoder(self.config)

    def __call__(
        self, patches: jax.Array, segments: jax.Array | None = None, deterministic: bool = True
    ) -> jax.Array:
        """patches uint8 (B, P, 16), segments int (B, P) or None → float32 (B, P-1, 16, 128).

        The begin patch is never a target and the vector of the last patch is never used.
        """
        vectors = self.patch_decoder(patches, segments, deterministic)[:, :-1]
        targets = patches[:, 1:]
        batch, length, width = vectors.shape

        def decode(
            model: "NotaGen", carry: None, part: tuple[jax.Array, jax.Array]
        ) -> tuple[None, jax.Array]:
            logits = model.char_decoder(
                part[0].reshape(-1, width), part[1].reshape(-1, PATCH_SIZE), deterministic
            )
            return carry, logits.reshape(*part[1].shape, VOCABULARY)

        chunk = self.config.char_chunk
        if not chunk or chunk >= length:
            return decode(self, None, (vectors, targets))[1]
        # The rows stay the leading axis of a chunk, so that rows on different devices stay there.
        chunks = -(-length // chunk)
        padded = [
            jnp.pad(x, ((0, 0), (0, chunks * chunk - length), (0, 0)))
            .reshape(batch, chunks, chunk, -1)
            .swapaxes(0, 1)
            for x in (vectors, targets)
        ]
        scanned = nn.scan(
            nn.remat(decode, prevent_cse=False),
            variable_broadcast=("params", "adapters"),
            split_rngs={"params": False, "dropout": True},
        )
        _, logits = scanned(self, None, (padded[0], padded[1]))
        return logits.swapaxes(0, 1).reshape(batch, -1, PATCH_SIZE, VOCABULARY)[:, :length]


def layer_norm(dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """GPT-2's layer norm; the two-pass variance keeps float32 parity with PyTorch."""
    return nn.LayerNorm(epsilon=NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)


def init_params(config: ModelConfig, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 parameters, drawn as GPT-2 draws them (normal 0.02, scaled residual outputs)."""
    patches = jnp.zeros((1, 2, PATCH_SIZE), jnp.uint8)
    return NotaGen(config.replace(attention="xla", char_chunk=0)).init(key, patches)["params"]
