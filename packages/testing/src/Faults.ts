/**
 * What can go wrong between a member and the broker, on command or by chance.
 *
 * A fault meets one request. Which request, is said by a target; which fault, by a script (`next`) or by weights and a source
 * of chance that the caller owns, so that a simulation is repeated by its seed. Every fault that happened is counted.
 *
 * @since 0.1.0
 */

/**
 * The requests of a client. `heartbeat` is ConsumerGroupHeartbeat where the group protocol is incremental. A cooperative session sends
 * that one, too, and `join` in each round of a rebalance.
 *
 * @since 0.1.0
 * @category models
 */
export type Api =
  | "metadata"
  | "join"
  | "sync"
  | "heartbeat"
  | "leave"
  | "offsetFetch"
  | "commit"
  | "fetch"
  | "listOffsets"
  | "produce"

/**
 * What happens to one request. All times in milliseconds. A delay beyond the client's request timeout is no answer to the client
 * (joining and syncing excepted), whatever the broker makes of the request.
 *
 * - `slowRequest`: it reaches the broker that much later. `join`, `sync`: the member is late in its group.
 * - `slowAnswer`: served in time, answered that much later.
 * - `refused`: no connection can be made, nothing is sent.
 * - `dropped`: the connection breaks before the broker reads it.
 * - `answerLost`: served, and the connection breaks before the answer.
 * - `servedLate`: the connection breaks at once, and the broker serves the request that much later all the same.
 * - `noAnswer`: not served; nothing comes until the client gives up after its request timeout.
 * - `code`: not served, answered with this error of Kafka's. With `partitions` only these entries of a commit, or
 *   these partitions of a produce, get it, the others are served.
 * - `smallChunk`: at most so many records of a partition in this fetch.
 *
 * @since 0.1.0
 * @category models
 */
export type Fault =
  | { readonly kind: "slowRequest"; readonly ms: number }
  | { readonly kind: "slowAnswer"; readonly ms: number }
  | { readonly kind: "refused" }
  | { readonly kind: "dropped" }
  | { readonly kind: "answerLost" }
  | { readonly kind: "servedLate"; readonly ms: number }
  | { readonly kind: "noAnswer" }
  | {
      readonly kind: "code"
      readonly code: string
      readonly partitions?: ReadonlyArray<{ readonly topic: string; readonly partition: number }> | undefined
    }
  | { readonly kind: "smallChunk"; readonly records: number }

/**
 * @since 0.1.0
 * @category models
 */
export type FaultKind = Fault["kind"]

/**
 * Whom a fault meets. What is left out does not matter.
 *
 * @since 0.1.0
 * @category models
 */
export interface Target {
  /** As in `MemorySession.id`; a producer's is `clientId/producer/n`, counted over the cluster. */
  readonly sessionId?: string | undefined
  readonly clientId?: string | undefined
  readonly groupId?: string | undefined
}

/**
 * Chance, owned by the caller: `next` is at least 0 and below 1.
 *
 * @since 0.1.0
 * @category models
 */
export interface RandomSource {
  readonly next: () => number
}

/**
 * How likely each fault is, for each request. What is left out never happens; the weights of one request are probabilities
 * and together at most 1.
 *
 * @since 0.1.0
 * @category models
 */
export type FaultWeights = {
  readonly [A in Api]?: { readonly [K in FaultKind]?: number | undefined } | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface RandomFaults {
  readonly source: RandomSource
  readonly weights: FaultWeights
  /** The longest delay, in milliseconds: of `slowRequest`, `slowAnswer` and `servedLate`. Default 1,000. */
  readonly maxDelay?: number | undefined
  /** The largest chunk that `smallChunk` makes. Default 10. */
  readonly maxSmallChunk?: number | undefined
  /** The errors that `code` chooses from; the default is what Kafka says when a retry helps. */
  readonly codes?: { readonly [A in Api]?: ReadonlyArray<string> | undefined } | undefined
  /** Only these are met. Default everybody. */
  readonly target?: Target | undefined
}

/**
 * A fault that happened. Beside the faults of requests (`commit:answerLost`) there are those of sessions (`session:frozen`,
 * `session:crashed`, `session:disconnected`, `session:evicted`, `session:ended`), of groups (`group:rebalance`) and of the
 * broker (`broker:down`).
 *
 * @since 0.1.0
 * @category models
 */
export interface InjectedFault {
  /** milliseconds on the cluster's clock */
  readonly at: number
  readonly kind: string
  readonly sessionId: string
  readonly clientId: string
  readonly groupId: string
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Faults {
  /** The next `times` (default 1) requests of this kind by the target meet this fault. Scripts are used up in their order. */
  readonly next: (
    api: Api,
    fault: Fault,
    options?: (Target & { readonly times?: number | undefined }) | undefined
  ) => void
  /** From now on faults happen by chance; the result ends it. Scripts go first. */
  readonly random: (options: RandomFaults) => () => void
  /** Ends all scripts and all chance. What is down, frozen or disconnected stays so. */
  readonly clear: () => void
  /** Everything that happened, oldest first. */
  readonly injected: () => ReadonlyArray<InjectedFault>
  /** How often each kind happened: `commit:answerLost`, `session:frozen`. */
  readonly counts: () => ReadonlyMap<string, number>
}
