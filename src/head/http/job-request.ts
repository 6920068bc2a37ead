// What `POST /api/jobs/` accepts: Ray's names, checked at the door.
import { z } from 'zod';
import { ConfigError, isDeviceAmount, type JobId, newJobId } from '../../common/index.js';
import type { JobRequest } from '../entities.js';
import type { PackageStore } from '../packages.js';
import { demandFor } from '../scheduler/place.js';
import { parsedBody } from './parsed-body.js';

const text = (max: number) => z.string().max(max);
const amount = z.number().min(0).max(1e9);
/** An id becomes part of a file name and of URLs. */
const submissionId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, ".", "_" and "-", at most 100');

export const jobRequestSchema = z.strictObject({
  entrypoint: text(10_000).min(1),
  submission_id: submissionId.optional(),
  runtime_env: z
    .strictObject({
      working_dir: z
        .string()
        .regex(
          /^package:[0-9a-f]{64}$/,
          '"package:<sha256>" of an uploaded package; this server fetches nothing by itself',
        )
        .optional(),
      env_vars: z
        .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'names of environment variables'), text(32_768))
        .optional(),
    })
    .optional(),
  metadata: z.record(text(200), text(10_000)).optional(),
  entrypoint_num_cpus: amount.optional(),
  entrypoint_num_gpus: amount
    .refine(isDeviceAmount, 'a part of one GPU (at most 1) or a whole number of them')
    .optional(),
  entrypoint_memory: amount.max(2 ** 50).optional(),
  entrypoint_resources: z.record(text(200).min(1), amount).optional(),
  entrypoint_label_selector: z.record(text(200), text(1000)).optional(),
});

export type JobSubmission = z.infer<typeof jobRequestSchema>;

/** Throws {@link ConfigError} naming the first field that is wrong. */
export function jobIn(body: unknown, packages: PackageStore): JobRequest {
  const wanted = parsedBody(jobRequestSchema, body);
  const sha256 = wanted.runtime_env?.working_dir?.slice('package:'.length) ?? '';
  if (sha256 !== '' && !packages.has(sha256)) {
    throw new ConfigError(
      'runtime_env.working_dir',
      'a package that was uploaded (PUT /api/packages/<sha256>)',
      sha256,
    );
  }
  const needs: Record<string, number> = { ...wanted.entrypoint_resources };
  if (wanted.entrypoint_num_cpus !== undefined) needs.CPU = wanted.entrypoint_num_cpus;
  if (wanted.entrypoint_num_gpus !== undefined) needs.GPU = wanted.entrypoint_num_gpus;
  if (wanted.entrypoint_memory !== undefined) needs.memory = wanted.entrypoint_memory;
  return {
    jobId: (wanted.submission_id as JobId | undefined) ?? newJobId(),
    entrypoint: wanted.entrypoint,
    runtimeEnv: { package: sha256, envVars: wanted.runtime_env?.env_vars ?? {} },
    demand: demandFor({
      needs,
      selector: wanted.entrypoint_label_selector ?? {},
      strategy: 'DEFAULT',
      locality: [],
    }),
    metadata: wanted.metadata ?? {},
  };
}
