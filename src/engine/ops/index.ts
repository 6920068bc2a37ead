// The catalogue: every op kind the compiler knows, by name.
import { activation, activationBackward, gatedActivation, gatedActivationBackward } from './activation.js';
import { attention, attentionBackward } from './attention.js';
import { blockDequantise, blockQuantise } from './block-quantise.js';
import { attentionCached, kvAppend } from './cache.js';
import { chooseToken } from './choice.js';
import {
  allGather,
  allReduce,
  allToAll,
  barrier,
  broadcast,
  fanOut,
  recv,
  reduceScatter,
  send,
  sendRecv,
} from './collective.js';
import { diskRead, diskWrite } from './disk.js';
import { dropout } from './dropout.js';
import { add, cast, copy, fill, gatherRows, scale } from './elementwise.js';
import { embedding, embeddingBackward } from './embedding.js';
import { headsToParts, partsToHeads } from './head-parts.js';
import { addLayerNorm, layerNorm, layerNormBackward } from './layer-norm.js';
import { linear, linearBackwardInput, linearBackwardWeight } from './linear.js';
import { linearNf4, linearNf4BackwardInput } from './linear-nf4.js';
import { linearCrossEntropy, linearCrossEntropyGrad } from './loss.js';
import { clipFactor, sumSquares } from './norm-clipping.js';
import { addRmsNorm, rmsNorm, rmsNormBackward } from './rms-norm.js';
import { rotary } from './rotary.js';
import type { OpRule } from './rule.js';
import { logSumExp, softmax, softmaxBackward } from './softmax.js';
import { adagrad, adamw, lion, muon, sgd } from './steps.js';
import { targetLoss, targetLossBackward } from './target-loss.js';
import { vocabularyLogits, vocabularyLoss, vocabularyLossGrad } from './vocabulary-loss.js';

export { payloadBytes } from './block-quantise.js';
export { CACHE_BLOCK_TOKENS } from './cache.js';
export { CHOICE_WORDS } from './choice.js';
export { lossChunkRows } from './loss.js';
export * from './rule.js';
export { expectHeadsCut } from './shard-heads.js';
export { TARGET_LOSSES, type TargetLoss } from './target-loss.js';

const RULES: ReadonlyMap<string, OpRule> = new Map(
  [
    activation,
    activationBackward,
    adagrad,
    adamw,
    add,
    addLayerNorm,
    addRmsNorm,
    allGather,
    allReduce,
    allToAll,
    attention,
    attentionBackward,
    attentionCached,
    barrier,
    blockDequantise,
    blockQuantise,
    broadcast,
    cast,
    chooseToken,
    clipFactor,
    copy,
    diskRead,
    diskWrite,
    dropout,
    embedding,
    embeddingBackward,
    fanOut,
    fill,
    gatedActivation,
    gatedActivationBackward,
    gatherRows,
    headsToParts,
    kvAppend,
    layerNorm,
    layerNormBackward,
    linear,
    linearBackwardInput,
    linearBackwardWeight,
    linearCrossEntropy,
    linearCrossEntropyGrad,
    linearNf4,
    linearNf4BackwardInput,
    lion,
    logSumExp,
    muon,
    recv,
    partsToHeads,
    reduceScatter,
    rmsNorm,
    rmsNormBackward,
    rotary,
    scale,
    send,
    sendRecv,
    sgd,
    softmax,
    softmaxBackward,
    sumSquares,
    targetLoss,
    targetLossBackward,
    vocabularyLogits,
    vocabularyLoss,
    vocabularyLossGrad,
  ].map((rule) => [rule.kind, rule]),
);

/** All kinds, in alphabetical order. */
export function opKinds(): readonly string[] {
  return [...RULES.keys()];
}

/** The rule of a kind. An unknown kind is a bug of the pass that made it. */
export function ruleOf(kind: string): OpRule {
  const rule = RULES.get(kind);
  if (!rule) throw new Error(`no op is called ${kind}`);
  return rule;
}
