/**
 * Sends dead letters back to be handled again.
 *
 * A consumer of the dead-letter topic whose handler sends; so what holds for every consumer holds here:
 * - only what the broker has is committed, per partition the prefix ("interrupted and run again it goes on where it stopped").
 * - a record that is not sent is passed over by nobody ("a refused send ends it", "an outage longer than the delivery timeout").
 *
 * @since 0.1.0
 */
import { BatchCommitter } from "@concurrent-kafka/core/BatchCommitter"
import { ConcurrentConsumer, type ConsumerOptions } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { Delivery } from "@concurrent-kafka/core/ConsumerRecord"
import { ConsumerSession } from "@concurrent-kafka/core/ConsumerSession"
import { DeadLetter } from "@concurrent-kafka/core/DeadLetter"
import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { Handler } from "@concurrent-kafka/core/Handler"
import type { HealthCode } from "@concurrent-kafka/core/Health"
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import { type KafkaAdmin, KafkaClient, type KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer, type PublishError } from "@concurrent-kafka/core/KafkaProducer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import { ending } from "./internal/ending.ts"
import { looking } from "./internal/looking.ts"
import { patiently } from "./internal/patiently.ts"
import { behindTheEnd, Stretch } from "./internal/stretch.ts"
import { validate } from "./internal/validate.ts"
import { RedriveError } from "./RedriveError.ts"
import type { RedriveFilter } from "./RedriveFilter.ts"

/**
 * What is sent where.
 *
 * @since 0.1.0
 * @category options
 */
export interface RedriveOptions {
  /** The dead-letter topic. */
  readonly from: string
  /**
   * The topic to which records are sent. It is never taken from a header: who may write to the dead-letter topic could name any
   * topic there.
   */
  readonly to: string
  /**
   * Remembers how far it is, in its committed offsets. Default: made of the topics and the filter, so that the same redrive goes on
   * where it stopped, and one with another filter looks at all records anew. Required beside `filter.where`, which has no name.
   *
   * What does not match is passed over for this group: under a group id of your own a later redrive with another filter
   * does not meet it again.
   */
  readonly groupId?: string | undefined
  /** Default: every record. */
  readonly filter?: RedriveFilter | undefined
  /** Sends at once. Default 100. Records of one key are sent one after another. */
  readonly concurrency?: number | undefined
  /** Counts what would be sent. Nothing is sent or committed; it joins a group `<groupId>.dry-run.<random>`, which never has offsets. */
  readonly dryRun?: boolean | undefined
  /** Called some times a second, and once more at the end, however it ends. */
  readonly onProgress?: ((progress: RedriveProgress) => Effect.Effect<void>) | undefined
}

/**
 * How far a redrive is.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedriveProgress {
  /** Offsets from where the group stood to the ends at the start: the number of records, or more where the log has holes. */
  readonly total: number
  /** Offsets of these that are behind it. */
  readonly passed: number
  /** Records that the broker has (or would get, in a dry run). A record that is delivered twice is counted twice. */
  readonly sent: number
  /** Records that do not match the filter. */
  readonly filtered: number
  /** Sends that failed for good. One that is tried again is in `trouble` meanwhile. */
  readonly failed: number
  /**
   * Why it does not get on, in sentences: a broker that is away, sends that are not confirmed, commits that fail. It waits until they
   * are over.
   */
  readonly trouble: ReadonlyArray<string>
}

/**
 * What a redrive has done.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedriveSummary {
  readonly from: string
  readonly to: string
  readonly groupId: string
  readonly dryRun: boolean
  readonly total: number
  readonly sent: number
  readonly filtered: number
}

/** How often it is reported how far it is. */
const reportInterval = "200 millis"
/** How often the broker is asked whether the ends are reached. */
const questionInterval = "500 millis"

const troubles: ReadonlySet<HealthCode> = new Set<HealthCode>([
  "commitsFailing",
  "disconnected",
  "lostToRetention",
  "protocolMismatch",
  "topicMissing",
  "zombie"
])

const settings = {
  ordering: "key",
  // a send that is under way may finish within this time, so that fewer are sent twice
  interruptGrace: "3 seconds",
  revokeDrain: "3 seconds"
} satisfies ConsumerOptions

