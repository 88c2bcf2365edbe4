"""The towers of CLaMP 2 and M3's character decoder as Flax modules (arXiv 2410.13267, section 3).

Both towers are BERT encoders: post-LayerNorm, exact GELU, learned positions. The layers of a tower
are one scanned block, so each of their parameters carries a leading layer axis.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from notagen_jax.clamp2.config import (
    MUSIC_TOKEN_TYPES,
    TEXT_PAD,
    TEXT_TOKEN_TYPES,
    Clamp2Config,
)
from notagen_jax.clamp2.m3_patches import VOCABULARY
from notagen_jax.model import INIT_SCALE, Stack, attend, matmul_precision

Tower = Literal["music", "text"]

MUSIC_NORM_EPSILON = 1e-12
"""Layer norms of the music tower (`BertConfig`)."""


class Layer(nn.Module):
    """One post-LayerNorm BERT layer, as a scan body."""

    config: Clamp2Config
    width: int
    heads: int
    intermediate: int
    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> tuple[jax.Array, None]:
        """x (B, T, width), mask bool (B, 1, 1, T) → (B, T, width)."""
        dtype = jnp.dtype(self.config.dtype)
        split = (*x.shape[:-1], self.heads, self.width // self.heads)
        queries, keys, values = (
            _dense(self.width, dtype, name)(x).reshape(split) for name in ("query", "key", "value")
        )
        dropout = None
        if self.config.attention_dropout and not deterministic:
            dropout = nn.Dropout(self.config.attention_dropout, deterministic=False)
        attended = attend(queries, keys, values, mask, dropout).reshape(x.shape)
        drop = nn.Dropout(self.config.dropout, deterministic=deterministic)
        x = _norm(dtype, self.epsilon, "attention_norm")(
            x + drop(_dense(self.width, dtype, "attention_out")(attended))
        )
        inner = nn.gelu(_dense(self.intermediate, dtype, "mlp_in")(x), approximate=False)
        x = _norm(dtype, self.epsilon, "mlp_norm")(x + drop(_dense(self.width, dtype, "mlp_out")(inner)))
        return x, None


class Encoder(nn.Module):
    """The norm on embeddings and `depth` scanned layers."""

    config: Clamp2Config
    depth: int
    width: int
    heads: int
    intermediate: int
    epsilon: float

    def setup(self) -> None:
        self.norm = _norm(jnp.dtype(self.config.dtype), self.epsilon)
        self.drop = nn.Dropout(self.config.dropout)
        layer = nn.remat(Layer, prevent_cse=False, static_argnums=(3,)) if self.config.remat else Layer
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=self.depth,
            unroll=min(self.config.unroll, self.depth),
        )
        self.layers = scanned(self.config, self.width, self.heads, self.intermediate, self.epsilon)

    def start(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Embeddings (B, T, width) as the first layer reads them."""
        return self.drop(self.norm(x.astype(self.config.dtype)), deterministic=deterministic)

    def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        """Embeddings x (B, T, width), mask bool (B, T), true at what is no padding → (B, T, width)."""
        x, _ = self.layers(self.start(x, deterministic), mask[:, None, None, :], deterministic)
        return x


class MusicTower(nn.Module):
    """M3's encoder: bar patches → one vector a patch."""

    config: Clamp2Config

    def setup(self) -> None:
        config, init = self.config, nn.initializers.normal(INIT_SCALE)
        width = config.hidden_size
        self.table = self.param("table", init, (config.patch_size * VOCABULARY, width))
        self.bias = self.param("bias", nn.initializers.zeros, (width,))
        self.positions = self.param("positions", init, (config.patch_length, width))
        self.token_types = self.param("token_types", init, (MUSIC_TOKEN_TYPES, width))
        self.encoder = Encoder(config, config.music_layers, *_layer_sizes(config, "music"))

    def embed(self, patches: jax.Array) -> jax.Array:
        """patches uint8 (B, P, S) → float32 (B, P, H)."""
        length = patches.shape[1]
        if length > self.config.patch_length:
            raise ValueError(f"{length} patches exceed the model's segment of {self.config.patch_length}")
        embedded = _product_with_one_hots(patches, self.table)
        return embedded + self.bias + self.positions[:length] + self.token_types[0]

    def __call__(self, patches: jax.Array, mask: jax.Array, deterministic: bool = True) -> jax.Array:
        """patches uint8 (B, P, S), mask bool (B, P) → (B, P, H)."""
        return self.encoder(self.embed(patches), mask, deterministic)


