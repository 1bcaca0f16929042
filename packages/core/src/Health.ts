/**
 * How a consumer is.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { TopicPartition } from "./ConsumerRecord.ts"

/**
 * Why a consumer is not simply well.
 *
 * | code | status | live | ready |
 * | --- | --- | --- | --- |
 * | `disabled` (`KAFKA_ENABLED=false`), `standby` (a member without partitions), `rebalancing`, `paused`, `idle` (a `run` was interrupted and none followed) | ok | yes | yes |
 * | `opening` (a start is being established) | ok; degraded once that failed | yes | yes |
 * | `starting` (no assignment yet since `run` was called) | degraded | yes | no |
 * | `stuck` (one attempt runs longer than `stuckAfter`), `lostToRetention` (the log was cut below our position, for an hour) | degraded | yes | yes |
 * | `retrying`, `parked` (records that failed wait for their retry or run again, or are parked), `laneBound` (for ten seconds permits have been free while records waited for others of their lane) | degraded | yes | yes |
 * | `eventLoopBlocked` (in the last minute the event loop stood still for a second or more; only where `LoopDelay` is provided) | degraded | yes | yes |
 * | `zombie` (a handler ignores its interruption) | degraded; down when they hold all permits | yes; no when they hold all permits | yes |
 * | `deadLetterFailing`, `commitsFailing`, `disconnected`, `protocolMismatch`, `topicMissing` | down | yes | yes; no before the first assignment |
 * | `committerDead`, `failed` | down | no | no |
 * | `shuttingDown` | ok | yes | no |
 *
 * Live is false only where a restart would help.
 *
 * @since 0.1.0
 * @category models
 */
export type HealthCode =
  | "disabled"
  | "starting"
  | "standby"
  | "opening"
  | "rebalancing"
  | "paused"
  | "idle"
  | "stuck"
  | "retrying"
  | "parked"
  | "laneBound"
  | "lostToRetention"
  | "eventLoopBlocked"
  | "zombie"
  | "deadLetterFailing"
  | "commitsFailing"
  | "disconnected"
  | "protocolMismatch"
  | "topicMissing"
  | "committerDead"
  | "failed"
  | "shuttingDown"

/**
 * @since 0.1.0
 * @category models
 */
export interface HealthReason {
  readonly code: HealthCode
  readonly message: string
  /** Milliseconds since 1970. */
  readonly since: number
  /** How many records, partitions or failures. */
  readonly count: number
  /** Where, or the worst place of several. */
  readonly at?: TopicPartition & { readonly offset?: bigint }
  /** Only of a consumer with several `members`: the names of those that have this reason. */
  readonly members?: ReadonlyArray<string>
}

/**
 * The status is the worst of the reasons'; live and ready hold when they hold for each.
 *
 * @since 0.1.0
 * @category models
 */
export interface Health {
  readonly status: "ok" | "degraded" | "down"
  readonly live: boolean
  readonly ready: boolean
  readonly reasons: ReadonlyArray<HealthReason>
}

/**
 * More codes that make ready or live false.
 *
 * @since 0.1.0
 * @category options
 */
export interface HealthOptions {
  readonly readyNeeds?: ReadonlyArray<HealthCode> | undefined
  readonly liveNeeds?: ReadonlyArray<HealthCode> | undefined
}

/**
 * How long the event loop has stood still: heartbeats, commits and answers to probes stand still with it.
 *
 * @since 0.1.0
 * @category models
 */
export interface LoopDelay {
  /**
   * The longest standstill of the last minute, and when it was noticed, in milliseconds since 1970; undefined without any. Called
   * synchronously, each time that somebody asks for health.
   */
  readonly longestUnsafe: () => { readonly millis: number; readonly at: number } | undefined
  /**
   * A consumer of this name is there, and its session ends after so many milliseconds without a heartbeat: whoever can say something while
   * the event loop stands still warns before that. Gives back what is called when the consumer is gone. Not `known`: under KIP-848 a
   * setting of the brokers counts, which they do not tell, and this is only what the consumer was given.
   */
  readonly sessionUnsafe?: (consumer: string, sessionTimeout: number, known: boolean) => () => void
}

/**
 * What consumers learn of the event loop's delay from, for the code `eventLoopBlocked`. Default: nothing, because only the platform can
 * measure it; on Node `Observability.layerLoopDelay` of `@concurrent-kafka/observability` does.
 *
 * @since 0.1.0
 * @category references
 */
export const LoopDelay = Context.Reference<LoopDelay | undefined>("@concurrent-kafka/core/LoopDelay", {
  defaultValue: () => undefined
})

/**
 * All codes, for validation and documentation.
 *
 * @since 0.1.0
 * @category models
 */
export const healthCodes: ReadonlyArray<HealthCode> = [
  "disabled",
  "starting",
  "standby",
  "opening",
  "rebalancing",
  "paused",
  "idle",
  "stuck",
  "retrying",
  "parked",
  "laneBound",
  "lostToRetention",
  "eventLoopBlocked",
  "zombie",
  "deadLetterFailing",
  "commitsFailing",
  "disconnected",
  "protocolMismatch",
  "topicMissing",
  "committerDead",
  "failed",
  "shuttingDown"
]
