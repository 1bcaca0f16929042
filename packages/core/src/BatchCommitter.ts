/**
 * When offsets are committed.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type CommitEntry, type CommitOutcome, ConsumerSession, type EpochPartition } from "./ConsumerSession.ts"
import type { CommitterDied } from "./CommitterDied.ts"
import { makeCommitLoop } from "./internal/commitLoop.ts"
import { validateCommitter } from "./internal/options.ts"
import type { InvalidOptions } from "./InvalidOptions.ts"

/**
 * @since 0.1.0
 * @category options
 */
export interface BatchCommitterOptions {
  /**
   * Commit when so many records, summed over partitions, have become recordable since the last commit: inside the done prefix, or, with
   * the offset map, done behind a gap. Default 10.
   */
  readonly batchSize?: number | undefined
  /** Or when this long has passed since the first of them. Default 10 s. Java: `auto.commit.interval.ms`. */
  readonly batchInterval?: Duration.Input | undefined
  /**
   * A partition whose offset did not move is committed for its offset map alone at most this often, flushes aside. Default 1 s: what
   * finishes behind a record that is stuck is handled again after a crash for so long at most, and one commit a second is what the
   * stuck record costs.
   */
  readonly mapInterval?: Duration.Input | undefined
  /**
   * The closest that two commits follow each other, flushes aside. Default 50 ms: a broker serves a connection one request at a
   * time and lingers some 5 ms on each commit, and heartbeats wait behind them.
   */
  readonly minCommitInterval?: Duration.Input | undefined
}

/**
 * What the committer commits from. It pulls: entries are computed once per request, not once per record.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommitSource {
  /**
   * The entries that changed since they were last committed, of these partitions or of all. Called synchronously when a request is
   * built, offset and map of an entry together; what is taken is in flight until `settled` names it. With `repeat`, unchanged ones too.
   * `mapAlone` is asked where only the map has changed; a partition for which it says no is asked for again later.
   */
  readonly take: (
    partitions: ReadonlyArray<EpochPartition> | undefined,
    repeat: boolean,
    mapAlone: (partition: EpochPartition) => boolean
  ) => ReadonlyArray<CommitEntry>
  /** The outcomes of one request and how many milliseconds it took. */
  readonly settled: (outcomes: ReadonlyArray<CommitOutcome>, millis: number) => void
}

/**
 * Decides when offsets are committed; one request in flight at most, newest offsets win. What is committed is the consumer's
 * knowledge, to whom it is bound by `attach`.
 *
 * @since 0.1.0
 * @category services
 */
export class BatchCommitter extends Context.Service<
  BatchCommitter,
  {
    /** Binds the consumer that is committed for; unbound when the scope closes. */
    readonly attach: (source: CommitSource) => Effect.Effect<void, never, Scope.Scope>
    /**
     * So many more records are inside the done prefix, and so many are done behind a gap, where they can be recorded in the offset map.
     * `0, 0`: a position moved without a record (control records, filtered ones). Synchronous, called once a record.
     */
    readonly advancedUnsafe: (inPrefix: number, behindGap: number) => void
    /**
     * One commit of these partitions (or of all) now, after the one in flight. The outcomes are of this one attempt: what is
     * retriable is tried again later by itself.
     */
    readonly flush: (
      partitions?: ReadonlyArray<EpochPartition>
    ) => Effect.Effect<ReadonlyArray<CommitOutcome>, CommitterDied>
    /** Never completes while the committer lives. */
    readonly died: Effect.Effect<never, CommitterDied>
  }
>()("@concurrent-kafka/core/BatchCommitter") {
  static readonly layer = (
    options?: BatchCommitterOptions
  ): Layer.Layer<BatchCommitter, InvalidOptions, ConsumerSession> =>
    Layer.effect(
      BatchCommitter,
      Effect.gen(function* () {
        const settings = yield* validateCommitter(options ?? {})
        return yield* makeCommitLoop(yield* ConsumerSession, settings)
      })
    )
}
