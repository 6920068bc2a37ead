"""Ray's side of `npm run bench -- core`: the lines of `ray microbenchmark`, one sample per command.

Reads the name of a line per line on standard input and answers with one JSON line: {"value": per second, or what is measured}.
The work of each is that of Ray's own ray_perf.py; where that makes 10,000 tasks in each of four actors, here are 1,000.
"""
import json
import os
import sys
import time

os.environ.setdefault("RAY_DEDUP_LOGS", "0")
import numpy as np  # noqa: E402
import ray  # noqa: E402
from ray.util import placement_group, remove_placement_group  # noqa: E402

BATCH = 1000
LARGE_BYTES = 800 * 2**20
SAMPLE_SECONDS = 1.0


@ray.remote
def small_value():
    return b"ok"


@ray.remote(num_cpus=0)
class Actor:
    def small_value(self):
        return b"ok"

    def small_value_arg(self, x):
        return b"ok"

    def small_value_batch(self, n):
        ray.get([small_value.remote() for _ in range(n)])


@ray.remote(num_cpus=0)
class AsyncActor:
    async def small_value(self):
        return b"ok"

    async def small_value_with_arg(self, x):
        return b"ok"


@ray.remote(num_cpus=0)
class Client:
    def __init__(self, servers):
        self.servers = servers

    def small_value_batch(self, n):
        ray.get([s.small_value.remote() for s in self.servers for _ in range(n)])

    def small_value_batch_arg(self, n):
        x = ray.put(0)
        ray.get([s.small_value_arg.remote(x) for s in self.servers for _ in range(n)])


@ray.remote
def work(servers, n):
    ray.get([servers[i % len(servers)].small_value.remote() for i in range(n)])


@ray.remote
def puts_small(n):
    for _ in range(n):
        ray.put(0)


