/**
 * The kit of a handler: that of a program, with every run of the handler seen.
 */
import type { HandlerOptions, OnFailure } from "@concurrent-kafka/core/ConcurrentConsumer"
import type { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import type { Handler } from "@concurrent-kafka/core/Handler"
import type { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { ExpectationFailed } from "../ExpectationFailed.ts"
import type { KitOptions, RecordStatus, RecordView, TestKit } from "../TestKit.ts"
import { expectValues, failed, show } from "./expect.ts"
import { openKit } from "./kit.ts"
import { nameOf, textOf, valueOf } from "./letters.ts"
import type { Provided } from "./lives.ts"
import { keyOf, Recorder } from "./recorder.ts"
import type { Views } from "./views.ts"

type Refused = InvalidOptions | KafkaClientError
type Seen = Omit<RecordView<never>, "value">

const statuses: ReadonlyArray<RecordStatus> = [
  "waiting",
  "running",
  "retrying",
  "parked",
  "sending",
  "handled",
  "skipped",
  "filtered",
  "deadLettered",
  "failed",
  "stopped"
]

export const watchedKit = <E, R, RP, R2>(
  layerOf: (
    handler: Handler<E, R>,
    policy: { readonly onFailure?: FailurePolicy<NoInfer<E>, RP> }
  ) => Layer.Layer<never, Refused, R2>,
  handler: Handler<E, R>,
  options: HandlerOptions & OnFailure<E, RP>,
  settings: KitOptions
): Effect.Effect<TestKit, Refused | ExpectationFailed, Scope.Scope | Exclude<R2, Provided>> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const recorder = new Recorder(() => clock.currentTimeMillisUnsafe())
    const { onFailure } = options

    const seen = (views: Views, topic: string): ReadonlyArray<Seen> => {
      const letters = new Set(views.lettersOf(topic).map(({ letter }) => keyOf(letter)))
      const isDone = views.doneNow()
      return views.recordsOf(topic).map((record) => {
        const runs = recorder.accounts.get(keyOf(record))?.runs ?? []
        return {
          topic,
          partition: record.partition,
          offset: record.offset,
          record,
          status: recorder.statusOf(record, isDone(record), letters),
          attempts: runs.map(({ attempt, end, endedAt, error, process, startedAt }) => ({
            attempt,
            member: process,
            startedAt,
            endedAt,
            end,
            error
          })),
          times: runs.filter((run) => run.end === "handled").length
        }
      })
    }

    const line = ({ attempts, offset, partition, record, status, topic }: Seen): string => {
      const error = attempts.at(-1)?.error
      const tried = attempts.length === 1 ? "1 attempt" : `${attempts.length} attempts`
      return `${topic}/${partition}@${offset} ${show(textOf(record.value))} ${status}, ${tried}${error === undefined ? "" : `, last failed with ${error}`}`
    }

    let look: (topic: string) => ReadonlyArray<Seen> = () => []
    const kit = yield* openKit<Refused, R2>(
      (member) =>
        layerOf(
          recorder.handler(member, handler),
          onFailure === undefined ? {} : { onFailure: recorder.policy(member, onFailure) }
        ),
      settings,
      (views) => {
        look = (topic) => seen(views, topic)
        return {
          lines: (topic) => (topic === undefined ? handler.topics : [topic]).flatMap((name) => look(name).map(line)),
          gone: (member) => recorder.gone(member),
          reads: { groupId: options.groupId, topics: handler.topics }
        }
      }
    )

    const records: TestKit["records"] = (topic, status) =>
      Effect.suspend(() =>
        Effect.forEach(
          look(nameOf(topic)).filter((view) => status === undefined || view.status === status),
          (view) => Effect.map(valueOf(topic, view.record), (value) => ({ ...view, value }))
        )
      )
    const expect: TestKit["expect"] = (topic, expected) =>
      Effect.gen(function* () {
        const views = yield* records(topic)
        const state = () => kit.state(nameOf(topic))
        for (const status of statuses) {
          const values = expected[status]
          if (values === undefined) continue
          const actual = views.filter((view) => view.status === status).map(({ value }) => value)
          yield* expectValues(`the records of ${nameOf(topic)} that are ${status}`, values, actual, state)
        }
        if (expected.attempts === undefined) return
        yield* expectValues(
          `how often records of ${nameOf(topic)} were tried`,
          expected.attempts,
          expected.attempts.map(([value]) => [
            value,
            views.filter((view) => Equal.equals(view.value, value)).reduce((sum, view) => sum + view.attempts.length, 0)
          ]),
          state
        )
      })

    return {
      ...kit,
      records,
      expect,
      expectOnce: Effect.suspend(() => {
        const twice = handler.topics.flatMap(look).filter((view) => view.times > 1)
        return twice.length === 0
          ? Effect.void
          : Effect.fail(
              failed(
                "no record is handled more than once",
                "1 time each",
                twice.map((view) => `${keyOf(view)} ${view.times} times`).join(", "),
                twice.map(line)
              )
            )
      })
    }
  })
