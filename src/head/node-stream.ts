// The conversation with one node agent: what it says becomes events, what is decided for it goes back on its stream.
import {
  ConfigError,
  type JobId,
  type NodeId,
  OutOfMemoryError,
  PROTOCOL_VERSION,
  RayliteError,
  WorkerCrashedError,
  type WorkerId,
} from '../common/index.js';
import { type Channel, errorOf, failureOf, MessageChannel, wire } from '../protocol/index.js';
import type { Cluster } from './cluster.js';
import { addressIn, beatIn, drainIn, nodeIn } from './wire-in.js';

/** Serves one agent until its stream ends. The first message must be its hello; anything else closes the stream. */
export function serveNode(cluster: Cluster, channel: Channel, httpUrl: () => string): void {
  const messages = new MessageChannel(channel, wire.HeadToNode, wire.NodeToHead);
  let nodeId: NodeId | null = null;
  messages.receive((message) => {
    if (nodeId !== null) {
      cluster.nodeHeard(nodeId);
      heard(cluster, nodeId, message);
      return;
    }
    const refusal = refuse(message.hello);
    if (refusal !== null) {
      messages.send({ welcome: { error: refusal } });
      messages.close(refusal);
      return;
    }
    const joining = nodeIn(message.hello as wire.NodeHello);
    nodeId = joining.facts.nodeId;
    cluster.nodeOpened(nodeId, messages);
    if (cluster.state.nodes.get(nodeId)?.status !== 'dead') {
      const outputs = cluster.outputsSoFar(nodeId, joining.jobs);
      messages.send({ welcome: { clusterId: cluster.id, httpUrl: httpUrl(), outputs } });
    }
    cluster.apply({ kind: 'nodeJoined', ...joining });
    if (cluster.state.nodes.get(nodeId)?.drain) messages.send({ drain: {} });
    // An order that it gave itself may have gone with its last stream.
    if (message.hello?.drain) drain(cluster, nodeId, message.hello.drain);
  });
  messages.onClose(() => {
    if (nodeId !== null) cluster.nodeClosed(nodeId, messages);
  });
}

function refuse(hello: wire.NodeHello.$Properties | null | undefined): string | null {
  if (!hello) return 'the first message was no hello';
  if (hello.protocol === PROTOCOL_VERSION) return null;
  return `the node speaks protocol ${hello.protocol}, the head ${PROTOCOL_VERSION}: install the same raylite version on both`;
}

const drain = (cluster: Cluster, nodeId: NodeId, wanted: wire.Drain.$Properties): void =>
  cluster.apply({ kind: 'drainNode', nodeId, order: drainIn(wanted, cluster.now()), request: null });

function heard(cluster: Cluster, nodeId: NodeId, message: wire.NodeToHead): void {
  switch (message.kind) {
    case 'beat':
      cluster.apply({ kind: 'nodeBeat', nodeId, beat: beatIn(message.beat!) });
      return;
    case 'workerStarted': {
      const { workerId, address, pid } = message.workerStarted!;
      cluster.apply({
        kind: 'workerStarted',
        workerId: workerId as WorkerId,
        address: addressIn(address),
        pid: pid ?? 0,
      });
      return;
    }
    case 'workerFailed': {
      const { workerId, failure, isFinal } = message.workerFailed!;
      const given = failure ?? failureOf(new ConfigError('failure', 'why the worker failed', undefined));
      const error = errorOf(given);
      cluster.apply({
        kind: 'workerFailed',
        workerId: workerId as WorkerId,
        error:
          error instanceof RayliteError
            ? error
            : new WorkerCrashedError(
                { workerId: workerId as WorkerId, nodeId, detail: `${error.name}: ${error.message}` },
                { cause: error },
              ),
        cause: wire.Failure.encode(given).finish(),
        isFinal: isFinal ?? false,
      });
      return;
    }
    case 'workerExited': {
      const { workerId, exitCode, signal, lastLogLines, isIntended, cause } = message.workerExited!;
      const how = signal ? `its process was ended by ${signal}` : `its process exited with code ${exitCode ?? 0}`;
      const why = cause ? errorOf(cause) : null;
      const detail = why?.message ?? how;
      cluster.apply({
        kind: 'workerExited',
        workerId: workerId as WorkerId,
        end: {
          detail,
          exitCode: signal ? null : (exitCode ?? 0),
          signal: signal || null,
          lastLogLines: lastLogLines ?? [],
          isIntended: isIntended ?? false,
          cause: cause ? wire.Failure.encode(cause).finish() : null,
          isForMemory: why instanceof OutOfMemoryError && why.endedBy === 'watch',
        },
      });
      return;
    }
    case 'jobOutput':
      cluster.jobOutput(nodeId, message.jobOutput!.jobId as JobId, {
        offset: message.jobOutput!.offset ?? 0,
        chunk: message.jobOutput!.chunk ?? new Uint8Array(),
      });
      return;
    case 'jobExited': {
      const { jobId, exitCode, signal, failure } = message.jobExited!;
      cluster.apply({
        kind: 'jobExited',
        jobId: jobId as JobId,
        exitCode: exitCode ?? 0,
        signal: signal ?? '',
        failure: failure ? errorOf(failure).message : null,
      });
      return;
    }
    case 'bye':
      cluster.apply({ kind: 'nodeLost', nodeId, reason: 'it left the cluster' });
      return;
    case 'drain':
      drain(cluster, nodeId, message.drain!);
      return;
    case 'driverLog': {
      const lines = message.driverLog!.lines;
      if (lines?.jobId) cluster.driverOf(lines.jobId as JobId)?.send({ requestId: 0, logLines: lines });
      return;
    }
    case 'objectsSurveyed':
      cluster.objectsSurveyed(nodeId, message.objectsSurveyed!);
      return;
    case 'callsSurveyed':
      cluster.callsSurveyed(nodeId, message.callsSurveyed!);
      return;
    case 'logsFlushed':
      cluster.logsFlushed(nodeId, message.logsFlushed!.id ?? 0);
      return;
    default:
      return; // a second hello, or a message of a newer agent: nothing to do
  }
}
