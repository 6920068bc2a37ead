// Every optimiser at every ZeRO stage on any number of ranks is one run on one rank.
import { test } from 'node:test';
import { tinyGpt2, tinyLlama } from './models-for-tests.js';
import { assertEqual, OTHERS, run } from './stage-job.js';

for (const [optimizer, lr] of OTHERS) {
  test(`${optimizer.kind}: any stage on any number of ranks, and going on at another, are one run on one rank`, async () => {
    for (const model of [tinyGpt2, tinyLlama]) {
      const job = { model, micros: 4, optimizer, lr } as const;
      const alone = await run({ ...job, zeroStage: 0, worldSize: 1, steps: [1, 4] });
      for (const [zeroStage, worldSize] of [
        [0, 2],
        [1, 2],
        [2, 2],
        [2, 4],
        [3, 4],
      ] as const) {
        const ranks = await run({ ...job, zeroStage, worldSize, steps: [1, 4] });
        assertEqual(ranks, alone);
        const half = await run({ ...job, zeroStage, worldSize, steps: [1, 2] });
        const rest = await run({ ...job, zeroStage: 1, worldSize: 4, steps: [3, 4], resumeFrom: half });
        const last = (values: readonly number[]) => values.slice(2);
        assertEqual(
          rest,
          alone.map((outcome) => ({ ...outcome, losses: last(outcome.losses), norms: last(outcome.norms) })),
        );
      }
    }
  });
}