const clientError = (error: KafkaClientError) => new RedriveError({ reason: { _tag: "Client", error } })
const isOutage = ({ reason }: RedriveError) => reason._tag === "Client" && reason.error.isRetryable

const sentAgain = (records: number, { message }: PublishError) =>
  `${records === 1 ? "1 record could not be sent in time and is" : `${records} records could not be sent in time and are`} sent again: ${message}`

/** What there is to do: both topics must exist. */
const survey = (admin: KafkaAdmin, from: string, to: string) =>
  Effect.gen(function* () {
    const found = yield* Effect.mapError(admin.partitions([from, to]), clientError)
    const missing = [from, to].find((topic) => found.every((p) => p.topic !== topic))
    if (missing !== undefined) return yield* new RedriveError({ reason: { _tag: "TopicMissing", topic: missing } })
    return found.filter((p) => p.topic === from)
  })

/**
 * Reads `from` up to the ends that it has at the start, sends each matching record to `to` as it was before it failed
 * (`DeadLetter.restore`: without the headers of the dead letter, but with its counter of hops), and ends by itself.
 *
 * **Order**: records of one key are sent in their order, one after another; those without a key in any order.
 *
 * **Delivery**: at least once. What is committed is sent. What was sent without having been committed (a crash) is sent again, and so
 * is a record that the broker has not confirmed in time (`deliveryTimeout` of the client): it may be there twice.
 *
 * **Errors**: `InvalidOptions`; `RedriveError`. A record that the broker refuses ends it, and nothing is passed over. An outage is
 * waited out however long it is, and named in the progress.
 *
 * @since 0.1.0
 * @category redriving
 */
