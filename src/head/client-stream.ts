// The conversation with one driver or worker: requests in, answers out, and the changes of the actors that it watches.
import {
  type ActorId,
  ConfigError,
  ConnectionError,
  type GroupId,
  type JobId,
  type LeaseId,
  type NodeId,
  newJobId,
  PlacementGroupRemovedError,
  PROTOCOL_VERSION,
  type WorkerId,
} from '../common/index.js';
import { type Channel, failureOf, MessageChannel, wire } from '../protocol/index.js';
import type { Cluster } from './cluster.js';
import { drainingNodes } from './drain-state.js';
import type { Answer } from './effects.js';
import type { ClientRecord } from './entities.js';
import { groupNamed } from './group-state.js';
import { waitReason } from './schedule.js';
import { actorIn, groupIn, leaseIn } from './wire-in.js';
import { actorOut, drainingOut, groupOut, nodeOut, noSuchActor } from './wire-out.js';

/** Bytes of one key-value entry, and of all together. */
const KV_VALUE_BYTES_MAX = 16 * 1024 * 1024;
const KV_KEY_LENGTH_MAX = 1024;
const KV_ENTRIES_MAX = 100_000;

type Reply = Omit<wire.HeadToClient.$Properties, 'requestId'>;

/** Serves one client until its stream ends. The first message must be its hello. */
export function serveClient(cluster: Cluster, channel: Channel, peer: string, httpUrl: () => string): void {
  const messages = new MessageChannel(channel, wire.HeadToClient, wire.ClientToHead);
  let client: ClientRecord | null = null;
  let hasLeft = false;
  messages.receive((message) => {
    const { requestId } = message;
    const reply = (answer: Reply): void => messages.send({ requestId, ...answer });
    const fail = (error: unknown): void => reply({ failure: failureOf(error) });
    if (client === null) {
      const hello = message.hello;
      if (!hello || hello.protocol !== PROTOCOL_VERSION || !hello.workerId) {
        const detail = hello
          ? `it speaks protocol ${hello.protocol}, the head ${PROTOCOL_VERSION}: install the same raylite version on both`
          : 'the first message was no hello';
        fail(new ConnectionError({ address: peer, detail }));
        messages.close(detail);
        return;
      }
      client = {
        workerId: hello.workerId as WorkerId,
        isDriver: hello.isDriver ?? false,
        jobId: (hello.jobId as JobId) || newJobId(),
        namespace: hello.namespace || 'default',
        nodeId: (hello.address?.nodeId ?? '') as NodeId,
      };
      cluster.clientOpened(client.workerId, messages);
      cluster.apply({ kind: 'clientJoined', client, entrypoint: hello.entrypoint ?? '' });
      if (hello.isBlocked) cluster.apply({ kind: 'workerBlocked', workerId: client.workerId, isBlocked: true });
      reply({
        welcome: { clusterId: cluster.id, jobId: client.jobId, namespace: client.namespace, httpUrl: httpUrl() },
      });
      if (drainingNodes(cluster.state).length > 0) messages.send(drainingOut(cluster.state, cluster.now()));
      return;
    }
    if (message.bye) {
      hasLeft = true;
      return;
    }
    answer(cluster, client, messages, message).then((given) => {
      if (given) reply(given);
    }, fail);
  });
  messages.onClose(() => {
    if (client !== null) cluster.clientClosed(client.workerId, messages, hasLeft);
  });
}

