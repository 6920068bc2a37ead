// Prompts of a file or of standard input: a line each. A line that is a JSON object has a `prompt`, or `messages` of a chat.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { DataError } from '../common/index.js';
import type { ChatMessage } from '../data/index.js';

const lineSchema = z.union([
  z.strictObject({ prompt: z.string() }),
  z.strictObject({ messages: z.array(z.strictObject({ role: z.string(), content: z.string() })).min(1) }),
]);

/** Text to continue, or a chat to answer. */
export type Prompt = string | readonly ChatMessage[];

/** Reads `file`, or standard input where it is `-`. Empty lines are left out. */
export async function readPrompts(file: string): Promise<readonly Prompt[]> {
  const input = file === '-' ? process.stdin : createReadStream(file);
  const prompts: Prompt[] = [];
  let number = 0;
  try {
    for await (const line of createInterface({ input })) {
      number += 1;
      if (line.trim() === '') continue;
      prompts.push(line.startsWith('{') ? decode(line, `${file}:${number}`) : line);
    }
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError({ place: file, detail: `cannot be read: ${(cause as Error).message}` }, { cause });
  }
  if (prompts.length === 0) throw new DataError({ place: file, detail: 'holds no prompt' });
  return prompts;
}

function decode(line: string, place: string): Prompt {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DataError({ place, detail: `is not JSON (${(cause as Error).message})` }, { cause });
  }
  const found = lineSchema.safeParse(value);
  if (!found.success) {
    throw new DataError({ place, detail: 'must have a text `prompt`, or `messages` with a role and a content each' });
  }
  return 'prompt' in found.data ? found.data.prompt : found.data.messages;
}
