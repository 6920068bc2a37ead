// One worker: attaches to its node's agent, waits warm until it is assigned an actor or a lease, then serves calls.
import {
  type Accept,
  type AgentLink,
  type AgentPushes,
  Awake,
  HeadLink,
  handleHost,
  loadCode,
  ObjectStore,
  type PeerDoor,
  Peers,
  Runtime,
  runAs,
} from '../client/process/index.js';
import {
  CodeNotFoundError,
  type JobId,
  PROTOCOL_VERSION,
  RuntimeEnvSetupError,
  TaskError,
  type WorkerId,
} from '../common/index.js';
import { asError, type Channel, failureOf, type wire } from '../protocol/index.js';
import { Activity } from './activity.js';
import { CpuLoan } from './cpu-loan.js';
import { Executor } from './executor.js';
import { runExitHooks } from './exit-hooks.js';

type Callable = (...args: unknown[]) => unknown;

/** The process that a worker is in, or its likeness in local mode. */
export interface WorkerPlace {
  agent(pushes: AgentPushes): Promise<AgentLink>;
  /** Opens streams to the head. */
  head(attached: wire.Attached): () => Promise<Channel>;
  openDoor(attached: wire.Attached, accept: Accept): Promise<PeerDoor>;
  /** The worker is to serve `assignment` from now on. */
  become(runtime: Runtime, assignment: wire.StartWorker): void | Promise<void>;
  /** Ends the worker at once. */
  exit(code: number): void;
}

/** Starts serving; the worker then lives until its agent ends it or is gone. */
export async function startWorker(place: WorkerPlace, token: string, spawnId: WorkerId): Promise<void> {
  let runtime: Runtime | null = null;
  const assigned = deferred<wire.StartWorker>();
  const agent = await place.agent({
    assign: assigned.resolve,
    exit: ({ graceful }) => {
      const end = (): void => {
        runtime?.tellActivity?.();
        agent.exiting('asked by the agent');
        const exit = (): void => place.exit(0);
        if (runtime?.peers) runtime.peers[Symbol.asyncDispose]().then(exit, exit);
        else exit();
      };
      const endWhenFree = (): void => {
        if (runtime?.objects.isBorrowed) {
          agent.lingering();
          runtime.objects.whenUnborrowed(end);
        } else end();
      };
      if (graceful && runtime?.endGracefully) runtime.endGracefully().then(endWhenFree, endWhenFree);
      else endWhenFree();
    },
    vacated: (vacated) => runtime?.store.vacated(vacated),
    collect: () => runtime?.store.collect(),
    tellActivity: () => runtime?.tellActivity?.(),
    holdings: () => runtime?.objects.holdings() ?? {},
    lost: () => place.exit(1),
  });
  const attached = await agent.attach({
    token,
    workerId: spawnId,
    pid: process.pid,
    isDriver: false,
    address: {},
  });
  const store = new ObjectStore(agent, attached);
  runtime = new Runtime({ isDriver: false, agent, attached, store, token, awake: new Awake() }, spawnId);
  await openDoor(runtime, place, spawnId);
  agent.ready({ address: runtime.peers.address });
  await serve(runtime, place, await assigned.promise);
}

async function openDoor(runtime: Runtime, place: WorkerPlace, spawnId: WorkerId): Promise<void> {
  const { attached, nodeId } = runtime;
  runtime.handles = handleHost(runtime);
  runtime.peers = await Peers.open(runtime.service, { workerId: spawnId, nodeId }, (accept) =>
    place.openDoor(attached, accept),
  );
  runtime.head = new HeadLink(
    attached.headAddress,
    place.head(attached),
    () => ({
      protocol: PROTOCOL_VERSION,
      workerId: runtime.workerId,
      isDriver: false,
      jobId: runtime.jobId,
      namespace: runtime.namespace,
      address: runtime.peers.address,
      pid: process.pid,
      entrypoint: '',
      isBlocked: runtime.isBlocked,
    }),
    {
      actor: (info) => runtime.actors.get(info.actorId)?.inform(info),
      logLines: () => {},
      leasesWanted: () => runtime.giveWay(),
      nodesDraining: (told) => runtime.nodesDraining(told),
    },
    runtime.awake,
    true,
  );
}

