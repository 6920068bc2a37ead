// Training over two nodes of a cluster that uses TLS: what the ranks exchange is encrypted, and changes no number.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { usesTls } from '#src/client/index.js';
import { onTwoNodes } from './on-two-nodes.js';
import { close, tinyTrainer } from './tiny-trainer.js';

test('four workers on two nodes that talk TLS have the losses of one worker', async () => {
  process.env.RAYLITE_TLS = '1';
  try {
    await onTwoNodes(async (_nodes, storage) => {
      assert.equal(await usesTls(), true);
      const groups: string[] = [];
      const { losses } = await tinyTrainer(storage, 'four', 4, { zero: 3 }).fit({
        onProgress(event) {
          if (event.kind === 'started') groups.push(event.group);
        },
      });
      assert.deepEqual(groups, ['hierarchical']);
      const one = await tinyTrainer(storage, 'one', 1).fit();
      close(losses, one.losses);
    });
  } finally {
    delete process.env.RAYLITE_TLS;
  }
});
