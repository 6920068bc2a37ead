// Prompt templates: how a record becomes the text before the answer, and the answer.
import type { InstructionRecord } from './records.js';

/**
 * `alpaca`: the template of Stanford Alpaca, word for word. `short`: instruction and input on one line and "Answer:" on the
 * next, for small models whose tokens are better spent on the task; answers start with a space, so that a word is the same
 * token first and later.
 */
export type PromptTemplate = 'alpaca' | 'short';

/** What the model is given for an instruction; the answer follows directly. */
export function promptOf(instruction: string, input: string, template: PromptTemplate): string {
  if (template === 'short') return `${instruction}${input === '' ? '' : ` ${input}`}\nAnswer:`;
  return input === ''
    ? 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n' +
        `### Instruction:\n${instruction}\n\n### Response:\n`
    : 'Below is an instruction that describes a task, paired with an input that provides further context. ' +
        'Write a response that appropriately completes the request.\n\n' +
        `### Instruction:\n${instruction}\n\n### Input:\n${input}\n\n### Response:\n`;
}

/** Prompt and answer of a record that is not a chat. */
export function promptAndAnswer(
  record: Exclude<InstructionRecord, { kind: 'chat' }>,
  template: PromptTemplate,
): { readonly prompt: string; readonly answer: string } {
  if (record.kind === 'completion') return { prompt: record.prompt, answer: record.completion };
  const space = template === 'short' && record.output !== '' ? ' ' : '';
  return { prompt: promptOf(record.instruction, record.input, template), answer: space + record.output };
}
