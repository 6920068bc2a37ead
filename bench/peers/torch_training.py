"""PyTorch + Transformers' side of a training step of `npm run bench -- engine`, by whichever of eager and torch.compile is faster here.

Usage: torch_training.py THREADS ROWS TOKENS PRECISION FOLDER. FOLDER holds config.json; the randomly made weights are saved
beside it, so that raylite can start from them. PRECISION is fp32, or bf16 for autocast over fp32 parameters. Each line "step"
on standard input makes one step, answered by {"value": tokens per second, "loss": l, "norm": n}; every step has the same
token ids, of which the k-th is (k * 7919 + k * k * 31 + 13) mod the vocabulary.
"""
import contextlib
import json
import os
import sys
import time

import torch
import transformers
from safetensors.torch import load_file

threads, rows, tokens = (int(argument) for argument in sys.argv[1:4])
precision, folder = sys.argv[4:6]
torch.set_num_threads(threads)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

with open(os.path.join(folder, "config.json")) as file:
    fields = json.load(file)
config = transformers.AutoConfig.for_model(**fields, use_cache=False)
family = transformers.AutoModelForMaskedLM if config.model_type == "bert" else transformers.AutoModelForCausalLM
torch.manual_seed(0)
model = family.from_config(config)
model.train()
model.save_pretrained(folder)
weights = os.path.join(folder, "model.safetensors")

index = torch.arange(rows * tokens, dtype=torch.int64)
ids = ((index * 7919 + index * index * 31 + 13) % config.vocab_size).reshape(rows, tokens)
if config.model_type == "bert":
    masked = torch.arange(tokens).expand(rows, tokens) % 7 == 3
    labels = torch.where(masked, ids, -100)
else:
    labels = ids
autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if precision == "bf16" else contextlib.nullcontext


def fresh_optimizer():
    model.load_state_dict(load_file(weights), strict=False)  # a tied matrix is stored once
    model.zero_grad(set_to_none=True)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-8)


def step(run, optimizer):
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    with autocast():
        loss = run(input_ids=ids, labels=labels).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"value": ids.numel() / (time.perf_counter() - start), "loss": loss.item(), "norm": norm.item()}


def speed(run):
    optimizer = fresh_optimizer()
    return max(step(run, optimizer)["value"] for _ in range(3))


modes = {"eager": model}
speeds = {"eager": speed(model)}
try:
    modes["compile"] = torch.compile(model)
    speeds["compile"] = speed(modes["compile"])
except Exception as error:  # the compiler needs a C++ tool chain of its own liking
    print(f"torch.compile: {type(error).__name__}: {error}", file=sys.stderr)
best = max(speeds, key=speeds.get)
shown = ", ".join(f"{name} {value:.0f}" for name, value in speeds.items())
optimizer = fresh_optimizer()
name = f"torch {torch.__version__} {best} (of {shown}) + transformers {transformers.__version__}"
print(json.dumps({"ready": name}), flush=True)
for _ in sys.stdin:
    print(json.dumps(step(modes[best], optimizer)), flush=True)
