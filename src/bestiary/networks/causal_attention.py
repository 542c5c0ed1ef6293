"""A transformer that looks backwards only: each position of a sequence from the ones before it.

Shapes: B batch, T positions, V symbols, D numbers a position, h heads of d = D/h numbers.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalTransformer(nn.Module):
    """Logits of every symbol of a sequence given those before it.

    Input: the sequences, int64, shape (B, length), and the condition, (B, d) or None. Output: logits, shape
    (B, length, V). A start symbol stands before the first one; symbol embeddings are the rows of the last
    matrix too, and position t adds sin and cos of t/10000^(2i/D).

    Source: *Attention Is All You Need* (Vaswani et al., 2017), arXiv 1706.03762, the decoder of figure 1
    without its attention to an encoder, and with layer norm before each part and at the end as in *Language
    Models are Unsupervised Multitask Learners* (Radford et al., 2019), section 2.3.

    Arguments:
        vocabulary: V.
        length: of the sequences.
        layers: of attention and feed-forward network.
        heads: h, which divides model_dim.
        model_dim: D.
        feedforward_dim: hidden units of the feed-forward networks.
        dropout: share of what each part adds, and of the embeddings, that is set to zero in training.
        condition_dim: d of the condition, whose embedding is added to every position; 0 for none.
    """

    positions: Tensor

    def __init__(
        self,
        vocabulary: int,
        length: int,
        *,
        layers: int,
        heads: int,
        model_dim: int,
        feedforward_dim: int,
        dropout: float = 0.0,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.symbols = nn.Embedding(vocabulary + 1, model_dim)  # the last one is the start
        self.register_buffer("positions", sinusoids(length, model_dim), persistent=False)
        self.condition = nn.Linear(condition_dim, model_dim, bias=False) if condition_dim else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(model_dim, heads, feedforward_dim, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(model_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.symbols.weight, std=model_dim**-0.5)

    @property
    def start(self) -> int:
        """The number of the start symbol, V."""
        return self.symbols.num_embeddings - 1

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        before = F.pad(x[:, :-1], (1, 0), value=self.start)
        return self.decode(self.embed(before, condition=condition))

    def embed(self, symbols: Tensor, first: int = 0, condition: Tensor | None = None) -> Tensor:
        """What goes into the first layer, (B, T, D), from symbols (B, T) at positions first … first+T−1."""
        scaled = self.symbols(symbols) * math.sqrt(self.symbols.embedding_dim)
        embedded: Tensor = scaled + self.positions[first : first + symbols.shape[1]]
        if self.condition is not None and condition is not None:
            embedded = embedded + self.condition(condition)[:, None]
        return embedded

    def decode(self, embedded: Tensor, memories: "Sequence[Memory] | None" = None) -> Tensor:
        """Logits (B, T, V) from embeddings (B, T, D); with memories T is 1; they hold the earlier ones."""
        maps = self.dropout(embedded)
        for i, layer in enumerate(self.layers):
            maps = layer(maps, None if memories is None else memories[i])
        return F.linear(self.norm(maps), self.symbols.weight[: self.start])


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), and then the same with a network of one hidden layer; (B, T, D) to the same."""

    def __init__(self, model_dim: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(model_dim)
        self.attention = CausalAttention(model_dim, heads)
        self.feedforward_norm = nn.LayerNorm(model_dim)
        self.feedforward = nn.Sequential(
            nn.Linear(model_dim, feedforward_dim), nn.ReLU(), nn.Linear(feedforward_dim, model_dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: "Memory | None" = None) -> Tensor:
        """See the class."""
        x = x + self.dropout(self.attention(self.attention_norm(x), memory))
        fed: Tensor = self.dropout(self.feedforward(self.feedforward_norm(x)))
        return x + fed


class CausalAttention(nn.Module):
    """softmax(Q·Kᵀ/√d)·V in h heads, where a position attends to itself and to those before it.

    Input and output (B, T, D). Source: arXiv 1706.03762, section 3.2.
    """

    def __init__(self, model_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(model_dim, 3 * model_dim, bias=False)  # W^Q, W^K and W^V of all heads
        self.outward = nn.Linear(model_dim, model_dim, bias=False)  # W^O

    def forward(self, x: Tensor, memory: "Memory | None" = None) -> Tensor:
        """See the class; with a memory x is the next position alone, and is added to it."""
        split: Tensor = self.inward(x).unflatten(2, (3, self.heads, -1))  # (B, T, 3, h, d)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, h, T, d)
        if memory is None:
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            attended = F.scaled_dot_product_attention(query, *memory.extended(key, value))
        mixed: Tensor = self.outward(attended.transpose(1, 2).flatten(2))
        return mixed


class Memory:
    """Keys and values of one layer for the positions that are drawn, so that each is computed once.

    Arguments:
        empty: zeros of shape (2, B, h, T, d), room for all positions.
    """

    def __init__(self, empty: Tensor) -> None:
        self._kept, self._filled = empty, 0

    def extended(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, h, t, d) of all positions so far, after adding the next one's (B, h, 1, d)."""
        self._kept[0, :, :, self._filled] = key[:, :, 0]
        self._kept[1, :, :, self._filled] = value[:, :, 0]
        self._filled += 1
        return self._kept[0, :, :, : self._filled], self._kept[1, :, :, : self._filled]

    def select(self, indices: Tensor) -> None:
        """Sequence b becomes what sequence indices[b] was."""
        filled = self._kept[:, :, :, : self._filled]
        filled.copy_(filled[:, indices])


class TransformerCache:
    """What a `CausalTransformer` computes for sequences that are being drawn, each key and value once.

    It has the methods of `bestiary.models.autoregressive.drawing.Cache`, to which a sequence is an image of
    one row and one channel, and symbol k the value k/(V−1). Without gradients, and in evaluation mode.

    Arguments:
        network: the transformer.
        batch: B, sequences drawn together.
        condition: (B, d) or None.
    """

    def __init__(self, network: CausalTransformer, batch: int, condition: Tensor | None = None) -> None:
        self._network, self._condition = network, condition
        length, model_dim = network.positions.shape
        room = (2, batch, network.heads, length, model_dim // network.heads)
        self._memories = [Memory(network.symbols.weight.new_zeros(room)) for _ in network.layers]
        self._last = network.symbols.weight.new_full((batch, 1), network.start, dtype=torch.int64)

    def logits(self, row: int, column: int, channel: int) -> Tensor:
        """Logits (B, V) of the symbol at position `column`, given those before it."""
        embedded = self._network.embed(self._last, column, self._condition)
        return self._network.decode(embedded, self._memories)[:, 0]

    def put(self, row: int, column: int, channel: int, values: Tensor) -> None:
        """Set that symbol k to values = k/(V−1), shape (B,)."""
        self._last = (values * (self._network.start - 1)).round().long()[:, None]

    def select(self, indices: Tensor) -> None:
        """Go on with other sequences: sequence b becomes what sequence indices[b] was, int64 (B,)."""
        self._last = self._last[indices]
        for memory in self._memories:
            memory.select(indices)


def sinusoids(length: int, model_dim: int) -> Tensor:
    """PE(t, 2i) = sin(t/10000^(2i/D)), PE(t, 2i+1) = cos of the same, shape (length, D).

    Source: arXiv 1706.03762, section 3.5.
    """
    even = torch.arange(0, model_dim, 2)
    angles = torch.arange(length)[:, None] / 10000 ** (even / model_dim)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :model_dim]
