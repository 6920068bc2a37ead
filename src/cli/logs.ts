// `raylite logs`: the logs of this machine's session, or the output of a job.
import { createReadStream, existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { ConfigError, formatBytes } from '../common/index.js';
import { readCurrent, sessionRoot } from '../launch/index.js';
import { type ClusterOptions, withCluster } from './api.js';
import { showJobLogs } from './job.js';
import { print, printJson, table } from './output.js';

export function register(program: Command): void {
  withCluster(program.command('logs'))
    .summary('logs of this machine, or of a job')
    .description(
      'Without a name, lists the log files of this machine. With one, shows that file, or the output of that job.',
    )
    .argument('[name]', 'a file of the list, or a job id')
    .option('-f, --follow', 'of a job: go on until it has ended')
    .option('--json', 'print the list as JSON')
    .addHelpText('after', '\nExamples:\n  $ raylite logs\n  $ raylite logs head.log')
    .action(
      async (name: string | undefined, options: ClusterOptions & { readonly follow?: true; readonly json?: true }) => {
        const dir = logsDir();
        if (name === undefined) {
          listLogs(dir, options.json === true);
          return;
        }
        // Only names that the listing shows: no path can lead elsewhere.
        const isFile =
          basename(name) === name && dir !== null && existsSync(join(dir, name)) && statSync(join(dir, name)).isFile();
        if (!isFile) await showJobLogs(name, options);
        else await pipeline(createReadStream(join(dir, name)), process.stdout, { end: false });
      },
    );
}

function logsDir(): string | null {
  const current = readCurrent(sessionRoot());
  const dir = current && join(current.sessionDir, 'logs');
  return dir && existsSync(dir) ? dir : null;
}

function listLogs(dir: string | null, isJson: boolean): void {
  if (dir === null) {
    throw new ConfigError(
      'name',
      'a job id, since no cluster was started on this machine',
      undefined,
      'raylite start --head starts one',
    );
  }
  const files = readdirSync(dir)
    .sort()
    .map((name) => ({ name, bytes: statSync(join(dir, name)).size }));
  if (isJson) printJson(files);
  else {
    print(dir);
    print(
      table(
        ['FILE', 'SIZE'],
        files.map(({ name, bytes }) => [name, formatBytes(bytes)]),
      ),
    );
  }
}
