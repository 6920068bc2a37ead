// One rank of the collectives' figures. A line is `OP BYTES REPEATS`: runs a program of so many collectives, one after the other.
import { type NativeDevice, native } from '#src/native/index.js';
import { PlanWriter } from '../../test/support/native-plan.js';
import { type RankAnswer, type RankPlace, serveRank } from './ranks.js';

const COMMUNICATES = { stream: 1 } as const;

serveRank(async ({ rank, ranks, name }: RankPlace) => {
  const group = await native().joinShmGroup({ name, rank, size: ranks, timeoutMs: 60_000 });
  const device = native().createDevice({ threads: 1, isa: null, pin: false });

  /** The program, loaded; the first element of this rank's result after one collective of (rank + 1) everywhere. */
  const load = (to: NativeDevice, op: string, bytes: number, repeats: number) => {
    const plan = new PlanWriter();
    const count = bytes / 4;
    const x = plan.tensor([count]);
    const slice = plan.at(x.offsetBytes + (bytes / ranks) * rank, [count / ranks]);
    plan.op('barrier', [], [], [0], COMMUNICATES);
    for (let turn = 0; turn < repeats; turn += 1) {
      if (op === 'all_reduce') plan.op('all_reduce', [x], [x], [0, 0], COMMUNICATES);
      else plan.op('reduce_scatter', [x], [slice], [0], COMMUNICATES);
    }
    return { loaded: plan.load(to, [group]), x, result: op === 'all_reduce' ? x : slice };
  };

  return async (line): Promise<RankAnswer> => {
    const [op, bytes, repeats] = line.split(' ') as [string, string, string];
    const once = load(device, op, Number(bytes), 1);
    once.loaded.view(once.x).fill(rank + 1);
    await once.loaded.program.run();
    const first = once.loaded.view(once.result)[0]!;
    once.loaded.dispose();
    const many = load(device, op, Number(bytes), Number(repeats));
    many.loaded.view(many.x).fill(0);
    await many.loaded.program.run();
    const start = performance.now();
    await many.loaded.program.run();
    const seconds = (performance.now() - start) / 1000 / Number(repeats);
    many.loaded.dispose();
    return { seconds, sums: { first } };
  };
});
