"""Ray's side of `npm run bench -- core`: the lines of `ray microbenchmark`, one sample per command.

Reads the name of a figure per line on standard input and answers with one JSON line: {"value": per second}.
The work of each figure is that of Ray's own ray_perf.py: a function or method that returns b"ok".
"""
import json
import os
import sys
import time

os.environ.setdefault("RAY_DEDUP_LOGS", "0")
import ray  # noqa: E402

BATCH = 1000
SAMPLE_SECONDS = 1.0


@ray.remote
def small_value():
    return b"ok"


@ray.remote(num_cpus=0)
class Actor:
    def small_value(self):
        return b"ok"


def per_second(call, calls_each):
    """Calls for at least SAMPLE_SECONDS and returns calls per second."""
    count = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SAMPLE_SECONDS:
        call()
        count += calls_each
    return count / elapsed


def main():
    start = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    init_seconds = time.perf_counter() - start
    actor = Actor.remote()
    ray.get(actor.small_value.remote())
    stored = ray.put(0)
    figures = {
        "actor-sync": (lambda: ray.get(actor.small_value.remote()), 1),
        "actor-async": (lambda: ray.get([actor.small_value.remote() for _ in range(BATCH)]), BATCH),
        "task-sync": (lambda: ray.get(small_value.remote()), 1),
        "task-async": (lambda: ray.get([small_value.remote() for _ in range(BATCH)]), BATCH),
        "put-small": (lambda: ray.put(0), 1),
        "get-small": (lambda: ray.get(stored), 1),
    }
    print(json.dumps({"ready": f"ray {ray.__version__}", "init_seconds": init_seconds}), flush=True)
    for line in sys.stdin:
        call, calls_each = figures[line.strip()]
        print(json.dumps({"value": per_second(call, calls_each)}), flush=True)
    ray.shutdown()


main()
