// Renders chat templates (Jinja, interpreted without access to the host) and finds which characters are the assistant's.
import { Template } from '@huggingface/jinja';
import { DataError } from '../common/index.js';

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** A chat as its template writes it. */
export interface RenderedChat {
  readonly text: string;
  /** Half-open ranges of UTF-16 offsets in `text` that `{% generation %}` encloses. */
  readonly generated: readonly (readonly [number, number])[];
}

/** For a tokenizer made from scratch, which comes with no template of its own: Alpaca's headings around the turns. */
export const PLAIN_CHAT_TEMPLATE = `{%- for message in messages -%}
{%- if not loop.first -%}{{ '\\n\\n' }}{%- endif -%}
{%- if message['role'] == 'assistant' -%}{{ '### Response:\\n' + message['content'] + eos_token }}
{%- elif message['role'] == 'user' -%}{{ '### Instruction:\\n' + message['content'] }}
{%- else -%}{{ message['content'] }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '\\n\\n### Response:\\n' }}{%- endif -%}
`;

// Private-use characters, doubled: what stands between them was written inside {% generation %}.
const OPEN = '\uE0F0\uE0F1';
const CLOSE = '\uE0F1\uE0F0';

/** Whether `template` says itself which parts are the assistant's. */
export const marksGeneration = (template: string): boolean => /\{%-?\s*generation\s*-?%\}/.test(template);

/** Renders `messages`. Throws {@link DataError} with the template's own message (`raise_exception`) where it refuses. */
export function renderChat(
  template: string,
  messages: readonly ChatMessage[],
  options: { readonly addGenerationPrompt: boolean; readonly tokens: Readonly<Record<string, string>> },
): RenderedChat {
  if (messages.some(({ content }) => content.includes(OPEN) || content.includes(CLOSE)))
    throw new DataError({ place: 'messages', detail: 'contain the private-use characters U+E0F0 U+E0F1 side by side' });
  let marked: string;
  try {
    marked = new Template(markGeneration(template)).render({
      ...options.tokens,
      messages: messages.map((message) => ({ ...message })),
      add_generation_prompt: options.addGenerationPrompt,
    });
  } catch (cause) {
    throw new DataError({ place: 'chat template', detail: (cause as Error).message }, { cause });
  }
  return unmark(marked);
}

/**
 * Replaces the tags by expressions that print the markers, with the white space that Jinja would leave around a tag
 * (trim_blocks and lstrip_blocks, as Transformers sets them).
 */
function markGeneration(template: string): string {
  return template.replace(
    /(\s*)\{%(-?)\s*(end)?generation\s*(-?)%\}(\n?)(\s*)/g,
    (_match, before: string, trimLeft: string, end: string | undefined, trimRight: string, _newline, after: string) =>
      `${trimLeft ? '' : before.replace(/(^|\n)[ \t]*$/, '$1')}{{ '${end ? CLOSE : OPEN}' }}${trimRight ? '' : after}`,
  );
}

function unmark(marked: string): RenderedChat {
  const generated: [number, number][] = [];
  let text = '';
  let from = 0;
  for (;;) {
    const open = marked.indexOf(OPEN, from);
    if (open < 0) return { text: text + marked.slice(from), generated };
    const close = marked.indexOf(CLOSE, open);
    text += marked.slice(from, open);
    const inside = marked.slice(open + OPEN.length, close < 0 ? undefined : close);
    generated.push([text.length, text.length + inside.length]);
    text += inside;
    if (close < 0) return { text, generated };
    from = close + CLOSE.length;
  }
}
