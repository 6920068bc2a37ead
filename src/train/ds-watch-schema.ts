// Blocks of a ds_config.json about what is seen of a run, as zod schemas: monitors, profilers. What they mean: ds-watch.ts.
import { z } from 'zod';

const flag = z.boolean();

const monitor = z.strictObject({
  enabled: flag.default(false),
  /** Where the folder `job_name` is made. Default: the folder that the script runs in. */
  output_path: z.union([z.string(), z.null()]).default(''),
  job_name: z.string().min(1).default('DeepSpeedJobName'),
});

const flopsProfiler = z.strictObject({
  enabled: flag.default(false),
  /** Counts from 1. */
  profile_step: z.int().min(1).default(1),
  /** How many kinds of instructions the table has where it is not `detailed`. */
  top_modules: z.int().min(1).default(1),
  detailed: flag.default(true),
  output_file: z.union([z.string().min(1), z.null()]).default(null),
  module_depth: z.int().optional(),
  recompute_fwd_factor: z.number().min(0).optional(),
});

const commsLogger = z.strictObject({
  enabled: flag.default(false),
  prof_all: flag.default(true),
  /** Where not all: names of collectives, e.g. all_reduce. */
  prof_ops: z.array(z.string()).default([]),
  verbose: flag.optional(),
  debug: flag.optional(),
});

export const WATCH_FIELDS = {
  tensorboard: monitor.optional(),
  csv_monitor: monitor.optional(),
  flops_profiler: flopsProfiler.optional(),
  comms_logger: commsLogger.optional(),
  wall_clock_breakdown: flag.default(false),
};

export const WATCH_KEYS: readonly string[] = [monitor, flopsProfiler, commsLogger].flatMap(({ shape }) =>
  Object.keys(shape),
);
