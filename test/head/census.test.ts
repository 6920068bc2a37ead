// Nobody gets in without the token: every route of the router, every WebSocket and every gRPC method is tried.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import type { Head } from '#src/head/index.js';
import { httpCensus } from '#src/head/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { headIn, openClient, openNode, TOKEN } from './head-process.js';

const CENSUS = [
  'GET /',
  'GET /api/actors',
  'GET /api/calls',
  'GET /api/cluster',
  'GET /api/explain/:id',
  'DELETE /api/jobs/:id',
  'GET /api/jobs/',
  'GET /api/jobs/:id',
  'GET /api/jobs/:id/logs',
  'GET /api/nodes',
  'GET /api/objects',
  'GET /api/packages/:sha256',
  'GET /api/placement-groups',
  'GET /api/runs',
  'GET /api/runs/:id',
  'GET /api/version',
  'GET /api/workers',
  'GET /login',
  'GET /main.css',
  'GET /main.js',
  'GET /metrics',
  'POST /api/jobs/',
  'POST /api/jobs/:id/stop',
  'POST /api/nodes/:id/drain',
  'PUT /api/packages/:sha256',
  'UPGRADE /api/jobs/:id/logs/tail',
  'UPGRADE /api/live',
];

interface Reply {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
}

/** A request with exactly these headers: fetch would not let a test lie about Host and Origin. */
function send(
  head: Head,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body = '',
): Promise<Reply> {
  const upgrade = {
    connection: 'upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  const url = new URL(path.replace(/:\w+/g, 'x'), head.httpUrl);
  const isUpgrade = method === 'UPGRADE';
  return new Promise((resolve, reject) => {
    const sent = request(url, {
      method: isUpgrade ? 'GET' : method,
      headers: { ...(isUpgrade ? upgrade : {}), ...headers },
    });
    sent.on('response', (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(parts).toString() }),
      );
    });
    sent.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode!, headers: response.headers, body: '' });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const bearer = { authorization: `Bearer ${TOKEN}` };

test('the census names every route there is', () => {
  assert.deepEqual([...httpCensus()].sort(), [...CENSUS].sort());
});

test('without a token every route answers 401, with a wrong one 403, on any host name but ours 403', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  for (const entry of [...CENSUS, 'GET /no/such/page', 'PATCH /api/jobs/', 'OPTIONS /api/jobs/']) {
    const [method = '', path = ''] = entry.split(' ');
    assert.equal((await send(head, method, path)).status, 401, entry);
    if (path !== '/login') {
      const wrong = { authorization: 'Bearer wrong-wrong-wrong-wrong' };
      assert.equal((await send(head, method, path, wrong)).status, 403, entry);
    }
    assert.equal((await send(head, method, path, { ...bearer, host: 'evil.example' })).status, 403, entry);
    assert.equal((await send(head, method, path, { ...bearer, origin: 'http://evil.example' })).status, 403, entry);
    if (path !== '/login') {
      assert.equal((await send(head, method, path, { ...bearer, 'sec-fetch-site': 'cross-site' })).status, 403, entry);
    }
  }
});

test('malformed credentials are no credentials', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  for (const authorization of ['Bearer', 'Bearer ', `Basic ${TOKEN}`, `Bearer ${TOKEN} x`, `bearer${TOKEN}`]) {
    assert.equal((await send(head, 'GET', '/api/version', { authorization })).status, 401, authorization);
  }
  assert.equal((await send(head, 'GET', '/api/version', bearer)).status, 200);
});

test('every gRPC method refuses a stream without the token', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  for (const open of [openNode, openClient]) {
    using peer = open(head.address, 'wrong-wrong-wrong-wrong');
    assert.match(await peer.closed, /token is wrong/);
  }
});

test('the login cookie opens the page, cannot be read by scripts, and changes nothing without an origin', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  assert.equal((await send(head, 'GET', '/login?token=wrong')).status, 403);
  const login = await send(head, 'GET', `/login?token=${TOKEN}`);
  assert.equal(login.status, 303);
  const given = String(login.headers['set-cookie']);
  assert.match(given, /HttpOnly; SameSite=Strict/);
  assert.ok(!given.includes(TOKEN), 'the cookie is not the token');
  const cookie = given.split(';')[0]!;
  const page = await send(head, 'GET', '/api/version', { cookie, 'sec-fetch-site': 'same-origin' });
  assert.equal(page.status, 200);
  assert.match(
    String(page.headers['content-security-policy']),
    /default-src 'none'; script-src 'self'; style-src 'self'/,
  );
  assert.equal(page.headers['access-control-allow-origin'], undefined);
  assert.equal((await send(head, 'POST', '/api/jobs/x/stop', { cookie })).status, 403);
  assert.equal((await send(head, 'POST', '/api/jobs/x/stop', { cookie, origin: head.httpUrl })).status, 404);
  assert.equal((await send(head, 'DELETE', '/api/jobs/x', { cookie, origin: 'null' })).status, 403);
});

test('a form of another site cannot submit a job, and bad ids and offsets are refused', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  const post = (body: unknown, type = 'application/json') =>
    send(head, 'POST', '/api/jobs/', { ...bearer, 'content-type': type }, JSON.stringify(body));
  assert.equal((await post({ entrypoint: 'true' }, 'text/plain')).status, 400);
  for (const [body, path] of [
    [{}, 'entrypoint'],
    [{ entrypoint: 'true', submission_id: '../x' }, 'submission_id'],
    [{ entrypoint: 'true', entrypoint_num_cpus: -1 }, 'entrypoint_num_cpus'],
    [{ entrypoint: 'true', entrypoint_num_gpus: 1.5 }, 'entrypoint_num_gpus'],
    [{ entrypoint: 'true', runtime_env: { working_dir: 'file:///etc' } }, 'runtime_env.working_dir'],
    [{ entrypoint: 'true', surprise: 1 }, 'body'],
  ] as const) {
    const reply = await post(body);
    assert.equal(reply.status, 400);
    assert.equal((JSON.parse(reply.body) as { path: string }).path, path);
  }
  const put = await send(head, 'PUT', `/api/packages/${'0'.repeat(64)}`, bearer, 'not that');
  assert.equal(put.status, 400);
  assert.match(put.body, /content with the sha256/);
  assert.equal((await send(head, 'GET', '/api/packages/..%2f..%2fetc%2fpasswd', bearer)).status, 400);
});
