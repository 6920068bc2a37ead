// Reading records: formats, gzip, HTTP, the Hub, and what malformed input is told.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { readRecords } from '#src/data/index.js';

let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'raylite-records-'));
});
after(() => rm(dir, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, content);
  return path;
}

async function serve(listener: RequestListener): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const ALPACA = { instruction: 'Add.', input: '1 + 1', output: '2' };
const DECODED = { kind: 'alpaca', ...ALPACA };

test('JSONL, a JSON array, gzip of both and a byte order mark give the same records', async () => {
  const jsonl = `\uFEFF${JSON.stringify(ALPACA)}\r\n\n${JSON.stringify(ALPACA)}`;
  const array = `\n${JSON.stringify([ALPACA, ALPACA], null, 1)}\n`.trimStart();
  for (const [name, content] of [
    ['a.jsonl', jsonl],
    ['a.json', array],
    ['a.jsonl.gz', gzipSync(jsonl)],
    ['b.json.gz', gzipSync(array)],
  ] as const) {
    const { records } = await readRecords(await file(name, content));
    assert.deepEqual(
      records.map(({ record }) => record),
      [DECODED, DECODED],
      name,
    );
  }
});

test('prompt/completion and messages are understood beside Alpaca, whose input may be missing', async () => {
  const lines = [
    { prompt: 'p', completion: 'c' },
    { messages: [{ role: 'user', content: 'hi' }] },
    { instruction: 'Say hi.', output: 'hi' },
  ];
  const { records } = await readRecords(
    await file('mixed.jsonl', lines.map((line) => JSON.stringify(line)).join('\n')),
  );
  assert.deepEqual(
    records.map(({ record }) => record.kind),
    ['completion', 'chat', 'alpaca'],
  );
});

test('a malformed line is an error with file and line; skipBad leaves it out and counts it', async () => {
  const path = await file(
    'bad.jsonl',
    `${JSON.stringify(ALPACA)}\n{"instruction": oops}\n{"instruction": 1, "output": "x"}\n`,
  );
  await assert.rejects(readRecords(path), {
    code: 'RAYLITE_DATA',
    place: `${path}:2`,
    message: /is not JSON.*--skip-bad/,
  });
  const read = await readRecords(path, { skipBad: true });
  assert.equal(read.records.length, 1);
  assert.equal(read.skipped, 2);
  assert.deepEqual(read.skippedPlaces, [`${path}:2`, `${path}:3`]);
  const wrongType = await file('type.jsonl', '{"instruction": 1, "output": "x"}\n');
  await assert.rejects(readRecords(wrongType), /type\.jsonl:1: instruction: expected text, got 1/);
});

test('a broken JSON array names the line; a record in it names its number', async () => {
  const broken = await file('broken.json', '[\n {"instruction": "a", "output": "b"},\n {]\n');
  await assert.rejects(readRecords(broken), /broken\.json:3: is not JSON/);
  const wrong = await file('wrong.json', JSON.stringify([ALPACA, { text: 'x' }]));
  await assert.rejects(
    readRecords(wrong),
    /wrong\.json: record 2: expected instruction and output.*got the fields text/,
  );
});

test('missing files, folders, empty files, binary files and damaged gzip are told apart', async () => {
  await assert.rejects(readRecords(join(dir, 'none.jsonl')), /data: expected an existing file.*none\.jsonl/);
  await assert.rejects(readRecords(dir), /It is not a regular file/);
  await assert.rejects(readRecords(await file('empty.jsonl', '')), /at least one record.*The file is empty/);
  await assert.rejects(readRecords(await file('binary', new Uint8Array([0xff, 0xfe, 0x80]))), /is not UTF-8/);
  const cut = gzipSync(JSON.stringify(ALPACA)).subarray(0, 20);
  await assert.rejects(readRecords(await file('cut.gz', cut)), /is damaged gzip/);
});

test('http URLs are read, and a refusal or an unreachable host says so', async () => {
  await using server = await serve((request, response) => {
    response.writeHead(request.url === '/a.jsonl' ? 200 : 403).end(JSON.stringify(ALPACA));
  });
  assert.equal((await readRecords(`${server.url}/a.jsonl`)).records.length, 1);
  await assert.rejects(readRecords(`${server.url}/b.jsonl`), /answered 403/);
  await assert.rejects(readRecords('http://127.0.0.1:9/a.jsonl'), { code: 'RAYLITE_CONNECTION' });
});

test('hf:OWNER/NAME takes the first usual file, hf:OWNER/NAME/FILE that one, with the token', async () => {
  const asked: string[] = [];
  await using hub = await serve((request, response) => {
    asked.push(`${request.url} ${request.headers.authorization ?? ''}`);
    response.writeHead(request.url?.endsWith('/data.json') ? 200 : 404).end(JSON.stringify([ALPACA]));
  });
  const options = { hubUrl: hub.url, hubToken: 'secret' };
  const { records } = await readRecords('hf:someone/set', options);
  assert.equal(records[0]?.place, 'hf:someone/set/data.json: record 1');
  assert.equal(asked.at(-1), '/datasets/someone/set/resolve/main/data.json Bearer secret');
  await assert.rejects(readRecords('hf:someone/set/x.jsonl', options), /x\.jsonl: answered 404/);
  await assert.rejects(readRecords('hf:someone', options), /expected hf:OWNER\/NAME/);
});
