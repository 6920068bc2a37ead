// The command line and environment of `npm test`.
import { parseArgs } from 'node:util';

export interface Options {
  /** Only files whose path contains this. */
  readonly only: string | null;
  readonly fast: boolean;
  /** Property tests draw more, anew each time, and files have longer. */
  readonly nightly: boolean;
  /** What nightly draws start from; null: drawn. */
  readonly seed: number | null;
  /** A skip is a failure, unless its reason begins with "by design:". */
  readonly forbidSkip: boolean;
  /** A file that fails runs once more; what then passes is listed as unsteady. */
  readonly secondTry: boolean;
  /** Node binaries that run the fast part as well, after the main run. */
  readonly otherNodes: readonly string[];
  /** The binary of the main run. */
  readonly node: string;
}

export const usage = `npm test -- [--only PATTERN] [--fast] [--no-skip] [--nightly [--seed N]] [--node BIN]

  --only PATTERN  only the test files whose path contains PATTERN
  --fast          without the tests of whole clusters, the browser and the golden cases
  --nightly       property tests over strategies draw 200 jobs in place of 20, 2,000 nodes are simulated (also: RAYLITE_TEST_NIGHTLY=1)
  --seed N        what those draws start from: a failure says it
  --no-skip       a test skipped for a missing service is a failure (also: RAYLITE_TEST_FORBID_SKIP=1)
  --node BIN      run the fast part under another Node binary

RAYLITE_TEST_NODES=BIN:BIN repeats the fast part under these binaries after the rest.
RAYLITE_TEST_SECOND_TRY=1 runs a file that failed once more, and lists what then passes as unsteady.`;

/** Throws TypeError for an option that does not exist. */
export function parseOptions(args: readonly string[], env: NodeJS.ProcessEnv): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string' },
      fast: { type: 'boolean', default: false },
      'no-skip': { type: 'boolean', default: false },
      nightly: { type: 'boolean', default: false },
      seed: { type: 'string' },
      node: { type: 'string' },
    },
  });
  const seed = values.seed ?? env.RAYLITE_TEST_SEED ?? null;
  if (seed !== null && !/^-?\d+$/.test(seed))
    throw Object.assign(new TypeError(`--seed: expected an integer, got ${seed}`), { code: 'ERR_SEED' });
  return {
    only: values.only ?? null,
    fast: values.fast || values.node !== undefined,
    nightly: values.nightly || env.RAYLITE_TEST_NIGHTLY === '1',
    seed: seed === null ? null : Number(seed),
    forbidSkip: values['no-skip'] || env.RAYLITE_TEST_FORBID_SKIP === '1',
    secondTry: env.RAYLITE_TEST_SECOND_TRY === '1',
    otherNodes: (env.RAYLITE_TEST_NODES ?? '').split(':').filter(Boolean),
    node: values.node ?? process.execPath,
  };
}
