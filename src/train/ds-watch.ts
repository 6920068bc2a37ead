// The blocks of a ds_config about what is seen of a run, and `reportTo` beside them → what is written, and where.
import { join, resolve } from 'node:path';
import type { DsConfig } from './ds-config-schema.js';
import type { MonitorSettings } from './monitor/run-monitors.js';

/** Files for curves: DeepSpeed's two monitors under its names, and those of `reportTo` under those of Transformers. */
export function resolveMonitors(
  { csv_monitor: csv, tensorboard }: DsConfig,
  { reportTo, folder }: { readonly reportTo: readonly MonitorSettings['kind'][]; readonly folder: string },
): readonly MonitorSettings[] {
  const blocks = [
    ['csv', 'csv_monitor', csv],
    ['tensorboard', 'tensorboard', tensorboard],
  ] as const;
  const ofDeepSpeed = blocks.flatMap(([kind, key, block]): readonly MonitorSettings[] =>
    block?.enabled
      ? [
          {
            kind,
            folder: resolve(join(block.output_path ?? '', block.job_name)),
            names: 'deepspeed',
            option: `deepspeed.${key}.output_path`,
          },
        ]
      : [],
  );
  const asked = [...new Set(reportTo)].map(
    (kind): MonitorSettings => ({
      kind,
      folder: resolve(folder),
      names: 'transformers',
      option: 'trainer.run.loggingDir',
    }),
  );
  return [...ofDeepSpeed, ...asked];
}
