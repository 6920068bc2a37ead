// What a worker needs before its process gets its work: its packages, the npm packages of its environment, and GPUs whose memory is free.
import { type NodeId, WorkerCrashedError, type WorkerId } from '../common/index.js';
import { asError, failureOf, type wire } from '../protocol/index.js';
import { gpuEnvironment } from './gpu-ids.js';
import type { GpuWatch } from './gpu-watch.js';
import type { NpmEnvs } from './npm-envs.js';
import { runningOf, type WorkerPool } from './worker-pool.js';

export interface WorkerStartsOptions {
  readonly nodeId: NodeId;
  readonly pool: () => WorkerPool;
  /** Unpacks a package, and says where. */
  readonly folderOf: (sha256: string) => Promise<string>;
  readonly npm: NpmEnvs;
  /** The devices of the node, as CUDA names them. */
  readonly gpuIds: readonly string[];
  readonly gpuWatch: GpuWatch;
  /** `isFinal`: another try would end the same way. */
  readonly failed: (workerId: WorkerId, failure: wire.Failure.$Properties, isFinal: boolean) => void;
  /** The head chose a GPU that is broken: it is to hear so before it chooses again. */
  readonly tellGpus: () => void;
}

export class WorkerStarts {
  readonly #options: WorkerStartsOptions;
  /** Workers whose packages are being installed. */
  readonly #preparing = new Map<WorkerId, wire.StartWorker>();

  constructor(options: WorkerStartsOptions) {
    this.#options = options;
  }

  /** What is on its way to the pool. */
  running(): readonly wire.RunningWorker.$Properties[] {
    return [...this.#preparing.values()].map((order) => runningOf(order, null, 0));
  }

  /** Whether there was something to stop: nothing of it starts. */
  cancel(workerId: WorkerId): boolean {
    return this.#preparing.delete(workerId);
  }

  start(assignment: wire.StartWorker): void {
    const { npm, gpuIds, gpuWatch, folderOf, pool, failed } = this.#options;
    const workerId = assignment.workerId as WorkerId;
    if (this.#preparing.has(workerId) || pool().has(workerId)) return; // a double
    const gpus = (assignment.gpus ?? []).map((device) => gpuIds[device]!);
    if (this.#isRefused(workerId, gpus)) return;
    // What the user has set stays.
    const envVars = { ...gpuEnvironment(gpus), ...assignment.runtimeEnv?.envVars };
    const order = { ...assignment, runtimeEnv: { ...assignment.runtimeEnv, envVars } } as wire.StartWorker;
    const { package: sha, npm: npmEnv } = assignment.runtimeEnv ?? {};
    const own = (assignment.resources?.amounts?.GPU ?? 0) >= 1 ? gpus : null; // what several share is never free
    if (!sha && !npmEnv && !own) {
      pool().start(order);
      return;
    }
    this.#preparing.set(workerId, assignment);
    const folder = sha ? folderOf(sha) : null;
    Promise.all([npmEnv ? npm.ensure(npmEnv) : '', folder, own && gpuWatch.freed(own)]).then(
      ([npmFolder]) => {
        if (this.#preparing.delete(workerId)) pool().start({ ...order, npmFolder } as wire.StartWorker);
      },
      (error: unknown) => {
        if (this.#preparing.delete(workerId)) failed(workerId, failureOf(asError(error)), true);
      },
    );
  }

  /** Whether a GPU is broken, of which the last beat did not tell. */
  #isRefused(workerId: WorkerId, gpus: readonly string[]): boolean {
    const { nodeId, gpuWatch, tellGpus, failed } = this.#options;
    const [broken] = gpus.length > 0 ? gpuWatch.faulty(gpus) : [];
    if (broken === undefined) return false;
    tellGpus();
    const detail = `GPU ${broken} of its node is broken`;
    failed(workerId, failureOf(new WorkerCrashedError({ workerId, nodeId, detail })), false);
    return true;
  }
}
