"""PyTorch's side of the figures on a GPU, one JSON object per line: the same shapes, bf16 compute, fp32 masters in AdamW, torch.compile and
flash attention. Needs torch with CUDA alone: the model is written out below."""
import json
import time

import torch
import torch.nn.functional as F

DEVICE = "cuda"


def show(figure, **fields):
    print(json.dumps({"side": "PyTorch " + torch.__version__, "figure": figure, **fields}), flush=True)


def seconds_of(work, repeats=10):
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return sorted(times)[len(times) // 2]


for n, i, o in [(8192, 8192, 8192), (8192, 1600, 6400), (8192, 768, 3072)]:
    x = torch.randn(n, i, device=DEVICE, dtype=torch.bfloat16)
    w = torch.randn(o, i, device=DEVICE, dtype=torch.bfloat16)
    seconds = seconds_of(lambda: F.linear(x, w))
    show(f"linear {n}x{i}x{o} bf16", seconds=seconds, teraflops=2 * n * i * o / seconds / 1e12)

for d in (4096, 1600):
    n = 16384
    x = torch.randn(n, d, device=DEVICE, dtype=torch.bfloat16)
    w = torch.ones(d, device=DEVICE, dtype=torch.bfloat16)
    norm = torch.compile(lambda x: F.rms_norm(x, (d,), w, 1e-6))
    seconds = seconds_of(lambda: norm(x))
    show(f"rms_norm {n}x{d} bf16", seconds=seconds, terabytesPerSecond=n * d * 4 / seconds / 1e12)

for batch, tokens, heads, c in [(4, 2048, 16, 128), (8, 1024, 12, 64)]:
    q, k, v = (torch.randn(batch, heads, tokens, c, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    forward = seconds_of(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    do = torch.randn_like(o)
    backward = seconds_of(lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True))
    flops = 2 * 2 * batch * heads * tokens * tokens * c / 2
    show(f"attention {batch}x{tokens} of {heads}x{c} bf16", forwardSeconds=forward, forwardTeraflops=flops / forward / 1e12,
         backwardSeconds=backward, backwardTeraflops=2.5 * flops / backward / 1e12)


class Block(torch.nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(d), torch.nn.LayerNorm(d)
        self.qkv, self.out = torch.nn.Linear(d, 3 * d), torch.nn.Linear(d, d)
        self.up, self.down = torch.nn.Linear(d, 4 * d), torch.nn.Linear(4 * d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(d, 2))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(o)
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2(torch.nn.Module):
    def __init__(self, layers, heads, d, positions=1024, vocabulary=50257):
        super().__init__()
        self.tokens, self.positions = torch.nn.Embedding(vocabulary, d), torch.nn.Embedding(positions, d)
        self.blocks = torch.nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(d)

    def forward(self, ids, labels):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.float().view(-1, logits.shape[-1]), labels.view(-1), ignore_index=-100)


for name, layers, heads, d, sequences in [("GPT-2 124M", 12, 12, 768, 16), ("GPT-2 1.5B", 48, 25, 1600, 8)]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = Gpt2(layers, heads, d).to(DEVICE)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    compiled = torch.compile(model)
    at = torch.arange(sequences * 1024, device=DEVICE, dtype=torch.int64)
    ids = ((at * 7919 + at * at * 31 + 13) % 50257).view(sequences, 1024)
    labels = torch.full_like(ids, -100)
    labels[:, :-1] = ids[:, 1:]
    times = []
    for step in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = compiled(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if step > 4:
            times.append(time.perf_counter() - start)
    best = min(times)
    count = sum(p.numel() for p in model.parameters())
    flops = sequences * 1024 * (6 * count + 6 * layers * d * 1024)
    show(name, tokensPerSecond=sequences * 1024 / best, mfu=flops / best / 989e12, loss=loss.item(),
         gibibytes=torch.cuda.max_memory_allocated() / 2**30)
    del model, compiled, optimizer
