"""PyTorch's side of the figures on a GPU, one JSON object per line: the same shapes, bf16 compute, fp32 masters in AdamW, torch.compile and
flash attention. Usage: peer.py SHAPES. Needs torch with CUDA alone: the models are written out (peer_models.py)."""
import gc
import json
import sys
import time

import torch
import torch.nn.functional as F

from peer_models import Model

DEVICE = "cuda"
shapes = json.load(open(sys.argv[1]))


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


def draw(*dims, **more):
    return torch.randn(*dims, device=DEVICE, dtype=torch.bfloat16, **more)


def products():
    best = 0
    for n, i, o in shapes["products"]:
        x, w = draw(n, i), draw(o, i)
        seconds = seconds_of(lambda: F.linear(x, w))
        best = max(best, 2 * n * i * o / seconds)
        show(f"linear {n}x{i}x{o} bf16", seconds=seconds, teraflops=2 * n * i * o / seconds / 1e12)
    return best


def memory_bound():
    n = shapes["copied"]
    x, y = draw(n), draw(n)
    seconds = seconds_of(lambda: y.copy_(x))
    ceiling = n * 4 / seconds
    show("copy", seconds=seconds, terabytesPerSecond=ceiling / 1e12)
    n = shapes["stepped"]
    p = torch.nn.Parameter(torch.zeros(n, device=DEVICE))
    p.grad = torch.randn(n, device=DEVICE)
    optimizer = torch.optim.AdamW([p], lr=1e-4, fused=True)
    seconds = seconds_of(optimizer.step)
    show("adamw", seconds=seconds, terabytesPerSecond=n * 28 / seconds / 1e12, ofCopy=n * 28 / seconds / ceiling)
    for n, d in shapes["norms"]:
        x, w = draw(n, d), torch.ones(d, device=DEVICE, dtype=torch.bfloat16)
        norm = torch.compile(lambda x: F.rms_norm(x, (d,), w, 1e-6))
        seconds = seconds_of(lambda: norm(x))
        show(f"rms_norm {n}x{d} bf16", seconds=seconds, terabytesPerSecond=n * d * 4 / seconds / 1e12, ofCopy=n * d * 4 / seconds / ceiling)
    return ceiling


def attention():
    for batch, tokens, heads, c in shapes["attention"]:
        q, k, v = (draw(batch, heads, tokens, c, requires_grad=True) for _ in range(3))
        forward = seconds_of(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        do = torch.randn_like(o)
        backward = seconds_of(lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True))
        flops = 2 * 2 * batch * heads * tokens * tokens * c / 2
        show(f"attention {batch}x{tokens} of {heads}x{c} bf16", forwardSeconds=forward, forwardTeraflops=flops / forward / 1e12,
             backwardSeconds=backward, backwardTeraflops=2.5 * flops / backward / 1e12)


def train(shape, ceiling):
    """Reserved memory and the compiler's caches go before the next one comes."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    sequences, tokens, lora = shape["sequences"], shape["tokens"], shape.get("loraRank")
    with torch.device(DEVICE):
        model = Model(shape["config"], lora)
    if shape.get("isBare") or lora is not None:
        model = model.to(torch.bfloat16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    compiled = torch.compile(model)
    s = model.s
    at = torch.arange(sequences * tokens, device=DEVICE, dtype=torch.int64)
    ids = ((at * 7919 + at * at * 31 + 13) % s.vocabulary).view(sequences, tokens)
    labels = torch.full_like(ids, -100)
    labels[:, :-1] = ids[:, 1:]
    times = []
    for step in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = compiled(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if step > 4:
            times.append(time.perf_counter() - start)
    best = min(times)
    flops = sequences * tokens * ((6 if lora is None else 4) * model.multiplied() + 6 * s.layers * s.d * tokens) / best
    show(shape["name"], tokensPerSecond=sequences * tokens / best, mfu=flops / 989e12, ofCeiling=flops / ceiling, loss=loss.item(),
         gibibytes=torch.cuda.max_memory_allocated() / 2**30)


@torch.no_grad()
def decode(shape, ceiling, prompt=16):
    with torch.device(DEVICE):
        model = Model(shape["config"]).to(torch.bfloat16)
    s, steps = model.s, shape["steps"]
    weights = 2 * sum(p.numel() for p in model.parameters())
    for count in shape["sequences"]:
        room = prompt + steps
        caches = [(torch.zeros(count, s.kv_heads, room, s.head_dim, device=DEVICE, dtype=torch.bfloat16),
                   torch.zeros(count, s.kv_heads, room, s.head_dim, device=DEVICE, dtype=torch.bfloat16)) for _ in range(s.layers)]
        step = torch.compile(model.decode, mode="reduce-overhead")
        ids = torch.zeros(count, 1, device=DEVICE, dtype=torch.int64)
        at = torch.zeros(1, device=DEVICE, dtype=torch.int64)
        for k in range(prompt):
            ids = step(ids.clone(), at.fill_(k), caches)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for k in range(prompt, room):
            ids = step(ids.clone(), at.fill_(k), caches)
            ids.tolist()  # they are looked at, as by who generates
        seconds = (time.perf_counter() - start) / steps
        read = weights + count * 4 * s.layers * s.kv_heads * s.head_dim * (prompt + steps / 2)
        show(f"{shape['name']}, {count} at a time", tokensPerSecond=count / seconds, ofCopy=read / seconds / ceiling)


flops_ceiling = products()
bytes_ceiling = memory_bound()
attention()
decode(shapes["decoding"], bytes_ceiling)
for each in shapes["training"]:
    if not each.get("isOffloaded"):  # PyTorch alone has nothing for it
        train(each, flops_ceiling)
