/** Where logs end is known, and so is the lag, also of partitions that bring no records. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { ConsumerSession, LogOffsets } from "../src/ConsumerSession.ts"
import { KafkaClientError } from "../src/KafkaClient.ts"
import { Desk, pass, world } from "./harness.ts"
import { type Played, scripted } from "./script.ts"

type Log = ConsumerSession["Service"]["logOffsets"]

/** Counts what the session is asked for, and answers in the test's way. */
const asking = (session: Played, answer: Log): ReadonlyArray<string> => {
  const asked: Array<string> = []
  Object.assign(session.session, {
    logOffsets: (partitions: Parameters<Log>[0]) => {
      asked.push(partitions.map(({ partition }) => partition).join())
      return answer(partitions)
    }
  })
  return asked
}

const ends =
  (end: bigint): Log =>
  (partitions) =>
    Effect.succeed(partitions.map(({ partition, topic }): LogOffsets => ({ topic, partition, start: 0n, end })))

const shownEnds = ({ consumer }: Pick<Effect.Success<ReturnType<typeof scripted>>, "consumer">) =>
  Effect.map(consumer.snapshot, ({ partitions }) =>
    partitions.map(({ end, partition }) => `${partition}:${end === undefined ? "?" : end}`)
  )

describe("the end of a log", () => {
  it.effect("is asked for once where no records come, after those that come have said theirs", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      const asked = asking(s.session, ends(70n))
      yield* s.session.assign([
        { partition: 0, epoch: 1, committed: 5 },
        { partition: 1, epoch: 2, committed: 5 },
        { partition: 2, epoch: 3, committed: 5 }
      ])
      yield* s.session.chunk(1, 2, 5, 9)
      assert.deepStrictEqual(s.desk.started, ["1:5", "1:6", "1:7", "1:8"])
      assert.deepStrictEqual(yield* shownEnds(s), ["0:?", "1:9", "2:?"])
      assert.deepStrictEqual(asked, [])
      yield* pass(1_000)
      assert.deepStrictEqual(yield* shownEnds(s), ["0:70", "1:9", "2:70"])
      yield* pass(300_000)
      assert.deepStrictEqual(asked, ["0,2"])
      // newer than what was asked for
      yield* s.session.chunk(0, 1, 5, 6)
      assert.deepStrictEqual(yield* shownEnds(s), ["0:6", "1:9", "2:70"])
      yield* s.close
    })
  )

  it.effect("is known from the beginning where the log had to be looked at for its start", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      const asked = asking(s.session, ends(70n))
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      assert.deepStrictEqual(yield* shownEnds(s), ["0:70"])
      yield* pass(300_000)
      assert.deepStrictEqual(asked, ["0"])
      yield* s.close
    })
  )

  it.effect("that comes with records while it is being asked for is the newer one", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      const late = yield* Deferred.make<void>()
      asking(s.session, (partitions) => Effect.andThen(Deferred.await(late), ends(70n)(partitions)))
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 5 }])
      yield* pass(1_000)
      yield* s.session.chunk(0, 1, 5, 90)
      yield* Deferred.succeed(late, undefined)
      yield* pass(1_000)
      assert.deepStrictEqual(yield* shownEnds(s), ["0:90"])
      yield* s.close
    })
  )

  for (const [title, fails] of [
    ["fails", Effect.fail(new KafkaClientError({ reason: "Connection", detail: "no leader" }))],
    ["dies", Effect.die(new Error("broken"))]
  ] as const) {
    it.effect(`is asked for again where the client ${title}, and nothing else comes of it`, () =>
      Effect.gen(function* () {
        const s = yield* scripted({ desk: new Desk({ auto: true }) })
        let broken = true
        asking(s.session, (partitions) => (broken ? fails : ends(70n)(partitions)))
        yield* s.session.assign([
          { partition: 0, epoch: 1, committed: 5 },
          { partition: 1, epoch: 2, committed: 5 }
        ])
        yield* pass(20_000)
        assert.deepStrictEqual(yield* shownEnds(s), ["0:?", "1:?"])
        yield* s.session.chunk(1, 2, 5, 9)
        broken = false
        yield* pass(60_000)
        assert.deepStrictEqual(yield* shownEnds(s), ["0:70", "1:9"])
        assert.isUndefined(s.fiber().pollUnsafe())
        assert.strictEqual((yield* s.consumer.snapshot).outcomes.handled, 4)
        yield* s.close
      })
    )
  }

  it.effect("of a partition that is gone is asked for no more", () =>
    Effect.gen(function* () {
      const s = yield* scripted()
      const asked = asking(s.session, () =>
        Effect.fail(new KafkaClientError({ reason: "Connection", detail: "no leader" }))
      )
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 5 }])
      yield* pass(1_000)
      assert.deepStrictEqual(asked, ["0"])
      yield* s.session.assign([])
      yield* pass(300_000)
      assert.deepStrictEqual(asked, ["0"])
      yield* s.close
    })
  )

  it.effect("is known in the Kafka in memory, paused or not: a lag that nobody works on is seen", () =>
    Effect.gen(function* () {
      const w = yield* world({ partitions: 2 })
      yield* w.produce(10)
      yield* w.kafka.setCommitted("g", "t", 0, { offset: 4n })
      yield* w.kafka.setCommitted("g", "t", 1, { offset: 0n })
      const a = yield* w.member("a")
      yield* a.consumer.pause()
      yield* a.consumer.seek({ topic: "t", partition: 0 }, 2n)
      yield* pass(5_000)
      const { partitions } = yield* a.consumer.snapshot
      assert.deepStrictEqual(
        partitions.map(({ committable, end, partition }) => [partition, committable, end]),
        [
          [1, 0n, 0n],
          [0, 2n, 10n]
        ]
      )
    })
  )
})
