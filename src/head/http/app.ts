// The HTTP routes. The guard comes before all of them, so that a route added later is closed until a token is shown.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import {
  ConfigError,
  type JobId,
  type NodeId,
  PROTOCOL_VERSION,
  RAYLITE_VERSION,
  RayliteError,
} from '../../common/index.js';
import { isSameToken } from '../../protocol/index.js';
import type { Cluster } from '../cluster.js';
import type { JobRecord } from '../entities.js';
import { explain } from '../explain.js';
import { isEnded } from '../job-state.js';
import type { PackageStore } from '../packages.js';
import { callsView, workersView } from './calls-view.js';
import { drainRequestIn } from './drain-request.js';
import { explainObject } from './explain-object.js';
import { check, checkPlace, cookieName, cookieValue, type GuardOptions, type RequestFacts } from './guard.js';
import { jobIn } from './job-request.js';
import { metricsText } from './metrics.js';
import { objectsView } from './objects-view.js';
import { SOCKET_ROUTES } from './sockets.js';
import { actorsView, clusterView, groupsView, jobsView, jobView, nodesView, nodeView, runView } from './views.js';

export interface AppOptions {
  readonly cluster: Cluster;
  readonly packages: PackageStore;
  readonly pageDir: string;
  readonly guard: GuardOptions;
  readonly headAddress: () => string;
}

const BODY_BYTES_MAX = 1024 * 1024;
const COOKIE_SECONDS = 7 * 24 * 3600;
/** Output of a job that one answer holds; the WebSocket has all of it. */
const LOG_BYTES_MAX = 16 * 1024 * 1024;

const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};

const PAGE_FILES: Readonly<Record<string, string>> = {
  '/': 'index.html',
  '/main.js': 'main.js',
  '/main.css': 'main.css',
};
const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
};

export function createApp(options: AppOptions): Hono {
  const { cluster, packages, guard } = options;
  const app = new Hono();

  app.use(async (context, next) => {
    const facts = factsOf(context);
    const isLogin = context.req.path === '/login';
    const verdict = isLogin ? checkPlace(facts, guard) : check(facts, guard);
    if (verdict.kind === 'refused') return refusal(context, verdict.status, verdict.message);
    await next();
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) context.header(name, value);
    return;
  });
  app.onError((error, context) => {
    if (error instanceof ConfigError)
      return context.json({ error: error.message, code: error.code, path: error.path }, 400);
    if (error instanceof RayliteError) return context.json({ error: error.message, code: error.code }, 409);
    return context.json({ error: 'the head failed to answer; its log says why' }, 500);
  });
  app.notFound((context) => context.json({ error: `no such page: ${context.req.path}` }, 404));

  app.get('/login', (context) => {
    const token = context.req.query('token');
    if (token === undefined) return refusal(context, 401, 'no cluster token was given');
    if (!isSameToken(token, guard.token)) return refusal(context, 403, 'the cluster token is wrong');
    const cookie = `${cookieName(guard.port)}=${cookieValue(guard.token)}`;
    context.header('set-cookie', `${cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age=${COOKIE_SECONDS}`);
    return context.redirect('/', 303);
  });

  for (const [path, file] of Object.entries(PAGE_FILES)) {
    app.get(path, (context) => {
      context.header('content-type', TYPES[file.split('.')[1]!]!);
      return context.body(readFileSync(join(options.pageDir, file), 'utf8'));
    });
  }

  app.get('/api/version', (context) => context.json({ version: RAYLITE_VERSION, protocol: PROTOCOL_VERSION }));
  app.get('/api/cluster', (context) => context.json(clusterView(cluster, options.headAddress())));
  app.get('/api/nodes', (context) => context.json(nodesView(cluster)));
  app.post('/api/nodes/:id/drain', bodyLimit({ maxSize: BODY_BYTES_MAX }), async (context) => {
    expectJson(context);
    const order = drainRequestIn(await jsonOf(context), cluster.now());
    const nodeId = context.req.param('id') as NodeId;
    const answer = await cluster.ask((request) => ({ kind: 'drainNode', nodeId, order, request }));
    if (answer.kind === 'failure') throw answer.error;
    return context.json(nodeView(cluster.state.nodes.get(nodeId)!));
  });
  app.get('/api/actors', (context) => context.json(actorsView(cluster)));
  app.get('/api/objects', async (context) => context.json(objectsView(cluster.state, await cluster.surveyObjects())));
  app.get('/api/explain/:id', async (context) => {
    const id = context.req.param('id');
    // The nodes are asked only about what the head does not know by itself.
    const found =
      explain(cluster.state, id) ??
      explainObject(cluster.state, objectsView(cluster.state, await cluster.surveyObjects()), id);
    return found ? context.json(found) : missing(context, 'actor, task, placement group, node, job, worker or object');
  });
  app.get('/api/workers', (context) => context.json(workersView(cluster.state)));
  app.get('/api/calls', async (context) => context.json(callsView(cluster.state, await cluster.surveyCalls())));
  app.get('/api/placement-groups', (context) => context.json(groupsView(cluster)));
  app.get('/api/runs', (context) => context.json(cluster.runs.list().map(runView)));
  app.get('/api/runs/:id', (context) => {
    const run = cluster.runs.get(context.req.param('id'));
    return run ? context.json({ ...runView(run), points: run.points }) : missing(context, 'run');
  });
  app.get('/metrics', (context) => {
    context.header('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    return context.body(metricsText(cluster));
  });

  jobRoutes(app, cluster, packages);
  packageRoutes(app, packages);
  return app;
}