class TextTower(nn.Module):
    """XLM-RoBERTa: tokens → one vector a token."""

    config: Clamp2Config

    def setup(self) -> None:
        config, init = self.config, nn.initializers.normal(INIT_SCALE)
        width = config.text_hidden_size
        self.words = self.param("words", init, (config.text_vocabulary, width))
        self.positions = self.param("positions", init, (config.text_positions, width))
        self.token_types = self.param("token_types", init, (TEXT_TOKEN_TYPES, width))
        self.encoder = Encoder(config, config.text_layers, *_layer_sizes(config, "text"))

    def embed(self, tokens: jax.Array) -> jax.Array:
        """tokens int32 (B, T) → float32 (B, T, text_hidden_size)."""
        real = tokens != TEXT_PAD
        places = jnp.where(real, jnp.cumsum(real, axis=1), 0) + TEXT_PAD
        return self.words[tokens] + self.token_types[0] + self.positions[places]

    def __call__(self, tokens: jax.Array, mask: jax.Array, deterministic: bool = True) -> jax.Array:
        """tokens int32 (B, T), mask bool (B, T) → (B, T, text_hidden_size)."""
        return self.encoder(self.embed(tokens), mask, deterministic)


class PatchReader(nn.Module):
    """M3's character decoder: reads the characters of a patch out of its vector."""

    config: Clamp2Config

    @nn.compact
    def __call__(self, vectors: jax.Array, patches: jax.Array, deterministic: bool = True) -> jax.Array:
        """vectors (N, H), patches uint8 (N, S) → float32 (N, S-1, 128); output i predicts char i+1.

        The vector takes the place of the first character, which is always bos.
        """
        config, init, dtype = self.config, nn.initializers.normal(INIT_SCALE), jnp.dtype(self.config.dtype)
        wte = self.param("wte", init, (VOCABULARY, config.hidden_size))
        wpe = self.param("wpe", init, (config.patch_size, config.hidden_size))
        characters = wte[patches[:, 1:-1].astype(jnp.int32)]
        x = jnp.concatenate([vectors[:, None].astype(dtype), characters.astype(dtype)], axis=1)
        x = x + wpe[: x.shape[1]].astype(dtype)
        x = Stack(config.decoder, config.decoder_layers, name="stack")(x, None, deterministic)
        return jnp.einsum(
            "nth,vh->ntv",
            x,
            wte.astype(dtype),
            precision=matmul_precision(dtype),
            preferred_element_type=jnp.float32,
        )


class Clamp2Model(nn.Module):
    """All parts that a configuration has, with their pooling and projections."""

    config: Clamp2Config

    def setup(self) -> None:
        config = self.config
        self.music = MusicTower(config)
        if config.feature_size:
            self.music_projection = nn.Dense(config.feature_size, **_projection())
        if config.has_text:
            self.text = TextTower(config)
            self.text_projection = nn.Dense(config.feature_size, **_projection())
        if config.decoder_layers:
            self.decoder = PatchReader(config)

    def music_features(
        self, patches: jax.Array, mask: jax.Array, deterministic: bool = True, projected: bool = True
    ) -> jax.Array:
        """Features of segments: patches uint8 (B, P, S), mask bool (B, P) → float32 (B, width).

        The mean of the patch vectors, then the projection where there is one (no L2 norm).
        """
        return self.pooled("music", self.music(patches, mask, deterministic), mask, projected)

    def text_features(self, tokens: jax.Array, mask: jax.Array, deterministic: bool = True) -> jax.Array:
        """Features of text segments: tokens int32 (B, T), mask bool (B, T) → float32 (B, feature_size)."""
        return self.pooled("text", self.text(tokens, mask, deterministic), mask)

    def started(self, tower: Tower, inputs: jax.Array) -> jax.Array:
        """What the first layer of a tower reads, without dropout: patches or tokens → (B, T, H).

        With `layer_of` and `pooled`, for a caller that runs the layers itself.
        """
        module = getattr(self, tower)
        return module.encoder.start(module.embed(inputs), True)

    def pooled(self, tower: Tower, vectors: jax.Array, mask: jax.Array, projected: bool = True) -> jax.Array:
        """Features out of a tower's vectors (B, T, H), mask bool (B, T) → float32 (B, width)."""
        mean = mean_of_real(vectors, mask)
        return getattr(self, f"{tower}_projection")(mean) if projected and self.config.feature_size else mean

    def reconstruct(
        self,
        patches: jax.Array,
        mask: jax.Array,
        chosen: jax.Array,
        targets: jax.Array,
        deterministic: bool = True,
    ) -> jax.Array:
        """Logits of the characters of chosen patches (masked pre-training).

        patches: uint8 (B, P, S)   what the tower sees, the chosen patches masked or shuffled
        mask:    bool (B, P)
        chosen:  int32 (N,)        places of the chosen patches in the B·P rows
        targets: uint8 (N, S)      what stood there
        Returns float32 (N, S-1, 128); output i predicts character i+1.
        """
        vectors = self.music(patches, mask, deterministic)
        return self.decoder(vectors.reshape(-1, self.config.hidden_size)[chosen], targets, deterministic)

    def __call__(self, patches: jax.Array, tokens: jax.Array) -> dict[str, jax.Array]:
        """Every part once, for their parameters: patches uint8 (1, P, S), tokens int32 (1, T)."""
        mask = jnp.ones(patches.shape[:2], bool)
        made = {"music": self.music_features(patches, mask)}
        if self.config.has_text:
            made["text"] = self.text_features(tokens, jnp.ones(tokens.shape, bool))
        if self.config.decoder_layers:
            made["decoder"] = self.reconstruct(patches, mask, jnp.zeros(1, jnp.int32), patches[0, :1])
        return made


