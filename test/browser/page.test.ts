// The page in a real browser: what a user sees of nodes, jobs, output, actors and a run, by mouse and by keyboard.
// RAYLITE_SCREENSHOTS=DIR keeps pictures of it, light and dark.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Head } from '#src/head/index.js';
import { type ClientPeer, headIn, joinDriver, joinNode, type NodePeer, TOKEN } from '../head/head-process.js';
import { chromiumPath, withoutChromium } from '../support/services.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const skip = withoutChromium();
const FIRST_OUTPUT = 'epoch 1\nstep 1 loss 9.01 <img src=x onerror=alert(1)>\n';
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

let browser: Browser;
before(async () => {
  const executablePath = chromiumPath();
  if (executablePath) browser = await chromium.launch({ executablePath });
});
after(async () => {
  await browser?.close();
});

/** A cluster of one node with an actor, two jobs and a run half way. */
async function populate(head: Head): Promise<{ readonly node: NodePeer; readonly driver: ClientPeer }> {
  const node = await joinNode(head, {
    total: { amounts: { CPU: 4, memory: 8 * GIB } },
    hostname: 'atlas',
    isHead: true,
  });
  node.send({
    beat: {
      cpuPercent: 63,
      memoryUsedBytes: 5.2 * GIB,
      memoryTotalBytes: 16 * GIB,
      storeUsedBytes: 900 * MIB,
      storeTotalBytes: 4 * GIB,
      workerCount: 2,
    },
  });
  const driver = await joinDriver(head);
  driver.send({
    requestId: 2,
    createActor: { actorId: 'actor-1', className: 'Trainer', name: 'rank-0', resources: { amounts: { CPU: 3 } } },
  });
  const order = (await node.next()).startWorker!;
  node.send({
    workerStarted: {
      workerId: order.workerId!,
      address: { workerId: 'w', nodeId: 'node-a', uds: '/run/w' },
      pid: 4242,
    },
  });
  await driver.next();
  await driver.next();
  const submit = (body: object) =>
    fetch(`${head.httpUrl}/api/jobs/`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  await submit({ entrypoint: 'node finetune.js --epochs 1', submission_id: 'tune' });
  await node.next();
  node.send({
    jobOutput: { jobId: 'tune', chunk: Buffer.from(FIRST_OUTPUT) },
  });
  await submit({ entrypoint: 'node evaluate.js', submission_id: 'wide', entrypoint_num_cpus: 4 });
  for (let step = 1; step <= 120; step += 1) {
    const loss = 2.2 + 6.8 * Math.exp(-step / 30) + 0.12 * Math.sin(step * 1.7);
    const report = {
      runId: 'run-1',
      name: 'alpaca-tiny',
      state: 'RUNNING',
      step,
      totalSteps: 300,
      loss,
      ...(step % 40 === 30 ? { evalLoss: loss + 0.1 } : {}),
      learningRate: 3e-4,
      tokensPerSecond: 15_432,
      etaSeconds: 95,
      memoryBytes: 612 * MIB,
      estimateBytes: 640 * MIB,
      workers: 2,
      restarts: 0,
    };
    driver.send({ requestId: 10 + step, reportRun: { runId: 'run-1', json: JSON.stringify(report) } });
    assert.ok((await driver.next()).done);
  }
  return { node, driver };
}

async function openPage(
  head: Head,
  colorScheme: 'light' | 'dark',
): Promise<{ readonly page: Page; readonly problems: string[] }> {
  const page = await browser.newPage({ colorScheme, viewport: { width: 1280, height: 1400 } });
  const problems: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(error.message));
  await page.goto(`${head.httpUrl}/login?token=${TOKEN}`);
  await page.getByRole('heading', { name: 'Nodes' }).waitFor();
  return { page, problems };
}

async function keepPicture(page: Page, name: string): Promise<void> {
  const dir = process.env.RAYLITE_SCREENSHOTS;
  if (dir) await page.screenshot({ path: join(dir, `${name}.png`), fullPage: true });
}

for (const colorScheme of ['light', 'dark'] as const) {
  test(`the page shows the cluster and follows it (${colorScheme})`, { skip }, async () => {
    using dir = temporaryFolder();
    await using head = await headIn(dir.path);
    const { node, driver } = await populate(head);
    using _node = node;
    using _driver = driver;
    const { page, problems } = await openPage(head, colorScheme);
    assert.equal(new URL(page.url()).search, '', 'the token does not stay in the address');
    await page.getByText('3 / 4', { exact: true }).first().waitFor();
    // Measured ten steps ago, and still the newest.
    await page.locator('dt', { hasText: 'held-out loss' }).waitFor();
    await page.getByText('waits for 4 CPU', { exact: false }).first().waitFor();
    await page.getByRole('cell', { name: 'Trainer' }).waitFor();
    await page.getByText('120 of 300 steps').waitFor();
    await page.getByRole('img', { name: /Loss over 120 points/ }).waitFor();
    assert.equal(await page.locator('.chart canvas').count(), 1);

    const show = page.getByRole('button', { name: 'Output of tune' });
    await show.focus();
    await page.keyboard.press('Enter');
    await page.getByText('step 1 loss 9.01 <img src=x onerror=alert(1)>').waitFor();
    node.send({ jobOutput: { jobId: 'tune', chunk: Buffer.from('step 2 loss 8.70\n'), offset: FIRST_OUTPUT.length } });
    await page.getByText('step 2 loss 8.70').waitFor();
    await keepPicture(page, `page-${colorScheme}`);

    await page.getByRole('button', { name: 'Stop this job' }).click();
    assert.equal((await node.next()).stopJob?.jobId, 'tune');
    node.send({ jobExited: { jobId: 'tune', exitCode: 143, signal: 'SIGTERM' } });
    await page.getByRole('cell', { name: 'stopped', exact: true }).waitFor();
    assert.deepEqual(problems, []);
    await page.close();
  });
}

test('without the login the page says how to get in', { skip }, async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  const page = await browser.newPage();
  const answer = await page.goto(head.httpUrl);
  assert.equal(answer?.status(), 401);
  await page.getByText('Open the page with the link that "raylite start --head" printed.').waitFor();
  await page.close();
});