/** Every route and WebSocket that there is, as "METHOD /path": the list that a test holds against the guard. */
export function httpCensus(): ReadonlySet<string> {
  const unused = null as never; // the routes are only looked at
  const app = createApp({
    cluster: unused,
    packages: unused,
    pageDir: '',
    guard: { token: '', port: 0, hosts: new Set() },
    headAddress: () => '',
  });
  const routes = app.routes.filter((route) => route.method !== 'ALL').map((route) => `${route.method} ${route.path}`);
  return new Set([...routes, ...SOCKET_ROUTES.map((route) => `UPGRADE ${route.path}`)]);
}

function jobRoutes(app: Hono, cluster: Cluster, packages: PackageStore): void {
  const jobOf = (context: Context): JobRecord | undefined => cluster.state.jobs.get(context.req.param('id') as JobId);

  app.post('/api/jobs/', bodyLimit({ maxSize: BODY_BYTES_MAX }), async (context) => {
    expectJson(context);
    const job = jobIn(await jsonOf(context), packages);
    const answer = await cluster.ask((request) => ({ kind: 'submitJob', job, request }));
    if (answer.kind === 'failure') throw answer.error;
    return context.json({ job_id: job.jobId, submission_id: job.jobId });
  });
  app.get('/api/jobs/', (context) => context.json(jobsView(cluster)));
  app.get('/api/jobs/:id', (context) => {
    const job = jobOf(context);
    return job ? context.json(jobView(cluster, job)) : missing(context, 'job');
  });
  app.delete('/api/jobs/:id', async (context) => {
    const job = jobOf(context);
    if (!job) return missing(context, 'job');
    if (!isEnded(job)) {
      throw new ConfigError('status', 'an ended job', job.status, `Stop it first: raylite job stop ${job.jobId}`);
    }
    await cluster.ask((request) => ({ kind: 'deleteJob', jobId: job.jobId, request }));
    return context.json({ deleted: true });
  });
  app.post('/api/jobs/:id/stop', async (context) => {
    const job = jobOf(context);
    if (!job) return missing(context, 'job');
    const wasRunning = !isEnded(job);
    await cluster.ask((request) => ({ kind: 'stopJob', jobId: job.jobId, request }));
    return context.json({ stopped: wasRunning });
  });
  app.get('/api/jobs/:id/logs', async (context) => {
    const job = jobOf(context);
    if (!job) return missing(context, 'job');
    const bytes = cluster.logs.bytesOf(job.jobId);
    const parts: Buffer[] = [];
    for await (const part of cluster.logs.read(job.jobId, Math.max(0, bytes - LOG_BYTES_MAX), bytes) ?? []) {
      parts.push(part as Buffer);
    }
    return context.json({ logs: Buffer.concat(parts).toString('utf8') });
  });
}

function packageRoutes(app: Hono, packages: PackageStore): void {
  app.get('/api/packages/:sha256', (context) => {
    const sha256 = context.req.param('sha256');
    if (context.req.method === 'HEAD') return packages.has(sha256) ? context.body(null) : missing(context, 'package');
    const found = packages.read(sha256);
    if (!found) return missing(context, 'package');
    context.header('content-type', 'application/gzip');
    context.header('content-length', String(found.bytes));
    return context.body(Readable.toWeb(found.stream) as ReadableStream);
  });
  app.put('/api/packages/:sha256', async (context) => {
    const sha256 = context.req.param('sha256');
    if (packages.has(sha256)) return context.json({ sha256, isNew: false });
    const { body } = context.req.raw;
    if (!body) throw new ConfigError('body', 'the bytes of the package', undefined);
    await packages.write(sha256, body as unknown as AsyncIterable<Uint8Array>);
    return context.json({ sha256, isNew: true });
  });
}

const missing = (context: Context, what: string): Response =>
  context.json({ error: `there is no ${what} ${context.req.path.split('/')[3]}` }, 404);

/** A form of another site can post text/plain without asking the browser first, never application/json. */
function expectJson(context: Context): void {
  if (!context.req.header('content-type')?.startsWith('application/json'))
    throw new ConfigError('content-type', '"application/json"', context.req.header('content-type'));
}

async function jsonOf(context: Context): Promise<unknown> {
  try {
    return await context.req.json();
  } catch (cause) {
    throw new ConfigError('body', 'JSON', await context.req.text(), undefined, { cause });
  }
}

function factsOf(context: Context): RequestFacts {
  const header = (name: string): string | undefined => context.req.header(name);
  return {
    method: context.req.method,
    host: header('host'),
    origin: header('origin'),
    secFetchSite: header('sec-fetch-site'),
    authorization: header('authorization'),
    cookie: header('cookie'),
  };
}

function refusal(context: Context, status: 400 | 401 | 403, message: string): Response {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) context.header(name, value);
  if (status === 401) context.header('www-authenticate', 'Bearer');
  const isPage = context.req.header('accept')?.includes('text/html') ?? false;
  if (!isPage) return context.json({ error: message }, status);
  return context.text(`${message}.\n\nOpen the page with the link that "raylite start --head" printed.\n`, status);
}
