// The cluster token: compared in constant time, so that a wrong one says nothing about how wrong it is.
import { createHash, timingSafeEqual } from 'node:crypto';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Whether `given` is the token. */
export const isSameToken = (given: string, token: string): boolean => timingSafeEqual(digest(given), digest(token));

/** The token of an `authorization` value, or null when it is not exactly "Bearer <token>". */
export function bearerToken(header: string | undefined): string | null {
  const match = header === undefined ? null : /^Bearer ([\x21-\x7e]{1,512})$/.exec(header);
  return match?.[1] ?? null;
}
