"""The rival: the paper's networks in PyTorch, as its users write them.

After the descriptions of Dosovitskiy et al. 2021 and He et al. 2022, with the published names of the weights, so that a
state dict of `keras_ecg_mae.models.published_weights` loads as it is. Attention is PyTorch's own
`scaled_dot_product_attention`.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPSILON = 1e-6
PATCH, PATCHES = 250, 240


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Any) -> Any:
        batch, count, width = tokens.shape
        fused = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*fused.unbind(0))
        return self.proj(attended.transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.attn = Attention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Any) -> Any:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(tokens))))


class Encoder(nn.Module):
    """Positions and tokens are loaded, as all weights are: `(batch, 240, 250)` -> `(batch, 1 + kept, width)`."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Linear(PATCH, width)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos_embed", torch.zeros(1, 1 + PATCHES, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, EPSILON)

    def tokens(self, patches: Any, visible: Any = None) -> Any:
        tokens = self.patch_embed["proj"](patches) + self.pos_embed[:, 1:]
        if visible is not None:
            tokens = torch.gather(tokens, 1, visible[:, :, None].expand(-1, -1, tokens.shape[-1]))
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([first.to(tokens.dtype), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class Autoencoder(Encoder):
    """Call: ecg `(batch, 12, 5000)` mV, noise `(batch, 240)` -> the mean loss on the removed patches."""

    def __init__(self, encoder: tuple[int, int, int], decoder: tuple[int, int, int], mask_ratio: float = 0.75):
        super().__init__(*encoder)
        width, depth, heads = decoder
        self.kept = PATCHES - round(PATCHES * mask_ratio)
        self.decoder_embed = nn.Linear(encoder[0], width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_pos_embed", torch.zeros(1, 1 + PATCHES, width))
        self.decoder_blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.decoder_norm, self.decoder_pred = nn.LayerNorm(width, EPSILON), nn.Linear(width, PATCH)

    def forward(self, ecg: Any, noise: Any) -> Any:
        patches = normalized(ecg)
        order = noise.argsort(1)
        position = order.argsort(1)
        tokens = self.decoder_embed(self.norm(self.tokens(patches, order[:, : self.kept])))
        removed = self.mask_token.to(tokens.dtype).expand(len(tokens), PATCHES - self.kept, -1)
        restored = torch.cat([tokens[:, 1:], removed], 1)
        restored = torch.gather(restored, 1, position[:, :, None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat([tokens[:, :1], restored], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        error = (self.decoder_pred(self.decoder_norm(tokens)[:, 1:]).float() - patches).square().mean(-1)
        mask = (position >= self.kept).float()
        return ((error * mask).sum(1) / mask.sum(1)).mean()


class Classifier(Encoder):
    """Call: ecg `(batch, 12, 5000)` mV -> logits `(batch,)`; the mean of the patches' tokens is pooled."""

    def __init__(self, width: int, depth: int, heads: int):
        super().__init__(width, depth, heads)
        self.head = nn.Linear(width, 1)

    def forward(self, ecg: Any) -> Any:
        tokens = self.tokens(normalized(ecg).to(self.patch_embed["proj"].weight.dtype))
        pooled = self.norm(tokens[:, 1:].float().mean(1).to(self.norm.weight.dtype))
        return self.head(pooled)[:, 0].float()


def normalized(ecg: Any) -> Any:
    """Zero mean and unit deviation a lead, in patches: `(batch, 240, 250)`."""
    deviation, mean = torch.std_mean(ecg, 2, correction=0, keepdim=True)
    return ((ecg - mean) / deviation.clamp(min=1e-3)).reshape(-1, PATCHES, PATCH)


def load(model: Any, weights: dict[str, np.ndarray]) -> Any:
    """Weights by their published names, those that the model has; all of its own must be among them."""
    own = model.state_dict()
    values = {name: torch.from_numpy(np.ascontiguousarray(weights[name])) for name in own}
    model.load_state_dict({name: value.reshape(own[name].shape) for name, value in values.items()})
    return model


def weight_count(model: Any) -> int:
    return sum(math.prod(weight.shape) for weight in model.parameters())
