// What a training record may look like, and the checks at the door: Alpaca, prompt/completion, or chat messages.
import { show } from '../common/index.js';
import type { ChatMessage } from './chat-template.js';

/** One instruction of a training set, in any of the three formats. */
export type InstructionRecord =
  | { readonly kind: 'alpaca'; readonly instruction: string; readonly input: string; readonly output: string }
  | { readonly kind: 'completion'; readonly prompt: string; readonly completion: string }
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] };

/** A record and where it came from ("file:line"), for messages. */
export interface Placed<R> {
  readonly place: string;
  readonly record: R;
}

/** An instruction with its place in the file. */
export type PlacedRecord = Placed<InstructionRecord>;

/** Decodes one parsed JSON value; a string says what is wrong with it. */
export function decodeRecord(value: unknown): InstructionRecord | string {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return `expected a JSON object, got ${show(value)}`;
  const fields = value as Readonly<Record<string, unknown>>;
  if ('messages' in fields) return decodeChat(fields.messages);
  if ('prompt' in fields || 'completion' in fields) {
    const { prompt, completion } = fields;
    if (typeof prompt !== 'string') return `prompt: expected text, got ${show(prompt)}`;
    if (typeof completion !== 'string') return `completion: expected text, got ${show(completion)}`;
    return { kind: 'completion', prompt, completion };
  }
  const { instruction, input, output } = fields;
  if (instruction === undefined && output === undefined)
    return `expected instruction and output, prompt and completion, or messages; got the fields ${Object.keys(fields).join(', ') || '(none)'}`;
  if (typeof instruction !== 'string') return `instruction: expected text, got ${show(instruction)}`;
  if (input !== undefined && input !== null && typeof input !== 'string')
    return `input: expected text, got ${show(input)}`;
  if (typeof output !== 'string') return `output: expected text, got ${show(output)}`;
  return { kind: 'alpaca', instruction, input: input ?? '', output };
}

function decodeChat(messages: unknown): InstructionRecord | string {
  if (!Array.isArray(messages) || messages.length === 0) return `messages: expected a list, got ${show(messages)}`;
  const decoded: ChatMessage[] = [];
  for (const [index, message] of messages.entries()) {
    const { role, content } = (message ?? {}) as { readonly role?: unknown; readonly content?: unknown };
    if (typeof role !== 'string' || typeof content !== 'string')
      return `messages[${index}]: expected role and content as text, got ${show(message)}`;
    decoded.push({ role, content });
  }
  return { kind: 'chat', messages: decoded };
}