def _product_with_one_hots(codes: jax.Array, table: jax.Array) -> jax.Array:
    """A linear layer on one-hots: the sum of S rows of its table, one for each character.

    codes uint8 (B, P, S), table (S · 128, H) → (B, P, H). A CPU adds the rows place by place: gathered
    together they are S times as large as their sum and go through main memory.
    """
    size = codes.shape[-1]
    if jax.default_backend() != "cpu":
        return table[codes.astype(jnp.int32) + VOCABULARY * jnp.arange(size)].sum(axis=-2)

    def add(total: jax.Array, place: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        rows, chosen = place
        return total + rows[chosen.astype(jnp.int32)], None

    places = table.reshape(size, VOCABULARY, -1), jnp.moveaxis(codes, -1, 0)
    return jax.lax.scan(add, jnp.zeros((*codes.shape[:-1], table.shape[-1]), table.dtype), places)[0]


def layer_of(config: Clamp2Config, tower: Tower) -> Layer:
    """A layer of a tower, to be applied to the parameters of any of its layers."""
    return Layer(config, *_layer_sizes(config, tower))


def _layer_sizes(config: Clamp2Config, tower: Tower) -> tuple[int, int, int, float]:
    """Width, heads, intermediate width and epsilon of a tower's layers."""
    if tower == "music":
        return config.hidden_size, config.heads, config.intermediate_size, MUSIC_NORM_EPSILON
    return (
        config.text_hidden_size,
        config.text_heads,
        config.text_intermediate_size,
        config.text_norm_epsilon,
    )


def mean_of_real(vectors: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of vectors (B, T, D) over what is no padding, mask bool (B, T) → float32 (B, D)."""
    weights = mask.astype(jnp.float32)[..., None]
    return (vectors.astype(jnp.float32) * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1.0)


def init_params(config: Clamp2Config, key: jax.Array) -> dict[str, Any]:
    """Fresh float32 parameters, drawn as BERT draws them (normal 0.02, zero biases)."""
    patches = jnp.zeros((1, 2, config.patch_size), jnp.uint8)
    heads = config.replace(text_heads=config.text_heads or 1)
    return Clamp2Model(heads).init(key, patches, jnp.zeros((1, 2), jnp.int32))["params"]


def _dense(features: int, dtype: Any, name: str) -> nn.Dense:
    init = nn.initializers.normal(INIT_SCALE)
    return nn.Dense(features, dtype=dtype, precision=matmul_precision(dtype), kernel_init=init, name=name)


def _projection() -> dict[str, Any]:
    """Projections run in float32, as the pooled vectors are."""
    return {
        "dtype": jnp.float32,
        "precision": jax.lax.Precision.HIGHEST,
        "kernel_init": nn.initializers.normal(INIT_SCALE),
    }


def _norm(dtype: Any, epsilon: float, name: str | None = None) -> nn.LayerNorm:
    """Layer norm; the two-pass variance keeps float32 parity with PyTorch."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)
