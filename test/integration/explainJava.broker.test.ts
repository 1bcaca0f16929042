/** `explain` beside a group whose member is the Java Parallel Consumer, while it runs and when it is gone. */
import { explain, type Explanation } from "@concurrent-kafka/cli"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { refuseSkips } from "../kafka/skips.ts"
import * as ParallelConsumer from "../parallelConsumer/parallelConsumer.ts"
import * as Members from "./members.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")
const java = await Effect.runPromise(Effect.result(ParallelConsumer.prepare))
if (java._tag === "Failure" && inject("own")) refuseSkips("Parallel Consumer", java.failure)

describe.skipIf(java._tag === "Failure")("explain of a group of the Java Parallel Consumer", () => {
  it.live("one record is stuck and 400 behind it are done: it says so where it is to believe such maps", () =>
    Effect.gen(function* () {
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("explain-java")
      yield* outside.createTopic(topic, 2)
      yield* outside.send(
        topic,
        Array.from({ length: 1_000 }, (_, i) => ({ partition: i % 2, value: i === 198 ? "until 1" : "quick" }))
      )
      const member = yield* ParallelConsumer.start(yield* ParallelConsumer.prepare, yield* Members.folder, {
        brokers,
        topic,
        groupId: topic,
        ordering: "UNORDERED",
        concurrency: 10,
        turn: 0
      })
      const ask = (offsetMap: "own" | "all") =>
        Effect.provide(explain({ groupId: topic, topic, offsetMap }), KafkaJs.layer({ brokers }))
      // until its first commit the group is unknown
      const asked = Effect.orElseSucceed(
        Effect.map(ask("all"), (one): Explanation | undefined => one),
        () => undefined
      )
      const known = yield* until("all others are committed", asked, (found) => found?.total.wouldRun === 1)
      const [first, second] = known!.partitions
      assert.deepStrictEqual<unknown>(first, {
        partition: 0,
        start: 0n,
        end: 500n,
        committed: 99n,
        begins: 99n,
        why: "committed",
        lag: 401,
        lost: 0,
        map: { _tag: "Used", writer: "parallelConsumer", until: 500n },
        done: 400,
        gapRanges: [[99n, 100n]],
        gaps: 1,
        oldest: 99n,
        wouldRun: 1
      })
      assert.deepInclude(second, { partition: 1, committed: 500n, lag: 0, done: 0, gapRanges: [], wouldRun: 0 })
      yield* member.kill
      assert.deepStrictEqual(yield* ask("all"), known)
      const [unbelieved] = (yield* ask("own")).partitions
      assert.deepInclude(unbelieved, {
        map: { _tag: "NotUsed", writer: "parallelConsumer", why: "unchecked" },
        done: 0,
        wouldRun: 401
      })
    }).pipe(Effect.scoped)
  )
})
