// The second door of observe/: reads reports of training runs. Apart from the first, since checking them takes zod (50 ms).
export { type RunReport, readRunReport, runReportSchema } from './schema.js';
