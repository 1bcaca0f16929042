/** Suite: where a session reads, is the engine's to say: pause, resume, reopen, a log that is cut. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { inject } from "vitest"
import { type Client, type GroupProtocol, suiteIn } from "../client.ts"
import { heldBy, join, numbers, settingsOf, unique, until } from "../members.ts"
import { alone, world } from "../operator.ts"

export const positions = (client: Client, groupProtocol: GroupProtocol = "classic"): void => {
  const brokers = inject("brokers")

  suiteIn(client, groupProtocol, "positions on a real broker", () => {
    layer(client.layer({ brokers }), { excludeTestServices: true, timeout: 60_000 })((it) => {
      it.effect("a resume, a begin and a reopen take effect at once, also while a long poll waits", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(2)
          yield* kafka.send(topic, 0, ["a"])
          // partition 1 is idle and polled for six seconds at a time
          const member = yield* join(settingsOf(unique("group"), [topic], { groupProtocol, maxWait: 6000 }))
          yield* until("the first record", () => member.records.length === 1)
          const times: Array<number> = []
          let sent = 1
          for (let i = 0; i < 5; i++) {
            const p = member.partition(0)
            const chunks = member.of("Chunk").length
            member.session.pauseUnsafe([p])
            // what was under way when it was paused may still bring one chunk; then it is quiet
            for (const value of ["b", "c", "d"]) {
              yield* kafka.send(topic, 0, [value])
              sent++
              yield* Effect.sleep(50)
            }
            assert.isAtMost(member.of("Chunk").length, chunks + 1)
            const began = performance.now()
            member.session.resumeUnsafe([p])
            yield* until("the records", () => member.records.length === sent)
            times.push(performance.now() - began)
          }
          const reopened = member.session.reopenUnsafe(member.partition(0))!
          const before = member.records.length
          const began = performance.now()
          member.session.beginUnsafe([{ ...reopened, offset: 0n }])
          yield* until("the first record again", () => member.records.length > before)
          times.push(performance.now() - began)
          for (const ms of times) assert.isBelow(ms, 3000)
        })
      )

      it.effect("a pause stops one partition and no other, and survives a rebalance", () =>
        Effect.gen(function* () {
          const { a: member, kafka, settings, topic } = yield* alone(brokers, 2, { groupProtocol })
          const scope = yield* Scope.make()
          const other = yield* Scope.provide(join(settings), scope)
          yield* until("both have one", () => heldBy(member).length === 1 && heldBy(other).length === 1)
          const [stays, moves] = [heldBy(member)[0]!, heldBy(other)[0]!]
          const { epoch } = member.partition(stays)
          const paused = () => member.of("Chunk").filter(({ partition }) => partition === stays).length
          member.session.pauseUnsafe([member.partition(stays)])
          for (const value of ["x", "y", "not yet"]) {
            yield* kafka.send(topic, stays, [value])
            yield* Effect.sleep(50)
          }
          yield* Scope.close(scope, Exit.void)
          yield* until("it has both", () => heldBy(member).length === 2)
          yield* kafka.send(topic, moves, ["a"])
          yield* until("the other partition", () => member.values().includes("a"))
          yield* Effect.sleep(500)
          assert.strictEqual(member.partition(stays).epoch, epoch)
          // one chunk may have been under way when it was paused
          assert.isAtMost(paused(), 1)
          member.session.resumeUnsafe([member.partition(stays)])
          yield* until("the paused records", () => member.records.length === 4)
        })
      )

      it.effect("a reopened partition has another epoch; the old one brings and commits nothing more", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1)
          yield* kafka.send(topic, 0, numbers(0, 10))
          const member = yield* join(settingsOf(unique("group"), [topic], { groupProtocol }))
          yield* until("all records", () => member.records.length === 10)
          const old = member.partition(0)
          const reopened = member.session.reopenUnsafe(old)!
          assert.isAbove(reopened.epoch, old.epoch)
          assert.isUndefined(member.session.reopenUnsafe(old))
          yield* kafka.send(topic, 0, ["10"])
          yield* Effect.sleep(600)
          assert.strictEqual(member.records.length, 10)
          assert.deepInclude((yield* member.session.commit([{ ...old, offset: 5n, metadata: "" }]))[0]!, {
            outcome: "stale",
            code: "EPOCH"
          })
          member.session.beginUnsafe([{ ...old, offset: 0n }])
          member.session.beginUnsafe([{ ...reopened, offset: 7n }])
          yield* until("the records from there", () => member.records.length === 14)
          assert.deepStrictEqual(
            member.records.slice(10).map(({ epoch, offset }) => [epoch, offset]),
            [7n, 8n, 9n, 10n].map((offset) => [reopened.epoch, offset])
          )
        })
      )

      it.effect(
        "the log is cut above the position: it goes on at the beginning, in the same epoch, and commits nothing itself",
        () =>
          Effect.gen(function* () {
            const kafka = yield* world(brokers)
            const topic = yield* kafka.topic(1)
            yield* kafka.send(topic, 0, numbers(0, 300))
            const settings = settingsOf(unique("group"), [topic], { groupProtocol })
            // under a running session
            const member = yield* join(settings, { start: () => 0n })
            yield* until("all records", () => member.records.length === 300)
            assert.strictEqual((yield* member.commit(0, 10n, "map")).outcome, "committed")
            const reopened = member.session.reopenUnsafe(member.partition(0))!
            yield* kafka.cut(topic, 0, "100")
            member.session.beginUnsafe([{ ...reopened, offset: 10n }])
            yield* until("the rest", () => member.records.length === 500)
            assert.deepStrictEqual(member.of("OutOfRange"), [
              { _tag: "OutOfRange", ...reopened, position: 10n, start: 100n, end: 300n }
            ])
            assert.strictEqual(member.records[300]!.offset, 100n)
            assert.strictEqual(member.records[300]!.epoch, reopened.epoch)
            assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition: 0 }), {
              offset: "10",
              metadata: "map"
            })

            // before the start
            yield* member.session.leave
            yield* kafka.cut(topic, 0, "200")
            const second = yield* join(settings)
            yield* until("the rest", () => second.records.length === 100)
            assert.deepInclude(second.of("OutOfRange")[0]!, { position: 10n, start: 200n, end: 300n })
            assert.deepStrictEqual(yield* kafka.committed(settings.groupId, { topic, partition: 0 }), {
              offset: "10",
              metadata: "map"
            })
          })
      )

      it.effect("a position beyond the end is told, and nothing is fetched until it is reopened and begun", () =>
        Effect.gen(function* () {
          const kafka = yield* world(brokers)
          const topic = yield* kafka.topic(1)
          yield* kafka.send(topic, 0, numbers(0, 10))
          const member = yield* join(settingsOf(unique("group"), [topic], { groupProtocol }), { start: () => 5000n })
          yield* until("out of range", () => member.of("OutOfRange").length === 1)
          assert.deepInclude(member.of("OutOfRange")[0]!, { position: 5000n, start: 0n, end: 10n })
          yield* kafka.send(topic, 0, ["10"])
          yield* Effect.sleep(800)
          assert.strictEqual(member.of("OutOfRange").length, 1)
          assert.strictEqual(member.records.length, 0)
          const reopened = member.session.reopenUnsafe(member.partition(0))!
          member.session.beginUnsafe([{ ...reopened, offset: 8n }])
          yield* until("records", () => member.records.length === 3)
        })
      )
    })
  })
}
