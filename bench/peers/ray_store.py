"""Ray's side of `npm run bench -- store`, in a store of argv[1] MiB: one sample per command, as bench/store/ours.ts.

The large value is that of Ray's own ray_perf.py (single_client_put_gigabytes): 800 MiB of zeros.
"""
import json
import os
import sys
import time

os.environ.setdefault("RAY_DEDUP_LOGS", "0")
import numpy  # noqa: E402
import ray  # noqa: E402

MIB = 1024 * 1024
SPILLED_BYTES = 256 * MIB
SPILLED_COUNT = 8
GETS = 200
value = numpy.zeros(100 * MIB, dtype=numpy.int64)


def large_put():
    start = time.perf_counter()
    ref = ray.put(value)
    ray.get(ref)
    speed = value.nbytes / 1e9 / (time.perf_counter() - start)
    del ref
    return speed


def large_get():
    ref = ray.put(value)
    ray.get(ref)
    start = time.perf_counter()
    for _ in range(GETS):
        ray.get(ref)
    return (time.perf_counter() - start) / GETS * 1e6


def spill_restore():
    part = value[: SPILLED_BYTES // 8]
    start = time.perf_counter()
    refs = [ray.put(part) for _ in range(SPILLED_COUNT)]
    for ref in refs:
        ray.get(ref)
    return SPILLED_BYTES * SPILLED_COUNT / 1e9 / (time.perf_counter() - start)


def main():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        object_store_memory=int(sys.argv[1]) * MIB,
    )
    figures = {"large-put": large_put, "large-get": large_get, "spill-restore": spill_restore}
    print(json.dumps({"ready": f"ray {ray.__version__}"}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"value": figures[line.strip()]()}), flush=True)
    ray.shutdown()


main()
