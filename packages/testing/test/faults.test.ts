import type { Api, FaultKind } from "@concurrent-kafka/testing/Faults"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { advance, cluster, fill, member, seeded, settings, turns } from "./support.ts"

describe("faults", () => {
  it.effect("a script meets its target only, as often as it says, and scripts go in their order", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { settings: { groupId: "ga" } })
        const b = yield* member(kafka, "b", { settings: { groupId: "gb" } })
        kafka.faults.next("commit", { kind: "code", code: "FIRST" }, { clientId: "a", times: 2 })
        kafka.faults.next("commit", { kind: "code", code: "SECOND" }, { groupId: "ga" })
        const commit = (one: typeof a) =>
          Effect.map(one.session.commit([{ ...one.partition("t", 0), offset: 0n, metadata: "" }]), ([outcome]) =>
            "code" in outcome! ? outcome.code : "committed"
          )
        assert.strictEqual(yield* commit(b), "committed")
        const codes: Array<string> = []
        for (let i = 0; i < 4; i++) codes.push(yield* commit(a))
        assert.deepStrictEqual(codes, ["FIRST", "FIRST", "SECOND", "committed"])
        assert.deepStrictEqual(
          kafka.faults.injected().map(({ clientId, groupId, kind }) => [kind, clientId, groupId]),
          Array.from({ length: 3 }, () => ["commit:code", "a", "ga"])
        )
        kafka.faults.next("commit", { kind: "dropped" })
        kafka.faults.clear()
        assert.strictEqual(yield* commit(a), "committed")
      })
    )
  )

  it.effect("slow fetches are late, small ones are small, and a failing one is tried again", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        kafka.faults.next("fetch", { kind: "smallChunk", records: 2 })
        kafka.faults.next("fetch", { kind: "slowRequest", ms: 300 })
        yield* fill(kafka, 0, 10)
        yield* advance(290, 10)
        assert.strictEqual(a.records().length, 2)
        yield* advance(20, 10)
        assert.strictEqual(a.records().length, 10)
        kafka.faults.next("fetch", { kind: "dropped" })
        kafka.faults.next("fetch", { kind: "slowAnswer", ms: 300 })
        yield* fill(kafka, 0, 5)
        yield* advance(390, 10)
        assert.strictEqual(a.records().length, 10)
        yield* advance(20, 10)
        assert.strictEqual(a.records().length, 15)
        assert.deepStrictEqual(
          a.of("Connection").map((signal) => signal.state),
          ["down", "up"]
        )
      })
    )
  )

  it.effect("what is written while the answer that there is nothing is on its way is not overlooked", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* fill(kafka, 0, 1)
        yield* turns
        kafka.faults.next("fetch", { kind: "slowAnswer", ms: 500 })
        a.session.resumeUnsafe([a.partition("t", 0)])
        yield* advance(100)
        yield* fill(kafka, 0, 1)
        yield* advance(300)
        assert.strictEqual(a.records().length, 1)
        yield* advance(200)
        assert.strictEqual(a.records().length, 2)
      })
    )
  )

  it.effect("an answer that was read for an epoch that has ended meanwhile is dropped", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        kafka.faults.next("fetch", { kind: "slowAnswer", ms: 500 })
        yield* fill(kafka, 0, 5)
        yield* advance(100)
        const now = a.session.reopenUnsafe(a.partition("t", 0))
        a.session.beginUnsafe([{ ...now!, offset: 3n }])
        yield* advance(1_000)
        assert.deepStrictEqual(
          a.of("Chunk").map((chunk) => [chunk.epoch, chunk.records.length]),
          [[now!.epoch, 2]]
        )
      })
    )
  )

  it.effect("what arrives while the process stands still is read when it goes on", () =>
    cluster({ fetchLatency: 10 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const control = kafka.sessionUnsafe("a")
        yield* fill(kafka, 0, 5)
        yield* control.freeze
        yield* advance(2_000)
        assert.strictEqual(a.records().length, 0)
        yield* control.thaw
        yield* advance(20, 5)
        assert.strictEqual(a.records().length, 5)
      })
    )
  )

  it.effect("a partition that is out of range or gone is not asked for again", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { start: () => 100n })
        assert.strictEqual(a.of("OutOfRange").length, 1)
        kafka.faults.next("fetch", { kind: "smallChunk", records: 1 })
        yield* fill(kafka, 0, 200)
        yield* advance(2_000)
        assert.strictEqual(kafka.faults.counts().size, 0)
        assert.strictEqual(a.records().length, 0)
      })
    )
  )

  it.effect("a connection that breaks is said once, with its cause, and heals", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const control = kafka.sessionUnsafe("a")
        yield* control.disconnect
        yield* advance(10_000)
        assert.deepStrictEqual(
          a
            .of("Connection")
            .map((signal) => [signal.state, Option.getOrUndefined(Option.map(signal.cause, (e) => e.reason))]),
          [["down", "Connection"]]
        )
        yield* control.reconnect
        yield* advance(200)
        assert.deepStrictEqual(a.of("Connection").at(-1), { _tag: "Connection", state: "up", cause: Option.none() })
        assert.strictEqual(a.of("Lost").length, 0)
      })
    )
  )

  it.effect("a trouble of a membership that was left is none of the next one", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const b = yield* member(kafka, "b")
        yield* advance(4_000)
        const control = kafka.sessionUnsafe("a")
        yield* control.disconnect
        yield* fill(kafka, 0, 1)
        yield* advance(1_000)
        yield* a.session.leave
        yield* advance(35_000)
        assert.strictEqual(b.held.size, 1)
        yield* Effect.forkScoped(Effect.ignore(a.session.join))
        yield* advance(1_000)
        assert.strictEqual(a.of("Connection").at(-1)?.state, "down")
        yield* control.reconnect
        yield* advance(10_000)
        assert.strictEqual(a.of("Connection").at(-1)?.state, "up")
      })
    )
  )

  it.effect("a broker that does not answer is a Timeout", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { requestTimeout: 2_000 })
        kafka.faults.next("heartbeat", { kind: "noAnswer" })
        yield* advance(5_200)
        assert.deepStrictEqual(
          a
            .of("Connection")
            .map((signal) => [signal.state, Option.getOrUndefined(Option.map(signal.cause, (e) => e.reason))]),
          [
            ["down", "Timeout"],
            ["up", undefined]
          ]
        )
      })
    )
  )

  it.effect("a delay beyond the request timeout is no answer, whatever the broker makes of it", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { requestTimeout: 1_000 })
        const committed = () => kafka.committedUnsafe("g", "t", 0)?.offset
        for (const [kind, offset, served] of [
          ["slowRequest", 1n, undefined],
          ["slowAnswer", 2n, 2n]
        ] as const) {
          kafka.faults.next("commit", { kind, ms: 5_000 })
          const commit = yield* Effect.forkScoped(a.session.commit([{ ...a.partition("t", 0), offset, metadata: "" }]))
          yield* advance(900)
          assert.isUndefined(commit.pollUnsafe())
          yield* advance(200)
          const [outcome] = yield* Fiber.join(commit)
          assert.deepStrictEqual([outcome!.outcome, "code" in outcome! && outcome.code], ["retriable", "NO_ANSWER"])
          assert.strictEqual(committed(), served)
          yield* advance(5_000)
          assert.strictEqual(committed(), offset)
          yield* kafka.setCommitted("g", "t", 0, undefined)
        }
      })
    )
  )

  it.effect("a request that is served late says what was so when it was sent", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        // when it arrives, its sender has a member id and a partition; when it was sent it had neither
        kafka.faults.next("join", { kind: "servedLate", ms: 8_000 }, { clientId: "b" })
        const b = yield* member(kafka, "b")
        yield* advance(20_000)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1])
        assert.strictEqual(kafka.groupUnsafe("g").generation, 2)
      })
    )
  )

  it.effect("a JoinGroup whose place another one has taken is given up in the end, and sent again", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const b = yield* member(kafka, "b")
        yield* advance(4_000)
        kafka.faults.next("join", { kind: "servedLate", ms: 500 }, { clientId: "b" })
        yield* kafka.rebalance("g")
        yield* kafka.sessionUnsafe("a").freeze
        yield* advance(4_000)
        yield* kafka.sessionUnsafe("a").thaw
        yield* advance(40_000)
        // the answer went to who had gone
        assert.deepStrictEqual([a.held.size, b.held.size], [2, 1])
        assert.strictEqual(kafka.groupUnsafe("g").members.length, 1)
        yield* advance(40_000)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1])
      })
    )
  )

  it.effect("offsets that cannot be read yet are asked for again, and heartbeats go on meanwhile", () =>
    cluster({ retryBackoff: 1_000 }, (kafka) =>
      Effect.gen(function* () {
        kafka.faults.next("offsetFetch", { kind: "code", code: "COORDINATOR_LOAD_IN_PROGRESS" }, { times: 40 })
        const a = yield* member(kafka, "a", { settings: { sessionTimeout: 10_000 } })
        yield* advance(35_000, 500)
        assert.strictEqual(a.of("Assigned").length, 0)
        assert.strictEqual(kafka.groupUnsafe("g").members.length, 1)
        yield* advance(6_000, 500)
        assert.strictEqual(a.of("Assigned").length, 1)
      })
    )
  )

  for (const reason of ["Authentication", "Authorization", "FencedInstance", "MissingCodec", "CorruptData"] as const) {
    it.effect(`${reason} ends the session`, () =>
      cluster({}, (kafka) =>
        Effect.gen(function* () {
          const a = yield* member(kafka, "a")
          yield* kafka.sessionUnsafe("a").end(reason)
          yield* turns
          const ended = a.ended
          assert.isTrue(ended !== undefined && Exit.isFailure(ended))
          if (ended === undefined || !Exit.isFailure(ended)) return
          const error = Option.getOrThrow(Cause.findErrorOption(ended.cause))
          assert.isTrue("reason" in error && error.reason === reason)
          assert.strictEqual(a.session.generationUnsafe(), -1)
          assert.strictEqual((yield* Effect.flip(a.session.join)).reason, reason)
        })
      )
    )
  }

  it.effect("join fails with what the broker refuses for good", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        kafka.faults.next("join", { kind: "code", code: "GROUP_AUTHORIZATION_FAILED" })
        const a = yield* member(kafka, "a")
        assert.isTrue(a.ended !== undefined && Exit.isFailure(a.ended))
        kafka.faults.next("metadata", { kind: "code", code: "TOPIC_AUTHORIZATION_FAILED" })
        const session = yield* kafka.client().openSession(settings)
        const error = yield* Effect.flip(session.join)
        assert.strictEqual(error.reason, "Authorization")
      })
    )
  )

  it.effect("opening a session while the broker is down fails with Connection", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        yield* kafka.brokerDown
        const error = yield* Effect.flip(kafka.client().openSession(settings))
        assert.strictEqual(error.reason, "Connection")
        assert.strictEqual(
          (yield* Effect.flip((yield* kafka.client().openAdmin).partitions(["t"]))).reason,
          "Connection"
        )
      })
    )
  )

  it.effect("weights above 1 are a mistake", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const source = seeded(1)
        assert.throws(() => kafka.faults.random({ source, weights: { commit: { dropped: 0.6, refused: 0.6 } } }))
        yield* Effect.void
      })
    )
  )

  it.effect(
    "every kind of fault can happen by chance to every request, and the group is well again afterwards",
    () =>
      Effect.gen(function* () {
        const met = new Set<string>()
        for (const protocol of ["eager", "incremental"] as const) {
          yield* Effect.scoped(
            cluster({ partitions: 4, maxChunk: 3 }, (kafka) =>
              Effect.gen(function* () {
                const kinds: ReadonlyArray<FaultKind> = [
                  "slowRequest",
                  "slowAnswer",
                  "refused",
                  "dropped",
                  "answerLost",
                  "servedLate",
                  "noAnswer",
                  "code",
                  "smallChunk"
                ]
                const apis: ReadonlyArray<Api> = [
                  "join",
                  "sync",
                  "heartbeat",
                  "offsetFetch",
                  "commit",
                  "fetch",
                  "leave"
                ]
                const each = Object.fromEntries(kinds.map((kind) => [kind, 0.03]))
                const stop = kafka.faults.random({
                  source: seeded(7),
                  weights: Object.fromEntries(apis.map((api) => [api, each])),
                  maxDelay: 400
                })
                const options = { protocol, requestTimeout: 1_000 }
                const members = [yield* member(kafka, "a", options), yield* member(kafka, "b", options)]
                for (let round = 0; round < 25; round++) {
                  for (let partition = 0; partition < 4; partition++) yield* fill(kafka, partition, 5)
                  for (const one of members) {
                    const entries = [...one.held.values()].map((p) => ({ ...p, offset: BigInt(round), metadata: "" }))
                    yield* Effect.forkScoped(Effect.repeat(one.session.commit(entries), { times: 5 }))
                  }
                  if (round % 5 === 4) {
                    const again = yield* Effect.forkScoped(
                      Effect.andThen(members[1]!.session.leave, members[1]!.session.join)
                    )
                    yield* advance(1_500)
                    yield* Effect.exit(Effect.sync(() => again.pollUnsafe()))
                  }
                  yield* advance(4_000)
                }
                stop()
                for (const kind of kafka.faults.counts().keys()) met.add(kind)
                yield* advance(90_000, 500)
                const held = members.flatMap((one) => [...one.held.keys()])
                assert.deepStrictEqual(held.sort(), ["t/0", "t/1", "t/2", "t/3"])
                for (const one of members) {
                  assert.strictEqual(one.of("Connection").at(-1)?.state ?? "up", "up")
                  for (const p of one.held.values()) {
                    assert.strictEqual(one.chunks("t", p.partition).at(-1)?.nextOffset, 125n)
                  }
                }
              })
            )
          )
        }
        for (const api of ["heartbeat", "commit", "fetch"]) {
          for (const kind of [
            "slowRequest",
            "slowAnswer",
            "refused",
            "dropped",
            "answerLost",
            "servedLate",
            "noAnswer",
            "code"
          ]) {
            assert.isTrue(met.has(`${api}:${kind}`), `${api}:${kind}`)
          }
        }
      }),
    60_000
  )
})
