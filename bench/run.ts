// `npm run bench -- SUITE [--only NAME] [--json] [--no-peers] [--save]`: measures raylite and its peers in turn on the
// same cores and prints ours, theirs, the ratio, the goal, and what the machine allows.
import { parseArgs } from 'node:util';
import { CudaMissingError } from '#src/native/index.js';
import { coreSuite } from './core/suite.js';
import { engineSuite } from './engine/suite.js';
import { gpuSuite } from './gpu/suite.js';
import { type Measured, measure, type Scene } from './harness/figure.js';
import { machineName } from './harness/machine.js';
import { peerPython } from './harness/peers.js';
import { regressions, save, table } from './harness/results.js';
import { parallelSuite } from './parallel/suite.js';
import { storeSuite } from './store/suite.js';

const SUITES: Readonly<Record<string, (python: string | null) => readonly Scene[]>> = {
  core: coreSuite,
  engine: engineSuite,
  gpu: gpuSuite,
  parallel: parallelSuite,
  store: storeSuite,
};

const usage = `npm run bench -- SUITE [--only NAME] [--json] [--no-peers] [--save]

  SUITE       ${Object.keys(SUITES).join(', ')}
  --only      only the figures whose name contains NAME
  --json      one JSON line per figure instead of the table
  --no-peers  measure raylite alone, install nothing
  --save      write the figures to bench/results`;

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      only: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
      'no-peers': { type: 'boolean', default: false },
      save: { type: 'boolean', default: false },
    },
  });
  const suite = positionals[0] ?? '';
  const scenesOf = SUITES[suite];
  if (!scenesOf || positionals.length !== 1) {
    console.error(usage);
    return 2;
  }
  const isChosen = (name: string) => name.includes(values.only);
  // On a machine with a GPU its own Python has the PyTorch that goes with its driver.
  const pythonOf = suite === 'gpu' ? () => 'python3' : peerPython;
  const scenes = scenesOf(values['no-peers'] ? null : pythonOf());
  const chosen = scenes.filter(({ names }) => names.some(isChosen));
  if (chosen.length === 0) {
    console.error(`no figure's name contains "${values.only}": ${scenes.flatMap(({ names }) => names).join(', ')}`);
    return 2;
  }
  const measured: Measured[] = [];
  const worse: string[] = [];
  let path = '';
  for (const scene of chosen) {
    console.error(`bench: ${scene.names.find(isChosen)} …`);
    await using open = await scene.open();
    for (const figure of open.figures.filter(({ name }) => isChosen(name))) {
      const result = await measure(figure, suite, open.peerName, machineName());
      if (values.json) console.log(JSON.stringify(result));
      measured.push(result);
      worse.push(...regressions(result));
      if (values.save) path = save(result);
    }
  }
  if (!values.json) console.log(table(measured));
  for (const sentence of worse) console.error(sentence);
  if (values.save) console.error(`bench: written to ${path}`);
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CudaMissingError) console.error(`bench: ${error.message}`);
  else if (error instanceof TypeError && 'code' in error) console.error(`${error.message}\n\n${usage}`);
  else throw error;
  process.exitCode = 2;
}
