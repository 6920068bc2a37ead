// The API reference can be written from the types: every link in a docstring leads somewhere, and every door has its page.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';

/** TypeDoc comes from the npm registry when it is asked for. */
function registryProblem(): string | false {
  if (existsSync('build/typedoc/node_modules/typedoc')) return false;
  const { status } = spawnSync('npm', ['view', 'typedoc', 'name', '--fetch-retries', '1'], { stdio: 'ignore' });
  return status === 0 ? false : 'no npm registry to take TypeDoc from';
}

test('the reference has a page for every door', { skip: registryProblem() }, async () => {
  await promisify(execFile)('npm', ['run', '--silent', 'docs']);
  const modules = readFileSync('build/docs/modules.html', 'utf8');
  for (const door of ['raylite', 'train', 'data', 'models', 'infer', 'tensors', 'engine'])
    assert.ok(modules.includes(door), door);
  const trainer = readFileSync('build/docs/classes/raylite_train.Trainer.html', 'utf8');
  assert.ok(trainer.includes('Trains a model by a recipe'));
});
