// What `POST /api/nodes/<id>/drain` accepts: Ray's names, checked at the door.
import { z } from 'zod';
import type { DrainOrder } from '../entities.js';
import { parsedBody } from './parsed-body.js';

/** The longest time that may be given: a month. */
const SECONDS_MAX = 30 * 24 * 3600;

export const drainRequestSchema = z.strictObject({
  reason: z.enum(['idle-termination', 'preemption']).default('preemption'),
  reason_message: z.string().max(1000).default(''),
  deadline_remaining_seconds: z.number().min(0).max(SECONDS_MAX).optional(),
});

export type DrainRequest = z.input<typeof drainRequestSchema>;

/** Throws ConfigError naming the first field that is wrong. */
export function drainRequestIn(body: unknown, nowMs: number): DrainOrder {
  const wanted = parsedBody(drainRequestSchema, body);
  const seconds = wanted.deadline_remaining_seconds;
  return {
    reason: wanted.reason,
    message: wanted.reason_message,
    deadlineAtMs: seconds === undefined ? null : nowMs + 1000 * seconds,
  };
}
