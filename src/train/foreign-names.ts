// Names that people bring along from Transformers' TrainingArguments, TRL's SFTConfig and peft, in either spelling: what they are
// called here. They are told, not taken: an option has one name.

const RUN = 'of the Trainer';
const DEEPSPEED = 'of the ds_config, "deepspeed" of the Trainer';

const FOREIGN: Readonly<Record<string, string>> = {
  batchSize: `"microBatch" (rows of a worker at a time), or "train_batch_size" ${DEEPSPEED}`,
  perDeviceTrainBatchSize: '"microBatch"',
  gradientAccumulationSteps: `"gradient_accumulation_steps" ${DEEPSPEED}`,
  lr: '"learningRate"',
  lrSchedulerType: `"scheduler" ${DEEPSPEED}`,
  warmupRatio: `"scheduler" ${DEEPSPEED}`,
  warmupSteps: `"scheduler.params.warmup_num_steps" ${DEEPSPEED}`,
  optim: `"optimizer" ${DEEPSPEED}`,
  numTrainEpochs: '"epochs"',
  maxGradNorm: '"maxGradientNorm"',
  maxLength: '"sequenceLength"',
  maxSeqLength: '"sequenceLength"',
  labelSmoothingFactor: '"labelSmoothing"',
  trainDataset: '"data"',
  dataset: '"data"',
  modelNameOrPath: '"model"',
  peftConfig: '"lora"',
  loadIn4bit: '"quantization": { "bits": 4 } beside "lora"',
  outputDir: `"run.storage" ${RUN}`,
  runName: `"run.name" ${RUN}`,
  evalDataset: '"evaluationData"',
  evalStrategy: `"run.evaluation.everySteps" ${RUN}`,
  evaluationStrategy: `"run.evaluation.everySteps" ${RUN}`,
  evalSteps: `"run.evaluation.everySteps" ${RUN}`,
  loadBestModelAtEnd: `"run.evaluation.keepBest" ${RUN}`,
  earlyStoppingPatience: `"run.evaluation.patience" ${RUN}`,
  saveSteps: `"run.checkpoint.everySteps" ${RUN}`,
  saveTotalLimit: `"run.checkpoint.numToKeep" ${RUN}`,
  resumeFromCheckpoint: `"run.resume" ${RUN}`,
  reportTo: `"run.reportTo" ${RUN}`,
  ddpTimeout: `"run.failure.collectiveTimeoutSeconds" ${RUN}`,
  loggingDir: `"run.loggingDir" ${RUN}`,
};

const folded = (name: string): string => name.replaceAll(/[_-]/g, '').toLowerCase();
const BY_FOLDED = new Map(Object.entries(FOREIGN).map(([name, here]) => [folded(name), here]));

/** What `name` of those libraries is here, quoted; null for others. */
export const hereCalled = (name: string): string | null => BY_FOLDED.get(folded(name)) ?? null;
