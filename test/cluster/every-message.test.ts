// Every message of the protocol lost, with what follows it lost, doubled, and late, one by one, while a driver does all that
// makes messages on two nodes: no call runs twice unless retries were asked for, none is lost without a word. The names come
// from proto/, so that a new message is tried as soon as it is there. Those of a conversation all in one run; in the nightly
// lane also each by itself.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { ENVELOPES, type Envelope, messagesOf } from '#src/protocol/index.js';
import { FaultBench } from '../client/support/fault-bench.js';
import type { Told } from '../client/support/fault-driver.js';

const isNightly = process.env.RAYLITE_TEST_NIGHTLY === '1';
const PROTO = new URL('../../../../proto/', import.meta.url);

/** The parts of the driver's work that make the messages of an envelope. */
const TO_HEAD = ['named', 'kept', 'group', 'crashed', 'unborn', 'deep', 'tasks', 'calls', 'told', 'refused'];
const TO_NODE = ['calls', 'tasks', 'crashed', 'unborn', 'job', 'surveyed', 'told'];
const TO_AGENT = ['spilled', 'several', 'handedOn', 'surveyed', 'retriedCalls', 'retriedTasks', 'tasks', 'calls'];
const RETRIED = ['retriedCalls', 'retriedTasks', 'items', 'several', 'handedOn'];
const PARTS: Readonly<Record<Envelope, readonly string[]>> = {
  Frame: [...RETRIED, 'calls', 'tasks', 'itemRefs', 'shelf', 'cancelled'],
  ClientToHead: TO_HEAD,
  HeadToClient: TO_HEAD,
  NodeToHead: TO_NODE,
  HeadToNode: TO_NODE,
  ProcessToAgent: TO_AGENT,
  AgentToProcess: TO_AGENT,
};
/** Messages that need work of their own. */
const OWN_PARTS: Readonly<Record<string, readonly string[]>> = {
  'ClientToHead.explainLease': ['late'],
  'HeadToClient.waiting': ['late'],
  'ProcessToAgent.lingering': ['lingers'],
};
/** Armed beside these, so that a stream that stands is opened again. */
const BROKEN_BEFORE: Readonly<Record<string, string>> = {
  'NodeToHead.hello': 'NodeToHead.beat',
  'HeadToNode.welcome': 'NodeToHead.beat',
};
/** What this work does not bring about, and what a loss of it comes to. */
const UNTRIED: Readonly<Record<string, string>> = {
  'NodeToHead.bye': 'a node that leaves: without it the head waits for it to come back, then gives it up',
  'NodeToHead.drain': 'a node that is to leave: it says so again in its next greeting (drain.test.ts)',
  'HeadToClient.nodesDraining': 'nodes that are to leave: told again with the next change, and behind the next welcome',
  'HeadToNode.drain': 'a node that is to leave: told again behind its next greeting',
  'HeadToNode.free': 'a node that was given up: it hears so when it greets again',
  'AgentToProcess.failure': 'a refusal; lost, it is a lost agent as any',
};
/** Parts that read what another process owns, which may end. */
const OF_OTHERS = ['itemRefs', 'shelf', 'calls', 'lingers'];
const ROUNDS_MAX = 10;

/** What a call without retries may come to when its stream broke. */
const UNSURE = ['RAYLITE_ACTOR_UNAVAILABLE', 'RAYLITE_ACTOR_DIED', 'RAYLITE_WORKER_CRASHED', 'RAYLITE_OWNER_DIED'];

test('all conversations of proto/ are tried', () => {
  const texts = readdirSync(PROTO).map((name) => readFileSync(new URL(name, PROTO), 'utf8').replaceAll(/\/\/.*/g, ''));
  const all = texts.join('\n');
  const types = [...all.matchAll(/^message (\w+)/gm)].map(([, name]) => name!);
  const isField = (type: string): boolean => new RegExp(`[ ,;{]${type}>? \\w+ = \\d`).test(all);
  // Transfers have a connection each (test/node/transfer.test.ts); Fields are bytes within a Failure.
  assert.deepEqual(
    types.filter((type) => !isField(type)).sort(),
    [...ENVELOPES, 'TransferRequest', 'TransferReply', 'Fields'].sort(),
  );
  for (const envelope of ENVELOPES) {
    const body = new RegExp(`message ${envelope} \\{([^]*?)\n\\}`).exec(all)?.[1] ?? '';
    const fields = [...body.matchAll(/(\w+) = \d+;/g)].map(([, name]) =>
      name!.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase()),
    );
    assert.deepEqual(fields.filter((name) => name !== 'requestId').sort(), [...messagesOf(envelope)].sort());
  }
});

