// `raylite job submit|list|status|logs|stop`: runs commands on the cluster.
import type { Command } from 'commander';
import { ConfigError } from '../common/index.js';
import type { JobSubmission, JobView } from '../head/index.js';
import { packDirectory, uploadPackage } from '../launch/package/index.js';
import { ClusterApi, type ClusterOptions, withCluster } from './api.js';
import { followJob, isEnded, tellEnd } from './follow-job.js';
import { amountOption, bytesOption, jsonObject, resourcesOption } from './options.js';
import { clean, EXIT_INTERRUPTED, paint, print, printJson } from './output.js';
import { jobTable } from './status.js';

interface SubmitOptions extends ClusterOptions {
  readonly workingDir?: string;
  readonly runtimeEnvJson?: Record<string, unknown>;
  readonly submissionId?: string;
  readonly metadataJson?: Record<string, unknown>;
  readonly entrypointNumCpus?: number;
  readonly entrypointNumGpus?: number;
  readonly entrypointMemory?: number;
  readonly entrypointResources?: Record<string, number>;
  readonly wait: boolean;
  readonly json?: true;
}

type JsonOptions = ClusterOptions & { readonly json?: true };

export function register(program: Command): void {
  const job = program
    .command('job')
    .summary('run commands on the cluster')
    .description('Submits commands to the cluster and looks after them.')
    .addHelpText('after', '\nExample:\n  $ raylite job submit --working-dir . -- node main.js');
  withCluster(job.command('submit'))
    .description('Runs a command on the cluster, shows its output, and exits with its exit code.')
    .argument('<command...>', 'the command, after --')
    .option('--working-dir <dir>', 'folder to upload; the command runs in it')
    .option('--runtime-env-json <json>', 'such as \'{"env_vars": {"A": "1"}}\'', (text) =>
      jsonObject('--runtime-env-json', text, 'such as {"env_vars": {"A": "1"}}'),
    )
    .option('--submission-id <id>', 'id of the job (default: a new one)')
    .option('--metadata-json <json>', 'notes to keep with the job', (text) =>
      jsonObject('--metadata-json', text, 'of strings'),
    )
    .option('--entrypoint-num-cpus <n>', 'CPUs that the command itself needs', amountOption('--entrypoint-num-cpus'))
    .option('--entrypoint-num-gpus <n>', 'GPUs that the command itself needs', amountOption('--entrypoint-num-gpus'))
    .option('--entrypoint-memory <size>', 'memory that the command itself needs', bytesOption('--entrypoint-memory'))
    .option('--entrypoint-resources <json>', 'other resources that it needs', resourcesOption('--entrypoint-resources'))
    .option('--no-wait', 'return when the job is accepted')
    .option('--json', 'print the job as JSON when it is accepted (with --no-wait) or has ended')
    .addHelpText(
      'after',
      '\nFiles named by .gitignore and .rayliteignore, .git and node_modules are not uploaded.\n\nExample:\n  $ raylite job submit --working-dir . -- node finetune.js --epochs 1',
    )
    .action(submit);
  withCluster(job.command('list'))
    .description('Lists jobs, newest first.')
    .option('--json', 'print them as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite job list')
    .action(async (options: JsonOptions) => {
      const jobs = await ClusterApi.find(options).get<JobView[]>('/api/jobs/');
      if (options.json) printJson(jobs);
      else print(jobs.length === 0 ? 'There are no jobs.' : jobTable(jobs));
    });
  withCluster(job.command('status'))
    .description('Shows one job.')
    .argument('<id>')
    .option('--json', 'print it as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite job status job-1a2b3c4d5e6f')
    .action(async (id: string, options: JsonOptions) => {
      const found = await ClusterApi.find(options).get<JobView>(`/api/jobs/${encodeURIComponent(id)}`);
      if (options.json) printJson(found);
      else
        print(
          `${paint('bold', found.job_id)}  ${found.status}${found.message ? `: ${clean(found.message)}` : ''}\n  ${clean(found.entrypoint)}`,
        );
    });
  withCluster(job.command('logs'))
    .description('Shows the output of a job.')
    .argument('<id>')
    .option('-f, --follow', 'go on until the job has ended')
    .addHelpText('after', '\nExample:\n  $ raylite job logs -f job-1a2b3c4d5e6f')
    .action(showJobLogs);
  withCluster(job.command('stop'))
    .description('Stops a job: SIGTERM, then SIGKILL.')
    .argument('<id>')
    .option('--json', 'print the answer as JSON')
    .addHelpText('after', '\nExample:\n  $ raylite job stop job-1a2b3c4d5e6f')
    .action(async (id: string, options: JsonOptions) => {
      const answer = await ClusterApi.find(options).post<{ stopped: boolean }>(
        `/api/jobs/${encodeURIComponent(id)}/stop`,
        {},
      );
      if (options.json) printJson(answer);
      else print(answer.stopped ? `Job ${id} is being stopped.` : `Job ${id} had ended already.`);
    });
}

