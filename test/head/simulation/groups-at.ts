// Which groups have bundles on a node, kept up with what the head orders to be saved: who looks after every event cannot look at all groups.
import assert from 'node:assert/strict';
import type { GroupId, NodeId } from '#src/common/index.js';
import type { ClusterState, Effect, GroupRecord } from '#src/head/index.js';

export class GroupsAt {
  readonly #groups: ClusterState['groups'];
  readonly #at = new Map<NodeId, Set<GroupId>>();
  readonly #nodesOf = new Map<GroupId, ReadonlySet<NodeId>>();

  constructor({ groups }: ClusterState) {
    this.#groups = groups;
  }

  heard(effects: readonly Effect[]): void {
    for (const effect of effects)
      if ((effect.kind === 'save' || effect.kind === 'forget') && effect.table === 'group')
        this.#lookAt(effect.id as GroupId);
  }

  *of(nodeId: NodeId): Iterable<GroupRecord> {
    for (const groupId of this.#at.get(nodeId) ?? []) yield this.#groups.get(groupId)!;
  }

  /** It says what a look at all groups does. */
  check(): void {
    for (const group of this.#groups.values()) assert.deepEqual(this.#nodesOf.get(group.groupId), nodesOf(group));
    assert.equal(this.#nodesOf.size, this.#groups.size);
  }

  #lookAt(groupId: GroupId): void {
    for (const nodeId of this.#nodesOf.get(groupId) ?? []) this.#at.get(nodeId)!.delete(groupId);
    this.#nodesOf.delete(groupId);
    const group = this.#groups.get(groupId);
    if (!group) return;
    const nodeIds = nodesOf(group);
    this.#nodesOf.set(groupId, nodeIds);
    for (const nodeId of nodeIds) {
      const here = this.#at.get(nodeId) ?? new Set();
      here.add(groupId);
      this.#at.set(nodeId, here);
    }
  }
}

const nodesOf = ({ places }: GroupRecord): ReadonlySet<NodeId> =>
  new Set(places.flatMap(({ nodeId }) => (nodeId === null ? [] : [nodeId])));
