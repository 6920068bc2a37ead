// What writes curves to files: the interface that CSV and TensorBoard share.
import type { Scalar } from './scalars.js';

export interface ScalarLog {
  /**
   * Before the first points, and each time that the run goes back to a checkpoint: what this run wrote behind `position` is taken out. `isNew`: the run
   * starts here, so that whatever the files hold is of another one and stays.
   */
  start(position: number, isNew: boolean): Promise<void>;
  append(position: number, scalars: readonly Scalar[]): Promise<void>;
}
