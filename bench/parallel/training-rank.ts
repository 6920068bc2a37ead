// One rank of the training figures. Arguments: THREADS ROWS TOKENS PRECISION STAGE FOLDER, with config.json in FOLDER and, unless raylite
// makes them, the weights. `step` makes a step on this rank's rows; `exposed` one that also tells its exchanges.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { meshOf, type TokenBatch, TrainStep, type ZeroStage } from '#src/engine/index.js';
import { Checkpoint, initialise, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import { type RankAnswer, type RankPlace, serveRank } from './ranks.js';

const LEARNING_RATE = 1e-4;
const OPTIMIZER = {
  kind: 'adamw',
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0.01,
  maxGradientNorm: 1,
} as const;

/** The tokens of this rank's rows of the whole batch, as the peer counts them; the last token of a row predicts nothing. */
function batchOf(rank: number, rows: number, tokens: number, vocabulary: number): TokenBatch {
  const each = (value: (at: number) => number) => Int32Array.from({ length: rows * tokens }, (_, at) => value(at));
  const id = (at: number) => {
    const k = rank * rows * tokens + at;
    return (k * 7919 + k * k * 31 + 13) % vocabulary;
  };
  const start = (at: number) => at - (at % tokens);
  return {
    ids: each(id),
    positions: each((at) => at % tokens),
    starts: each(start),
    ends: each((at) => start(at) + tokens),
    labels: each((at) => (at % tokens === tokens - 1 ? -100 : id(at + 1))),
  };
}

serveRank(async ({ rank, ranks, name, args }: RankPlace) => {
  const [threads, rows, tokens] = args.slice(0, 3).map(Number) as [number, number, number];
  const [precision, stage, folder] = args.slice(3) as [string, string, string];
  const model = modelFromConfig(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')));
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
  if (existsSync(join(folder, 'model.safetensors'))) {
    await using checkpoint = await Checkpoint.open(folder);
    await checkpoint.loadInto(trainer.parameters);
  } else initialise(model, 0, trainer.parameters);
  const batch = batchOf(rank, rows, tokens, model.vocabularySize);
  const scale = 1 / (ranks * batch.labels.filter((label) => label >= 0).length);
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
