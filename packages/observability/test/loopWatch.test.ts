/** What is said while the event loop stands still, and what health says of it afterwards; a real event loop stands still for it. */
import { ConcurrentConsumer } from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConsumerRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { Handler } from "@concurrent-kafka/core/Handler"
import { MemoryKafka } from "@concurrent-kafka/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { join } from "node:path"
import { Observability } from "../src/index.ts"
import { endpoints } from "./http.ts"

interface Said {
  readonly code: number | null
  /** on standard error, where the thread writes */
  readonly lines: ReadonlyArray<string>
  readonly log: string
}

const run = (
  millis: number,
  sessionTimeout: number,
  { flags = [], protocol = "classic" }: { readonly flags?: ReadonlyArray<string>; readonly protocol?: string } = {}
): Promise<Said> =>
  new Promise((resolve, reject) => {
    const file = join(import.meta.dirname, "blocked.ts")
    const child = spawn(process.execPath, [...flags, file, `${millis}`, `${sessionTimeout}`, protocol], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    let text = ""
    let log = ""
    child.stderr.setEncoding("utf8").on("data", (some: string) => (text += some))
    child.stdout.setEncoding("utf8").on("data", (some: string) => (log += some))
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, lines: text.trimEnd().split("\n"), log }))
  })

const blocked = async (millis: number, sessionTimeout: number): Promise<ReadonlyArray<string>> =>
  (await run(millis, sessionTimeout)).lines

describe("an event loop that stands still", () => {
  it("is warned of before the session ends, while it stands still, once; and not when it stands still for less", async () => {
    const lines = await blocked(2_600, 2_000)
    const [first, warning = "", ...rest] = lines
    assert.deepStrictEqual([first, ...rest], ["blocks", "turns", "over"])
    assert.match(
      warning,
      /^\[.*Z\] WARN: the event loop has stood still for 1\.0 s; if it does for 1\.0 s more, the session of shipping ends/
    )
    assert.notInclude(warning, "as far as")
    // also that the thread holds no process back
    assert.deepStrictEqual(await blocked(600, 10_000), ["blocks", "turns", "over"])
  })

  it.concurrent("is warned of with what is known of the session: under KIP-848 a setting of the brokers counts", async () => {
    const { lines } = await run(900, 1_000, { protocol: "consumer" })
    assert.match(
      lines[1] ?? "",
      /for 0\.5 s more, the session of shipping ends.* \(as far as is known: the brokers' group\.consumer\.session\.timeout\.ms counts/
    )
  })

  it.concurrent("ends no consumer where no thread can be had: that it is not warned of is said once", async () => {
    const known = process.allowedNodeEnvironmentFlags.has("--permission")
    const flags = [known ? "--permission" : "--experimental-permission", "--allow-fs-read=*"]
    const { code, lines, log } = await run(700, 1_000, { flags })
    assert.deepStrictEqual([code, ...lines], [0, "blocks", "turns", "over"], log)
    assert.lengthOf([...log.matchAll(/WARN.*no thread can be had that watches the event loop/g)], 1)
    assert.match(log, /ERR_ACCESS_DENIED/)
  })

  it.live("is in health with the records that were in handlers, those that had ended by then, too", () =>
    Effect.gen(function* () {
      const http = yield* endpoints()
      const kafka = yield* MemoryKafka
      yield* kafka.createTopic("orders")
      const gate = yield* Deferred.make<void>()
      let handled = 0
      const handler = Handler.make("orders", ({ offset }) => {
        if (offset === 1n) return Deferred.await(gate)
        if (offset === 5n) {
          const until = performance.now() + 1_300
          while (performance.now() < until);
        }
        return Effect.sync(() => void handled++)
      })
      yield* Layer.build(ConcurrentConsumer.layerHandler(handler, { groupId: "g" })).pipe(
        Effect.provideService(ConsumerRegistry, http.registry)
      )
      const reasons = Effect.map(
        http.get("/health"),
        ({ text }) =>
          JSON.parse(text).consumers[0].reasons as ReadonlyArray<{
            readonly code: string
            readonly message: string
            readonly at?: unknown
          }>
      )
      const produce = (count: number) =>
        kafka.produce(
          "orders",
          Array.from({ length: count }, () => ({ value: "order" }))
        )
      const until = (isSo: () => boolean) => Effect.repeat(Effect.sleep(20), { until: isSo })
      // two that are well, one that waits, and one that is well
      yield* produce(4)
      yield* until(() => handled === 3)
      yield* Effect.sleep(1_100)
      yield* produce(3)
      yield* until(() => handled === 6)
      let found = yield* reasons
      while (!found.some(({ code }) => code === "eventLoopBlocked")) {
        yield* Effect.sleep(50)
        found = yield* reasons
      }
      const { message, ...reason } = found.find(({ code }) => code === "eventLoopBlocked")!
      assert.match(message, /^the event loop stood still for 1\d{3} ms: .*; in handlers meanwhile: orders\/0 @ 1, /)
      assert.match(message, /orders\/0 @ 5/)
      assert.notMatch(message, /@ [023]\b/)
      assert.deepInclude(reason, { at: { topic: "orders", partition: 0, offset: "1" } })
      yield* Deferred.succeed(gate, undefined)
    }).pipe(Effect.provide([MemoryKafka.layer(), Observability.layerLoopDelay]))
  )
})