/** Becomes what it was assigned: an actor, or a worker for the tasks of a lease. */
async function serve(runtime: Runtime, place: WorkerPlace, assignment: wire.StartWorker): Promise<void> {
  const { attached, agent, peers } = runtime;
  runtime.workerId = assignment.workerId as WorkerId;
  runtime.jobId = assignment.jobId as JobId;
  runtime.bundle = assignment.bundle ?? null;
  runtime.runtimeEnv = assignment.runtimeEnv ?? {};
  peers.rename(runtime.workerId);
  await place.become(runtime, assignment);
  const hasCpus = (assignment.resources?.amounts?.CPU ?? 0) > 0;
  const loan = new CpuLoan((isBlocked) => {
    if (!hasCpus) return;
    runtime.isBlocked = isBlocked;
    runtime.head.tell({ workerBlocked: { isBlocked } });
  });
  const activity = new Activity((news) => agent.activity(news));
  const executor = new Executor(runtime, loan, taskLoader(attached.packageRoot), activity);
  runtime.tellActivity = activity.flush;
  runtime.runner = executor;
  try {
    await setUp(runtime);
  } catch (error) {
    agent.ready({ address: peers.address, failure: failureOf(error, true) });
    return;
  }
  if (!assignment.actor) {
    agent.ready({ address: peers.address });
    return;
  }
  const { actor } = assignment;
  runtime.namespace = actor.namespace ?? '';
  runtime.actor = { actorId: actor.actorId ?? '', incarnation: assignment.incarnation };
  const className = actor.className ?? '';
  try {
    const instance = await construct(runtime, loan, actor, className);
    const runHooks = (): Promise<void> => runAs(runtime, () => runExitHooks(instance, className));
    executor.becomeActor({
      value: instance,
      className,
      maxConcurrency: actor.maxConcurrency ?? 1,
      groups: actor.concurrencyGroups ?? {},
      exit: () => {
        const end = (): void => {
          agent.exiting('it ended itself');
          setImmediate(() => place.exit(0)); // the note leaves first
        };
        runHooks().then(end, end);
      },
    });
    runtime.endGracefully = async () => {
      await executor.drain();
      await runHooks();
    };
    agent.ready({ address: peers.address });
  } catch (error) {
    agent.ready({ address: peers.address, failure: failureOf(error, true) });
  }
}

/** Runs what the user wants run first. Rejects with {@link RuntimeEnvSetupError}. */
async function setUp(runtime: Runtime): Promise<void> {
  const code = runtime.runtimeEnv.setup;
  if (!code) return;
  try {
    const setup = await loadCode(code, runtime.attached.packageRoot);
    await runAs(runtime, () => (setup as Callable)());
  } catch (thrown) {
    const cause = asError(thrown);
    throw new RuntimeEnvSetupError({ detail: `${code.name} failed: ${cause.name}: ${cause.message}` }, { cause });
  }
}

async function construct(
  runtime: Runtime,
  loan: CpuLoan,
  spec: wire.ActorSpec.$Properties,
  className: string,
): Promise<object> {
  const code = spec.code ?? {};
  const ActorClass = await loadCode(code, runtime.attached.packageRoot);
  if (typeof ActorClass !== 'function')
    throw new CodeNotFoundError({
      functionName: className,
      detail: `the export ${code.name} of ${code.module} is no class`,
    });
  loan.update(true);
  const args = await Promise.all((spec.args ?? []).map((arg) => runtime.reader.argument(arg))).finally(() =>
    loan.update(false),
  );
  try {
    return runAs(runtime, () => Reflect.construct(ActorClass, args) as object);
  } catch (error) {
    const { workerId, nodeId } = runtime;
    throw new TaskError({ functionName: `new ${className}`, workerId, nodeId }, { cause: asError(error) });
  }
}

/** Finds the functions of tasks, each loaded once. */
function taskLoader(packageRoot: string): (code: wire.CodeRef.$Properties) => Callable | Promise<Callable> {
  const loaded = new Map<string, Callable | Promise<Callable>>();
  return (code) => {
    const key = `${code.package}\0${code.module}\0${code.name}`;
    const known = loaded.get(key);
    if (known !== undefined) return known;
    const loading = loadCode(code, packageRoot).then((value) => {
      if (typeof value !== 'function')
        throw new CodeNotFoundError({
          functionName: code.name ?? '',
          detail: `the export of ${code.module} is no function`,
        });
      loaded.set(key, value as Callable);
      return value as Callable;
    });
    loaded.set(key, loading);
    return loading;
  };
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
