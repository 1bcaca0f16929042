import { ConsumerRegistry, Handler, makeRegistry } from "@concurrent-kafka/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { join } from "node:path"
import { inject } from "vitest"
import * as InProcess from "./inProcess.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")

describe("one process", () => {
  it.live("has several groups, and several members of one, each with a name of its own (I4, D34)", () =>
    Effect.gen(function* () {
      const partitions = 4
      const perPartition = 50
      const outside = yield* Outside.connect(brokers)
      const topic = Outside.fresh("groups")
      yield* outside.createTopic(topic, partitions)
      const groups = ["first", "second", "third"].map((name) => `${topic}-${name}`)
      const handled = new Map<string, Array<string>>(groups.map((group) => [group, []]))
      const start = (groupId: string, ordering: "unordered" | "partition") =>
        InProcess.start(
          brokers,
          Handler.make(
            topic,
            Effect.fnUntraced(function* ({ groupId: group, offset, partition }) {
              yield* Effect.sleep(5 * Math.random())
              handled.get(group)!.push(`${partition}/${offset}`)
            })
          ),
          { groupId, ordering, concurrency: 10, heartbeatInterval: 500, sessionTimeout: 6000, batchInterval: 200 }
        )
      const consumers = yield* Effect.forEach(groups, (group, i) => start(group, i === 0 ? "partition" : "unordered"), {
        concurrency: "unbounded"
      })
      const second = yield* start(groups[2]!, "unordered")
      yield* until(
        "the third group has two members, each with half",
        Effect.all([consumers[2]!.snapshot, second.snapshot]),
        (both) => both.every((snapshot) => snapshot.partitions.length === partitions / 2)
      )
      assert.deepStrictEqual(
        [...consumers, second].map(({ name }) => name),
        [...groups, `${groups[2]}#2`]
      )
      assert.strictEqual((yield* (yield* ConsumerRegistry).consumers).length, 4)

      for (let i = 0; i < perPartition; i += 10) {
        yield* outside.send(
          topic,
          Array.from({ length: partitions * 10 }, (_, j) => ({ value: `${i}`, partition: j % partitions }))
        )
      }
      const ends = yield* outside.ends(topic)
      for (const group of groups) {
        yield* until(`${group} has committed the end`, outside.committed(group, topic), (now) =>
          Outside.same(now, ends)
        )
        const records = handled.get(group)!
        assert.strictEqual(records.length, partitions * perPartition)
        assert.strictEqual(new Set(records).size, records.length)
      }
      // the one that asked for it has them in order
      for (let partition = 0; partition < partitions; partition++) {
        const offsets = handled.get(groups[0]!)!.filter((key) => key.startsWith(`${partition}/`))
        assert.deepStrictEqual(
          offsets,
          Array.from({ length: perPartition }, (_, offset) => `${partition}/${offset}`)
        )
      }
      for (const consumer of [...consumers, second]) assert.strictEqual((yield* consumer.health).status, "ok")
    }).pipe(Effect.provideService(ConsumerRegistry, makeRegistry()), Effect.scoped)
  )

  it.live("starts, says that it is disabled, and ends, with KAFKA_ENABLED=false and no broker", () =>
    Effect.gen(function* () {
      const { PATH } = process.env
      const child = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, [join(import.meta.dirname, "disabled.ts")], {
            stdio: ["ignore", "pipe", "inherit"],
            env: { ...(PATH === undefined ? {} : { PATH }), KAFKA_ENABLED: "false" }
          })
        ),
        (started) => Effect.sync(() => started.kill("SIGKILL"))
      )
      let output = ""
      child.stdout.on("data", (chunk: Buffer) => {
        output += chunk.toString()
      })
      const code = yield* Effect.callback<number | null>((resume) => {
        child.once("close", (code) => resume(Effect.succeed(code)))
      }).pipe(Effect.timeout("20 seconds"))
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(JSON.parse(output), { status: "ok", live: true, ready: true, codes: ["disabled"] })
    }).pipe(Effect.scoped)
  )
})
