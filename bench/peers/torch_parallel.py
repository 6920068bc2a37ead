"""The peers' side of the training steps of `npm run bench -- parallel`: DDP, FSDP2 or DeepSpeed over gloo, one process per rank.

Usage: torch_parallel.py RANKS THREADS ROWS TOKENS PRECISION KIND STAGE FOLDER. KIND is ddp, fsdp2 or deepspeed (which works at ZeRO
stage STAGE). FOLDER holds config.json; the randomly made weights are saved beside it. PRECISION is fp32, or bf16 for autocast (DDP) or
bf16 parameters in use over fp32 ones (FSDP2, DeepSpeed). Each line "step" makes one step, answered by {"value": seconds of the slowest
rank, "loss": mean over ranks}.
"""
import contextlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import transformers
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel


def adamw(model):
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-8)


def torch_step(model, kind, precision):
    """A function from token ids to the loss of the step that it makes."""
    if kind == "ddp":
        model = DistributedDataParallel(model)
    else:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if precision == "bf16" else MixedPrecisionPolicy()
        for block in model.transformer.h:
            fully_shard(block, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
    optimizer = adamw(model)
    use_autocast = precision == "bf16" and kind == "ddp"
    autocast = (lambda: torch.autocast("cpu", torch.bfloat16)) if use_autocast else contextlib.nullcontext

    def step(ids):
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def deepspeed_step(model, precision, stage, rows):
    """As torch_step, by DeepSpeed's engine; its optimiser is PyTorch's, as its own is for an accelerator or the offload."""
    import deepspeed

    config = {
        "train_micro_batch_size_per_gpu": rows,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": precision == "bf16"},
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=adamw(model), config=config)

    def step(ids):
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss)
        engine.step()
        return loss

    return step


def serve(rank, ranks, threads, rows, tokens, precision, kind, stage, folder, store, lines, answers):
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    if kind == "deepspeed":
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_SIZE": ranks, "CROSS_RANK": 0, "CROSS_SIZE": 1}
        os.environ.update({name: str(value) for name, value in places.items()}, DS_ACCELERATOR="cpu")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    if kind == "fsdp2":
        dist.device_mesh.init_device_mesh("cpu", (ranks,))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, use_cache=False)
    model.train()
    step = deepspeed_step(model, precision, stage, rows) if kind == "deepspeed" else torch_step(model, kind, precision)
    index = torch.arange(rank * rows * tokens, (rank + 1) * rows * tokens, dtype=torch.int64)
    ids = ((index * 7919 + index * index * 31 + 13) % model.config.vocab_size).reshape(rows, tokens)
    answers.put(None)
    while lines[rank].get() is not None:
        start = time.perf_counter()
        loss = step(ids)
        answers.put((time.perf_counter() - start, loss.item()))


if __name__ == "__main__":
    ranks, threads, rows, tokens = (int(argument) for argument in sys.argv[1:5])
    precision, kind, stage, folder = sys.argv[5:9]
    with open(os.path.join(folder, "config.json")) as file:
        config = transformers.AutoConfig.for_model(**json.load(file))
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        lines = [context.Queue() for _ in range(ranks)]
        answers = context.Queue()
        store = os.path.join(scratch, "store")
        arguments = (ranks, threads, rows, tokens, precision, kind, int(stage), folder, store, lines, answers)
        processes = [context.Process(target=serve, args=(rank, *arguments)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for _ in processes:
            answers.get()
        version = f" {importlib.metadata.version('deepspeed')}" if kind == "deepspeed" else ""
        name = f"torch {torch.__version__} {kind}{version} over gloo + transformers {transformers.__version__}"
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
    # DeepSpeed leaves the memory that its ranks share, by the names that its shared-memory op makes of these variables.
    address, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    for rank in range(ranks if kind == "deepspeed" else 0):
        Path("/dev/shm", f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{rank}").unlink(missing_ok=True)
