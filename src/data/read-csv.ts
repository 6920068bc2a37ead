// Reads CSV (RFC 4180): the first row names the columns, quoted fields may hold commas, doubled quotes and line breaks.
import type { PlacedValue } from './read-records.js';

/** Each row as an object of texts by column. A row with another number of fields is told as such. */
export async function* csvRows(name: string, lines: AsyncIterable<string>): AsyncGenerator<PlacedValue> {
  let columns: readonly string[] | null = null;
  let open = ''; // of a quoted field that goes on in the next line
  let line = 0;
  let first = 0;
  for await (const text of lines) {
    line += 1;
    const row: string = open === '' ? text.replace(/^\uFEFF/, '') : `${open}\n${text}`;
    if (open === '') first = line;
    open = hasOpenQuote(row) ? row : '';
    if (open !== '' || row.trim() === '') continue;
    const fields = fieldsOf(row.replace(/\r$/, ''));
    if (columns === null) columns = fields.map((field) => field.trim());
    else yield placed(`${name}:${first}`, columns, fields);
  }
  if (open !== '') yield { place: `${name}:${first}`, detail: 'opens a quote that no later line closes' };
}

function placed(place: string, columns: readonly string[], fields: readonly string[]): PlacedValue {
  if (fields.length !== columns.length)
    return { place, detail: `has ${fields.length} fields where the first line names ${columns.length} columns` };
  return { place, value: Object.fromEntries(columns.map((column, index) => [column, fields[index]])) };
}

const hasOpenQuote = (row: string): boolean => (row.split('"').length - 1) % 2 === 1;

function fieldsOf(row: string): string[] {
  const fields: string[] = [];
  for (const [, quoted, plain] of `,${row}`.matchAll(/,(?:"((?:[^"]|"")*)"|([^,]*))/g))
    fields.push(quoted === undefined ? (plain ?? '') : quoted.replaceAll('""', '"'));
  return fields;
}
