// Finds a key that a JSON object text has twice: JSON.parse would keep the last one without a word.

/** The first key that some object of `text` (valid JSON) holds twice, or null. */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = []; // per nesting level: the keys seen, null for an array
  let position = 0;
  while (position < text.length) {
    const character = text[position]!;
    if (character === '"') {
      const end = stringEnd(text, position);
      const keys = open.at(-1);
      if (keys && isColonNext(text, end)) {
        const key = JSON.parse(text.slice(position, end)) as string;
        if (keys.has(key)) return key;
        keys.add(key);
      }
      position = end;
      continue;
    }
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(null);
    else if (character === '}' || character === ']') open.pop();
    position++;
  }
  return null;
}

/** The position behind the string that starts at `start`. */
function stringEnd(text: string, start: number): number {
  let position = start + 1;
  while (text[position] !== '"') position += text[position] === '\\' ? 2 : 1;
  return position + 1;
}

function isColonNext(text: string, position: number): boolean {
  let next = position;
  while (' \t\r\n'.includes(text[next] ?? '-')) next++;
  return text[next] === ':';
}
