"""The peer's models, written out: GPT-2, GPT-NeoX, and Llama with Qwen2's biases. From the same config.json as raylite's."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class Shape:
    """What the three families call by different names."""

    def __init__(self, config):
        get = config.get
        self.kind = config["model_type"]
        self.d = get("n_embd") or config["hidden_size"]
        self.layers = get("n_layer") or config["num_hidden_layers"]
        self.heads = get("n_head") or config["num_attention_heads"]
        self.kv_heads = get("num_key_value_heads", self.heads)
        self.inner = get("intermediate_size", 4 * self.d)
        self.vocabulary = config["vocab_size"]
        self.positions = get("n_positions") or config["max_position_embeddings"]
        self.head_dim = self.d // self.heads
        self.rotary = 0 if self.kind == "gpt2" else int(self.head_dim * get("rotary_pct", 1.0))
        self.base = get("rope_theta") or get("rotary_emb_base", 10000)
        self.is_tied = get("tie_word_embeddings", self.kind == "gpt2")


class Lora(nn.Module):
    def __init__(self, inner, rank):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.a = nn.Linear(inner.in_features, rank, bias=False)
        self.b = nn.Linear(rank, inner.out_features, bias=False)

    def forward(self, x):
        return self.inner(x) + 2 * self.b(self.a(x))


class Block(nn.Module):
    def __init__(self, s, linear):
        super().__init__()
        self.s = s
        self.is_llama = s.kind in ("llama", "qwen2")
        bias = not self.is_llama
        norm = (lambda: nn.RMSNorm(s.d, eps=1e-6)) if self.is_llama else (lambda: nn.LayerNorm(s.d))
        self.norm1, self.norm2 = norm(), norm()
        self.qkv = linear(s.d, (s.heads + 2 * s.kv_heads) * s.head_dim, bias or s.kind == "qwen2")
        self.out = linear(s.d, s.d, bias)
        self.up, self.down = linear(s.d, s.inner, bias), linear(s.inner, s.d, bias)
        if self.is_llama:
            self.gate = linear(s.d, s.inner, False)

    def attend(self, x, rope, cache, at):
        s, (b, t, _) = self.s, x.shape
        q, k, v = self.qkv(x).view(b, t, -1, s.head_dim).transpose(1, 2).split([s.heads, s.kv_heads, s.kv_heads], 1)
        if rope is not None:
            q, k = rotate(q, rope, s.rotary), rotate(k, rope, s.rotary)
        if cache is None:
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=s.heads != s.kv_heads)
        else:
            cache[0].index_copy_(2, at, k)
            cache[1].index_copy_(2, at, v)
            seen = torch.arange(cache[0].shape[2], device=x.device) <= at
            o = F.scaled_dot_product_attention(q, cache[0], cache[1], attn_mask=seen[None, None, None], enable_gqa=s.heads != s.kv_heads)
        return self.out(o.transpose(1, 2).reshape(b, t, s.d))

    def feed(self, x):
        if self.is_llama:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(F.gelu(self.up(x), approximate="tanh" if self.s.kind == "gpt2" else "none"))

    def forward(self, x, rope, cache=None, at=None):
        if self.s.kind == "gpt_neox":
            return x + self.attend(self.norm1(x), rope, cache, at) + self.feed(self.norm2(x))
        x = x + self.attend(self.norm1(x), rope, cache, at)
        return x + self.feed(self.norm2(x))


def rotate(x, rope, width):
    cos, sin = rope
    turned, rest = x[..., :width], x[..., width:]
    half = width // 2
    other = torch.cat((-turned[..., half:], turned[..., :half]), -1)
    return torch.cat((turned * cos + other * sin, rest), -1).to(x.dtype)


class Model(nn.Module):
    def __init__(self, config, lora_rank=None):
        super().__init__()
        s = self.s = Shape(config)
        plain = lambda i, o, bias: nn.Linear(i, o, bias=bias)
        linear = plain if lora_rank is None else lambda i, o, bias: Lora(plain(i, o, bias), lora_rank)
        self.tokens = nn.Embedding(s.vocabulary, s.d)
        self.places = nn.Embedding(s.positions, s.d) if s.kind == "gpt2" else None
        self.blocks = nn.ModuleList(Block(s, linear) for _ in range(s.layers))
        self.norm = nn.LayerNorm(s.d) if s.kind in ("gpt2", "gpt_neox") else nn.RMSNorm(s.d, eps=1e-6)
        self.head = None if s.is_tied else nn.Linear(s.d, s.vocabulary, bias=False)
        if lora_rank is not None:
            for part in (self.tokens, self.norm, self.head, *(n for b in self.blocks for n in (b.norm1, b.norm2))):
                if part is not None:
                    part.requires_grad_(False)

    def multiplied(self):
        """Parameters that rows are multiplied by."""
        looked_up = [self.places.weight] if self.places is not None else []
        if self.head is not None:
            looked_up.append(self.tokens.weight)
        return sum(p.numel() for p in self.parameters()) - sum(p.numel() for p in looked_up)

    def rope(self, at):
        if self.s.rotary == 0:
            return None
        exponents = torch.arange(0, self.s.rotary, 2, device=at.device).float() / self.s.rotary
        angles = at.float()[:, None] / self.s.base**exponents
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()

    def hidden(self, ids, at, caches=None):
        x = self.tokens(ids)
        if self.places is not None:
            x = x + self.places(at)
        rope = self.rope(at)
        for index, block in enumerate(self.blocks):
            x = block(x, rope, None if caches is None else caches[index], at)
        return self.norm(x)

    def logits(self, x):
        return F.linear(x, self.tokens.weight if self.head is None else self.head.weight)

    def forward(self, ids, labels):
        x = self.hidden(ids, torch.arange(ids.shape[1], device=ids.device))
        logits = self.logits(x)
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), labels.view(-1), ignore_index=-100)

    def decode(self, ids, at, caches):
        """The likeliest next ids of one row each; `at`: the position of all of them."""
        return self.logits(self.hidden(ids, at, caches)).argmax(-1)
