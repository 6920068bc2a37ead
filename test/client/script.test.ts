// Whole scripts, as users write them: each runs in a process of its own, which must end by itself.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

const WORK = `
  export const square = (x) => x * x;
  export const speak = (text) => { console.log(text); };
  export const later = (ms, value) => new Promise((resolve) => setTimeout(resolve, ms, value));
  export const exits = (code) => { console.log('last words'); process.exit(code); };
  export class Speaker { speak(text) { console.log(text); } never() { return new Promise(() => {}); } pid() { return process.pid; } }
  export class Counter { count = 0; add(x) { return (this.count += x); } }
`;

/** Runs `main` beside the module above; gives what it printed, once it has ended. */
function run(
  t: TestContext,
  main: string,
  env: NodeJS.ProcessEnv = {},
): { readonly stdout: string; readonly stderr: string } {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-script-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'work.mjs'), WORK);
  writeFileSync(
    join(folder, 'main.mjs'),
    `import { actor, get, init, put, task, wait, WorkerCrashedError } from ${JSON.stringify(import.meta.resolve('raylite'))};
     import { Counter, exits, later, Speaker, speak, square } from './work.mjs';
     ${main}`,
  );
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, 'main.mjs')], {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, RAYLITE_TMPDIR: folder, ...env },
  });
  assert.equal(status, 0, stderr);
  return { stdout, stderr };
}

test('a script that does not close its cluster ends when its work is done, and not before', (t) => {
  const { stdout } = run(
    t,
    `await init({ numCpus: 2 });
     const counter = await actor(Counter).create();
     console.log(await counter.add(2), await get(task(square)(3)));
     const { ready } = await wait([task(later)(300, 'late')]);
     console.log(await ready[0]);`,
  );
  assert.equal(stdout, '2 9\nlate\n');
});

test('what has no result when the cluster is closed fails, and the script ends', (t) => {
  const { stdout } = run(
    t,
    `const cluster = await init({ numCpus: 2 });
     const speaker = await actor(Speaker).create();
     const placeless = actor(Counter, { cpus: 2 }).create().then((handle) => handle.add(1));
     await speaker.pid();
     const waiting = {
       running: task(later)(1e9, 0),
       queued: task(later, { cpus: 2 })(1e9, 0),
       call: speaker.never(),
       callOfPlaceless: placeless,
     };
     const told = Object.entries(waiting).map(([name, ref]) =>
       Promise.resolve(ref).then(() => console.log(name, 'has a value'), (error) => console.log(name, error.name, error.detail)));
     await cluster.close();
     await Promise.all(told);`,
  );
  const why = 'ConnectionError the connection was closed by this process';
  const lines = ['call', 'callOfPlaceless', 'queued', 'running'].map((name) => `${name} ${why}`);
  assert.deepEqual(stdout.trim().split('\n').sort(), lines);
});

test('a cluster may be closed twice, and says afterwards that it is closed', (t) => {
  const { stdout } = run(
    t,
    `const cluster = await init({ numCpus: 1 });
     const speaker = await actor(Speaker).create();
     await Promise.all([cluster.close(), cluster.close()]);
     await cluster.close();
     for (const use of [() => put(1), () => task(square)(1), () => speaker.pid(), () => actor(Counter).create()]) {
       try {
         await use();
       } catch (error) {
         console.log(error.code);
       }
     }
     const again = await init({ numCpus: 1 });
     console.log(await task(square)(2));
     await again.close();`,
  );
  assert.equal(stdout, 'RAYLITE_CONFIG\nRAYLITE_CONFIG\nRAYLITE_CONNECTION\nRAYLITE_CONFIG\n4\n');
});

test('what nobody waits for does not keep a script from ending', (t) => {
  run(
    t,
    `await init({ numCpus: 1 });
     const never = task(later)(1e9, 0);
     await get(never, { timeoutMs: 200 }).catch(() => {});`,
  );
});

test('the output of the last moments of a worker reaches the driver', (t) => {
  const { stdout } = run(
    t,
    `const cluster = await init({ numCpus: 1 });
     for (let round = 0; round < 20; round += 1) await task(speak)('round ' + round);
     await cluster.close();`,
  );
  assert.match(stdout, /round 19\n$/);
});

test('what several workers write alike is shown once and counted, unless the user wants each', (t) => {
  const main = `await init({ numCpus: 3 });
     const actors = await Promise.all([1, 2, 3].map(() => actor(Speaker, { cpus: 0 }).create()));
     for (const one of actors) await one.speak('hello from ' + (await one.pid()));`;
  const counted = run(t, main).stdout;
  assert.match(
    counted,
    /^\(Speaker pid=\d+\) hello from \d+\n\(Speaker pid=\d+\) hello from \d+ \[repeated 2x across cluster\] .*\n$/,
  );
  const each = run(t, main, { RAYLITE_DEDUP_LOGS: '0' }).stdout;
  assert.equal(each.match(/hello from/g)?.length, 3);
  assert.ok(!each.includes('repeated'));
});

test('a task whose process ended says how: its exit code and its last output', (t) => {
  const { stdout } = run(
    t,
    `await init({ numCpus: 1, logToDriver: false });
     const error = await task(exits, { maxRetries: 0 })(7).then(() => null, (caught) => caught);
     console.log(error instanceof WorkerCrashedError, error.exitCode, error.signal, error.lastLogLines.join());
     console.log(error.message.includes('its process exited with code 7 while it ran exits'));`,
  );
  assert.equal(stdout, 'true 7 null last words\ntrue\n');
});

test('a task that waits long says once what for; one that can never run waits if it is asked to', (t) => {
  const { stderr } = run(
    t,
    `await init({ numCpus: 1 });
     const run = task(square, { cpus: 8, infeasible: 'wait' });
     await get([run(1), run(2)], { timeoutMs: 4000 }).catch(() => {});`,
  );
  const told = stderr.match(/RAYLITE_WAITING/g);
  assert.equal(told?.length, 1, stderr);
  assert.match(stderr, /task square asks for 8 CPU, which no node can ever hold. The cluster has node \w+ .*: 1 CPU/);
});
