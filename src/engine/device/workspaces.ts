// What kernels need beside a plan's buffers: packed panels, partial sums. It depends on the number of threads and on the
// instruction set, so the loaded programs are asked; the memory that they are loaded on is never touched.
import { native } from '../../native/index.js';
import type { TrainingSettings } from '../compile/settings.js';
import { compileLargest } from '../compile/step.js';
import { compileTraining } from '../compile/training.js';
import { meshOf } from '../mesh.js';
import { ruleOf } from '../ops/index.js';
import { encodePlan } from '../plan/encode.js';
import type { Plan } from '../plan/plan.js';
import { schedule } from '../plan/schedule.js';
import { DeviceBuffers } from './buffers.js';
import { Program } from './program.js';

/** Bytes of workspaces of a training job's programs on `threads` threads. One rank's kernels do not depend on the others. */
export function workspaceBytesOf(settings: TrainingSettings, threads: number): number {
  const bare = { ...settings, offload: {} };
  const { tensor, sequence, pipeline } = settings.strategy.mesh;
  const strategy = { zeroStage: 0, mesh: meshOf({ tensor, sequence }), rank: 0 } as const;
  const { micro, update } = compileTraining({ ...bare, strategy });
  const plans = [...(pipeline > 1 ? stagePlans(bare) : [micro]), update].map(withoutExchanges);
  const device = native().createDevice({ threads, isa: null, pin: false });
  const buffers = new DeviceBuffers(device);
  try {
    buffers.reserve(plans);
    const bare = plans.map((plan) => ({ ...plan, graph: { ...plan.graph, constants: new Map() } }));
    const programs = bare.map((plan) => new Program(device, plan, buffers));
    const bytes = programs.reduce((sum, program) => sum + program.workspaceBytes, 0);
    for (const program of programs) program.dispose();
    return bytes;
  } finally {
    buffers.dispose();
    device.dispose();
  }
}

/** What a stage of a pipeline loads: forward and backward of every part, once for each set of kept activations. */
function stagePlans(settings: TrainingSettings): readonly Plan[] {
  const compiled = compileLargest(settings);
  if (compiled.kind === 'whole') return [compiled.micro];
  return compiled.parts.flatMap(({ forward, backward, sets }) =>
    Array.from({ length: sets }, () => (backward ? [forward, backward] : [forward])).flat(),
  );
}

/** The plan as one rank alone can load it. Exchanges have no workspace. */
function withoutExchanges(plan: Plan): Plan {
  const ops = plan.graph.ops.filter(({ kind }) => !ruleOf(kind).isCollective);
  const graph = { ...plan.graph, ops };
  return { ...plan, graph, bytes: encodePlan(graph, plan.places, schedule(graph, plan.places), plan.buffers) };
}
