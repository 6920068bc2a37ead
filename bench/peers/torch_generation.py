"""PyTorch + Transformers' side of generation in `npm run bench -- engine`: an eager model in fp32 with its own cache.

Usage: torch_generation.py THREADS FOLDER. FOLDER holds config.json; the randomly made weights are saved beside it, so that
raylite can start from them. A line "prefill N" reads one prompt of N tokens, "decode N" decodes 48 tokens behind each of N prompts
of 16; both are answered by {"value": tokens per second, "first": the first token of each sequence}. Token k of prompt s is
(k * 7919 + k * k * 31 + 13 + s) mod the vocabulary.
"""
import json
import os
import sys
import time

import torch
import transformers

threads, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(threads)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
STEPS = 48

with open(os.path.join(folder, "config.json")) as file:
    config = transformers.AutoConfig.for_model(**json.load(file))
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_config(config).eval()
model.save_pretrained(folder)


def prompts(count, length):
    k = torch.arange(length)
    return torch.stack([(k * 7919 + k * k * 31 + 13 + s) % config.vocab_size for s in range(count)])


def read(ids):
    out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    return out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)


@torch.inference_mode()
def prefill(length):
    start = time.perf_counter()
    _, first = read(prompts(1, length))
    return {"value": length / (time.perf_counter() - start), "first": first[:, 0].tolist()}


@torch.inference_mode()
def decode(count):
    cache, ids = read(prompts(count, 16))
    first = ids[:, 0].tolist()
    start = time.perf_counter()
    for _ in range(STEPS - 1):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, ids = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
    return {"value": count * (STEPS - 1) / (time.perf_counter() - start), "first": first}


print(json.dumps({"ready": f"torch {torch.__version__} + transformers {transformers.__version__}"}), flush=True)
for line in sys.stdin:
    command, count = line.split()
    print(json.dumps((prefill if command == "prefill" else decode)(int(count))), flush=True)