async function answer(
  cluster: Cluster,
  client: ClientRecord,
  link: MessageChannel<wire.HeadToClient.$Properties, wire.ClientToHead>,
  message: wire.ClientToHead,
): Promise<Reply | null> {
  switch (message.kind) {
    case 'createActor': {
      const spec = message.createActor as wire.ActorSpec;
      spec.namespace ||= client.namespace; // in place: a copy would lack the defaults, which messages inherit
      const actor = actorIn(spec, client);
      const answered = await cluster.ask((request) => ({ kind: 'createActor', actor, request }));
      // Whoever makes an actor hears how it fares; what happened until now is in the reply.
      if (answered.kind === 'actor') cluster.watch(answered.actorId, link);
      return replyOf(cluster, answered);
    }
    case 'getActor': {
      const wanted = message.getActor!;
      const namespace = wanted.namespace || client.namespace;
      const id = wanted.actorId || cluster.state.names.get(`${namespace}/${wanted.name}`);
      const actor = id ? cluster.state.actors.get(id as ActorId) : undefined;
      if (!actor) throw noSuchActor(namespace, wanted.name || wanted.actorId || '');
      return { actor: actorOut(cluster.state, actor) };
    }
    case 'watchActor': {
      const actor = cluster.state.actors.get(message.watchActor!.actorId as ActorId);
      if (!actor) throw noSuchActor(client.namespace, message.watchActor!.actorId ?? '');
      cluster.watch(actor.actorId, link);
      return { actor: actorOut(cluster.state, actor) };
    }
    case 'listNamedActors': {
      const { allNamespaces, namespace } = message.listNamedActors!;
      const actors = [...cluster.state.names.values()].map((id) => cluster.state.actors.get(id)!);
      const shown = actors.filter((actor) => allNamespaces || actor.namespace === (namespace || client.namespace));
      return { namedActors: { actors: shown.map((actor) => ({ name: actor.name, namespace: actor.namespace })) } };
    }
    case 'killActor': {
      const { actorId, noRestart, graceMs, incarnation } = message.killActor!;
      const how = { noRestart: noRestart ?? false, graceMs: graceMs ?? 0, incarnation: incarnation ?? 0 };
      return replyOf(
        cluster,
        await cluster.ask((request) => ({
          kind: 'killActor',
          actorId: actorId as ActorId,
          how,
          request,
        })),
      );
    }
    case 'requestLease': {
      const lease = leaseIn(message.requestLease as wire.RequestLease, client.workerId);
      return replyOf(cluster, await cluster.ask((request) => ({ kind: 'requestLease', lease, request })));
    }
    case 'returnLease': {
      const { leaseId, isWorkerBroken, force } = message.returnLease!;
      return replyOf(
        cluster,
        await cluster.ask((request) => ({
          kind: 'returnLease',
          leaseId: leaseId as LeaseId,
          worker: { isBroken: isWorkerBroken ?? false, force: force ?? false },
          request,
        })),
      );
    }
    case 'createGroup': {
      const group = groupIn(message.createGroup!, client);
      return replyOf(cluster, await cluster.ask((request) => ({ kind: 'createGroup', group, request })));
    }
    case 'awaitGroup': {
      const groupId = message.awaitGroup!.groupId as GroupId;
      return replyOf(cluster, await cluster.ask((request) => ({ kind: 'awaitGroup', groupId, request })));
    }
    case 'getGroup': {
      const { groupId, name, namespace } = message.getGroup!;
      const inNamespace = namespace || client.namespace;
      const group = name ? groupNamed(cluster.state, inNamespace, name) : cluster.state.groups.get(groupId as GroupId);
      if (group) return { group: groupOut(cluster.state, group) };
      if (!name) throw new PlacementGroupRemovedError({ groupId: groupId as GroupId });
      const known = `the name of a placement group in namespace ${JSON.stringify(inNamespace)}`;
      throw new ConfigError('name', known, name);
    }
    case 'removeGroup': {
      const groupId = message.removeGroup!.groupId as GroupId;
      return replyOf(cluster, await cluster.ask((request) => ({ kind: 'removeGroup', groupId, request })));
    }
    case 'explainLease': {
      return { waiting: { reason: waitReason(cluster.state, `lease:${message.explainLease!.leaseId ?? ''}`) } };
    }
    case 'flushLogs':
      await cluster.flushLogs(client.jobId);
      return { done: {} };
    case 'workerBlocked': {
      const { isBlocked } = message.workerBlocked!;
      cluster.apply({ kind: 'workerBlocked', workerId: client.workerId, isBlocked: isBlocked ?? false });
      return { done: {} };
    }
    case 'kvPut':
      return await kvPut(cluster, message.kvPut!);
    case 'kvGet': {
      const value = cluster.kv.get(message.kvGet!.key ?? '');
      return { kvValue: value ? { isFound: true, value } : { isFound: false } };
    }
    case 'kvDelete':
      await cluster.kvPut(message.kvDelete!.key ?? '', undefined);
      return { done: {} };
    case 'listNodes':
      return { nodes: { nodes: [...cluster.state.nodes.values()].map(nodeOut) } };
    case 'reportRun': {
      const { readRunReport } = await import('../observe/report/index.js');
      cluster.report(readRunReport(message.reportRun!.json ?? ''));
      return { done: {} };
    }
    default:
      throw new ConfigError('kind', 'a request that this head knows', message.kind);
  }
}

/** Without `overwrite`, an entry that exists stays and is the answer. */
async function kvPut(cluster: Cluster, put: wire.KvPut.$Properties): Promise<Reply> {
  const key = put.key ?? '';
  const value = Uint8Array.from(put.value ?? []); // a copy: what arrived is a view of its frame
  if (key === '' || key.length > KV_KEY_LENGTH_MAX) {
    throw new ConfigError('key', `a key of 1 to ${KV_KEY_LENGTH_MAX} characters`, key);
  }
  if (value.byteLength > KV_VALUE_BYTES_MAX) {
    const hint = 'Put large values into the object store';
    throw new ConfigError('value', `at most ${KV_VALUE_BYTES_MAX} bytes`, value.byteLength, hint);
  }
  const existing = cluster.kv.get(key);
  if (existing && !put.overwrite) return { kvValue: { isFound: true, value: existing } };
  if (!existing && cluster.kv.size >= KV_ENTRIES_MAX) {
    throw new ConfigError('key', `at most ${KV_ENTRIES_MAX} keys in the cluster`, cluster.kv.size);
  }
  await cluster.kvPut(key, value);
  return { done: {} };
}

function replyOf(cluster: Cluster, answered: Answer): Reply {
  switch (answered.kind) {
    case 'done':
      return { done: {} };
    case 'failure':
      return { failure: failureOf(answered.error) };
    case 'workerEnd': {
      const { detail, exitCode, signal, lastLogLines, cause } = answered.end;
      const why = cause ? { cause: wire.Failure.decode(cause) } : {};
      return { workerEnd: { detail, exitCode, signal: signal ?? '', lastLogLines: [...lastLogLines], ...why } };
    }
    case 'lease':
      return { lease: { leaseId: answered.leaseId, address: answered.address } };
    case 'group': {
      const group = cluster.state.groups.get(answered.groupId);
      // It may have been removed between the decision and this answer.
      return group
        ? { group: groupOut(cluster.state, group) }
        : { failure: failureOf(new PlacementGroupRemovedError({ groupId: answered.groupId })) };
    }
    case 'actor':
      return { actor: actorOut(cluster.state, cluster.state.actors.get(answered.actorId)!) };
  }
}
