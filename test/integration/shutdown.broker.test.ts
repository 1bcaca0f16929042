import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import * as Members from "./members.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

/**
 * One topic whose records say how long they take, a member that has started all of them, and what is to be committed: per
 * partition the records in front of the first one that does not end at once.
 */
const setup = Effect.fnUntraced(function* (
  name: string,
  layout: ReadonlyArray<ReadonlyArray<string>>,
  options: Pick<Members.MemberOptions, "shutdown" | "consumer">
) {
  const outside = yield* Outside.connect(brokers)
  const topic = Outside.fresh(name)
  yield* outside.createTopic(topic, layout.length)
  const records = layout.flatMap((values, partition) => values.map((value) => ({ value, partition })))
  yield* outside.send(topic, records)
  const member = yield* Members.start(yield* Members.folder, {
    brokers,
    topic,
    groupId: topic,
    concurrency: records.length,
    sleep: [0, 0],
    starts: true,
    ...options
  })
  const quick = records.filter(({ value }) => value === "quick").length
  yield* until(
    "all handlers run, and the quick ones are done",
    Effect.sync(() => member.read()),
    (m) => m.started.length === records.length && m.handled.length >= quick
  )
  const prefix = new Map(
    layout.map((values, partition) => {
      const first = values.findIndex((value) => value !== "quick")
      return [partition, BigInt(first < 0 ? values.length : first)] as const
    })
  )
  return { member, prefix, committed: outside.committed(topic, topic), ends: outside.ends(topic) }
})

/** Each started handler has run its finalizer once. */
const finalizedOnce = ({ finalized, started }: Members.Member) =>
  assert.deepStrictEqual(finalized.map(Members.keyOf).toSorted(), started.map(Members.keyOf).toSorted())

const of = (count: number, value: string) => Array.from({ length: count }, () => value)

describe("SIGTERM", () => {
  it.live(
    "interrupts 50 sleeping handlers, commits the done prefix and ends the process within a second (I8, I1, D7)",
    () =>
      Effect.gen(function* () {
        const layout = [
          [...of(20, "quick"), ...of(20, "60000"), ...of(20, "quick")],
          [...of(7, "quick"), ...of(30, "60000")],
          of(20, "quick")
        ]
        const times: Array<number> = []
        for (let i = 0; i < 3; i++) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const { committed, member, prefix } = yield* setup("sigterm", layout, { shutdown: "interrupt" })
              const { code, millis } = yield* member.terminate
              times.push(millis)
              assert.strictEqual(code, 130)
              finalizedOnce(member.read())
              assert.strictEqual(member.interrupted.length, 50)
              assert.deepStrictEqual(Outside.sorted(yield* committed), Outside.sorted(prefix))
            })
          )
        }
        const median = times.toSorted((a, b) => a - b)[1]!
        assert.isBelow(median, 1000)
        console.log(
          `50 sleeping handlers: the process ended ${times.map((t) => t.toFixed(0)).join(", ")} ms after SIGTERM`
        )
      }),
    60_000
  )

  it.live(
    'lets handlers finish and commits all with `shutdown: "drain"` (I8)',
    () =>
      Effect.gen(function* () {
        const layout = [[...of(5, "quick"), ...of(20, "2500"), ...of(5, "quick")], of(30, "2500")]
        const { committed, ends, member } = yield* setup("drain", layout, { shutdown: "drain" })
        const { code, millis } = yield* member.terminate
        assert.strictEqual(code, 130)
        finalizedOnce(member.read())
        assert.strictEqual(member.interrupted.length, 0)
        assert.strictEqual(member.handled.length, 60)
        assert.deepStrictEqual(Outside.sorted(yield* committed), Outside.sorted(yield* ends))
        console.log(`50 handlers of 2.5 s drained: the process ended ${millis.toFixed(0)} ms after SIGTERM`)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "commits what is in front of a hung handler, within shutdownTimeout + 2 s (I8, D8, D13)",
    () =>
      Effect.gen(function* () {
        const shutdownTimeout = 4000
        const layout = [
          [...of(10, "quick"), ...of(10, "1000"), "hung", ...of(10, "1000")],
          [...of(10, "quick"), ...of(10, "1000")]
        ]
        const { committed, member } = yield* setup("hung", layout, {
          shutdown: "drain",
          consumer: { shutdownTimeout, interruptGrace: 500, flushReserve: 1000 }
        })
        const { millis } = yield* member.terminate
        assert.isBelow(millis, shutdownTimeout + 2000)
        member.read()
        assert.strictEqual(member.handled.length, 50)
        assert.strictEqual(member.interrupted.length, 0)
        assert.deepStrictEqual(Outside.sorted(yield* committed), [
          [0, 20n],
          [1, 20n]
        ])
        console.log(`one hung handler: the process ended ${millis.toFixed(0)} ms after SIGTERM`)
      }).pipe(Effect.scoped),
    60_000
  )
})
