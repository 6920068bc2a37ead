// Messages lost, doubled and late, at every request to the head and every call: no call runs twice unless retries were asked
// for, and none is lost without a word.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Faults } from '#src/protocol/index.js';
import { runWithFaults } from './support/run-with-faults.js';

const METHODS =
  'createActor getActor watchActor killActor requestLease returnLease kvPut kvGet listNodes listNamedActors'.split(' ');
const FAULTS = { 'requests lost': '2:1:0', 'replies lost': '2:0:1', doubled: '9:0:0:1', late: '9:0:0:0:30' };

for (const [name, plan] of Object.entries(FAULTS)) {
  test(`with ${name} every request to the head has its effect once`, { timeout: 120_000 }, async (t) => {
    const { told, notes } = await runWithFaults(
      t,
      METHODS.map((method) => `ClientToHead.${method}=${plan}`).join(),
      `const noting = await actor(Noting, { name: 'one' }).create(notes);
       const same = await getActor('one');
       const values = await get([noting.note(1), same.note(2)]);
       const squares = await get([1, 2, 3].map((x) => task(square)(x)));
       await kvPut('key', new Uint8Array([7]));
       const kept = [...(await kvGet('key'))];
       const count = (await nodes()).length;
       const named = await listNamedActors();
       await kill(noting);
       const dead = await get(same.note(3)).catch((error) => error.code);
       console.log(JSON.stringify({ values, squares, kept, count, named: named.length, dead, left: (await listNamedActors()).length }));`,
    );
    assert.deepEqual(told, {
      values: [1, 2],
      squares: [1, 4, 9],
      kept: [7],
      count: 1,
      named: 1,
      dead: 'RAYLITE_ACTOR_DIED',
      left: 0,
    });
    assert.deepEqual([...notes].sort(), [1, 2]);
  });
}

const CALLS = `
  const noting = await actor(Noting, OPTIONS).create(notes);
  const told = [];
  for (let x = 0; x < 6; x += 1) told.push(await noting.note(x).then((value) => value, (error) => error.code));
  console.log(JSON.stringify(told));`;

for (const [name, faults] of Object.entries({
  'calls lost': 'Frame.calls=2:1:0',
  'answers lost': 'Frame.calls=2:0:1',
  'answers lost by the worker': 'Frame.results=2:1:0',
  'calls and answers doubled': 'Frame.calls=9:0:0:1,Frame.results=9:0:0:1',
})) {
  test(`with ${name} no call runs twice, and each is answered or said to be unsure`, {
    timeout: 120_000,
  }, async (t) => {
    const { told, notes } = await runWithFaults(t, faults, CALLS.replace('OPTIONS', '{}'));
    assert.equal(new Set(notes).size, notes.length);
    for (const [x, value] of (told as (number | string)[]).entries()) {
      if (typeof value === 'number') assert.ok(value === x && notes.includes(x));
      else assert.equal(value, 'RAYLITE_ACTOR_UNAVAILABLE');
    }
    const unsure = (told as unknown[]).filter((value) => typeof value === 'string').length;
    assert.equal(unsure, name.includes('lost') ? 2 : 0);
  });

  test(`with ${name} every call that may be tried again is answered`, { timeout: 120_000 }, async (t) => {
    const { told, notes } = await runWithFaults(t, faults, CALLS.replace('OPTIONS', '{ maxTaskRetries: -1 }'));
    assert.deepEqual(told, [0, 1, 2, 3, 4, 5]);
    assert.deepEqual([...new Set(notes)], [0, 1, 2, 3, 4, 5]);
  });
}

test('a list of faults that makes no sense is refused by name', () => {
  const refused = { path: 'RAYLITE_TESTING_RPC_FAILURE' };
  for (const text of ['Frame.calls', 'Frame.calls=1:x', 'Frame.call=1:1', 'calls=1:1', 'Frame=1:1'])
    assert.throws(() => new Faults(text), refused, text);
  assert.equal(new Faults('Frame.calls=0:1').next('Frame.calls'), null);
  assert.deepEqual(new Faults('Frame.*=1:0:1').next('Frame.calls'), { fault: 'replyLost', delayMs: 0 });
});
