"""torch.distributed's side of the collectives of `npm run bench -- parallel`: gloo, one process per rank.

Usage: gloo_collectives.py RANKS. Each line `OP BYTES REPEATS` is answered by {"value": seconds of one, "first": sum over ranks of
the first element after one collective of rank + 1 everywhere}.
"""
import json
import os
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def serve(rank, ranks, store, lines, answers):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    answers.put(None)
    while (line := lines[rank].get()) is not None:
        op, count, repeats = line.split()
        data = torch.full((int(count) // 4,), float(rank + 1))
        part = torch.empty(data.numel() // ranks)

        def once():
            if op == "all_reduce":
                dist.all_reduce(data)
            else:
                dist.reduce_scatter_tensor(part, data)

        once()
        first = (data if op == "all_reduce" else part)[0].item()
        data.zero_()
        dist.barrier()
        start = time.perf_counter()
        for _ in range(int(repeats)):
            once()
        answers.put(((time.perf_counter() - start) / int(repeats), first))


if __name__ == "__main__":
    ranks = int(sys.argv[1])
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        lines = [context.Queue() for _ in range(ranks)]
        answers = context.Queue()
        arguments = (ranks, os.path.join(folder, "store"), lines, answers)
        processes = [context.Process(target=serve, args=(rank, *arguments)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for _ in processes:
            answers.get()
        print(json.dumps({"ready": f"torch {torch.__version__} gloo"}), flush=True)
        for line in sys.stdin:
            for queue in lines:
                queue.put(line)
            results = [answers.get() for _ in processes]
            value = max(seconds for seconds, _ in results)
            print(json.dumps({"value": value, "first": sum(first for _, first in results)}), flush=True)
        for queue in lines:
            queue.put(None)
        for process in processes:
            process.join()
