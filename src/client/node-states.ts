// What the states that the head gives nodes mean to a client.

/** Whether a node of this state answers; one that is to leave does. */
export const isServing = (state: string | null | undefined): boolean => state === 'ALIVE' || state === 'DRAINING';
