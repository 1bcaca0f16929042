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
  /** Commit when so many records, summed over partitions, have joined the done prefix since the last commit. Default 10. */
  readonly batchSize?: number | undefined
  /** Or when this long has passed since the first of them. Default 10 s. Java: `auto.commit.interval.ms`. */
  readonly batchInterval?: Duration.Input | undefined
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
   * built; what is taken is in flight until `settled` names it. With `repeat`, unchanged ones too.
   */
  readonly take: (partitions: ReadonlyArray<EpochPartition> | undefined, repeat: boolean) => ReadonlyArray<CommitEntry>
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
     * So many more records are inside the done prefix. `0`: a position moved without a record (control records, filtered ones).
     * Synchronous, called once a record.
     */
    readonly advancedUnsafe: (records: number) => void
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