@ray.remote
def puts_large(n, size):
    for _ in range(n):
        ray.put(np.zeros(size // 8, dtype=np.int64))


@ray.remote
def many_refs(n):
    return [ray.put(1) for _ in range(n)]


def batch_of(call):
    ray.get([call(i) for i in range(BATCH)])


def wait_refs():
    rest = [small_value.remote() for _ in range(1000)]
    fetch_local = True
    while rest:
        _, rest = ray.wait(rest, fetch_local=fetch_local)
        fetch_local = False


def groups():
    made = [placement_group(bundles=[{"custom": 0.001}]) for _ in range(100)]
    for group in made:
        group.wait(timeout_seconds=30)
    for group in made:
        remove_placement_group(group)


def actors_created():
    actors = [Actor.remote() for _ in range(8)]
    ray.get([actor.small_value.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)


def one_actor():
    """Milliseconds."""
    start = time.perf_counter()
    actor = Actor.remote()
    ray.get(actor.small_value.remote())
    elapsed = time.perf_counter() - start
    ray.kill(actor)
    return 1000 * elapsed


def queued_tasks():
    """Seconds."""
    start = time.perf_counter()
    ray.get([small_value.remote() for _ in range(100_000)])
    return time.perf_counter() - start


def percentile(share):
    actor = Actor.remote()

    def measure():
        """Microseconds."""
        times = []
        for _ in range(2000):
            start = time.perf_counter()
            ray.get(actor.small_value.remote())
            times.append(time.perf_counter() - start)
        return 1e6 * sorted(times)[int(share * len(times))]

    return measure, None


def descendants(pid):
    """(pid, command) of all that a process started, and of what those started."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        stat = read(f"/proc/{name}/stat")
        if stat:
            parents[int(name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    found.discard(pid)
    return [(child, read(f"/proc/{child}/cmdline")) for child in found]


def memory_mib(processes):
    kib = 0
    for pid, _ in processes:
        lines = [line for line in read(f"/proc/{pid}/smaps_rollup").splitlines() if line.startswith("Pss:")]
        kib += sum(int(line.split()[1]) for line in lines)
    return kib / 1024


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def on(make, call, count):
    """A line on something that is made first."""

    def line():
        made = make()
        return (lambda: call(made)), count

    return line


def plain(call, count):
    return lambda: (call, count)


def client_of(server):
    return Client.remote([server])


LINES = {
    "single client get calls (Plasma Store)": on(lambda: ray.put(0), ray.get, 1),
    "single client put calls (Plasma Store)": plain(lambda: ray.put(0), 1),
    "multi client put calls (Plasma Store)": plain(lambda: ray.get([puts_small.remote(100) for _ in range(10)]), 1000),
    "single client put gigabytes": on(lambda: np.zeros(LARGE_BYTES // 8), ray.put, LARGE_BYTES / 1e9),
    "multi client put gigabytes": plain(
        lambda: ray.get([puts_large.remote(10, LARGE_BYTES // 10) for _ in range(10)]), 10 * LARGE_BYTES / 1e9
    ),
    "single client tasks and get batch": plain(lambda: batch_of(lambda _: small_value.remote()), 1),
    "single client get object containing 10k refs": on(lambda: many_refs.remote(10_000), ray.get, 1),
    "single client wait 1k refs": plain(wait_refs, 1),
    "single client tasks sync": plain(lambda: ray.get(small_value.remote()), 1),
    "single client tasks async": plain(lambda: batch_of(lambda _: small_value.remote()), BATCH),
    "multi client tasks async": on(
        lambda: [Actor.remote() for _ in range(4)],
        lambda actors: ray.get([a.small_value_batch.remote(BATCH) for a in actors]),
        4 * BATCH,
    ),
    "1:1 actor calls sync": on(Actor.remote, lambda a: ray.get(a.small_value.remote()), 1),
    "1:1 actor calls async": on(Actor.remote, lambda a: batch_of(lambda _: a.small_value.remote()), BATCH),
    "1:1 actor calls concurrent": on(
        lambda: Actor.options(max_concurrency=16).remote(),
        lambda a: batch_of(lambda _: a.small_value.remote()),
        BATCH,
    ),
    "1:n actor calls async": on(
        lambda: client_of(Actor.remote()), lambda c: ray.get(c.small_value_batch.remote(5000)), 5000
    ),
    "n:n actor calls async": on(
        lambda: [Actor.remote()], lambda a: ray.get([work.remote(a, 5000) for _ in range(4)]), 4 * 5000
    ),
    "n:n actor calls with arg async": on(
        lambda: client_of(Actor.remote()), lambda c: ray.get(c.small_value_batch_arg.remote(BATCH)), BATCH
    ),
    "1:1 async-actor calls sync": on(AsyncActor.remote, lambda a: ray.get(a.small_value.remote()), 1),
    "1:1 async-actor calls async": on(AsyncActor.remote, lambda a: batch_of(lambda _: a.small_value.remote()), BATCH),
    "1:1 async-actor calls with args async": on(
        AsyncActor.remote, lambda a: batch_of(a.small_value_with_arg.remote), BATCH
    ),
    "1:n async-actor calls async": on(
        lambda: client_of(AsyncActor.remote()), lambda c: ray.get(c.small_value_batch.remote(5000)), 5000
    ),
    "n:n async-actor calls async": on(
        lambda: [AsyncActor.remote()], lambda a: ray.get([work.remote(a, 5000) for _ in range(4)]), 4 * 5000
    ),
    "placement group create/removal": plain(groups, 100),
    "actors created, called and killed": plain(actors_created, 8),
    "one actor created and called": plain(one_actor, None),
    "1:1 actor call, median": lambda: percentile(0.5),
    "1:1 actor call, 99th percentile": lambda: percentile(0.99),
    "100k queued tasks": plain(queued_tasks, None),
    "memory of an idle cluster": plain(lambda: memory_mib(descendants(os.getpid())), None),
    "memory of the head": plain(
        lambda: memory_mib([p for p in descendants(os.getpid()) if "gcs_server" in p[1]]), None
    ),
}


def sample(call, count):
    """What the call says; with a count, operations per second of as many calls as fill SAMPLE_SECONDS."""
    if count is None:
        return call()
    done = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SAMPLE_SECONDS:
        call()
        done += count
    return done / elapsed


def main():
    start = time.perf_counter()
    ray.init(
        num_cpus=2,
        resources={"custom": 100},
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    init_seconds = time.perf_counter() - start
    print(json.dumps({"ready": f"ray {ray.__version__}", "init_seconds": init_seconds}), flush=True)
    lines = {}
    for name in map(str.strip, sys.stdin):
        if name not in lines:
            lines[name] = LINES[name]()
        print(json.dumps({"value": sample(*lines[name])}), flush=True)
    ray.shutdown()


main()
