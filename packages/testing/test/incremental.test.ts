import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { advance, cluster, fill, member, turns } from "./support.ts"

const protocol = { protocol: "incremental" } as const

describe("incremental groups", () => {
  it.effect("a session says itself which protocol it wants, whatever its client has as a default", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        for (const [groupId, said, kind, client] of [
          ["a", { groupProtocol: "consumer" }, "incremental", {}],
          ["b", { groupProtocol: "classic" }, "eager", protocol],
          ["c", { groupProtocol: "classic", assignor: "cooperative-sticky" }, "incremental", {}],
          ["d", { assignor: "sticky" }, "eager", protocol]
        ] as const) {
          const a = yield* member(kafka, groupId, { ...client, settings: { groupId, ...said } })
          yield* advance(1_000)
          assert.strictEqual(a.held.size, 2)
          assert.strictEqual(kafka.groupUnsafe(groupId).protocol, kind)
          assert.strictEqual(a.session.capabilities.incremental, kind === "incremental")
        }
      })
    )
  )

  it.effect("a member whose partitions stay gets a new epoch of its membership and no assignment", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        const b = yield* member(kafka, "b", protocol)
        yield* advance(7_000)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1])
        const [assigned, generation] = [a.of("Assigned").length, a.session.generationUnsafe()]
        yield* member(kafka, "c", protocol)
        yield* advance(4_000)
        assert.strictEqual(a.of("Assigned").length, assigned)
        assert.isTrue(a.session.generationUnsafe() > generation)
        const { protocol: kind, state } = kafka.groupUnsafe("g")
        assert.deepStrictEqual([kind, state], ["incremental", "Stable"])
      })
    )
  )

  it.effect("a partition is given on only when its owner has said that it gave it up", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const held: Array<Revoking> = []
        const a = yield* member(kafka, "a", { ...protocol, onRevoking: (revoking) => void held.push(revoking) })
        yield* fill(kafka, 0, 5)
        yield* fill(kafka, 1, 5)
        yield* turns
        const b = yield* member(kafka, "b", protocol)
        assert.deepStrictEqual(b.of("Assigned")[0]!.all, [], "a member without partitions")
        yield* advance(9_000)
        assert.deepStrictEqual([held.length, held[0]!.exact, held[0]!.partitions.length, b.held.size], [1, true, 1, 0])
        const [going] = held[0]!.partitions
        const [outcome] = yield* a.session.commit([{ ...going!, offset: 3n, metadata: "flush" }])
        assert.strictEqual(outcome!.outcome, "committed")
        const stays = 1 - going!.partition
        yield* fill(kafka, stays, 5)
        yield* fill(kafka, going!.partition, 5)
        yield* turns
        assert.strictEqual(a.chunks("t", stays).flatMap((c) => c.records).length, 10, "the other one flows")
        assert.strictEqual(
          a.chunks("t", going!.partition).flatMap((c) => c.records).length,
          5,
          "nothing new of what goes"
        )
        held[0]!.acknowledgeUnsafe()
        yield* advance(3_100)
        assert.deepStrictEqual([...b.held.values()][0]!.committed, { offset: 3n, metadata: "flush" })
        assert.strictEqual(a.of("Assigned").length, 1, "nothing came for a")
        const [late] = yield* a.session.commit([{ ...going!, offset: 4n, metadata: "" }])
        assert.deepStrictEqual([late!.outcome, "code" in late! && late.code], ["stale", "EPOCH"])
      })
    )
  )

  it.effect("a hold that nobody ends is over after the revoke timeout, and an assignment says what is left", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { ...protocol, onRevoking: () => {} })
        const b = yield* member(kafka, "b", protocol)
        yield* advance(3_100 + 9_800)
        assert.strictEqual(b.held.size, 0)
        yield* advance(3_500)
        assert.strictEqual(b.held.size, 1)
        const last = a.of("Assigned").at(-1)!
        assert.deepStrictEqual([last.all.length, last.all[0]!.retained, a.of("Lost").length], [1, true, 0])
      })
    )
  )

  it.effect("who does not give up within the rebalance timeout is out", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const settings = { rebalanceTimeout: 5_000, revokeTimeout: 20_000 }
        const a = yield* member(kafka, "a", { ...protocol, settings, onRevoking: () => {} })
        const b = yield* member(kafka, "b", { ...protocol, settings })
        yield* advance(3_100 + 5_000 + 3_100)
        assert.deepStrictEqual(a.of("Lost")[0]!.partitions.length, 2)
        assert.isTrue(b.held.size > 0)
        yield* advance(3_100)
        assert.strictEqual(a.held.size + b.held.size, 2)
      })
    )
  )

  it.effect(
    "a commit with an epoch that the broker has moved on from is deferred, and works after the next heartbeat",
    () =>
      cluster({ partitions: 1 }, (kafka) =>
        Effect.gen(function* () {
          const a = yield* member(kafka, "a", protocol)
          const p = a.partition("t", 0)
          kafka.faults.next("heartbeat", { kind: "slowAnswer", ms: 1_000 }, { clientId: "a" })
          yield* kafka.rebalance("g")
          yield* advance(3_100)
          const commit = a.session.commit([{ ...p, offset: 0n, metadata: "m" }])
          const [stale] = yield* commit
          assert.deepStrictEqual([stale!.outcome, "code" in stale! && stale.code], ["deferred", "STALE_MEMBER_EPOCH"])
          yield* advance(1_000)
          const [now] = yield* commit
          assert.strictEqual(now!.outcome, "committed")
          assert.strictEqual(a.of("Assigned").length, 1)
        })
      )
  )

  it.effect("an answer that was lost does not fence the member", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        kafka.faults.next("heartbeat", { kind: "answerLost" }, { clientId: "a" })
        yield* kafka.rebalance("g")
        yield* advance(7_000)
        assert.strictEqual(a.of("Lost").length, 0)
        assert.strictEqual(a.session.generationUnsafe(), kafka.groupUnsafe("g").generation)
      })
    )
  )

  it.effect("who is fenced has lost everything and joins again with new epochs", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        const before = [...a.held.values()].map((p) => p.epoch)
        kafka.faults.next("heartbeat", { kind: "code", code: "FENCED_MEMBER_EPOCH" }, { clientId: "a" })
        yield* advance(3_100)
        assert.strictEqual(a.of("Lost").length, 1)
        assert.strictEqual(a.held.size, 2)
        assert.isTrue([...a.held.values()].every((p) => !before.includes(p.epoch) && !p.retained))
      })
    )
  )

  it.effect("a foreign commit on a partition that is held ends its epoch at the next assignment", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        const { epoch } = a.partition("t", 0)
        yield* kafka.setCommitted("g", "t", 0, { offset: 0n, metadata: "foreign" })
        yield* kafka.addPartitions("t", 3)
        yield* advance(3_100)
        assert.deepStrictEqual(
          a.of("Lost")[0]!.partitions.map((p) => [p.partition, p.epoch]),
          [[0, epoch]]
        )
        const last = a.of("Assigned").at(-1)!
        assert.deepStrictEqual(
          last.all.map((p) => [p.partition, p.retained]),
          [
            [0, false],
            [1, true],
            [2, false]
          ]
        )
      })
    )
  )

  it.effect("a topic that is created again comes back as a new one", () =>
    cluster({ partitions: 1 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        yield* fill(kafka, 0, 5)
        yield* turns
        const { epoch } = a.partition("t", 0)
        yield* kafka.recreateTopic("t")
        yield* kafka.produce("t", [{ value: "new" }])
        yield* advance(3_500)
        assert.deepStrictEqual([a.of("Gone").length, a.of("Gone")[0]?.why], [1, "recreated"])
        assert.strictEqual(a.of("Revoking").at(-1)!.partitions[0]!.epoch, epoch)
        assert.strictEqual(a.values().at(-1), "new")
      })
    )
  )

  it.effect("a silent member is out after the session timeout", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        const b = yield* member(kafka, "b", protocol)
        yield* advance(7_000)
        yield* kafka.sessionUnsafe("a").disconnect
        yield* advance(33_500)
        assert.strictEqual(b.held.size, 2)
        assert.strictEqual(a.of("Connection").at(-1)!.state, "down")
        yield* kafka.sessionUnsafe("a").reconnect
        yield* advance(8_000)
        assert.strictEqual(a.of("Connection").at(-1)!.state, "up")
        assert.strictEqual(a.of("Lost").length, 1)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1])
      })
    )
  )

  it.effect("the broker knows everything after a restart", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", protocol)
        yield* kafka.brokerDown
        yield* advance(40_000)
        yield* kafka.brokerUp
        yield* advance(4_000)
        assert.deepStrictEqual([a.of("Lost").length, a.held.size, a.of("Assigned").length], [0, 2, 1])
      })
    )
  )
})

