"""PyTorch's side of the training steps of `npm run bench -- parallel`: DDP or FSDP2 over gloo, one process per rank.

Usage: torch_parallel.py RANKS THREADS ROWS TOKENS PRECISION KIND FOLDER. KIND is ddp or fsdp2. FOLDER holds config.json; the randomly
made weights are saved beside it. PRECISION is fp32, or bf16 for autocast (DDP) or bf16 parameters in use (FSDP2) over fp32 ones. Each
line "step" makes one step, answered by {"value": seconds of the slowest rank, "loss": mean over ranks}.
"""
import contextlib
import json
import os
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import transformers
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel


def wrap(model, kind, precision):
    if kind == "ddp":
        return DistributedDataParallel(model)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if precision == "bf16" else MixedPrecisionPolicy()
    for block in model.transformer.h:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    return model


def serve(rank, ranks, threads, rows, tokens, precision, kind, folder, store, lines, answers):
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    if kind == "fsdp2":
        dist.device_mesh.init_device_mesh("cpu", (ranks,))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, use_cache=False)
    model.train()
    model = wrap(model, kind, precision)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-8)
    index = torch.arange(rank * rows * tokens, (rank + 1) * rows * tokens, dtype=torch.int64)
    ids = ((index * 7919 + index * index * 31 + 13) % 25088).reshape(rows, tokens)
    use_autocast = precision == "bf16" and kind == "ddp"
    autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if use_autocast else contextlib.nullcontext
    answers.put(None)
    while lines[rank].get() is not None:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        answers.put((time.perf_counter() - start, loss.item()))


if __name__ == "__main__":
    ranks, threads, rows, tokens = (int(argument) for argument in sys.argv[1:5])
    precision, kind, folder = sys.argv[5:8]
    with open(os.path.join(folder, "config.json")) as file:
        config = transformers.AutoConfig.for_model(**json.load(file))
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        lines = [context.Queue() for _ in range(ranks)]
        answers = context.Queue()
        arguments = (ranks, threads, rows, tokens, precision, kind, folder, os.path.join(scratch, "store"), lines, answers)
        processes = [context.Process(target=serve, args=(rank, *arguments)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for _ in processes:
            answers.get()
        name = f"torch {torch.__version__} {kind} over gloo + transformers {transformers.__version__}"
        print(json.dumps({"ready": name}), flush=True)
        for _ in sys.stdin:
            for queue in lines:
                queue.put("step")
            results = [answers.get() for _ in processes]
            loss = sum(loss for _, loss in results) / ranks
            print(json.dumps({"value": max(seconds for seconds, _ in results), "loss": loss}), flush=True)
        for queue in lines:
            queue.put(None)
        for process in processes:
            process.join()
