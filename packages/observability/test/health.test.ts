import { FailurePolicy } from "@concurrent-kafka/core/FailurePolicy"
import { type HealthCode, healthCodes, LoopDelay } from "@concurrent-kafka/core/Health"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Boom, Desk, pass, turns, whileTimePasses, world } from "../../core/test/harness.ts"
import { Letters, retriable, taken } from "../../core/test/letters.ts"
import { at, later, outcomes, recordAt, type Scripted, type ScriptOptions, scripted } from "../../core/test/script.ts"
import { Observability } from "../src/index.ts"
import { type Endpoints, endpoints } from "./http.ts"

const seen = new Set<HealthCode>()

interface Expected {
  readonly health: number
  readonly live: number
  readonly ready: number
}
const well: Expected = { health: 200, live: 200, ready: 200 }
const notReady: Expected = { ...well, ready: 503 }
const down: Expected = { ...well, health: 503 }
const over: Expected = { health: 503, live: 503, ready: 503 }

/** All three endpoints: these codes, these answers. */
const says = (http: Endpoints, codes: ReadonlyArray<HealthCode>, expected: Expected): Effect.Effect<void> =>
  Effect.gen(function* () {
    const health = yield* http.get("/health")
    const live = yield* http.get("/health/live")
    const ready = yield* http.get("/health/ready")
    const body = JSON.parse(health.text)
    assert.deepStrictEqual(
      body.consumers.flatMap((consumer: { reasons: ReadonlyArray<{ code: string }> }) =>
        consumer.reasons.map(({ code }) => code)
      ),
      codes
    )
    assert.deepStrictEqual({ health: health.status, live: live.status, ready: ready.status }, expected)
    assert.deepStrictEqual([body.live, body.ready], [expected.live === 200, expected.ready === 200])
    for (const [verdict, which] of [
      [JSON.parse(live.text), "live"],
      [JSON.parse(ready.text), "ready"]
    ] as const) {
      assert.deepStrictEqual(verdict, {
        ok: body[which],
        because: body[which] ? {} : { [body.consumers[0].name]: codes }
      })
    }
    for (const code of codes) seen.add(code)
  })

/** A consumer on a session that is played by hand, and the endpoints that show it. */
const shown = (options: ScriptOptions = {}) =>
  Effect.gen(function* () {
    const http = yield* endpoints()
    const s = yield* scripted(options)
    yield* http.registry.register(s.consumer)
    return { s, http }
  })

const opened = (options: ScriptOptions = {}) =>
  Effect.tap(shown(options), ({ http, s }) =>
    Effect.andThen(s.session.assign([{ partition: 0, epoch: 1, committed: 0 }]), says(http, [], well))
  )

/** The consumer is gone, and another one is there in its place. */
const replaced = (http: Endpoints, before: Scope.Closeable) =>
  Effect.gen(function* () {
    yield* Scope.close(before, Exit.void)
    const s = yield* scripted()
    yield* http.registry.register(s.consumer)
    yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
    yield* says(http, [], well)
  })

/** As `opened`, registered until its own scope is closed. */
const replaceable = (options: ScriptOptions = {}) =>
  Effect.gen(function* () {
    const own = yield* Scope.fork(yield* Effect.scope)
    const http = yield* endpoints()
    const s = yield* scripted(options)
    yield* http.registry.register(s.consumer).pipe(Scope.provide(own))
    return { s, http, own }
  })

const fails = (s: Scripted, offset: number) => s.desk.end(0, offset, Exit.fail(new Boom()))

