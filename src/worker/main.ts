// The worker process: `node dist/worker/main.js --boot FILE --id ID`, started by a node agent.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentLink, headOverGrpc, SocketDoor, setRuntime } from '../client/process/index.js';
import type { NodeId, WorkerId } from '../common/index.js';
import { startWorker } from './worker.js';

/** What the agent writes for its workers to read (0600). */
interface WorkerBoot {
  readonly agentUds: string;
  readonly token: string;
}

const argument = (name: string): string => process.argv[process.argv.indexOf(name) + 1] ?? '';
const { agentUds, token } = JSON.parse(readFileSync(argument('--boot'), 'utf8')) as WorkerBoot;
const spawnId = argument('--id') as WorkerId;

await startWorker(
  {
    agent: (pushes) => AgentLink.connect(agentUds, pushes),
    head: ({ headAddress }) => headOverGrpc(headAddress, token),
    openDoor: ({ socketDir, host, nodeId }, accept) =>
      SocketDoor.open({ uds: join(socketDir, `w-${spawnId}`), host, token, nodeId: nodeId as NodeId }, accept),
    become: async (runtime, { actor, npmFolder }) => {
      Object.assign(process.env, runtime.runtimeEnv.envVars);
      const sha = runtime.runtimeEnv.package;
      if (sha) process.chdir(join(runtime.attached.packageRoot, sha));
      if (npmFolder) (await import('./npm-modules.js')).useNpmModules(npmFolder);
      process.argv[1] = ''; // user code in a worker has no entry script
      if (actor) process.title = `raylite: ${actor.className}`;
      setRuntime(runtime);
    },
    exit: (code) => process.exit(code),
  },
  token,
  spawnId,
);
