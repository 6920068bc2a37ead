// `npm run lint`, after the formatter: the repository's own rules, the dashboard page's types, and a size report.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { checkRepository } from './check.js';

const PAGE = 'src/dashboard/page/tsconfig.json';

const { problems, sizes } = checkRepository(process.cwd());
console.log(sizes.join('\n'));
for (const problem of problems) console.error(problem);

let pageFails = false;
if (existsSync(PAGE)) {
  const result = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', PAGE, '--noEmit'], {
    stdio: 'inherit',
  });
  pageFails = result.status !== 0;
}
console.log(problems.length === 0 ? 'The rules hold.' : `${problems.length} problems`);
process.exitCode = problems.length > 0 || pageFails ? 1 : 0;
