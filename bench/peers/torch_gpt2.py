"""PyTorch + Transformers' side of `npm run bench -- engine`: one training step of a GPT-2-124M per command, eager, fp32.

Usage: torch_gpt2.py THREADS ROWS TOKENS FOLDER. Saves the randomly made model in FOLDER first, so that raylite can start from
the same weights. Each line "step" on standard input makes one step, answered by {"value": tokens per second, "loss": l, "norm": n}; every
step has the same token ids, of which the k-th is (k * 7919 + k * k * 31 + 13) mod 50257.
"""
import json
import os
import sys
import time

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

threads, rows, tokens, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(threads)
torch.manual_seed(0)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
model = GPT2LMHeadModel(config)
model.train()
os.makedirs(folder, exist_ok=True)
model.save_pretrained(folder)
decayed = [p for p in model.parameters() if p.dim() >= 2]
plain = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-8)
index = torch.arange(rows * tokens, dtype=torch.int64)
ids = ((index * 7919 + index * index * 31 + 13) % 50257).reshape(rows, tokens)


def step():
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"value": ids.numel() / (time.perf_counter() - start), "loss": loss.item(), "norm": norm.item()}


print(json.dumps({"ready": f"torch {torch.__version__} + transformers {transformers.__version__}"}), flush=True)
for _ in sys.stdin:
    print(json.dumps(step()), flush=True)