describe("health over HTTP: caused, seen, and gone again", () => {
  it.effect("disabled", () =>
    Effect.gen(function* () {
      const { http, own } = yield* replaceable({ enabled: false })
      yield* says(http, ["disabled"], well)
      yield* replaced(http, own)
    })
  )

  it.effect("starting", () =>
    Effect.gen(function* () {
      const { http, s } = yield* shown()
      yield* says(http, ["starting"], notReady)
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* says(http, [], well)
    })
  )

  it.effect("standby", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened()
      yield* s.session.assign([])
      yield* says(http, ["standby"], well)
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* says(http, [], well)
    })
  )

  it.effect("opening", () =>
    Effect.gen(function* () {
      const { http, s } = yield* shown()
      const late = later()
      s.session.answers.push(late.answer)
      yield* s.session.assign([{ partition: 0, epoch: 1 }])
      yield* says(http, ["opening"], well)
      yield* late.give()
      yield* says(http, [], well)
    })
  )

  it.effect("rebalancing", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened()
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.revoking([at(0, 1)], { exact: false })
      yield* says(http, ["rebalancing"], well)
      yield* s.desk.finish(0, 0)
      yield* s.session.assign([{ partition: 0, epoch: 1, retained: true, committed: 1 }])
      yield* says(http, [], well)
    })
  )

  it.effect("paused", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened()
      yield* s.consumer.pause()
      yield* says(http, ["paused"], well)
      yield* s.consumer.resume()
      yield* says(http, [], well)
    })
  )

  it.effect("idle", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened()
      yield* s.interrupt
      yield* says(http, ["idle"], well)
      yield* s.run
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* says(http, [], well)
    })
  )

  it.effect("stuck", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened({ stuckAfter: "1 minute" })
      yield* s.session.chunk(0, 1, 0, 1)
      yield* pass(60_000)
      yield* says(http, ["stuck"], well)
      yield* s.desk.finishAll()
      yield* says(http, [], well)
    })
  )

  it.effect("retrying", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened({ policy: FailurePolicy.make(() => ({ _tag: "Retry", after: 1_000 })) })
      yield* s.session.chunk(0, 1, 0, 1)
      yield* fails(s, 0)
      yield* says(http, ["retrying"], well)
      yield* pass(1_000)
      yield* s.desk.finishAll()
      yield* says(http, [], well)
    })
  )

  it.effect("parked", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened({
        policy: FailurePolicy.park({ atMostFor: "1 minute" }).pipe(FailurePolicy.orSkip)
      })
      yield* s.session.chunk(0, 1, 0, 1)
      yield* fails(s, 0)
      yield* says(http, ["parked"], well)
      yield* pass(60_000)
      yield* says(http, [], well)
    })
  )

  it.effect("laneBound", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened({ ordering: "key", concurrency: 5, stuckAfter: 600_000 })
      yield* s.session.keyed(0, 1, 0, ["hot", "hot"])
      yield* pass(10_000)
      yield* says(http, ["laneBound"], well)
      yield* s.desk.finish(0, 0)
      yield* s.desk.finish(0, 1)
      yield* says(http, [], well)
    })
  )

  it.effect("lostToRetention", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened()
      yield* s.session.outOfRange(at(0, 1), 0, 10, 20)
      yield* says(http, ["lostToRetention"], well)
      yield* pass(60 * 60 * 1_000)
      yield* says(http, [], well)
    })
  )

  it.effect("eventLoopBlocked", () =>
    Effect.gen(function* () {
      let longest: ReturnType<LoopDelay["longestUnsafe"]>
      const { http } = yield* Effect.provideService(opened(), LoopDelay, { longestUnsafe: () => longest })
      longest = { millis: 1_500, at: 0 }
      yield* says(http, ["eventLoopBlocked"], well)
      longest = undefined
      yield* says(http, [], well)
    })
  )

  it.effect("zombie, and with all permits not live", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened({
        concurrency: 2,
        desk: new Desk({ around: (_, wait) => Effect.uninterruptible(wait) })
      })
      yield* s.session.chunk(0, 1, 0, 1)
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* pass(1_000)
      yield* says(http, ["zombie"], well)
      yield* s.session.chunk(0, 2, 0, 1)
      yield* s.session.assign([{ partition: 0, epoch: 3, committed: 0 }])
      yield* pass(1_000)
      yield* says(http, ["zombie"], { health: 503, live: 503, ready: 200 })
      for (const attempt of s.desk.attempts) attempt.end(Exit.void)
      yield* turns
      yield* says(http, [], well)
    })
  )

  it.effect("deadLetterFailing", () =>
    Effect.gen(function* () {
      const letters = new Letters()
      const { http, s } = yield* opened({ policy: FailurePolicy.deadLetter("dead"), producer: letters.producer })
      yield* s.session.chunk(0, 1, 0, 1)
      yield* fails(s, 0)
      yield* letters.answer(retriable)
      yield* says(http, ["deadLetterFailing"], down)
      yield* pass(200)
      yield* letters.answer(taken)
      yield* says(http, [], well)
    })
  )

  it.effect("commitsFailing", () =>
    Effect.gen(function* () {
      const { http, s } = yield* opened({ batchSize: 1 })
      yield* s.session.chunk(0, 1, 0, 1)
      s.session.answers.push(...Array.from({ length: 3 }, () => outcomes("retriable", "NOT_COORDINATOR")))
      yield* s.desk.finish(0, 0)
      yield* pass(125)
      yield* pass(250)
      yield* says(http, ["commitsFailing"], down)
      yield* pass(1_000)
      yield* says(http, [], well)
    })
  )

  for (const [code, reason] of [
    ["disconnected", undefined],
    ["protocolMismatch", "ProtocolMismatch"],
    ["topicMissing", "TopicMissing"]
  ] as const) {
    it.effect(code, () =>
      Effect.gen(function* () {
        const { http, s } = yield* shown()
        const error = reason === undefined ? undefined : new KafkaClientError({ reason, detail: "because of this" })
        yield* s.session.connection("down", error)
        // never joined: not ready either
        yield* says(http, ["starting", code], { ...down, ready: 503 })
        yield* s.session.connection("up")
        yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
        yield* s.session.connection("down", error)
        yield* says(http, [code], down)
        yield* s.session.connection("up")
        yield* says(http, [], well)
      })
    )
  }

  it.effect("committerDead", () =>
    Effect.gen(function* () {
      const { http, own, s } = yield* replaceable({ batchSize: 1 })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      s.session.answers.push(() => {
        throw new Error("broken")
      })
      yield* s.desk.finish(0, 0)
      yield* says(http, ["committerDead"], over)
      yield* replaced(http, own)
    })
  )

  it.effect("failed", () =>
    Effect.gen(function* () {
      const { http, own, s } = yield* replaceable()
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* fails(s, 0)
      yield* says(http, ["failed"], over)
      yield* replaced(http, own)
    })
  )

  it.effect("shuttingDown", () =>
    Effect.gen(function* () {
      const { http, own, s } = yield* replaceable({ shutdown: "drain" })
      yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
      yield* s.session.chunk(0, 1, 0, 1)
      yield* Effect.forkChild(s.close)
      yield* turns
      yield* says(http, ["shuttingDown"], notReady)
      yield* s.desk.finishAll()
      yield* replaced(http, own)
    })
  )

  it("every code was seen here", () => {
    assert.sameMembers([...seen], [...healthCodes])
  })
})

