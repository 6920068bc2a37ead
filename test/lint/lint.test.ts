// The repository's own rules hold, and each of them can fail.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkRepository } from './check.js';
import { checkDoors, doorsOf } from './doors.js';
import { checkErrorTable, errorClasses } from './error-table.js';
import { importsOf } from './imports.js';
import { checkNativeLayers, checkTypeScriptLayers } from './layering.js';
import { readRooms } from './rooms.js';
import { checkProto, checkText } from './text-rules.js';

const table = `
| folder | what | may import |
|---|---|---|
| \`src/common/\` | words | nothing of ours |
| \`src/head/\` | rules | common |
| \`src/page/\` | page | nothing of ours at run time |
| \`src/train/\` | trainer | all above but head |
| \`src/cli/\` | verbs | all |
| \`native/core/\` | executor | comm/communicator.h |
| \`native/comm/\` | collectives | core |
`;
const rooms = readRooms(table, 'src');

test('the repository keeps its rules', () => {
  assert.deepEqual(checkRepository(process.cwd()).problems, []);
});

test("a room imports only what the table allows, by the other room's door", () => {
  const sources = new Map([
    ['src/common/index.ts', ''],
    ['src/head/a.ts', "import { x } from '../common/index.js';\nimport { y } from '../common/y.js';"],
    ['src/train/b.ts', "import { x } from '../head/index.js';\nconst z = await import('../cli/index.js');"],
    ['src/cli/c.ts', "import { x } from '../head/index.js';"],
    ['src/attic/d.ts', ''],
  ]);
  assert.deepEqual(checkTypeScriptLayers(sources, rooms), [
    "src/head/a.ts:2: enters common by '../common/y.js'; its door is src/common/index.ts",
    'src/train/b.ts:1: train may not import head (ARCHITECTURE.md, table of rooms)',
    'src/train/b.ts:2: train may not import cli (ARCHITECTURE.md, table of rooms)',
    "src/attic/d.ts: src/attic/ has no row in ARCHITECTURE.md's table of rooms",
  ]);
});

test('a page that is cut off at run time may name types of every room', () => {
  const page = (statement: string) => checkTypeScriptLayers(new Map([['src/page/main.tsx', statement]]), rooms);
  assert.deepEqual(page("import type { Node } from '../head/index.js';"), []);
  assert.equal(page("import { Node } from '../head/index.js';").length, 1);
});

test('files that import each other in a ring are named, types do not make a ring', () => {
  const ring = (third: string) =>
    checkTypeScriptLayers(
      new Map([
        ['src/head/a.ts', "import './b.js';"],
        ['src/head/b.ts', "export { c } from './c.js';"],
        ['src/head/c.ts', third],
      ]),
      rooms,
    );
  assert.deepEqual(ring("import { a } from './a.js';"), [
    'src/head/a.ts: imports itself by way of src/head/b.ts → src/head/c.ts → src/head/a.ts',
  ]);
  assert.deepEqual(ring("import type { A } from './a.js';"), []);
});

test('native rooms include only what the table allows', () => {
  const sources = new Map([
    ['native/core/plan.cpp', '#include "comm/communicator.h"\n#include "plan.h"\n#include "comm/ring.h"'],
    ['native/comm/ring.cpp', '#include "core/span.h"'],
  ]);
  assert.deepEqual(checkNativeLayers(sources, readRooms(table, 'native')), [
    'native/core/plan.cpp:3: core may not include comm/ring.h (ARCHITECTURE.md, table of rooms)',
  ]);
});

test('imports are found across lines, and not in comments', () => {
  const source =
    "// import a from './a.js';\nimport {\n  type B,\n  c,\n} from './b.js';\nimport { type D } from './d.js';\n";
  assert.deepEqual(
    importsOf(source).map(({ specifier, typeOnly }) => [specifier, typeOnly]),
    [
      ['./b.js', false],
      ['./d.js', true],
    ],
  );
});

test('silenced compilers, unfinished work and missing first lines are found', () => {
  const marks = ['TO', 'DO'].join('');
  const ignore = ['biome', 'ignore lint/suspicious/noExplicitAny: no'].join('-');
  const sources = new Map([['src/x.ts', `const a = 1;\n// ${marks}: later\n// ${ignore}`]]);
  assert.deepEqual(checkText(sources), [
    'src/x.ts:1: the first line must say what the file is for',
    'src/x.ts:3: `any` is allowed nowhere: use `unknown` and a decoder',
    'src/x.ts:2: unfinished work: finish it or open an issue',
  ]);
  const directive = ['@ts', 'expect-error'].join('-');
  const text = `// Types.\n// ${directive} a text\nf(1);`;
  assert.equal(checkText(new Map([['test/a/x.test.ts', text]])).length, 1);
  assert.deepEqual(checkText(new Map([['test/a/types.test.ts', text]])), []);
});

test('the wire has no 64-bit integers', () => {
  const proto = '// A conversation.\npackage raylite;\nmessage M {\n  uint64 bytes = 1;\n  string badName = 2;\n}';
  assert.deepEqual(checkProto(new Map([['proto/m.proto', proto]])), [
    'proto/m.proto:4: a 64-bit integer: use double for amounts, string or bytes for ids',
    'proto/m.proto:5: field badName must be snake_case',
  ]);
});

test('an error class without its row, or with another code, is found', () => {
  const classes = errorClasses(
    "export class AError extends RayliteError {\n  readonly code = 'RAYLITE_A';\n  override readonly isRetryable = true;\n}\n" +
      "export class BError extends RayliteError {\n  readonly code = 'RAYLITE_B';\n}\n",
  );
  assert.deepEqual(
    checkErrorTable(classes, '| `AError` | `RAYLITE_A` | no | … |\n| `CError` | `RAYLITE_C` | no | … |'),
    [
      'README.md: AError is retryable, the table says otherwise',
      'README.md: its table of errors lacks BError',
      'README.md: its table of errors has CError, which does not exist',
    ],
  );
});

test('what users can import has a docstring, wherever it is declared', () => {
  const sources = new Map([
    ['src/a/index.ts', "export { Known, type Bare as Shown } from './parts.js';\nexport * from './more.js';"],
    ['src/a/parts.ts', '/** A. */\nexport class Known {}\nexport interface Bare {}\nexport interface Inner {}'],
    ['src/a/more.ts', '\nexport async function run() {}'],
  ]);
  const doors = doorsOf('{"exports":{".":{"types":"./dist/a/index.d.ts"},"./package.json":"./package.json"}}');
  assert.deepEqual(checkDoors(sources, doors), [
    'src/a/more.ts:2: run is exported to users without a docstring',
    'src/a/parts.ts:3: Bare is exported to users without a docstring',
  ]);
});