/** Also `raylite logs <job>`. */
export async function showJobLogs(id: string, options: ClusterOptions & { readonly follow?: true }): Promise<void> {
  const api = ClusterApi.find(options);
  const path = `/api/jobs/${encodeURIComponent(id)}`;
  const found = await api.get<JobView>(path);
  if (options.follow && !isEnded(found.status)) process.exitCode = tellEnd(await followJob(api, id));
  else process.stdout.write((await api.get<{ logs: string }>(`${path}/logs`)).logs);
}

async function submit(command: readonly string[], options: SubmitOptions): Promise<void> {
  const api = ClusterApi.find(options);
  const { working_dir: named, ...runtimeEnv } = options.runtimeEnvJson ?? {};
  const dir = options.workingDir ?? named;
  if (dir !== undefined && typeof dir !== 'string')
    throw new ConfigError('--runtime-env-json.working_dir', 'a folder', dir);
  const workingDir =
    dir === undefined ? {} : { working_dir: `package:${await upload(api, dir, options.json === true)}` };
  const request = {
    entrypoint: shellLine(command),
    runtime_env: { ...runtimeEnv, ...workingDir },
    ...(options.submissionId === undefined ? {} : { submission_id: options.submissionId }),
    ...(options.metadataJson === undefined ? {} : { metadata: options.metadataJson as Record<string, string> }),
    ...(options.entrypointNumCpus === undefined ? {} : { entrypoint_num_cpus: options.entrypointNumCpus }),
    ...(options.entrypointNumGpus === undefined ? {} : { entrypoint_num_gpus: options.entrypointNumGpus }),
    ...(options.entrypointMemory === undefined ? {} : { entrypoint_memory: options.entrypointMemory }),
    ...(options.entrypointResources === undefined ? {} : { entrypoint_resources: options.entrypointResources }),
  } satisfies JobSubmission;
  const { job_id: jobId } = await api.post<{ job_id: string }>('/api/jobs/', request);
  const path = `/api/jobs/${encodeURIComponent(jobId)}`;
  if (!options.wait) {
    if (options.json) printJson(await api.get<JobView>(path));
    else print(`Job ${paint('bold', jobId)} was accepted. Its output: raylite job logs -f ${jobId}`);
    return;
  }
  if (!options.json) process.stderr.write(`Job ${paint('bold', jobId, process.stderr)} was accepted.\n`);
  process.once('SIGINT', () => {
    process.stderr.write(
      `\nThe job goes on. Its output: raylite job logs -f ${jobId}\nTo end it: raylite job stop ${jobId}\n`,
    );
    process.exit(EXIT_INTERRUPTED);
  });
  const ended = await followJob(api, jobId);
  if (options.json) printJson(ended);
  process.exitCode = tellEnd(ended);
}

async function upload(api: ClusterApi, dir: string, isQuiet: boolean): Promise<string> {
  const packed = await packDirectory(dir, '--working-dir');
  await uploadPackage(api, packed, () => {
    if (!isQuiet) process.stderr.write(`Uploading ${packed.fileCount} files of ${dir} …\n`);
  });
  return packed.sha256;
}

/** The words of a command as one line that a shell reads as the same words; a single word is a line already. */
function shellLine(words: readonly string[]): string {
  if (words.length === 1) return words[0]!;
  return words
    .map((word) => (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ');
}
