// Ctrl-C as an AbortSignal: the first asks the verb to end in order, a second ends the process at once.
import { EXIT_INTERRUPTED } from './output.js';

/** Runs `work` with a signal that SIGINT and SIGTERM abort; then the exit code is 130 and nothing is thrown. */
export async function interruptible(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
    process.stderr.write('\nEnding … (once more to end at once)\n');
    controller.abort(new Error('interrupted'));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    await work(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    process.exitCode = EXIT_INTERRUPTED;
  } finally {
    // After an interrupt the handlers stay to the end, so that a late second signal also ends with our code.
    if (!controller.signal.aborted) process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
