/** `explain` on a real Kafka: as a process beside a group that runs, and of groups that nobody of ours has made. */
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { inject } from "vitest"
import * as Members from "../../../test/integration/members.ts"
import * as Outside from "../../../test/integration/outside.ts"
import { until } from "../../../test/integration/until.ts"
import { explain, type Explanation } from "../src/Explain.ts"
import { javaMap } from "./groups.ts"
import { lastLine, onKafka } from "./process.ts"

const brokers = inject("brokers")
const kafka = onKafka(brokers)
const client = KafkaJs.layer({ brokers })

describe("concurrent-kafka explain on a real Kafka", () => {
  it.live(
    "one record is stuck and 400 behind it are done: it says so while the consumer runs, and after it was killed",
    () =>
      Effect.gen(function* () {
        const outside = yield* Outside.connect(brokers)
        const topic = Outside.fresh("explain")
        yield* outside.createTopic(topic, 1)
        yield* outside.send(
          topic,
          Array.from({ length: 500 }, (_, i) => ({ key: "marker", value: i === 99 ? "until 2" : "quick" }))
        )
        const member = yield* Members.start(yield* Members.folder, {
          brokers,
          topic,
          groupId: topic,
          concurrency: 10,
          shutdown: "interrupt",
          sleep: [0, 0],
          consumer: { sessionTimeout: 6_000, heartbeatInterval: 1_000, batchInterval: 200 }
        })
        const ask = Effect.provide(explain({ groupId: topic, topic }), client)
        const expected = {
          partition: 0,
          start: 0n,
          end: 500n,
          committed: 99n,
          begins: 99n,
          why: "committed",
          lag: 401,
          lost: 0,
          map: { _tag: "Used", writer: "own", until: 500n },
          done: 400,
          gapRanges: [[99n, 100n]],
          gaps: 1,
          oldest: 99n,
          wouldRun: 1
        }
        const running = yield* until("all others are committed", ask, ({ total }: Explanation) => total.wouldRun === 1)
        assert.deepStrictEqual<unknown>(running.partitions, [expected])
        const rebalances = member.read().rebalances.length
        assert.strictEqual(yield* outside.members(topic), 1)

        const said = yield* Effect.promise(() => kafka.explain(["--group", topic, "--topic", topic]))
        assert.strictEqual(said.code, 0, said.stderr)
        assert.strictEqual(
          said.stdout.split("\n")[0],
          `${topic} is 401 records behind the end of ${topic}: 400 of them done, 1 would run if all members ended now`
        )
        assert.include(said.stdout, `\n${topic}/0: gaps: 99\n`)
        assert.notInclude(said.stdout + said.stderr, "marker")
        assert.strictEqual(member.read().rebalances.length, rebalances, "nobody joined")

        yield* member.kill
        const killed = yield* Effect.promise(() => kafka.explain(["--group", topic, "--topic", topic, "--json"]))
        assert.strictEqual(killed.code, 0, killed.stderr)
        assert.deepStrictEqual(
          lastLine(killed),
          JSON.parse(
            JSON.stringify(running, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value))
          )
        )
      }).pipe(Effect.scoped)
  )

  it.live("metadata of another tool and of the Java Parallel Consumer are told apart, and left as they are", () =>
    Effect.gen(function* () {
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("explain-foreign")
      yield* outside.createTopic(topic, 3)
      for (let partition = 0; partition < 3; partition++) {
        yield* outside.send(
          topic,
          Array.from({ length: 20 }, (_, i) => ({ partition, value: `${i}` }))
        )
      }
      const committed = [
        { partition: 0, offset: "5", metadata: "marker of another tool" },
        { partition: 1, offset: "4", metadata: javaMap(4, [[6, 18]]) }
      ]
      yield* Effect.promise(() => kafka.commit(topic, topic, committed))
      const before = yield* outside.commits(topic, topic)
      assert.strictEqual(before.get(0)?.metadata, "marker of another tool")
      const figures = ({ partitions }: Explanation) =>
        partitions.map(({ done, map, wouldRun }) => [map._tag === "NotUsed" ? map.why : map._tag, done, wouldRun])
      const byDefault = yield* Effect.provide(explain({ groupId: topic, topic }), client)
      assert.deepStrictEqual(figures(byDefault), [
        ["notBase64", 0, 15],
        ["unchecked", 0, 16],
        ["None", 0, 20]
      ])
      const all = yield* Effect.provide(explain({ groupId: topic, topic, offsetMap: "all" }), client)
      assert.deepStrictEqual(figures(all), [
        ["notBase64", 0, 15],
        ["Used", 12, 4],
        ["None", 0, 20]
      ])
      assert.deepStrictEqual(yield* outside.commits(topic, topic), before)
    }).pipe(Effect.scoped)
  )

  it.live("a topic that is missing and a group that is unknown are named, and nothing is created", () =>
    Effect.gen(function* () {
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("explain-empty")
      const said = yield* Effect.promise(() => kafka.explain(["--group", topic, "--topic", topic]))
      assert.deepStrictEqual([said.code, said.stdout], [1, ""])
      assert.include(said.stderr.split("\n"), `error: there is no topic ${topic}`)
      const names = yield* Effect.promise(() => kafka.withAdmin((admin) => admin.listTopics()))
      assert.notInclude(names, topic)
      yield* outside.createTopic(topic, 1)
      const error = yield* Effect.flip(Effect.provide(explain({ groupId: topic, topic }), client))
      assert.deepInclude(error, { _tag: "ExplainError", reason: { _tag: "GroupUnknown", groupId: topic, topic } })
    }).pipe(Effect.scoped)
  )
})