describe('faults', { timeout: 3_000_000 }, () => {
  const bench = new FaultBench();
  const usual = new Map<string, Told>(); // what each part comes to when nothing is lost
  before(async () => {
    await bench.open();
    const parts = [...new Set([...Object.values(PARTS), ...Object.values(OWN_PARTS)].flat())];
    for (const [part, told] of Object.entries(await bench.run('usual', parts))) {
      assert.ok('value' in told, `${part}: ${JSON.stringify(told)}`);
      usual.set(part, told);
    }
  });
  after(() => bench.close());

  afterEach(() => bench.disarm());

  /** Does the work until the fault has befallen all of `names`. */
  async function befalls(
    names: readonly string[],
    fault: string,
    parts: readonly string[],
    key: string,
  ): Promise<void> {
    for (const name of names) {
      bench.arm(name, fault);
      const other = BROKEN_BEFORE[name];
      if (other && names.length === 1) bench.arm(other, 'requestLost');
    }
    for (let round = 0; round < ROUNDS_MAX && bench.armed.length > 0; round += 1) {
      await holds(names, fault, parts, `${key}-${round}`);
      if (bench.armed.length > 0) await bench.leave(); // some messages are of the end
    }
    assert.deepEqual(bench.armed, [], 'it befell no message');
  }

  async function holds(names: readonly string[], fault: string, parts: readonly string[], key: string): Promise<void> {
    const told = await bench.run(key, parts);
    const isLoss = fault === 'requestLost' || fault === 'replyLost';
    const isOfAgent = names[0]!.includes('Agent');
    for (const [part, came] of Object.entries(told)) {
      const expected = JSON.stringify(usual.get(part));
      if (JSON.stringify(came).replaceAll(key, 'usual') === expected) continue;
      const shown = `${part}: ${JSON.stringify(came)}, not ${expected}`;
      assert.ok(isLoss, shown);
      if (part === 'driver') {
        assert.ok(isOfAgent, shown);
      } else if ('code' in came) {
        const isOfOwner = OF_OTHERS.includes(part) && UNSURE.includes(came.code);
        assert.ok(isOfOwner || (isOfAgent && came.code === 'RAYLITE_CONNECTION'), shown);
      } else if (part === 'calls' || part === 'tasks') {
        for (const each of came.value as Told[])
          assert.ok('value' in each || isOfAgent || UNSURE.includes(each.code), shown);
      } else assert.fail(shown);
    }
    const ran = bench.notesOf(key);
    const once = ran.filter((note) => !note.includes('retried'));
    assert.equal(new Set(once).size, once.length, `ran twice: ${once}`);
    for (const part of ['calls', 'tasks', 'retriedCalls', 'retriedTasks'])
      for (const each of valuesOf(told[part])) assert.ok(ran.includes(each), `${each} was answered and did not run`);
  }

  for (const envelope of ENVELOPES) {
    const names = messagesOf(envelope).map((field) => `${envelope}.${field}`);
    const tried = names.filter((name) => !(name in UNTRIED));
    const parts = PARTS[envelope];
    const common = tried.filter((name) => !(name in OWN_PARTS));
    test(`all messages of ${envelope} lost`, () => befalls(common, 'requestLost', parts, `${envelope}-lost`));
    test(`all messages of ${envelope} doubled`, () => {
      const later = common.filter((name) => !(name in BROKEN_BEFORE)); // once a stream, and none breaks
      return befalls(later, 'doubled', parts, `${envelope}-doubled`);
    });
    for (const fault of ['requestLost', 'replyLost', 'doubled', 'delayed']) {
      // A frame leaves as a whole: what is in it is not late by itself.
      if (envelope === 'Frame' && fault === 'delayed') continue;
      for (const name of tried.filter((each) => isNightly || (fault === 'requestLost' && each in OWN_PARTS)))
        test(`${name} ${fault}`, () => befalls([name], fault, OWN_PARTS[name] ?? PARTS[envelope], `${name}-${fault}`));
    }
  }
});

/** What calls came to that were answered. */
const valuesOf = (told: Told | undefined): string[] =>
  told && 'value' in told
    ? (told.value as Told[]).flatMap((each) => ('value' in each ? [String(each.value)] : []))
    : [];
