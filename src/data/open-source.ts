// Opens what `--data` names – a file, an http(s) URL or hf:ID, plain or gzip – as a stream of UTF-8 text.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { ConfigError, ConnectionError, DataError } from '../common/index.js';

/** How a file, URL or data set of the Hub is opened. */
export interface SourceOptions {
  readonly signal?: AbortSignal;
  /** Base of the Hugging Face Hub; default $HF_ENDPOINT as the caller read it, else https://huggingface.co. */
  readonly hubUrl?: string;
  /** Access token for private data sets of the Hub. */
  readonly hubToken?: string;
}

/** Names of data files that data sets of the Hub use, tried in this order. */
const HUB_FILES = ['train.jsonl', 'data.jsonl', 'train.json', 'data.json', 'alpaca_data.json', 'data/train.jsonl'];

/** Chunks of decoded text of `source`, and its name for messages. Throws before the first chunk if it cannot be opened. */
export async function openSource(
  source: string,
  options: SourceOptions = {},
): Promise<{ readonly name: string; readonly chunks: AsyncIterable<string> }> {
  const opened = source.startsWith('hf:')
    ? await openHub(source, options)
    : /^https?:\/\//.test(source)
      ? { name: source, stream: await openUrl(source, options) }
      : { name: source, stream: await openFile(source) };
  return { name: opened.name, chunks: decode(opened.stream, opened.name) };
}

async function openFile(path: string): Promise<Readable> {
  try {
    if ((await stat(path)).isFile()) return createReadStream(path, { highWaterMark: 1 << 20 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
      throw new ConfigError('data', 'an existing file, an http(s) URL or hf:ID', path, undefined, { cause });
    throw new ConfigError('data', 'a readable file', path, (cause as Error).message, { cause });
  }
  throw new ConfigError('data', 'a file', path, 'It is not a regular file; name a .json or .jsonl file inside it');
}

async function openUrl(url: string, options: SourceOptions, headers: Record<string, string> = {}): Promise<Readable> {
  let response: Response;
  try {
    response = await fetch(url, { headers, ...(options.signal ? { signal: options.signal } : {}) });
  } catch (cause) {
    if (options.signal?.aborted) throw options.signal.reason;
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause);
    throw new ConnectionError(
      { address: url, detail: `cannot be reached (${reason}). Download the file by other means and pass its path` },
      { cause },
    );
  }
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new ConnectionError({ address: url, detail: `answered ${response.status} ${response.statusText}` });
  }
  return Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
}

/** hf:OWNER/NAME takes the first usual file that is there; hf:OWNER/NAME/path/in/it takes that file. */
async function openHub(source: string, options: SourceOptions): Promise<{ name: string; stream: Readable }> {
  const [owner, name, ...path] = source.slice('hf:'.length).split('/');
  if (!owner || !name) throw new ConfigError('data', 'hf:OWNER/NAME or hf:OWNER/NAME/FILE', source);
  const headers: Record<string, string> = options.hubToken ? { authorization: `Bearer ${options.hubToken}` } : {};
  const base = `${options.hubUrl ?? 'https://huggingface.co'}/datasets/${owner}/${name}/resolve/main`;
  const tried: string[] = [];
  for (const file of path.length > 0 ? [path.join('/')] : HUB_FILES) {
    try {
      return { name: `${source}/${file}`, stream: await openUrl(`${base}/${file}`, options, headers) };
    } catch (error) {
      // 404 of a guessed name means "try the next one"; anything else is the answer.
      if (path.length > 0 || !(error instanceof ConnectionError) || !/answered 404/.test(error.detail)) throw error;
      tried.push(file);
    }
  }
  throw new ConnectionError({
    address: base,
    detail: `has none of ${tried.join(', ')}. Name the file: ${source}/FILE`,
  });
}

/** Unpacks gzip by its magic bytes, whatever the name says, and decodes UTF-8. */
async function* decode(stream: Readable, name: string): AsyncGenerator<string> {
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true });
    for await (const bytes of unpack(stream)) {
      const text = decoder.decode(bytes, { stream: true });
      if (text !== '') yield text;
    }
    decoder.decode();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA')
      throw new DataError({ place: name, detail: 'is not UTF-8' }, { cause });
    if (code?.startsWith('Z_')) throw new DataError({ place: name, detail: `is damaged gzip (${message})` }, { cause });
    throw cause;
  } finally {
    stream.destroy();
  }
}

async function* unpack(stream: Readable): AsyncGenerator<Uint8Array> {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  const first = await chunks.next();
  if (first.done) return;
  const rest = async function* (): AsyncGenerator<Uint8Array> {
    yield first.value;
    for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
  };
  const isGzip = first.value[0] === 0x1f && first.value[1] === 0x8b;
  if (!isGzip) return yield* rest();
  const gunzip = createGunzip();
  const source = Readable.from(rest());
  source.on('error', (error) => gunzip.destroy(error));
  yield* source.pipe(gunzip) as AsyncIterable<Uint8Array>;
}
