import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { inject } from "vitest"
import * as Members from "./members.ts"
import * as Outside from "./outside.ts"
import { until } from "./until.ts"

const brokers = inject("brokers")
const partitions = 12
const concurrency = 100

const setup = Effect.fnUntraced(function* () {
  const outside = yield* Outside.connect(brokers)
  const topic = Outside.fresh("rebalance")
  const groupId = topic
  yield* outside.createTopic(topic, partitions)
  const folder = yield* Members.folder
  const ledger = new Members.Ledger()
  const start = (shutdown: "drain" | "interrupt") =>
    Effect.map(
      Members.start(folder, {
        brokers,
        topic,
        groupId,
        concurrency,
        shutdown,
        sleep: [20, 60],
        consumer: { sessionTimeout: 3000, heartbeatInterval: 500 }
      }),
      (member) => ledger.add(member)
    )
  /** writes more than the members can handle until it is interrupted */
  const producing = yield* Effect.forkScoped(
    Outside.load(outside, topic, { partitions, ahead: 8000, taken: () => ledger.look().distinct })
  )
  const ends = outside.ends(topic)
  const committed = outside.committed(groupId, topic)
  /** lets the members finish; afterwards nothing is missing, and everything is committed */
  const finish = Effect.gen(function* () {
    yield* Fiber.interrupt(producing)
    const all = yield* ends
    const total = [...all.values()].reduce((sum, end) => sum + Number(end), 0)
    yield* until(
      "every record is handled",
      Effect.sync(() => ledger.look().distinct),
      (n) => n >= total
    )
    assert.deepStrictEqual(ledger.missing(all), [])
    yield* until("the end is committed", committed, (now) => Outside.same(now, all))
    return total
  })
  const sees = (what: string, member: Members.Member, is: (member: Members.Member) => boolean) =>
    until(
      what,
      Effect.sync(() => ledger.look()),
      () => is(member)
    )
  return { committed, finish, ledger, sees, start }
})

describe("members of a group under load", () => {
  it.live(
    "hand partitions over without handling a record twice, and lose nothing when one is killed (I1, I3, D1, D3)",
    () =>
      Effect.gen(function* () {
        const { committed, finish, ledger, sees, start } = yield* setup()
        const stays = yield* start("drain")
        yield* sees("the first member handles", stays, (m) => m.handled.length > 1000)
        for (let round = 1; round <= 5; round++) {
          const comes = yield* start("drain")
          yield* sees(`the second member handles, round ${round}`, comes, (m) => m.handled.length > 500)
          const { code } = yield* comes.terminate
          assert.strictEqual(code, 130)
          const before = stays.handled.length
          yield* sees(
            `the first member has everything again, round ${round}`,
            stays,
            (m) => m.assigned === partitions && m.revokes.length >= 2 * round && m.handled.length > before + 500
          )
          assert.strictEqual(comes.state?.unexpected, 0)
        }
        const loaded = stays.revokes.filter(({ inFlight }) => inFlight > 50)
        assert.isAtLeast(loaded.length, 10, JSON.stringify(stays.revokes))
        const handedOver = ledger.look().distinct
        assert.deepStrictEqual(ledger.twice, [])

        const killed = yield* start("drain")
        yield* sees("the member that will be killed handles", killed, (m) => m.handled.length > 1000)
        yield* killed.kill
        // nobody else commits its partitions before its session has timed out
        const stood = yield* committed
        const notCommitted = killed
          .read()
          .handled.filter(({ offset, partition }) => BigInt(offset) >= (stood.get(partition) ?? 0n))
        const total = yield* finish
        const again = ledger.twice
        const allowed = new Set(notCommitted.map(Members.keyOf))
        assert.deepStrictEqual(
          again.filter(([first]) => !allowed.has(Members.keyOf(first!))),
          []
        )
        assert.isAtMost(again.length, notCommitted.length + concurrency)
        assert.strictEqual(stays.state?.unexpected, 0)
        assert.strictEqual((yield* stays.terminate).code, 130)
        console.log(
          `${loaded.length} drained handovers of ${handedOver} records, 0 twice; in flight ${loaded.map((r) => r.inFlight).join(" ")}, ` +
            `held ${loaded.map((r) => r.millis).join(" ")} ms; kill -9: ${again.length} twice, ` +
            `${notCommitted.length} finished since the last commit; ${total} in all`
        )
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "give only interrupted records again when one leaves without draining, not what was done behind them (I1, I7, D7)",
    () =>
      Effect.gen(function* () {
        const { finish, ledger, sees, start } = yield* setup()
        const stays = yield* start("drain")
        yield* sees("the first member handles", stays, (m) => m.handled.length > 500)
        const leaves = yield* start("interrupt")
        yield* sees("the second member handles", leaves, (m) => m.handled.length > 1000)
        yield* leaves.terminate
        const total = yield* finish
        const { handled, interrupted } = leaves.read()
        assert.isAtLeast(interrupted.length, 1)
        assert.isAtMost(interrupted.length, concurrency)
        // every interrupted record came again, to somebody who finished it
        for (const { offset, partition } of interrupted) assert.isTrue(ledger.has(partition, BigInt(offset)))
        // the done prefix stops in front of the first interrupted record of a partition
        const boundary = new Map<number, bigint>()
        for (const { offset, partition } of interrupted) {
          const before = boundary.get(partition)
          if (before === undefined || BigInt(offset) < before) boundary.set(partition, BigInt(offset))
        }
        const behind = handled.filter((h) => BigInt(h.offset) > (boundary.get(h.partition) ?? BigInt(h.offset)))
        assert.isAtLeast(behind.length, 1)
        // the offset map knows of them
        assert.deepStrictEqual(
          ledger.twice.map(([first]) => Members.keyOf(first!)),
          []
        )
        console.log(`${interrupted.length} interrupted, ${behind.length} finished behind them, of ${total}`)
      }).pipe(Effect.scoped),
    60_000
  )
})
