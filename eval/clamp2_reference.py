"""CLaMP 2 and M3 in PyTorch, on Hugging Face modules: what this package's towers are compared with.

A compact restatement of the published models for the parity tests and the speed comparison. The
state dicts have the official names, and features are extracted the official way: one piece at a
time, every segment padded to the longest length, patches as one-hots.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from notagen_jax.clamp2.config import MUSIC_TOKEN_TYPES, TEXT_PAD, TEXT_TOKEN_TYPES, Clamp2Config
from notagen_jax.clamp2.m3_patches import PAD, VOCABULARY


class MusicTower(nn.Module):
    """Patches (B, P, S) → vectors (B, P, H)."""

    def __init__(self, config: Clamp2Config) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(config.patch_size * VOCABULARY, config.hidden_size)
        nn.init.normal_(self.patch_embedding.weight, std=0.02)
        self.base = BertModel(
            BertConfig(
                vocab_size=1,
                hidden_size=config.hidden_size,
                num_hidden_layers=config.music_layers,
                num_attention_heads=config.heads,
                intermediate_size=config.intermediate_size,
                max_position_embeddings=config.patch_length,
                type_vocab_size=MUSIC_TOKEN_TYPES,
            )
        )

    def forward(self, patches: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """patches int64 (B, P, S), mask (B, P), 0 at padding."""
        one_hot = functional.one_hot(patches, VOCABULARY).flatten(-2).to(self.patch_embedding.weight.dtype)
        return self.base(inputs_embeds=self.patch_embedding(one_hot), attention_mask=mask).last_hidden_state


class TorchClamp2(nn.Module):
    """Both towers with their projections, under the official names."""

    def __init__(self, config: Clamp2Config) -> None:
        super().__init__()
        self.config = config
        self.text_model = XLMRobertaModel(
            XLMRobertaConfig(
                vocab_size=config.text_vocabulary,
                hidden_size=config.text_hidden_size,
                num_hidden_layers=config.text_layers,
                num_attention_heads=config.text_heads,
                intermediate_size=config.text_intermediate_size,
                max_position_embeddings=config.text_positions,
                type_vocab_size=TEXT_TOKEN_TYPES,
                layer_norm_eps=config.text_norm_epsilon,
                pad_token_id=TEXT_PAD,
            )
        )
        self.text_proj = nn.Linear(config.text_hidden_size, config.feature_size)
        self.music_model = MusicTower(config)
        self.music_proj = nn.Linear(config.hidden_size, config.feature_size)

    def music(self, patches: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features (B, feature_size) of segments int64 (B, P, S), mask (B, P)."""
        return self.music_proj(masked_mean(self.music_model(patches, mask), mask))

    def text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features (B, feature_size) of token segments int64 (B, T), mask (B, T)."""
        hidden = self.text_model(tokens, attention_mask=mask).last_hidden_state
        return self.text_proj(masked_mean(hidden, mask))

    def contrastive_loss(self, music: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Symmetric cross entropy of pairs (B, D), logit scale 1; row i of each belongs together."""
        logits, wanted = text @ music.T, torch.arange(len(music))
        return (functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)) / 2

    @torch.no_grad()
    def music_feature(self, patches: np.ndarray) -> np.ndarray:
        """Feature (feature_size,) of one whole piece, uint8 (n, S), the official way."""
        return self._feature(patches, self.config.patch_length, PAD, self.music)

    @torch.no_grad()
    def text_feature(self, tokens: np.ndarray) -> np.ndarray:
        """Feature (feature_size,) of one whole text, token ids (n,), the official way."""
        return self._feature(tokens, self.config.text_length, TEXT_PAD, self.text)

    def _feature(self, piece: np.ndarray, length: int, pad: int, tower) -> np.ndarray:  # type: ignore[no-untyped-def]
        device = self.music_proj.weight.device
        segments = [piece[start : start + length] for start in range(0, len(piece), length)]
        segments[-1] = piece[-length:]
        features = []
        for segment in segments:
            padded = np.full((length, *piece.shape[1:]), pad, np.int64)
            padded[: len(segment)] = segment
            mask = np.arange(length) < len(segment)
            features.append(
                tower(
                    torch.from_numpy(padded)[None].to(device),
                    torch.from_numpy(mask.astype(np.float32))[None].to(device),
                )[0]
            )
        whole, rest = divmod(len(piece), length)
        weights = torch.tensor([length] * whole + ([rest] if rest else []), device=device)[:, None]
        return ((torch.stack(features) * weights).sum(0) / weights.sum()).cpu().numpy()


class CharDecoder(nn.Module):
    """The GPT-2 that reads the characters of a patch out of its vector."""

    def __init__(self, config: Clamp2Config) -> None:
        super().__init__()
        self.base = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_positions=config.patch_size,
                n_embd=config.hidden_size,
                n_layer=config.decoder_layers,
                n_head=config.heads,
                n_inner=config.hidden_size * 4,
                bos_token_id=None,
                eos_token_id=None,
            )
        )

    def forward(self, vectors: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Mean NLL (nats) of characters 1 … of wanted int64 (N, S), given vectors (N, H)."""
        characters = self.base.transformer.wte(wanted)
        inputs = torch.cat([vectors[:, None], characters[:, 1:]], dim=1)
        real = wanted != PAD
        logits = self.base(inputs_embeds=inputs, attention_mask=real.int()).logits[:, :-1]
        labels = wanted.masked_fill(~real, -100)[:, 1:]
        return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


class TorchM3(nn.Module):
    """The music tower and the character decoder of masked pre-training, under the official names."""

    def __init__(self, config: Clamp2Config) -> None:
        super().__init__()
        self.encoder = MusicTower(config)
        self.decoder = CharDecoder(config)

    def forward(
        self, patches: torch.Tensor, mask: torch.Tensor, chosen: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """Mean NLL (nats) per character of the chosen patches, bos and pads left out.

        patches int64 (B, P, S), mask (B, P), chosen bool (B, P), targets int64 (B, P, S).
        """
        return self.decoder(self.encoder(patches, mask)[chosen], targets[chosen])


def masked_mean(vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of vectors (B, T, D) where mask (B, T) is 1."""
    return (vectors * mask[..., None]).sum(1) / mask.sum(1)[:, None]
