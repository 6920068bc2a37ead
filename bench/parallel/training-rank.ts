// One rank of the training figures. Arguments: THREADS ROWS TOKENS PRECISION STAGE FOLDER, with config.json in FOLDER and, unless raylite
// makes them, the weights. `step` makes a step on this rank's rows; `exposed` one that also tells its exchanges.
import { meshOf, TrainStep, type ZeroStage } from '#src/engine/index.js';
import { native } from '#src/native/index.js';
import { batchOf, LEARNING_RATE, labelCount, loadWeights, modelOf, OPTIMIZER } from '../training/job.js';
import { type RankAnswer, type RankPlace, serveRank } from './ranks.js';

serveRank(async ({ rank, ranks, name, args }: RankPlace) => {
  const [threads, rows, tokens] = args.slice(0, 3).map(Number) as [number, number, number];
  const [precision, stage, folder] = args.slice(3) as [string, string, string];
  const model = await modelOf(folder);
  const group = await native().joinShmGroup({ name, rank, size: ranks, timeoutMs: 60_000 });
  const trainer = TrainStep.create({
    model,
    rows: rows * tokens,
    strategy: { zeroStage: Number(stage) as ZeroStage, mesh: meshOf({ data: ranks }), rank },
    optimizer: OPTIMIZER,
    dtype: precision === 'bf16' ? 'bf16' : 'f32',
    device: native().createDevice({ threads, isa: null, pin: false }),
    communicators: { zero: group },
  });
  await loadWeights(folder, model, trainer.parameters);
  const batch = batchOf(model, rows, tokens, rank);
  const scale = 1 / (ranks * labelCount(batch));
  let step = 0;
  return async (line): Promise<RankAnswer> => {
    step += 1;
    if (line === 'exposed') trainer.startProfile();
    const start = performance.now();
    const { loss } = await trainer.micro(batch, { scale, isFirst: true });
    await trainer.update({ lr: LEARNING_RATE, step });
    const seconds = (performance.now() - start) / 1000;
    if (line !== 'exposed') return { seconds, sums: { loss } };
    const profile = await trainer.endProfile(1, threads);
    return { seconds, sums: { loss, exposed: profile.exposedCommunicationSeconds / profile.seconds / ranks } };
  };
});
