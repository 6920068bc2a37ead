// The command line and environment of `npm test`.
import { parseArgs } from 'node:util';

export interface Options {
  /** Only files whose path contains this. */
  readonly only: string | null;
  readonly fast: boolean;
  /** A skip is a failure, unless its reason begins with "by design:". */
  readonly forbidSkip: boolean;
  /** A file that fails runs once more; what then passes is listed as unsteady. */
  readonly secondTry: boolean;
  /** Node binaries that run the fast part as well, after the main run. */
  readonly otherNodes: readonly string[];
  /** The binary of the main run. */
  readonly node: string;
}

export const usage = `npm test -- [--only PATTERN] [--fast] [--no-skip] [--node BIN]

  --only PATTERN  only the test files whose path contains PATTERN
  --fast          without the tests of whole clusters, the browser and the golden cases
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
      node: { type: 'string' },
    },
  });
  return {
    only: values.only ?? null,
    fast: values.fast || values.node !== undefined,
    forbidSkip: values['no-skip'] || env.RAYLITE_TEST_FORBID_SKIP === '1',
    secondTry: env.RAYLITE_TEST_SECOND_TRY === '1',
    otherNodes: (env.RAYLITE_TEST_NODES ?? '').split(':').filter(Boolean),
    node: values.node ?? process.execPath,
  };
}
