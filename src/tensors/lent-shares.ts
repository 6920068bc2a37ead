// What this process shares, by the ids of the refs, for who opens one in the process that shared it. Of the whole process, since
// memory is: in local mode actors of several parts of a cluster meet here. Ids are never used twice.
import type { NativeShare } from '../native/index.js';

export const lentShares = new Map<string, NativeShare>();