describe("health of all consumers of a process", () => {
  it.effect("is the worst of them; the probes name who says no, and why", () =>
    Effect.gen(function* () {
      const http = yield* endpoints()
      const kafka = yield* world()
      const a = yield* kafka.member("a", { name: "orders" })
      const b = yield* kafka.member("b", { name: "mails", groupId: "other" })
      yield* whileTimePasses(Effect.sleep(10_000))
      for (const { consumer } of [a, b]) yield* http.registry.register(consumer)
      assert.deepStrictEqual(JSON.parse((yield* http.get("/health")).text), {
        status: "ok",
        live: true,
        ready: true,
        consumers: [
          { name: "orders", status: "ok", live: true, ready: true, reasons: [] },
          { name: "mails", status: "ok", live: true, ready: true, reasons: [] }
        ]
      })
      yield* b.consumer.pause()
      const idle = yield* kafka.member("c", { name: "late", groupId: "third", idle: true })
      yield* http.registry.register(idle.consumer)
      const ready = yield* http.get("/health/ready")
      assert.strictEqual(ready.status, 503)
      assert.deepStrictEqual(JSON.parse(ready.text), { ok: false, because: { late: ["starting"] } })
      assert.strictEqual((yield* http.get("/health/live")).status, 200)
      const body = JSON.parse((yield* http.get("/health")).text)
      assert.strictEqual(body.status, "degraded")
      assert.deepInclude(body.consumers[1].reasons[0], { code: "paused", count: 1, since: "1970-01-01T00:00:10.000Z" })
    })
  )

  it.effect("not ready while there are fewer consumers than expected, and live; answers are never cached", () =>
    Effect.gen(function* () {
      const none = yield* endpoints()
      const ready = yield* none.get("/health/ready")
      assert.strictEqual(ready.status, 503)
      assert.deepStrictEqual(JSON.parse(ready.text), { ok: false, expected: 1, because: {} })
      assert.strictEqual(ready.headers.get("cache-control"), "no-store")
      assert.match(ready.headers.get("content-type")!, /^application\/json/)
      assert.strictEqual((yield* none.get("/health/live")).status, 200)
      const health = yield* none.get("/health")
      assert.strictEqual(health.status, 200)
      assert.deepStrictEqual(JSON.parse(health.text), {
        status: "degraded",
        live: true,
        ready: false,
        expected: 1,
        consumers: []
      })
      const may = yield* endpoints(Observability.layerHealth({ consumers: 0, path: "/internal/health" }))
      assert.strictEqual((yield* may.get("/internal/health/ready")).status, 200)
      assert.strictEqual((yield* may.get("/internal/health")).status, 200)
      assert.strictEqual((yield* may.get("/health")).status, 404)
    })
  )

  it.effect("says the place of a record and nothing of what it carries", () =>
    Effect.gen(function* () {
      const secret = "marker-a7f3"
      const { http, s } = yield* opened({
        ordering: "key",
        concurrency: 5,
        stuckAfter: 5_000,
        policy: FailurePolicy.make(() => ({ _tag: "Retry", after: 60_000 }))
      })
      const bytes = new TextEncoder().encode(secret)
      yield* s.session.signal({
        _tag: "Chunk",
        ...at(0, 1),
        records: [0, 1, 2, 3].map((offset) => ({
          ...recordAt(0, offset, secret),
          key: offset === 3 ? new TextEncoder().encode(`${secret}-3`) : bytes,
          headers: [["h", bytes]]
        })),
        nextOffset: 4n,
        end: 4n
      })
      yield* s.desk.end(0, 3, Exit.fail(new Boom(secret)))
      yield* pass(20_000)
      const { text } = yield* http.get("/health")
      assert.deepStrictEqual(
        JSON.parse(text).consumers[0].reasons.map((reason: { code: string; at: object }) => [reason.code, reason.at]),
        [
          ["stuck", { topic: "t", partition: 0, offset: "0" }],
          ["retrying", { topic: "t", partition: 0, offset: "3" }],
          ["laneBound", { topic: "t", partition: 0 }]
        ]
      )
      for (const path of ["/health", "/health/live", "/health/ready", "/metrics"]) {
        assert.notInclude((yield* http.get(path)).text, secret, path)
      }
    })
  )

  it.effect("an option that cannot be used is named when the layer is built", () =>
    Effect.gen(function* () {
      const refused = (layer: Parameters<typeof endpoints>[0]) =>
        Effect.map(Effect.exit(endpoints(layer)), (exit) => String(exit))
      assert.include(yield* refused(Observability.layerHealth({ consumers: -1 })), "consumers")
      assert.include(yield* refused(Observability.layerMetrics({ partitionSeries: 1.5 })), "partitionSeries")
      assert.include(yield* refused(Observability.layerMetrics({ topicSeries: -1 })), "topicSeries")
    })
  )
})
