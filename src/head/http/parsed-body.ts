// The body of a request, checked against what it may be.
import type { z } from 'zod';
import { ConfigError, valueAt } from '../../common/index.js';

/** Throws {@link ConfigError} naming the first field that is wrong. */
export function parsedBody<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new ConfigError(issue.path.join('.') || 'body', issue.message, valueAt(body, issue.path));
}
