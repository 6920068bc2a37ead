/** Bytes that are kept of one job's output, by its node until the head has them and by the head. */
export const JOB_OUTPUT_BYTES_MAX = 256 * 1024 * 1024;
