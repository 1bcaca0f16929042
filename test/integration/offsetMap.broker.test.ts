import { OffsetMap } from "@concurrent-kafka/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import * as Members from "./members.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

describe("the offset map", () => {
  it.live(
    "a record is stuck while 20,000 others finish, the process is killed: the next one handles what was in flight, and nothing else (D15, I3)",
    () =>
      Effect.gen(function* () {
        const records = 20_000
        const inFlight = [0, 5_000, 14_999, 19_998]
        const outside = yield* Outside.connect(brokers)
        const within = yield* Members.folder
        const topic = Outside.fresh("map")
        yield* outside.createTopic(topic, 1)
        for (let sent = 0; sent < records; sent += 2_000) {
          yield* outside.send(
            topic,
            Array.from({ length: 2_000 }, (_, i) => ({ value: inFlight.includes(sent + i) ? "until 2" : "quick" }))
          )
        }
        const options = {
          brokers,
          topic,
          groupId: topic,
          concurrency: 50,
          shutdown: "interrupt",
          sleep: [0, 0],
          consumer: { sessionTimeout: 6_000, heartbeatInterval: 1_000 }
        } as const
        const first = yield* Members.start(within, { ...options, turn: 1 })
        const commit = Effect.map(outside.commits(topic, topic), (all) => all.get(0))
        /** what the group's metadata says is done, as an outsider reads it */
        const says = Effect.map(commit, (found) => {
          if (found === undefined) return []
          const decoded = OffsetMap.decode(found.metadata, { topic, partition: 0, base: found.offset, trust: "own" })
          return decoded._tag === "Map" ? [...OffsetMap.done(decoded.map)] : []
        })
        const expected = [
          [1n, 5_000n],
          [5_001n, 14_999n],
          [15_000n, 19_998n],
          [19_999n, 20_000n]
        ]
        yield* until(
          "all others have finished",
          Effect.sync(() => first.read()),
          ({ handled }) => handled.length === records - 4
        )
        yield* until("the map says so", says, (runs) => String(runs) === String(expected))
        const before = yield* commit
        assert.strictEqual(before?.offset, 0n)
        assert.isBelow(before!.metadata.length, 60)
        assert.strictEqual((yield* first.kill).signal, "SIGKILL")

        const second = yield* Members.start(within, { ...options, turn: 2 })
        yield* until("the second one has committed all", commit, (found) => found?.offset === BigInt(records))
        assert.strictEqual((yield* commit)?.metadata, "")
        yield* second.terminate
        assert.deepStrictEqual(
          second
            .read()
            .handled.map(({ offset }) => Number(offset))
            .sort((a, b) => a - b),
          inFlight
        )
        assert.strictEqual(second.state?.unexpected, 0)
        console.log(
          `${records - 4} of ${records} records behind a stuck one: ${before!.metadata.length} characters of metadata`
        )
      }).pipe(Effect.scoped),
    60_000
  )
})
