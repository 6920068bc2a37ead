// Which steps of a run are profiled, and where their tables go: what run.profile and three blocks of a ds_config come to. Pure.
import type { DsConfig } from './ds-config-schema.js';
import type { ProfileTextOptions } from './profile-text.js';
import type { StepOrder } from './rank-messages.js';

/** A profile leaves the first steps of an attempt out, as far as there are more, and takes the mean of the next few. */
const WARM_UP_STEPS = 3;
const STEPS = 5;

export interface ProfileSettings {
  /** The one step that is profiled, from 0; null: a few behind the first ones. */
  readonly step: number | null;
  readonly text: ProfileTextOptions;
  /** A file that gets the tables too. */
  readonly outputFile: string | null;
}

/** Null where nothing asks for a profile, or none can be taken, as the notes say. */
export function resolveProfile(
  { flops_profiler: flops, comms_logger: comms, wall_clock_breakdown: isBrokenDown }: DsConfig,
  {
    isAsked,
    isOnGpus,
    totalSteps,
  }: { readonly isAsked: boolean; readonly isOnGpus: boolean; readonly totalSteps: number },
): { readonly profile: ProfileSettings | null; readonly notes: readonly string[] } {
  const isOn = {
    'flops_profiler.enabled': flops?.enabled === true,
    'comms_logger.enabled': comms?.enabled === true,
    wall_clock_breakdown: isBrokenDown,
  };
  const keys = Object.entries(isOn).flatMap(([key, on]) => (on ? [key] : []));
  if (isOnGpus)
    return {
      profile: null,
      notes: keys.map((key) => `${key} has no effect: the instructions of GPUs are not timed yet`),
    };
  if (keys.length === 0 && !isAsked) return { profile: null, notes: [] };
  const step = flops?.enabled ? flops.profile_step - 1 : null;
  if (step !== null && step >= totalSteps)
    return {
      profile: null,
      notes: [`flops_profiler.profile_step has no effect: the run ends with step ${totalSteps}`],
    };
  // Without a profiler of DeepSpeed's the table is whole.
  const kindsMax = flops?.enabled && !flops.detailed ? flops.top_modules : null;
  const collectives = comms?.enabled ? (comms.prof_all ? 'all' : comms.prof_ops) : null;
  return {
    profile: { step, text: { kindsMax, collectives }, outputFile: flops?.enabled ? flops.output_file : null },
    notes: [],
  };
}

/** What of the profile step `step` of the steps [from, totalSteps) is. */
export function profileOrder(
  { step: chosen }: ProfileSettings,
  step: number,
  from: number,
  totalSteps: number,
): StepOrder['profile'] {
  const first = chosen ?? Math.min(from + WARM_UP_STEPS, totalSteps - 1);
  const steps = chosen === null ? Math.min(STEPS, totalSteps - first) : 1;
  if (step < first || step >= first + steps) return null;
  return { steps, isFirst: step === first, isLast: step === first + steps - 1 };
}
