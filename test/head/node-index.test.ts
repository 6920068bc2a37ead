// The index of nodes chooses what a look at all nodes would choose, whatever happened to them before.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addResources, fits, type NodeId, type Resources, subtractResources } from '#src/common/index.js';
import {
  chooseGpus,
  type Demand,
  demandFor,
  type GpuRoom,
  holdGpus,
  NodeIndex,
  type NodeRoom,
  newGpuRoom,
  releaseGpus,
  withBroken,
} from '#src/head/index.js';
import { Random } from './simulation/random.js';
import { scan } from './simulation/scan.js';

interface Node extends NodeRoom {
  status: 'connected' | 'away' | 'dead';
  used: Resources;
  gpus: GpuRoom;
}

const ZONES = ['east', 'west', 'north'];

/** A cluster that changes at random, known to the index and as a plain list. */
class Changing {
  readonly random: Random;
  readonly index = new NodeIndex();
  readonly nodes: Node[] = [];
  readonly held: {
    readonly node: Node;
    readonly needs: Resources;
    readonly gpus: readonly number[];
    readonly kind: string;
  }[] = [];
  #joined = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  alikeCount(kind: string, nodeId: NodeId): number {
    return this.held.filter((work) => work.kind === kind && work.node.nodeId === nodeId).length;
  }

  join(): void {
    const { random } = this;
    const total: Record<string, number> = { CPU: random.pick([1, 4, 16]), memory: 1e9 * random.pick([1, 8]) };
    if (random.chance(0.3)) total.GPU = random.pick([1, 2, 8]);
    if (random.chance(0.2)) total.special = 1;
    const labels: Record<string, string> = random.chance(0.8) ? { zone: random.pick(ZONES) } : {};
    const nodeId = `n${++this.#joined}` as NodeId;
    const gpus = newGpuRoom(total);
    const node: Node = { nodeId, hostname: nodeId, status: 'connected', total, used: {}, gpus, labels };
    this.nodes.push(node);
    this.index.set(node);
  }

  change(): void {
    const { random } = this;
    if (this.nodes.length < 3 || random.chance(0.05)) this.join();
    const node = random.pick(this.nodes);
    if (random.chance(0.03)) {
      this.nodes.splice(this.nodes.indexOf(node), 1);
      for (const work of this.held.filter((other) => other.node === node)) this.#end(work);
      this.index.delete(node.nodeId);
    } else if (random.chance(0.1)) {
      node.status = node.status === 'connected' ? 'away' : 'connected';
      this.index.touch(node.nodeId);
    } else if (random.chance(0.05)) {
      node.gpus = withBroken(node.gpus, new Set(random.chance(0.7) ? [] : [0]));
      this.index.touch(node.nodeId);
    }
    if (this.held.length > 0 && random.chance(0.45)) this.#end(random.pick(this.held));
  }

  hold(demand: Demand, kind: string, nodeId: NodeId): void {
    const node = this.nodes.find((other) => other.nodeId === nodeId)!;
    const gpus = chooseGpus(demand.needs, node.gpus)!;
    this.held.push({ node, needs: demand.needs, gpus, kind });
    node.gpus = holdGpus(node.gpus, gpus, demand.needs);
    node.used = addResources(node.used, demand.needs);
    this.index.countAlike(kind, nodeId, 1);
    this.index.touch(nodeId);
  }

  #end(work: Changing['held'][number]): void {
    this.held.splice(this.held.indexOf(work), 1);
    work.node.used = subtractResources(work.node.used, work.needs);
    work.node.gpus = releaseGpus(work.node.gpus, work.gpus, work.needs);
    this.index.countAlike(work.kind, work.node.nodeId, -1);
    this.index.touch(work.node.nodeId);
  }

  demand(): Demand {
    const { random } = this;
    const needs: Record<string, number> = { CPU: random.pick([0, 0.1, 0.5, 1, 2, 32]) };
    if (random.chance(0.2)) needs.GPU = random.pick([0.3, 0.6, 1, 4]);
    if (random.chance(0.2)) needs.memory = 1e8 * random.pick([1, 5, 90]);
    if (random.chance(0.1)) needs.special = 1;
    const zone = random.pick(ZONES);
    const rules = [zone, `!${zone}`, `in(${zone},east)`, '!in(east)', 'exists()', '!exists()'];
    const id = random.pick(this.nodes)?.nodeId ?? 'none';
    const fallbacks: Record<string, string>[] = [{ zone: random.pick(rules) }, {}];
    return demandFor({
      needs,
      selector: random.chance(0.3) ? { zone: random.pick(rules) } : {},
      ...(random.chance(0.2) ? { fallbacks: fallbacks.slice(random.below(2)) } : {}),
      strategy: random.pick(['DEFAULT', 'DEFAULT', 'SPREAD', `node:${id}`, `prefer:${id}`]),
      locality: random.chance(0.2) ? [random.pick(this.nodes)?.nodeId ?? ('none' as NodeId)] : [],
    });
  }
}

for (const seed of [1, 2, 3, 4])
  test(`seed ${seed}: 5,000 demands on nodes that come, go and fill up are placed where a scan places them`, () => {
    const cluster = new Changing(seed);
    // Kinds that come again have rankings to catch up; more than are kept make them begin anew.
    const usual = Array.from({ length: 12 }, () => cluster.demand());
    let placed = 0;
    for (let round = 0; round < 5_000; round += 1) {
      cluster.change();
      const demand = cluster.random.chance(0.7) ? cluster.random.pick(usual) : cluster.demand();
      const kind = cluster.random.pick(['tasks', 'actors']);
      const placement = cluster.index.place(demand, kind);
      const expected = scan(demand, cluster.nodes, (nodeId) => cluster.alikeCount(kind, nodeId));
      assert.equal(placement.kind === 'node' ? placement.nodeId : placement.kind, expected, JSON.stringify(demand));
      if (placement.kind !== 'node') continue;
      placed += 1;
      cluster.hold(demand, kind, placement.nodeId);
      const { used, total } = cluster.nodes.find(({ nodeId }) => nodeId === placement.nodeId)!;
      assert.ok(fits(used, total));
    }
    assert.ok(placed > 500, `${placed} placed`);
  });
