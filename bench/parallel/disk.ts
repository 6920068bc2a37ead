// An update whose optimizer state lies on disk: every byte of it is read, stepped and written again. Beside what fio does with the
// same requests on the same file system, reading and writing in turn.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { meshOf, TrainStep } from '#src/engine/index.js';
import { initialise, modelFromConfig } from '#src/models/index.js';
import { native } from '#src/native/index.js';
import type { OpenScene, Scene } from '../harness/figure.js';

const NAME = 'optimizer step with its state on disk';
const BLOCK_BYTES = 2 ** 20;
const QUEUE_DEPTH = 8;
const FIO_MIB = 512;
const THREADS = 2;
const MODEL = { model_type: 'gpt2', n_layer: 8, n_head: 8, n_embd: 512, n_positions: 64, vocab_size: 8000 };

export const diskScene: Scene = { names: [NAME], open };

async function open(): Promise<OpenScene> {
  const folder = mkdtempSync(join(tmpdir(), 'raylite-bench-'));
  const device = native().createDevice({ threads: THREADS, isa: null, pin: false });
  const model = modelFromConfig(MODEL);
  const file = { folder, blockBytes: BLOCK_BYTES, queueDepth: QUEUE_DEPTH, threads: 1 };
  const train = TrainStep.create({
    model,
    rows: 8,
    strategy: { zeroStage: 1, mesh: meshOf(), rank: 0 },
    optimizer: { kind: 'adamw', beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, maxGradientNorm: 1 },
    device,
    offload: { optimizer: { device: 'nvme', slots: 3, file: { ...file, singleSubmit: false, overlapEvents: true } } },
  });
  initialise(model, 1, train.parameters);
  const rows = Int32Array.from({ length: 8 }, (_, row) => row);
  const batch = { ids: rows, positions: rows, starts: rows, ends: rows.map((row) => row + 1), labels: rows };
  await train.micro(batch, { scale: 1 / 8, isFirst: true });
  let step = 0;
  const update = async () => {
    const start = performance.now();
    await train.update({ lr: 1e-4, step: ++step });
    const seconds = (performance.now() - start) / 1000;
    return { value: (2 * train.compiled.memory.diskBytes) / 1e9 / seconds };
  };
  const hasFio = spawnSync('fio', ['--version']).status === 0;
  if (!hasFio) console.error('bench: fio is not installed: no limit for disks');
  const limit = { name: 'fio, reading and writing in turn', measure: async () => fioBandwidth(folder) };
  return {
    figures: [
      {
        name: NAME,
        unit: 'GB/s',
        isMoreBetter: true,
        goal: { share: 0.8 },
        ours: update,
        peer: null,
        warmUps: 2,
        rounds: 7,
        limit: hasFio ? limit : null,
      },
    ],
    peerName: 'none',
    async [Symbol.asyncDispose]() {
      await train[Symbol.asyncDispose]();
      device.dispose();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** GB/s of as many bytes read as written, one after the other, past the page cache. */
function fioBandwidth(folder: string): number {
  const bytesPerSecond = (rw: 'read' | 'write') => {
    const options = {
      directory: folder,
      name: 'bench',
      size: `${FIO_MIB}M`,
      bs: BLOCK_BYTES,
      iodepth: QUEUE_DEPTH,
      rw,
    };
    const args = [
      ...Object.entries(options).map(([key, value]) => `--${key}=${value}`),
      '--ioengine=libaio',
      '--direct=1',
      '--output-format=json',
    ];
    const { status, stdout, stderr } = spawnSync('fio', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`fio ended with ${status}: ${stderr}`);
    const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
      jobs: Record<'read' | 'write', { bw_bytes: number }>[];
    };
    return report.jobs[0]![rw].bw_bytes;
  };
  const [written, read] = [bytesPerSecond('write'), bytesPerSecond('read')];
  return 2 / (1 / written + 1 / read) / 1e9;
}