export const redrive = (
  options: RedriveOptions
): Effect.Effect<RedriveSummary, InvalidOptions | RedriveError, KafkaClient | KafkaProducer> =>
  Effect.gen(function* () {
    const { concurrency, dryRun, from, groupId, matches, to } = yield* validate(options)
    const client = yield* KafkaClient
    const producer = yield* KafkaProducer
    if (!client.enabled) return yield* new RedriveError({ reason: { _tag: "Disabled" } })
    const counts = { sent: 0, filtered: 0, failed: 0 }
    let reach = { total: 0, passed: 0 }
    let trouble: ReadonlyArray<string> = []
    const report = Effect.suspend(
      () => options.onProgress?.({ total: reach.total, passed: reach.passed, ...counts, trouble }) ?? Effect.void
    )

    /** Without the answer there is nothing to begin with. */
    const ask = <A>(question: Effect.Effect<A, RedriveError>) =>
      patiently(question, {
        heals: isOutage,
        onFailure: (error) =>
          Effect.suspend(() => {
            trouble = [error.message]
            return report
          })
      })

    const admin = yield* Effect.mapError(client.openAdmin, clientError)
    const partitions = yield* ask(survey(admin, from, to))
    let firstFailure: RedriveError | undefined
    const failed = (error: RedriveError) => {
      counts.failed++
      firstFailure ??= error
      return Effect.fail(error)
    }

    const withSession = Effect.gen(function* () {
      const session = yield* ConsumerSession
      const asked = Effect.gen(function* () {
        // a topic that is deleted now would not be waited for
        yield* survey(admin, from, to)
        // before the ends: another member may be at ends that come later
        const committed = yield* Effect.mapError(admin.committed(groupId, partitions), clientError)
        const ends = yield* Effect.mapError(session.logOffsets(partitions), clientError)
        return { ends, committed }
      })
      const { committed, ends } = yield* ask(asked)
      const behind = behindTheEnd(ends, committed)
      if (behind !== undefined) return yield* new RedriveError({ reason: { _tag: "BehindTheEnd", groupId, ...behind } })
      const stretch = new Stretch(ends, committed)
      reach = stretch
      trouble = []

      /** Records whose send has failed and is tried again, and how it did. */
      const unsent = new Map<Delivery, PublishError>()
      const sendFailed = ({ offset, partition, topic }: Delivery, error: PublishError) =>
        new RedriveError({ reason: { _tag: "SendFailed", topic, partition, offset, error } })

      /** Once begun it is finished, and said to be done: an interruption between the two would send the record twice. */
      const sendOnce = (record: Delivery): Effect.Effect<void, PublishError | RedriveError> =>
        Effect.uninterruptible(
          Effect.suspend(() => producer.send([DeadLetter.restore({ topic: to, record })])).pipe(
            Effect.flatMap((has) => {
              if (!has) return Effect.fail(new RedriveError({ reason: { _tag: "Disabled" } }))
              counts.sent++
              return record.ack
            })
          )
        )

      const send = (record: Delivery): Effect.Effect<void, RedriveError> =>
        patiently(sendOnce(record), {
          heals: (error) => error._tag === "PublishError" && error.isRetryable,
          onFailure: (error) =>
            Effect.sync(() => {
              if (error._tag === "PublishError") unsent.set(record, error)
            })
        }).pipe(
          Effect.catch((error) => failed(error._tag === "PublishError" ? sendFailed(record, error) : error)),
          Effect.ensuring(Effect.sync(() => unsent.delete(record)))
        )

      const withConsumer = Effect.gen(function* () {
        const consumer = yield* ConcurrentConsumer

        const handler = Handler.make(from, (record) => {
          if (!matches(record)) {
            counts.filtered++
            return Effect.void
          }
          if (!dryRun) return send(record)
          counts.sent++
          return Effect.void
        })

        const run = consumer.run(handler, { onFailure: FailurePolicy.stop }).pipe(
          Effect.mapError((error) => firstFailure ?? new RedriveError({ reason: { _tag: "Consumer", error } })),
          Effect.andThen(Effect.never)
        )

        const look = Effect.map(consumer.snapshot, ({ health, partitions }) => {
          trouble = health.reasons.filter(({ code }) => troubles.has(code)).map(({ message }) => message)
          const last = [...unsent.values()].at(-1)
          if (last !== undefined) trouble = [...trouble, sentAgain(unsent.size, last)]
          for (const p of partitions) stretch.pass(p, p.committable)
        })

        /** Whether the broker has it in its own words, also of partitions that other members have. */
        const isCommitted = Effect.gen(function* () {
          yield* Effect.ignore(consumer.flush)
          yield* survey(admin, from, to)
          const committed = yield* Effect.mapError(admin.committed(groupId, partitions), clientError)
          for (const p of committed) stretch.commit(p, p.offset)
          // what retention has deleted meanwhile will never be delivered
          for (const p of yield* Effect.mapError(admin.logOffsets(partitions), clientError)) stretch.commit(p, p.start)
          return stretch.isCommitted
        }).pipe(Effect.catchIf(isOutage, () => Effect.succeed(false)))

        const isAtEnd = dryRun ? Effect.sync(() => stretch.isPassed) : isCommitted
        const untilEnd = Effect.repeat(Effect.andThen(Effect.sleep(questionInterval), isAtEnd), { until: (end) => end })
        // beside it, for it may wait for a broker
        const reporting = Effect.forever(Effect.andThen(Effect.andThen(look, report), Effect.sleep(reportInterval)))
        yield* Effect.raceFirst(run, Effect.raceFirst(reporting, untilEnd))
      })

      if (!stretch.isPassed) {
        const own = yield* ending(dryRun ? looking(session, (p) => stretch.startOf(p)) : session, (p) =>
          stretch.endOf(p)
        )
        const parts = Layer.provideMerge(
          BatchCommitter.layer({ batchSize: 100, batchInterval: "500 millis" }),
          Layer.succeed(ConsumerSession, own)
        )
        yield* withConsumer.pipe(
          Effect.provide(Layer.provide(ConcurrentConsumer.layerNoDeps({ ...settings, concurrency }), parts)),
          Effect.ensuring(report)
        )
      }
      return { from, to, groupId, dryRun, total: stretch.total, sent: counts.sent, filtered: counts.filtered }
    })

    return yield* withSession.pipe(
      Effect.provide(
        ConsumerSession.layer({
          topics: [from],
          groupId: dryRun ? `${groupId}.dry-run.${randomUUID().slice(0, 8)}` : groupId
        })
      ),
      Effect.catchTag("KafkaClientError", (error) => Effect.fail(clientError(error)))
    )
  }).pipe(Effect.scoped)
