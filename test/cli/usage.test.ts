// Mistakes at the command line: one clear block on stderr, exit code 2, no stack, nothing started.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { CLI } from '../support/cli.js';
import { temporaryFolder } from '../support/temporary-folder.js';

function raylite(
  args: readonly string[],
  root: string,
): { readonly code: number | null; readonly out: string; readonly err: string } {
  const env = { ...process.env, RAYLITE_TMPDIR: root, RAYLITE_TOKEN: '', RAYLITE_ADDRESS: '' };
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { env, encoding: 'utf8' });
  return { code: status, out: stdout, err: stderr };
}

for (const [args, code, words] of [
  [['start'], 2, /--head or --address/],
  [['start', '--head', '--port', 'abc'], 2, /--port: expected a port, 0 to 65535/],
  [['start', '--head', '--address', 'a:1'], 2, /nothing together with --head/],
  [['start', '--head', '--resources', '{"GPU": 1}'], 2, /--resources.GPU: expected names of your own/],
  [['start', '--head', '--object-store-memory', '1M'], 2, /--object-store-memory: expected at least 16 MiB/],
  [['start', '--address', '127.0.0.1'], 2, /--address: expected an address such as/],
  [['start', '--address', '127.0.0.1:1'], 2, /--token-file: expected the token of the cluster/],
  [
    ['start', '--address', '127.0.0.1:1', '--token', 'x'.repeat(20)],
    1,
    /127.0.0.1:1: nothing answers there \(ECONNREFUSED\)/,
  ],
  [['start', '--head', '--token-file', '/nonexistent'], 2, /--token-file: expected a file that can be read/],
  [['status'], 1, /none was started on this machine. Start one with "raylite start --head"/],
  [['job', 'submit'], 2, /missing required argument 'command'/],
  [['list', 'everything'], 2, /unknown command|too many arguments/],
  [['drain'], 2, /missing required argument 'node'/],
  [['drain', 'n', '--reason', 'boredom'], 2, /--reason: expected preemption or idle-termination/],
  [['explain'], 2, /missing required argument 'id'/],
  [['memory', '--sort-by', 'name'], 2, /Allowed choices are size, count/],
  [['nonsense'], 2, /unknown command 'nonsense'/],
] as const) {
  test(`raylite ${args.join(' ').slice(0, 60)} exits with ${code}`, () => {
    using dir = temporaryFolder();
    const result = raylite(args, dir.path);
    assert.match(result.err, words);
    assert.equal(result.code, code);
    assert.ok(!/\n\s+at /.test(result.err), 'no stack trace');
    assert.deepEqual(readdirSync(dir.path), [], 'nothing is left behind');
  });
}

test('every verb explains itself with an example', () => {
  using dir = temporaryFolder();
  for (const verb of [
    ['start'],
    ['stop'],
    ['status'],
    ['job'],
    ['job', 'submit'],
    ['job', 'logs'],
    ['list'],
    ['logs'],
    ['memory'],
    ['explain'],
    ['doctor'],
    ['estimate'],
    ['train'],
  ]) {
    const result = raylite([...verb, '--help'], dir.path);
    assert.equal(result.code, 0, verb.join(' '));
    assert.match(result.out, /Examples?:\n {2}\$ raylite /, verb.join(' '));
    assert.ok(!result.out.includes('\u001b['), 'no colours into a pipe');
  }
});
