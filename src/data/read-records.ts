// Reads instruction records from JSONL or a JSON array. A malformed line is an error with file and line, or counted if skipped.
import { ConfigError, DataError } from '../common/index.js';
import { openSource, type SourceOptions } from './open-source.js';
import { csvRows } from './read-csv.js';
import { decodeRecord, type InstructionRecord, type Placed } from './records.js';

/** Which records of a source are read, and what becomes of malformed ones. */
export interface ReadOptions extends SourceOptions {
  /** Leave malformed records out and count them. Default false: the first one is a {@link DataError}. */
  readonly skipBad?: boolean;
  /** Read no more than so many records. */
  readonly limit?: number;
}

/** The records of a source, with their places. */
export interface ReadResult<R = InstructionRecord> {
  readonly records: readonly Placed<R>[];
  /** Records left out because they were malformed, and where the first few were. */
  readonly skipped: number;
  readonly skippedPlaces: readonly string[];
}

const LINE_LENGTH_MAX = 64 << 20; // characters; a longer line is a binary file, not data

/** Reads all instructions of `source` (file, http(s) URL or hf:ID; JSON array, JSONL or CSV; plain or gzip). */
export function readRecords(source: string, options: ReadOptions = {}): Promise<ReadResult> {
  return readDecoded(source, decodeRecord, options);
}

/** Reads all records of `source` by `decode`, which gives a record or says in a string what is wrong with the value. */
export async function readDecoded<R extends object>(
  source: string,
  decode: (value: unknown) => R | string,
  options: ReadOptions = {},
): Promise<ReadResult<R>> {
  const { name, chunks } = await openSource(source, options);
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  const records: Placed<R>[] = [];
  const skippedPlaces: string[] = [];
  let skipped = 0;
  for await (const { place, value, detail } of values(name, chunks)) {
    if (records.length >= limit) break;
    const record = detail ?? decode(value);
    if (typeof record !== 'string') records.push({ place, record });
    else if (!options.skipBad)
      throw new DataError({
        place,
        detail: `${record}. Correct it, or leave bad records out with --skip-bad (skipBad)`,
      });
    else {
      skipped += 1;
      if (skippedPlaces.length < 5) skippedPlaces.push(place);
    }
  }
  if (records.length === 0)
    throw new ConfigError(
      'data',
      'at least one record',
      name,
      skipped > 0 ? `All ${skipped} were malformed` : 'The file is empty',
    );
  return { records, skipped, skippedPlaces };
}

/** A JSON value and where it came from; one that could not be parsed says why. */
export interface PlacedValue {
  readonly place: string;
  readonly value?: unknown;
  /** Set when the text is not JSON. */
  readonly detail?: string;
}

/**
 * By the name of the file CSV or plain text (each line is `{ text }`); else a file whose first character is `[` is one array
 * (its elements are numbered), and any other is JSONL (its lines are).
 */
async function* values(name: string, chunks: AsyncIterable<string>): AsyncGenerator<PlacedValue> {
  if (/\.csv(\.gz)?$/i.test(name)) return yield* csvRows(name, lines(name, chunks));
  if (/\.txt(\.gz)?$/i.test(name)) return yield* plainLines(name, chunks);
  let whole: string[] | null = null;
  let line = 0;
  for await (const text of lines(name, chunks)) {
    line += 1;
    if (
      whole === null &&
      line === 1 &&
      text
        .replace(/^\uFEFF/, '')
        .trimStart()
        .startsWith('[')
    )
      whole = [];
    if (whole !== null) {
      whole.push(text);
      continue;
    }
    const trimmed = text.replace(/^\uFEFF/, '').trim();
    if (trimmed === '') continue;
    try {
      yield { place: `${name}:${line}`, value: JSON.parse(trimmed) };
    } catch (error) {
      yield { place: `${name}:${line}`, detail: `is not JSON (${(error as Error).message})` };
    }
  }
  if (whole !== null) yield* elements(name, whole);
}

async function* plainLines(name: string, chunks: AsyncIterable<string>): AsyncGenerator<PlacedValue> {
  let line = 0;
  for await (const raw of lines(name, chunks)) {
    line += 1;
    const text = raw.replace(/^\uFEFF/, '').trim();
    if (text !== '') yield { place: `${name}:${line}`, value: { text } };
  }
}

function* elements(name: string, whole: readonly string[]): Generator<PlacedValue> {
  let array: unknown;
  try {
    array = JSON.parse(whole.join('\n').replace(/^\uFEFF/, ''));
  } catch (cause) {
    const message = (cause as Error).message;
    const line =
      /line (\d+)/.exec(message)?.[1] ?? lineOfPosition(whole, Number(/position (\d+)/.exec(message)?.[1] ?? 0));
    throw new DataError({ place: `${name}:${line}`, detail: `is not JSON (${message})` }, { cause });
  }
  for (const [index, value] of (array as unknown[]).entries()) yield { place: `${name}: record ${index + 1}`, value };
}

function lineOfPosition(whole: readonly string[], position: number): number {
  let end = 0;
  const index = whole.findIndex((text) => {
    end += text.length + 1;
    return position < end;
  });
  return index < 0 ? whole.length : index + 1;
}

async function* lines(name: string, chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of chunks) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop() ?? '';
    if (rest.length > LINE_LENGTH_MAX)
      throw new DataError({ place: name, detail: `has a line of over ${LINE_LENGTH_MAX} characters` });
    yield* parts;
  }
  if (rest !== '') yield rest;
}