describe("cooperative groups", () => {
  const cooperative = { settings: { assignor: "cooperative-sticky" } } as const

  it.effect(
    "who has joined waits for the last member: its records flow, its commits are put off, and it is told the end",
    () =>
      cluster({ partitions: 6 }, (kafka) =>
        Effect.gen(function* () {
          const held: Array<Revoking> = []
          const a = yield* member(kafka, "a", cooperative)
          const b = yield* member(kafka, "b", { ...cooperative, onRevoking: (revoking) => void held.push(revoking) })
          yield* advance(7_000)
          assert.deepStrictEqual([a.held.size, b.held.size], [3, 3])
          const assigned = a.of("Assigned").length
          const c = yield* member(kafka, "c", cooperative)
          yield* advance(4_000)
          assert.deepStrictEqual([a.held.size, held.length, c.held.size], [2, 1, 0])
          const own = [...a.held.values()][0]!
          const commit = a.session.commit([{ ...own, offset: 1n, metadata: "" }])
          const [putOff] = yield* commit
          assert.deepStrictEqual(
            [putOff!.outcome, "code" in putOff! && putOff.code],
            ["deferred", "REBALANCE_IN_PROGRESS"]
          )
          yield* fill(kafka, own.partition, 3)
          yield* turns
          assert.strictEqual(a.chunks("t", own.partition).flatMap((chunk) => chunk.records).length, 3)
          const [inTheHold] = yield* b.session.commit([{ ...held[0]!.partitions[0]!, offset: 0n, metadata: "" }])
          assert.strictEqual(inTheHold!.outcome, "committed")

          held[0]!.acknowledgeUnsafe()
          yield* turns
          assert.deepStrictEqual(
            a
              .of("Assigned")
              .slice(assigned)
              .map(({ all }) => all.map(({ epoch, retained }) => [epoch, retained])),
            [[...a.held.values()].map(({ epoch }) => [epoch, true])]
          )
          assert.strictEqual((yield* commit)[0]!.outcome, "committed")
          assert.strictEqual(c.held.size, 2)
        })
      )
  )

  it.effect("who never joins again is out after its timeouts, and the others go on", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", cooperative)
        const b = yield* member(kafka, "b", cooperative)
        yield* advance(7_000)
        yield* kafka.sessionUnsafe("b").freeze
        yield* kafka.rebalance("g")
        yield* advance(4_000)
        const commit = a.session.commit(
          [...a.held.values()].slice(0, 1).map((p) => ({ ...p, offset: 0n, metadata: "" }))
        )
        assert.strictEqual((yield* commit)[0]!.outcome, "deferred")
        yield* advance(33_000)
        assert.strictEqual((yield* commit)[0]!.outcome, "committed")
        assert.deepStrictEqual([a.held.size, a.of("Lost").length, b.held.size], [2, 0, 1])
      })
    )
  )
})
