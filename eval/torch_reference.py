"""NotaGen in PyTorch, on Hugging Face GPT-2 modules: what this package is compared with.

A compact restatement of the published model for the parity tests and the speed comparison. Its
state dict has the official names, and it samples the official way: one piece at a time, without a
cache, every patch a full pass of the patch-level decoder and every character one of the
character-level decoder, the probabilities filtered on the host.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from notagen_jax.config import PATCH_SIZE, VOCABULARY, ModelConfig
from notagen_jax.patches import BOS, EOS, PAD


def _gpt2(config: ModelConfig, layers: int, positions: int, vocabulary: int, attention: str) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=config.hidden_size,
        n_layer=layers,
        n_head=config.heads,
        resid_pdrop=config.dropout,
        embd_pdrop=config.dropout,
        attn_pdrop=config.attention_dropout,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
        attn_implementation=attention,  # type: ignore[call-arg]
    )


class PatchLevelDecoder(nn.Module):
    """Patches (B, P, 16) → vectors (B, P, H)."""

    def __init__(self, config: ModelConfig, attention: str) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(PATCH_SIZE * VOCABULARY, config.hidden_size)
        nn.init.normal_(self.patch_embedding.weight, std=0.02)
        self.base = GPT2Model(_gpt2(config, config.patch_layers, config.patch_length, 1, attention))

    def forward(self, patches: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """patches int64 (B, P, 16), real int (B, P), 0 at padding patches → (B, P, H)."""
        one_hot = functional.one_hot(patches, VOCABULARY).flatten(-2).to(self.patch_embedding.weight.dtype)
        embedded = self.patch_embedding(one_hot)
        return self.base(inputs_embeds=embedded, attention_mask=real).last_hidden_state


class CharLevelDecoder(nn.Module):
    """Patch vectors (N, H) and characters so far (N, n) → logits (N, 1 + n, 128)."""

    def __init__(self, config: ModelConfig, attention: str) -> None:
        super().__init__()
        self.base = GPT2LMHeadModel(_gpt2(config, config.char_layers, PATCH_SIZE + 1, VOCABULARY, attention))

    def forward(
        self, vectors: torch.Tensor, characters: torch.Tensor, real: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The patch vector stands where the bos embedding would; `real` (N, 1 + n) is 0 at pads."""
        embedded = self.base.transformer.wte(characters)
        inputs = torch.cat([vectors[:, None].to(embedded.dtype), embedded], dim=1)
        return self.base(inputs_embeds=inputs, attention_mask=real).logits


class TorchNotaGen(nn.Module):
    """The whole model; `attention` is the Hugging Face name of the implementation."""

    def __init__(self, config: ModelConfig, attention: str = "eager") -> None:
        super().__init__()
        self.config = config
        self.patch_level_decoder = PatchLevelDecoder(config, attention)
        self.char_level_decoder = CharLevelDecoder(config, attention)

    def logits(self, patches: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (B, P-1, 16, 128) of patches 1 … P-1 of patches int64 (B, P, 16).

        real: int (B, P), 1 at patches and 0 at the padding after them, or None.
        """
        vectors = self.patch_level_decoder(patches, real)[:, :-1]
        targets = patches[:, 1:]
        rows = targets.flatten(0, 1)
        # The official code also hides the pads at the end of a patch from attention.
        visible = torch.cat([torch.ones_like(rows[:, :1]), (rows != PAD).to(rows.dtype)], dim=1)
        logits = self.char_level_decoder(vectors.flatten(0, 1), rows, visible)[:, :-1]
        return logits.unflatten(0, targets.shape[:2])

    def log_probs(self, patches: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Log-probability (nats) of each target character (B, P-1, 16), zero at pads and padding."""
        targets = patches[:, 1:]
        chosen = self.logits(patches, real).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        return torch.where(self.targets(patches, real), chosen, torch.zeros_like(chosen))

    @staticmethod
    def targets(patches: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Which characters are targets: bool (B, P-1, 16)."""
        wanted = patches[:, 1:] != PAD
        return wanted if real is None else wanted & (real[:, 1:, None] > 0)

    def forward(self, patches: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Mean negative log-likelihood (nats) per target character over the whole batch."""
        return -self.log_probs(patches, real).sum() / self.targets(patches, real).sum()

    def log_probability(self, patches: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Log-probability (nats) of each row's whole sequence, (B,)."""
        return self.log_probs(patches, real).sum(dim=(1, 2))

    @torch.no_grad()
    def next_char_probs(self, patches: torch.Tensor, characters: torch.Tensor) -> torch.Tensor:
        """Distribution (128,) of the next character after patches (P, 16) and characters (n,), n < 16."""
        vector = self.patch_level_decoder(patches[None])[:, -1]
        return self._next(vector, characters)

    @torch.no_grad()
    def sample_patch(
        self,
        patches: torch.Tensor,
        rng: np.random.Generator,
        top_k: int = 9,
        top_p: float = 0.9,
        temperature: float = 1.2,
    ) -> list[int]:
        """Draw the 16 characters that follow patches (P, 16); all after the first eos become pad."""
        vector = self.patch_level_decoder(patches[None])[:, -1]
        drawn: list[int] = []
        while len(drawn) < PATCH_SIZE:
            characters = torch.tensor(drawn, dtype=torch.int64, device=patches.device)
            probs = self._next(vector, characters).float().cpu().numpy()
            drawn.append(int(rng.choice(VOCABULARY, p=filter_probs(probs, top_k, top_p, temperature))))
        end = drawn.index(EOS) + 1 if EOS in drawn else PATCH_SIZE
        return drawn[:end] + [PAD] * (PATCH_SIZE - end)

    def sample(
        self, prompt: torch.Tensor, patches: int, rng: np.random.Generator, **filters: float
    ) -> torch.Tensor:
        """Go on from prompt int64 (n, 16) by at most `patches` patches, inside one window.

        Ends at a patch that begins bos, eos. `filters` as in `sample_patch`. Returns int64 (m, 16),
        the prompt first.
        """
        piece = prompt
        for _ in range(min(patches, self.config.patch_length - len(prompt))):
            drawn = self.sample_patch(piece, rng, **filters)  # type: ignore[arg-type]
            piece = torch.cat([piece, torch.tensor([drawn], device=piece.device)])
            if drawn[:2] == [BOS, EOS]:
                break
        return piece

    def _next(self, vector: torch.Tensor, characters: torch.Tensor) -> torch.Tensor:
        return self.char_level_decoder(vector, characters[None])[0, -1].softmax(-1)


def filter_probs(probs: np.ndarray, top_k: int, top_p: float, temperature: float) -> np.ndarray:
    """Top-k, then top-p, then temperature, each renormalised: float64 (128,) from probs (128,).

    Temperature comes last, on what is left (the official order).
    """
    kept = np.asarray(probs, np.float64)
    order = np.argsort(-kept, kind="stable")
    kept = kept[order]
    kept[top_k:] = 0
    kept /= kept.sum()
    # The smallest set whose mass reaches p: what stands before it has not reached p yet.
    kept[np.cumsum(kept) - kept >= top_p] = 0
    kept /= kept.sum()
    kept = kept ** (1 / temperature)
    kept /= kept.sum()
    filtered = np.empty_like(kept)
    filtered[order] = kept
    return filtered
