// `raylite start`: makes this machine the head of a new cluster, or joins it to one.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { ConfigError, DEFAULT_HEAD_PORT, DEFAULT_HTTP_PORT, DRAIN_SECONDS } from '../common/index.js';
import { addressOption, amountOption, bytesOption, labelsOption, portOption, resourcesOption } from './options.js';
import { startHead } from './start-head.js';
import { joinCluster } from './start-node.js';
import type { StartOptions } from './start-options.js';

export function register(program: Command): void {
  program
    .command('start')
    .summary('start a cluster here, or join this machine to one')
    .description(
      'Starts the head of a cluster on this machine (--head), or joins this machine to a cluster (--address).',
    )
    .option('--head', 'make this machine the head of a cluster')
    .option('--address <host:port>', 'join the cluster whose head is there', addressOption('--address'))
    .option('--host <address>', 'address to listen on; other machines need one they can reach (default: 127.0.0.1)')
    .option('--port <port>', `port of the head (default: ${DEFAULT_HEAD_PORT})`, portOption('--port'))
    .option('--dashboard-host <address>', 'address of the page and the jobs API (default: as --host)')
    .option(
      '--dashboard-port <port>',
      `port of the page and the jobs API (default: ${DEFAULT_HTTP_PORT})`,
      portOption('--dashboard-port'),
    )
    .option('--node-host <address>', 'address at which other nodes reach this one (default: found by connecting)')
    .option('--num-cpus <n>', 'CPUs to offer (default: all)', amountOption('--num-cpus'))
    .option('--num-gpus <n>', 'GPUs to offer (default: all)', amountOption('--num-gpus'))
    .option('--resources <json>', 'resources of your own, such as \'{"disk": 2}\'', resourcesOption('--resources'))
    .option('--labels <k=v,…>', 'labels of this node', labelsOption('--labels'))
    .option(
      '--object-store-memory <size>',
      'size of the object store, such as 2GiB',
      bytesOption('--object-store-memory'),
    )
    .option('--token-file <path>', 'file with the cluster token (also $RAYLITE_TOKEN)')
    .option('--token <token>', 'the cluster token; others can see it in the process list while the command runs')
    .option('--tls-cert <path>', 'certificate of your own for this node (default: one that follows from the token)')
    .option('--tls-key <path>', 'its private key')
    .option('--tls-ca <path>', 'authority that vouches for the certificates of all nodes (default: --tls-cert itself)')
    .option(
      '--drain-seconds <n>',
      `time that what runs here has to end or move once this node is told to end; 0: none (default: ${DRAIN_SECONDS})`,
      amountOption('--drain-seconds'),
    )
    .option('--block', 'stay in the foreground; ends the processes with this command')
    .option('--json', 'print what was started as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  $ raylite start --head\n  $ raylite start --head --host 10.0.0.1 --num-cpus 8\n  $ RAYLITE_TOKEN=… raylite start --address 10.0.0.1:6379',
    )
    .action(async (options: StartOptions) => {
      if (options.head && options.address)
        throw new ConfigError('--address', 'nothing together with --head', options.address);
      for (const [name, path] of Object.entries(ownTls(options))) process.env[name] = path;
      if (options.head) await startHead(options);
      else if (options.address) await joinCluster(options, options.address);
      else
        throw new ConfigError(
          '--head',
          '--head or --address',
          undefined,
          'raylite start --head begins a cluster on this machine',
        );
    });
}

/** Certificates of the user's own, as what starts here hears of them. */
function ownTls({ tlsCert, tlsKey, tlsCa }: StartOptions): Record<string, string> {
  const given = { RAYLITE_TLS_CERT: tlsCert, RAYLITE_TLS_KEY: tlsKey, RAYLITE_TLS_CA: tlsCa };
  return Object.fromEntries(Object.entries(given).flatMap(([name, path]) => (path ? [[name, resolve(path)]] : [])));
}
