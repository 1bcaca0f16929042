/**
 * Says where a consumer group stands in a topic: what it has committed, what is done behind that, and what would run again.
 *
 * It reads what the group has committed and where the logs end, and nothing else: it is no member, commits nothing, and fetches no
 * record. So it can be asked about any group, whoever its members are, while they run and when they are gone.
 *
 * @since 0.1.0
 */
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { type KafkaAdmin, KafkaClient, type KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { OffsetMap } from "@concurrent-kafka/core/OffsetMap"
import * as Effect from "effect/Effect"
import { ExplainError } from "./ExplainError.ts"
import { explainPartition } from "./internal/explainPartition.ts"
import { validateExplain } from "./internal/validate.ts"

/**
 * Which group in which topic.
 *
 * @since 0.1.0
 * @category options
 */
export interface ExplainOptions {
  readonly groupId: string
  readonly topic: string
  /**
   * Which offset maps are believed, as a consumer with this `offsetMap` would: `"own"`, the default, those with this library's check;
   * `"all"` also those of the Java Parallel Consumer.
   */
  readonly offsetMap?: "own" | "all" | undefined
}

/**
 * What lies beside a committed offset.
 *
 * @since 0.1.0
 * @category models
 */
export type ExplainedMap = ExplainedMap.None | ExplainedMap.Used | ExplainedMap.NotUsed

/**
 * @since 0.1.0
 * @category models
 */
export declare namespace ExplainedMap {
  /** Who wrote it, as far as its form says; `own` is this library. */
  type Writer = "own" | "parallelConsumer" | "kafkaStreams" | "unknown"

  /** Nothing is said to be done behind the committed offset. */
  interface None {
    readonly _tag: "None"
  }

  /** The next owner does not run again what it calls done. */
  interface Used {
    readonly _tag: "Used"
    readonly writer: "own" | "parallelConsumer"
    /** It speaks of the offsets before this one. */
    readonly until: bigint
  }

  /** The next owner runs everything from the committed offset on. What it says is not shown: it may be anybody's text. */
  interface NotUsed {
    readonly _tag: "NotUsed"
    readonly writer: Writer
    readonly why: OffsetMap.Unusable
  }
}

/**
 * Where a group stands in one partition. Nobody has looked at the records: what is counted are offsets, which is the number of records, or
 * more where the log has holes (compaction, transactions).
 *
 * @since 0.1.0
 * @category models
 */
export interface ExplainedPartition {
  readonly partition: number
  /** The first offset of the log. */
  readonly start: bigint
  /** The end that a reader with `read_committed` sees. */
  readonly end: bigint
  /** The next offset to read, in front of everything that is not done; `undefined` where the group has committed nothing yet. */
  readonly committed: bigint | undefined
  /** Where the next owner begins. */
  readonly begins: bigint
  /**
   * Why it begins there.
   *
   * - `committed`: at the committed offset.
   * - `notCommitted`: at the start of the log, since nothing is committed here and something in other partitions (`startFrom: "fail"`
   *   ends the consumer instead).
   * - `belowStart`: at the start of the log, since retention has deleted what the committed offset points at.
   * - `beyondEnd`: at the start of the log, unless `onOutOfRange` says otherwise, since the log ends before the committed offset: it
   *   was truncated or made anew. It looks the same where a group with `read_uncommitted` is ahead of an open transaction.
   */
  readonly why: "committed" | "notCommitted" | "belowStart" | "beyondEnd"
  /** Not read yet by anybody, or read and not committed: from `begins` to `end`. */
  readonly lag: number
  /** Deleted by retention before it was done. */
  readonly lost: number
  readonly map: ExplainedMap
  /** Of the lag, done according to the map: it does not run again. */
  readonly done: number
  /** Not done, in front of something that is. */
  readonly gaps: number
  /** Where these are: `[from, to)`, ascending. */
  readonly gapRanges: ReadonlyArray<readonly [from: bigint, to: bigint]>
  /** The oldest that is not done; `undefined` when everything is. */
  readonly oldest: bigint | undefined
  /**
   * What the next owner would run if all members ended now, without another commit: the gaps, and everything behind the newest
   * done record that the map names. Some of it is running now, has ended since the last commit, or has never been read: from outside
   * these look the same.
   */
  readonly wouldRun: number
}

/**
 * Where a group stands in a topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface Explanation {
  readonly groupId: string
  readonly topic: string
  readonly offsetMap: "own" | "all"
  /** In the order of their numbers. */
  readonly partitions: ReadonlyArray<ExplainedPartition>
  /** Sums over the partitions; of `gapRanges` their number. */
  readonly total: {
    readonly lag: number
    readonly lost: number
    readonly done: number
    readonly gaps: number
    readonly gapRanges: number
    readonly wouldRun: number
  }
}

const clientError = (error: KafkaClientError) => new ExplainError({ reason: { _tag: "Client", error } })

const ask = (admin: KafkaAdmin, groupId: string, topic: string) =>
  Effect.gen(function* () {
    const partitions = yield* admin.partitions([topic])
    if (partitions.length === 0) return yield* new ExplainError({ reason: { _tag: "TopicMissing", topic } })
    // before the ends: a member may commit in between, and nothing that is committed lies behind an end of later
    const committed = yield* admin.committed(groupId, partitions)
    if (committed.length === 0) return yield* new ExplainError({ reason: { _tag: "GroupUnknown", groupId, topic } })
    const logs = yield* admin.logOffsets(partitions)
    return { committed: new Map(committed.map((c) => [c.partition, c])), logs }
  }).pipe(Effect.catchTag("KafkaClientError", (error) => Effect.fail(clientError(error))))

/**
 * Explains a group in a topic, as of now.
 *
 * **Errors**: `InvalidOptions`; `ExplainError`. Metadata that no offset map can be read from are no error: the partition says so.
 *
 * **Cost**: a few requests for metadata and offsets; the group's members do not notice it. A map is read with the memory of its runs
 * only, whatever they claim.
 *
 * @since 0.1.0
 * @category explaining
 */
export const explain = (
  options: ExplainOptions
): Effect.Effect<Explanation, InvalidOptions | ExplainError, KafkaClient> =>
  Effect.gen(function* () {
    const { groupId, offsetMap, topic } = yield* validateExplain(options)
    const client = yield* KafkaClient
    if (!client.enabled) return yield* new ExplainError({ reason: { _tag: "Disabled" } })
    const zstd = yield* OffsetMap.Zstd
    const admin = yield* Effect.mapError(client.openAdmin, clientError)
    const { committed, logs } = yield* ask(admin, groupId, topic)
    const partitions = logs
      .map((log) => explainPartition(log, committed.get(log.partition), offsetMap, zstd))
      .sort((a, b) => a.partition - b.partition)
    const sum = (of: (p: ExplainedPartition) => number) => partitions.reduce((n, p) => n + of(p), 0)
    const total = {
      lag: sum((p) => p.lag),
      lost: sum((p) => p.lost),
      done: sum((p) => p.done),
      gaps: sum((p) => p.gaps),
      gapRanges: sum((p) => p.gapRanges.length),
      wouldRun: sum((p) => p.wouldRun)
    }
    return { groupId, topic, offsetMap, partitions, total }
  }).pipe(Effect.scoped)
