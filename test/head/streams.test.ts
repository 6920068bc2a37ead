// The head's gRPC door with a node and a driver that speak the protocol by hand.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROTOCOL_VERSION } from '#src/common/index.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { headIn, joinDriver, joinNode, openClient, openNode } from './head-process.js';

const spec = { actorId: 'actor-1', className: 'Hits', code: { module: 'file:///hits.js', name: 'Hits', package: '' } };
const address = { workerId: 'w', nodeId: 'node-a', uds: '/run/w', tcp: '' };

test('an actor is asked for, started by its node, alive, killed', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  using node = await joinNode(head);
  using driver = await joinDriver(head);
  driver.send({ requestId: 2, createActor: spec });
  const accepted = await driver.next();
  assert.equal(accepted.requestId, 2);
  assert.equal(accepted.actor?.state, 'PENDING_CREATION');
  const order = (await node.next()).startWorker!;
  assert.equal(order.actor?.className, 'Hits');
  node.send({ workerStarted: { workerId: order.workerId!, address, pid: 42 } });
  const alive = await driver.next();
  assert.deepEqual([alive.requestId, alive.actor?.state, alive.actor?.address?.uds], [0, 'ALIVE', '/run/w']);
  driver.send({ requestId: 3, killActor: { actorId: 'actor-1', noRestart: true } });
  assert.equal((await node.next()).stopWorker?.workerId, order.workerId);
  for (const requestId of [0, 3]) {
    const dead = await driver.next(); // the news to those who watch, then the answer
    assert.equal(dead.requestId, requestId);
    assert.equal(dead.actor?.state, 'DEAD');
    assert.equal(dead.actor?.death?.code, 'RAYLITE_ACTOR_DIED');
  }
});

test('what cannot ever run is refused with the whole story', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  using _node = await joinNode(head);
  using driver = await joinDriver(head);
  driver.send({ requestId: 2, requestLease: { leaseId: 'l1', resources: { amounts: { GPU: 1 } } } });
  const { failure } = await driver.next();
  assert.equal(failure?.code, 'RAYLITE_INFEASIBLE');
  assert.match(
    failure.message!,
    /asks for 1 GPU, which no node can ever hold. The cluster has node node-a \(host-a\): 2 CPU/,
  );
});

test('a wrong request fails by itself and leaves the stream usable', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  using driver = await joinDriver(head);
  driver.send({ requestId: 2, createActor: { ...spec, schedulingStrategy: 'BEST' } });
  assert.match(
    (await driver.next()).failure!.message!,
    /^schedulingStrategy: expected "DEFAULT", "SPREAD", "node:<id>" or "prefer:<id>", got "BEST"/,
  );
  driver.send({ requestId: 3, createActor: { ...spec, resources: { amounts: { CPU: -1 } } } });
  assert.match((await driver.next()).failure!.message!, /^resources.CPU: expected an amount of 0 or more, got -1/);
  driver.send({ requestId: 4, kvPut: { key: 'a', value: Buffer.from('1'), overwrite: false } });
  assert.ok((await driver.next()).done);
  driver.send({ requestId: 5, kvPut: { key: 'a', value: Buffer.from('2'), overwrite: false } });
  assert.equal(Buffer.from((await driver.next()).kvValue!.value!).toString(), '1');
});

test('a driver that leaves takes its actors with it', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  using node = await joinNode(head);
  using driver = await joinDriver(head);
  driver.send({ requestId: 2, createActor: spec });
  const order = (await node.next()).startWorker!;
  driver.send({ requestId: 3, bye: {} });
  driver[Symbol.dispose]();
  const stop = (await node.next()).stopWorker!;
  assert.equal(stop.workerId, order.workerId);
  assert.match(stop.reason!, /its driver ended/);
});

test('without the token, or with another version, nobody gets in', async () => {
  using dir = temporaryFolder();
  await using head = await headIn(dir.path);
  assert.match(await openNode(head.address, 'wrong').closed, /token is wrong/);
  assert.match(await openClient(head.address, 'wrong').closed, /token is wrong/);
  using old = openNode(head.address);
  old.send({ hello: { protocol: 99, nodeId: 'x' } });
  const versions = new RegExp(`protocol 99, the head ${PROTOCOL_VERSION}: install the same raylite version`);
  assert.match((await old.next()).welcome!.error!, versions);
  using oldDriver = openClient(head.address);
  oldDriver.send({ requestId: 1, hello: { protocol: 99, workerId: 'x', isDriver: true } });
  assert.match((await oldDriver.next()).failure!.message!, versions);
});
