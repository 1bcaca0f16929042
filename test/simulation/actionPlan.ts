/**
 * What can happen in a history, and how often it does.
 */
export type Action =
  | "produce"
  | "transaction"
  | "marker"
  | "hole"
  | "retention"
  | "truncate"
  | "recreate"
  | "delete"
  | "grow"
  | "tool"
  | "join"
  | "close"
  | "interrupt"
  | "rerun"
  | "crash"
  | "freeze"
  | "stutter"
  | "stranger"
  | "rebalance"
  | "evict"
  | "disconnect"
  | "breakConnections"
  | "brokerDown"
  | "missGeneration"
  | "commitFault"
  | "fatal"
  | "requestFault"
  | "produceFault"
  | "storm"
  | "cutWhileHeld"
  | "loseWhileHeld"
  | "closeWhileSuspended"
  | "failover"
  | "clock"
  | "pause"
  | "pausePartition"
  | "seek"
  | "concurrency"
  | "flush"
  | "twice"

/** What takes several things at once to happen: tried again and again in some histories. */
export const focuses: ReadonlyArray<Partial<Record<Action, number>>> = [
  { failover: 8 },
  { cutWhileHeld: 8 },
  { loseWhileHeld: 6 },
  { interrupt: 6, rerun: 6, rebalance: 3 },
  { seek: 5, rebalance: 5 },
  { missGeneration: 6, join: 3, close: 2 },
  { commitFault: 12, rebalance: 2 },
  { evict: 5, commitFault: 4 },
  { pause: 3, pausePartition: 5, rebalance: 3, concurrency: 3 }
]

/** so much by this probability, else not at all */
export type Sometimes = (probability: number, low: number, high: number) => number

export const ofTopics = (on: Sometimes) => ({
  transaction: on(0.2, 1, 2),
  marker: on(0.2, 1, 2),
  hole: on(0.2, 1, 2),
  retention: on(0.2, 1, 2),
  truncate: on(0.26, 1, 2),
  recreate: on(0.12, 1, 1),
  delete: on(0.1, 1, 1),
  grow: on(0.15, 1, 1),
  tool: on(0.06, 1, 1)
})

export const ofMembers = (on: Sometimes) => ({
  join: on(1, 1, 3),
  close: on(0.6, 1, 2),
  interrupt: on(0.3, 1, 2),
  rerun: 3,
  crash: on(0.3, 1, 2),
  rebalance: on(0.5, 1, 3),
  closeWhileSuspended: on(0.25, 1, 2),
  stranger: on(0.2, 1, 1)
})

export const ofNetwork = (on: Sometimes) => ({
  freeze: on(0.3, 1, 2),
  stutter: on(0.15, 1, 2),
  evict: on(0.25, 1, 2),
  disconnect: on(0.2, 1, 2),
  breakConnections: on(0.2, 1, 2),
  brokerDown: on(0.2, 1, 1),
  missGeneration: on(0.25, 1, 2),
  commitFault: on(0.5, 1, 5),
  fatal: on(0.25, 1, 1),
  requestFault: on(0.4, 1, 4),
  produceFault: on(0.7, 3, 8),
  storm: on(0.2, 1, 1),
  cutWhileHeld: on(0.15, 1, 1),
  loseWhileHeld: on(0.45, 1, 3),
  failover: on(0.15, 1, 1),
  clock: on(0.15, 1, 2)
})

export const ofUsers = (on: Sometimes) => ({
  pause: on(0.2, 1, 2),
  pausePartition: on(0.2, 1, 2),
  seek: on(0.15, 1, 2),
  concurrency: on(0.25, 1, 2),
  flush: on(0.3, 1, 2),
  twice: on(0.1, 1, 1)
})
