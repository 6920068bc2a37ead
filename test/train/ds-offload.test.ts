// ds_config: what is offloaded, where to, and what contradicts that.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PARAMETERS_ON_HOST } from '#src/engine/index.js';
import type { DsConfigInput } from '#src/train/index.js';
import { resolved } from './ds-config-for-tests.js';

const offloaded = async (block: object, stage = 2, more: object = {}) =>
  (await resolved({ zero_optimization: { stage, offload_optimizer: block }, ...more } as DsConfigInput)).offload;

test('an offloaded optimizer has the keys of DeepSpeed', async () => {
  assert.deepEqual(await offloaded({ device: 'none' }), {});
  assert.deepEqual(await offloaded({ device: 'cpu', pin_memory: true, ratio: 0.4 }), {
    optimizer: { device: 'cpu', ratio: 0.4 },
  });
  const { optimizer } = await offloaded(
    { device: 'nvme', nvme_path: '/fast', buffer_count: 6, buffer_size: 1000, pipeline_write: false },
    3,
    { aio: { block_size: 262144, queue_depth: 32, thread_count: 2, single_submit: true, overlap_events: false } },
  );
  assert.deepEqual(optimizer, {
    device: 'nvme',
    ratio: 1,
    tileElements: 1000,
    slots: 2,
    poolElements: 6000,
    file: {
      folder: '/fast/raylite-offload',
      blockBytes: 262144,
      queueDepth: 32,
      threads: 2,
      singleSubmit: true,
      overlapEvents: false,
    },
  });
  const grouped = await resolved({
    zero_optimization: { stage: 2, sub_group_size: 5000, offload_optimizer: { device: 'cpu' } },
  });
  assert.equal(grouped.offload.optimizer?.tileElements, 5000);
  assert.deepEqual(grouped.notes, []);
});

test('keys of offload that contradict each other are refused with what to do', async () => {
  await assert.rejects(offloaded({ device: 'cpu' }, 0), /stage: expected 1, 2 or 3 with offload_optimizer, got 0/);
  await assert.rejects(offloaded({ device: 'nvme' }), /nvme_path: expected a folder on a local disk.*device to "cpu"/);
  await assert.rejects(
    offloaded({ device: 'cpu', nvme_path: '/fast' }),
    /nvme_path: expected a path together with device "nvme", got "\/fast"/,
  );
  await assert.rejects(offloaded({ device: 'cpu', ratio: 0 }), /ratio/);
  await assert.rejects(
    offloaded({ device: 'nvme', nvme_path: '/fast' }, 2, { aio: { block_size: 1000 } }),
    /aio\.block_size/,
  );
  await assert.rejects(
    resolved({ zero_optimization: { stage: 3, offload_param: { device: 'nvme' } } }),
    /offload_param\.nvme_path: expected a folder on a local disk.*device to "cpu"/,
  );
  await assert.rejects(
    resolved({ zero_optimization: { stage: 2, offload_param: { device: 'cpu' } } }),
    /stage: expected 3 with offload_param, got 2/,
  );
  const { zeroTuning } = await resolved({ zero_optimization: { stage: 3, offload_param: { device: 'cpu' } } });
  assert.deepEqual(zeroTuning.offloadParam, PARAMETERS_ON_HOST);
  const onDisk = async (block: object) =>
    (
      await resolved({
        zero_optimization: { stage: 3, offload_param: { device: 'nvme', nvme_path: '/fast', ...block } },
      })
    ).zeroTuning.offloadParam!;
  const { file, ...byDefault } = await onDisk({ pin_memory: true });
  assert.deepEqual(byDefault, { hostElementsMax: 1e9, buffers: 5, bufferElements: 1e8 });
  assert.equal(file?.folder, '/fast/raylite-offload');
  const given = await onDisk({ max_in_cpu: 0, buffer_count: 2, buffer_size: 5000 });
  assert.deepEqual({ ...given, file }, { hostElementsMax: 0, buffers: 2, bufferElements: 5000, file });
  await assert.rejects(onDisk({ ratio: 0.5 }), /ratio/);
});
