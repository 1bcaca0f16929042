import { assert, describe, it } from "@effect/vitest"
import type { CommitOutcome } from "@concurrent-kafka/core/ConsumerSession"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { advance, cluster, fill, member, turns } from "./support.ts"

const said = (outcomes: ReadonlyArray<CommitOutcome>) =>
  outcomes.map((one) => ("code" in one ? `${one.outcome} ${one.code}` : one.outcome))

describe("commits", () => {
  it.effect("every code of Kafka's means what the contract says, and stores nothing", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const p = a.partition("t", 0)
        const table = {
          REBALANCE_IN_PROGRESS: "deferred REBALANCE_IN_PROGRESS",
          ILLEGAL_GENERATION: "deferred ILLEGAL_GENERATION",
          STALE_MEMBER_EPOCH: "deferred STALE_MEMBER_EPOCH",
          UNKNOWN_MEMBER_ID: "stale UNKNOWN_MEMBER_ID",
          FENCED_MEMBER_EPOCH: "stale FENCED_MEMBER_EPOCH",
          FENCED_INSTANCE_ID: "stale FENCED_INSTANCE_ID",
          OFFSET_METADATA_TOO_LARGE: "rejected OFFSET_METADATA_TOO_LARGE",
          UNKNOWN_TOPIC_OR_PARTITION: "rejected UNKNOWN_TOPIC_OR_PARTITION",
          INVALID_GROUP_ID: "rejected INVALID_GROUP_ID",
          GROUP_AUTHORIZATION_FAILED: "rejected NOT_AUTHORIZED",
          TOPIC_AUTHORIZATION_FAILED: "rejected NOT_AUTHORIZED",
          COORDINATOR_LOAD_IN_PROGRESS: "retriable COORDINATOR_LOAD_IN_PROGRESS",
          NOT_COORDINATOR: "retriable NOT_COORDINATOR",
          UNKNOWN_SERVER_ERROR: "retriable UNKNOWN_SERVER_ERROR"
        }
        for (const [code, outcome] of Object.entries(table)) {
          kafka.faults.next("commit", { kind: "code", code })
          assert.deepStrictEqual(said(yield* a.session.commit([{ ...p, offset: 1n, metadata: "" }])), [outcome])
        }
        assert.isUndefined(kafka.committedUnsafe("g", "t", 0))
        assert.deepStrictEqual(
          kafka.commitsUnsafe("g").map((commit) => commit.entries[0]!.code),
          Object.keys(table)
        )
        assert.strictEqual(kafka.faults.counts().get("commit:code"), Object.keys(table).length)
      })
    )
  )

  it.effect("a code for one partition leaves the others to the broker", () =>
    cluster({ partitions: 3 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        kafka.faults.next("commit", {
          kind: "code",
          code: "NOT_COORDINATOR",
          partitions: [{ topic: "t", partition: 1 }]
        })
        const entries = [...a.held.values()].map((p) => ({ ...p, offset: 1n, metadata: "" }))
        assert.deepStrictEqual(said(yield* a.session.commit(entries)), [
          "committed",
          "retriable NOT_COORDINATOR",
          "committed"
        ])
        assert.deepStrictEqual(
          [0, 1, 2].map((i) => kafka.committedUnsafe("g", "t", i)?.offset),
          [1n, undefined, 1n]
        )
      })
    )
  )

  it.effect("no answer: applied, not applied, or applied later; the broker decides then whether it still may", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const p = a.partition("t", 0)
        const commit = (offset: bigint) => Effect.map(a.session.commit([{ ...p, offset, metadata: "" }]), said)
        const committed = () => kafka.committedUnsafe("g", "t", 0)?.offset
        kafka.faults.next("commit", { kind: "dropped" })
        assert.deepStrictEqual(yield* commit(1n), ["retriable NO_ANSWER"])
        assert.isUndefined(committed())
        kafka.faults.next("commit", { kind: "refused" })
        assert.deepStrictEqual(yield* commit(1n), ["retriable NO_ANSWER"])
        assert.isUndefined(committed())
        kafka.faults.next("commit", { kind: "answerLost" })
        assert.deepStrictEqual(yield* commit(2n), ["retriable NO_ANSWER"])
        assert.strictEqual(committed(), 2n)
        kafka.faults.next("commit", { kind: "servedLate", ms: 5_000 })
        assert.deepStrictEqual(yield* commit(3n), ["retriable NO_ANSWER"])
        assert.deepStrictEqual(yield* commit(4n), ["committed"])
        yield* advance(4_900)
        assert.strictEqual(committed(), 4n)
        yield* advance(200)
        assert.strictEqual(committed(), 3n, "it went backwards")
        kafka.faults.next("commit", { kind: "servedLate", ms: 5_000 })
        assert.deepStrictEqual(yield* commit(9n), ["retriable NO_ANSWER"])
        yield* a.session.leave
        yield* advance(5_100)
        assert.strictEqual(committed(), 3n, "its member was not there any more")
        assert.deepStrictEqual(kafka.commitsUnsafe().at(-1)!.entries[0]!.code, "UNKNOWN_MEMBER_ID")
      })
    )
  )

  it.effect("a broker that says nothing is given up after the request timeout", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { requestTimeout: 4_000 })
        kafka.faults.next("commit", { kind: "noAnswer" })
        const commit = yield* Effect.forkScoped(
          a.session.commit([{ ...a.partition("t", 0), offset: 1n, metadata: "" }])
        )
        yield* advance(3_900)
        assert.isUndefined(commit.pollUnsafe())
        yield* advance(200)
        assert.deepStrictEqual(said(yield* Fiber.join(commit)), ["retriable NO_ANSWER"])
        assert.isUndefined(kafka.committedUnsafe("g", "t", 0))
      })
    )
  )

  it.effect("a commit that is on its way goes its way, also when nobody waits for the answer", () =>
    cluster({ commitLatency: 10 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const commit = yield* Effect.forkScoped(
          a.session.commit([{ ...a.partition("t", 0), offset: 1n, metadata: "" }])
        )
        yield* turns
        yield* Fiber.interrupt(commit)
        yield* advance(20)
        assert.strictEqual(kafka.committedUnsafe("g", "t", 0)?.offset, 1n)
      })
    )
  )

  it.effect("limits: metadata by entry, the offsets topic's batch by request, and what the client sends at all", () =>
    cluster({ partitions: 300, maxRequestBytes: 3_000_000 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const entries = (count: number, length: number) =>
          [...a.held.values()].slice(0, count).map((p) => ({ ...p, offset: 1n, metadata: "x".repeat(length) }))
        const kinds = (outcomes: ReadonlyArray<CommitOutcome>) => [...new Set(said(outcomes))]
        assert.deepStrictEqual(kinds(yield* a.session.commit(entries(1, 4_096))), ["committed"])
        assert.deepStrictEqual(kinds(yield* a.session.commit(entries(2, 4_097))), [
          "rejected OFFSET_METADATA_TOO_LARGE"
        ])
        assert.deepStrictEqual(kinds(yield* a.session.commit(entries(250, 4_000))), ["committed"])
        assert.deepStrictEqual(kinds(yield* a.session.commit(entries(300, 4_000))), ["retriable UNKNOWN_SERVER_ERROR"])
        const sent = kafka.commitsUnsafe().length
        assert.deepStrictEqual(kinds(yield* a.session.commit(entries(300, 20_000))), ["rejected REQUEST_TOO_LARGE"])
        assert.strictEqual(kafka.commitsUnsafe().length, sent, "not sent at all")
        assert.strictEqual(kafka.committedUnsafe("g", "t", 299), undefined)
      })
    )
  )

  it.effect("the broker asks neither for ownership nor for order", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const p = a.partition("t", 0)
        yield* a.session.commit([{ ...p, offset: 100n, metadata: "" }])
        yield* a.session.commit([{ ...p, offset: 60n, metadata: "" }])
        assert.strictEqual(kafka.committedUnsafe("g", "t", 0)!.offset, 60n)
      })
    )
  )

  it.effect("a partition that is gone rejects its commit, and takes no other with it", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        yield* kafka.createTopic("u")
        const a = yield* member(kafka, "a", { settings: { topics: ["t", "u"] } })
        yield* kafka.deleteTopic("u")
        const outcomes = yield* a.session.commit([
          { ...a.partition("u", 0), offset: 1n, metadata: "" },
          { ...a.partition("t", 0), offset: 1n, metadata: "" }
        ])
        assert.deepStrictEqual(said(outcomes), ["rejected UNKNOWN_TOPIC_OR_PARTITION", "committed"])
      })
    )
  )

  it.effect("a commit of the old topic's epoch into the new topic of that name is taken by name", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const p = a.partition("t", 0)
        yield* fill(kafka, 0, 10)
        yield* turns
        yield* kafka.recreateTopic("t")
        assert.deepStrictEqual(said(yield* a.session.commit([{ ...p, offset: 10n, metadata: "" }])), ["committed"])
        assert.strictEqual(kafka.committedUnsafe("g", "t", 0)!.offset, 10n)
      })
    )
  )

  it.effect("deleting a topic forgets its offsets, unless the test keeps them", () =>
    cluster({}, (kafka) =>
      Effect.gen(function* () {
        yield* kafka.setCommitted("g", "t", 0, { offset: 5n, metadata: "m" })
        yield* kafka.recreateTopic("t", { keepCommitted: true })
        assert.deepStrictEqual(kafka.committedUnsafe("g", "t", 0), { offset: 5n, metadata: "m" })
        yield* kafka.recreateTopic("t")
        assert.isUndefined(kafka.committedUnsafe("g", "t", 0))
      })
    )
  )

  it.effect("clients that can do less: no metadata, one result for all", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { commitMetadata: false, perPartitionCommitResult: false })
        assert.isFalse(a.session.capabilities.commitMetadata)
        const entries = [...a.held.values()].map((p) => ({ ...p, offset: 1n, metadata: "m" }))
        assert.deepStrictEqual(said(yield* a.session.commit(entries)), ["committed", "committed"])
        assert.deepStrictEqual(kafka.committedUnsafe("g", "t", 0), { offset: 1n, metadata: "" })
        const partitions = [{ topic: "t", partition: 1 }]
        kafka.faults.next("commit", { kind: "code", code: "NOT_COORDINATOR", partitions })
        assert.deepStrictEqual(said(yield* a.session.commit(entries)), [
          "retriable NOT_COORDINATOR",
          "retriable NOT_COORDINATOR"
        ])
      })
    )
  )

  it.effect("the history says when, who, in which generation and what; watchers see each when it comes", () =>
    cluster({ commitLatency: 5 }, (kafka) =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        const stop = kafka.onCommitUnsafe((commit) => void seen.push(commit.clientId))
        const a = yield* member(kafka, "a")
        yield* Effect.forkScoped(a.session.commit([{ ...a.partition("t", 0), offset: 1n, metadata: "m" }]))
        yield* advance(10, 1)
        stop()
        yield* Effect.forkScoped(a.session.commit([{ ...a.partition("t", 0), offset: 2n, metadata: "m" }]))
        yield* advance(10, 1)
        const [commit] = kafka.commitsUnsafe("g")
        assert.deepStrictEqual(commit, {
          at: 5,
          groupId: "g",
          clientId: "a",
          memberId: kafka.sessionUnsafe("a").memberIdUnsafe(),
          generation: 1,
          entries: [{ topic: "t", partition: 0, offset: 1n, metadata: "m", code: undefined }]
        })
        assert.deepStrictEqual(seen, ["a"])
        assert.deepStrictEqual(kafka.commitsUnsafe("other"), [])
      })
    )
  )

  it.effect("only so many commits are remembered as was asked for", () =>
    cluster({ commitHistory: 10 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        for (let i = 0; i < 40; i++)
          yield* a.session.commit([{ ...a.partition("t", 0), offset: BigInt(i), metadata: "" }])
        const kept = kafka.commitsUnsafe()
        assert.isTrue(kept.length >= 10 && kept.length <= 11)
        assert.strictEqual(kept.at(-1)!.entries[0]!.offset, 39n)
      })
    )
  )
})
