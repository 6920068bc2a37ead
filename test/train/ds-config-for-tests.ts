// A ds_config read and resolved beside what a recipe says.
import { type DsConfigInput, readDsConfig, resolveDsConfig } from '#src/train/index.js';

/** What a recipe says where a ds_config says "auto". */
export const AUTO = {
  worldSize: 4,
  totalSteps: 100,
  learningRate: 3e-4,
  weightDecay: 0.1,
  maxGradientNorm: 0.5,
  microBatch: 2,
};

/** What a ds_config comes to. Rejects with ConfigError. */
export const resolved = async (config: DsConfigInput, auto = AUTO) => resolveDsConfig(await readDsConfig(config), auto);
