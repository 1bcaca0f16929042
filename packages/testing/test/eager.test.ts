import type { Revoking } from "@concurrent-kafka/core/ConsumerSession"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { ClassicGroup } from "../src/internal/classicGroup.ts"
import * as Time from "../src/internal/time.ts"
import { advance, cluster, fill, member, turns } from "./support.ts"

const keys = (held: ReadonlyMap<string, unknown>) => [...held.keys()].sort()

describe("eager groups", () => {
  it.effect("a rebalance is noticed at the next heartbeat, not before", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        assert.deepStrictEqual(keys(a.held), ["t/0", "t/1"])
        assert.strictEqual(a.session.generationUnsafe(), 1)
        const b = yield* member(kafka, "b")
        yield* advance(2_900)
        assert.strictEqual(a.of("Revoking").length, 0)
        assert.strictEqual(kafka.groupUnsafe("g").state, "PreparingRebalance")
        yield* advance(200)
        assert.strictEqual(a.of("Revoking").length, 1)
        assert.deepStrictEqual([...keys(a.held), ...keys(b.held)].sort(), ["t/0", "t/1"])
        assert.strictEqual(a.session.generationUnsafe(), 2)
        const { members, protocol, state } = kafka.groupUnsafe("g")
        assert.deepStrictEqual([protocol, state, members.length], ["eager", "Stable", 2])
      })
    )
  )

  it.effect("a member that does not rejoin within the rebalance timeout is out, and the others go on", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const slow = { rebalanceTimeout: 8_000, sessionTimeout: 60_000, revokeTimeout: 30_000 }
        const a = yield* member(kafka, "a", { settings: slow, onRevoking: () => {} })
        const b = yield* member(kafka, "b", { settings: slow })
        yield* advance(3_100)
        assert.strictEqual(a.of("Revoking").length, 1)
        yield* advance(4_800)
        assert.strictEqual(b.held.size, 0)
        yield* advance(300)
        assert.deepStrictEqual(keys(b.held), ["t/0", "t/1"], "eight seconds after b has joined")
        yield* advance(3_000)
        assert.strictEqual(a.of("Lost").length, 1, "its heartbeat said so")
        yield* advance(3_000)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1], "it is back: the hold of 30 s has ended with it")
      })
    )
  )

  it.effect("a silent member is out after the session timeout, and learns it when it wakes up", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const b = yield* member(kafka, "b")
        yield* advance(3_100)
        const before = [...a.held.values()]
        const control = kafka.sessionUnsafe("a")
        yield* control.freeze
        yield* fill(kafka, before[0]!.partition, 3)
        yield* advance(29_000)
        assert.strictEqual(b.held.size, 1)
        yield* advance(7_000)
        assert.strictEqual(b.held.size, 2)
        assert.strictEqual(a.of("Lost").length + a.records().length, 0, "a frozen process reads nothing")
        const commit = yield* Effect.forkScoped(
          a.session.commit(before.map((p) => ({ ...p, offset: 3n, metadata: "zombie" })))
        )
        yield* control.thaw
        yield* advance(100)
        const late = commit.pollUnsafe()
        assert.isTrue(late?._tag === "Success" && late.value[0]!.outcome === "stale")
        yield* advance(4_000)
        assert.strictEqual(a.of("Lost").length, 1)
        assert.strictEqual(a.held.size + b.held.size, 2)
        assert.isTrue([...a.held.values()].every((p) => !p.retained))
        assert.isUndefined(kafka.committedUnsafe("g", "t", before[0]!.partition))
      })
    )
  )

  it.effect("a crash says nothing to the broker, and the inbox ends", () =>
    cluster({ partitions: 1 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const held = [...a.held.values()]
        yield* kafka.sessionUnsafe("a").crash
        yield* turns
        assert.isDefined(a.ended)
        assert.strictEqual(a.session.generationUnsafe(), -1)
        const outcomes = yield* a.session.commit(held.map((p) => ({ ...p, offset: 1n, metadata: "" })))
        assert.notStrictEqual(outcomes[0]!.outcome, "committed")
        assert.strictEqual(kafka.groupUnsafe("g").members.length, 1)
        const b = yield* member(kafka, "b")
        yield* advance(29_000)
        assert.strictEqual(b.held.size, 0, "the ghost is waited for")
        yield* advance(2_000)
        assert.strictEqual(b.held.size, 1)
      })
    )
  )

  it.effect("a member that misses a generation retains nothing", () =>
    cluster({ partitions: 12 }, (kafka) =>
      Effect.gen(function* () {
        const leader = yield* member(kafka, "leader")
        const a = yield* member(kafka, "a")
        yield* advance(3_100)
        assert.strictEqual(a.held.size, 6)
        const before = [...a.held.values()]
        kafka.faults.next("sync", { kind: "slowRequest", ms: 4_000 }, { clientId: "a" })
        const c = yield* member(kafka, "c")
        yield* advance(3_100)
        assert.deepStrictEqual([leader.held.size, c.held.size], [4, 4])
        const [moved] = [...c.held.values()].filter((p) => before.some((own) => own.partition === p.partition))
        assert.isDefined(moved, "c has one of a's partitions")
        const sent = kafka.commitsUnsafe().length
        const late = yield* a.session.commit(before.map((p) => ({ ...p, offset: 9n, metadata: "" })))
        assert.isTrue(late.every((one) => one.outcome === "deferred"))
        assert.strictEqual(kafka.commitsUnsafe().length, sent, "between JoinGroup and Assigned nothing is sent")
        yield* c.session.commit([{ ...moved!, offset: 7n, metadata: "by c" }])
        yield* c.session.leave
        yield* advance(8_000)
        assert.strictEqual(a.held.size, 6)
        for (const p of a.held.values()) {
          assert.isFalse(p.retained)
          assert.isFalse(before.some((own) => own.epoch === p.epoch))
        }
        assert.isTrue(a.of("Revoking").length >= 2, "the repeated join announces again")
        assert.deepStrictEqual(kafka.committedUnsafe("g", "t", moved!.partition), { offset: 7n, metadata: "by c" })
      })
    )
  )

  it.effect("retained is false when somebody else has committed, and true when the own last commit is unchanged", () =>
    cluster({ partitions: 3 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* a.session.commit([...a.held.values()].map((p) => ({ ...p, offset: 0n, metadata: "mine" })))
        yield* kafka.setCommitted("g", "t", 1, { offset: 0n, metadata: "foreign" })
        yield* kafka.rebalance("g")
        yield* advance(3_100)
        assert.deepStrictEqual(
          a
            .of("Assigned")
            .at(-1)!
            .all.map((p) => [p.partition, p.retained, p.committed?.metadata]),
          [
            [0, true, "mine"],
            [1, false, "foreign"],
            [2, true, "mine"]
          ]
        )
      })
    )
  )

  it.effect("a commit without an answer that is applied late is still the session's own", () =>
    cluster({ partitions: 1 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const p = a.partition("t", 0)
        kafka.faults.next("commit", { kind: "servedLate", ms: 1_000 })
        const [lost] = yield* a.session.commit([{ ...p, offset: 0n, metadata: "old" }])
        assert.deepStrictEqual([lost!.outcome, "code" in lost! && lost.code], ["retriable", "NO_ANSWER"])
        const [newer] = yield* a.session.commit([{ ...p, offset: 0n, metadata: "new" }])
        assert.strictEqual(newer!.outcome, "committed")
        yield* advance(1_100)
        assert.strictEqual(kafka.committedUnsafe("g", "t", 0)!.metadata, "old", "it went back")
        yield* kafka.rebalance("g")
        yield* advance(3_100)
        assert.isTrue(a.of("Assigned").at(-1)!.all[0]!.retained)
      })
    )
  )

  it.effect("commits are taken in the hold, and refused by the broker once a newer generation stands", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const held: Array<Revoking> = []
        const a = yield* member(kafka, "a", { onRevoking: (revoking) => void held.push(revoking) })
        const p = a.partition("t", 0)
        yield* member(kafka, "b")
        yield* advance(3_100)
        const [inHold] = yield* a.session.commit([{ ...p, offset: 0n, metadata: "in the hold" }])
        assert.strictEqual(inHold!.outcome, "committed")
        kafka.faults.next("commit", { kind: "slowRequest", ms: 50 })
        const late = yield* Effect.forkScoped(a.session.commit([{ ...p, offset: 0n, metadata: "too late" }]))
        yield* turns
        held[0]!.acknowledgeUnsafe()
        yield* advance(100)
        const exit = late.pollUnsafe()
        assert.isTrue(exit?._tag === "Success")
        if (exit?._tag !== "Success") return
        const [one] = exit.value
        assert.deepStrictEqual([one!.outcome, "code" in one! && one.code], ["deferred", "ILLEGAL_GENERATION"])
        assert.strictEqual(kafka.committedUnsafe("g", "t", 0)!.metadata, "in the hold")
      })
    )
  )

  it.effect(
    "who the leader cannot read owns nothing: he gets what is left, and keeps of it what was his directly before",
    () =>
      cluster({ partitions: 4 }, (kafka) =>
        Effect.gen(function* () {
          const newer = yield* member(kafka, "newer", { claims: 2 })
          const older = yield* member(kafka, "older", { claims: 0 })
          const broken = yield* member(kafka, "broken", { claims: "unreadable" })
          yield* advance(3_100)
          const members = [newer, older, broken]
          const numbers = () => members.map(({ held }) => [...held.values()].map((p) => p.partition))
          const retained = () => members.map(({ held }) => [...held.values()].map((p) => p.retained))
          assert.deepStrictEqual(numbers(), [[0, 1], [3], [2]])
          yield* kafka.rebalance("g")
          yield* advance(3_100)
          assert.deepStrictEqual(numbers(), [[0, 1], [2], [3]], "what is nobody's goes to the others in turn")
          assert.deepStrictEqual(retained(), [[true, true], [false], [false]])
          yield* kafka.rebalance("g")
          yield* advance(3_100)
          assert.deepStrictEqual(numbers(), [[0, 1], [2], [3]])
          assert.deepStrictEqual(retained(), [[true, true], [true], [true]])
        })
      )
  )

  it.effect("a leader that does not assign in time is out, and the group starts anew", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const short = { rebalanceTimeout: 12_000, revokeTimeout: 1_000 }
        yield* member(kafka, "a", { settings: short })
        kafka.faults.next("sync", { kind: "slowRequest", ms: 60_000 }, { clientId: "a" })
        const b = yield* member(kafka, "b", { settings: short })
        yield* advance(3_100)
        assert.strictEqual(kafka.groupUnsafe("g").state, "CompletingRebalance")
        yield* advance(12_500)
        assert.strictEqual(b.held.size, 2)
      })
    )
  )

  it.effect("a broker that comes back knows the last generation that was assigned, and members stay members", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* fill(kafka, 0, 2)
        yield* turns
        const epochs = [...a.held.values()].map((p) => p.epoch)
        yield* kafka.brokerDown
        const [commit] = yield* a.session.commit([{ ...a.partition("t", 0), offset: 1n, metadata: "" }])
        assert.deepStrictEqual([commit!.outcome, "code" in commit! && commit.code], ["retriable", "NO_ANSWER"])
        yield* advance(40_000)
        const down = a.of("Connection").at(-1)!
        assert.deepStrictEqual(
          [down.state, Option.map(down.cause, (e) => e.reason)],
          ["down", Option.some("Connection")]
        )
        assert.strictEqual(a.of("Connection").length, 1, "said once")
        yield* kafka.brokerUp
        yield* advance(3_200)
        assert.strictEqual(a.of("Connection").at(-1)!.state, "up")
        assert.strictEqual(a.of("Lost").length, 0, "longer than a session, and still a member")
        assert.deepStrictEqual(
          [...a.held.values()].map((p) => p.epoch),
          epochs
        )
        yield* fill(kafka, 1, 1)
        yield* turns
        assert.strictEqual(a.records().length, 3)
      })
    )
  )

  it.effect("a broker that goes down between JoinGroup and SyncGroup forgets that generation", () =>
    cluster({ partitions: 4 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        kafka.faults.next("sync", { kind: "slowRequest", ms: 500 }, { clientId: "a" })
        const b = yield* member(kafka, "b")
        yield* advance(3_100)
        assert.strictEqual(kafka.groupUnsafe("g").generation, 2)
        yield* kafka.brokerDown
        yield* kafka.brokerUp
        assert.deepStrictEqual([kafka.groupUnsafe("g").generation, kafka.groupUnsafe("g").members.length], [1, 1])
        yield* advance(12_000)
        assert.deepStrictEqual([a.held.size, b.held.size], [2, 2])
        assert.strictEqual(kafka.groupUnsafe("g").state, "Stable")
      })
    )
  )

  it.effect("who died while the broker was down is out a session timeout after it is back", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        yield* member(kafka, "a")
        const b = yield* member(kafka, "b")
        yield* advance(3_100)
        yield* kafka.brokerDown
        yield* kafka.sessionUnsafe("a").crash
        yield* advance(60_000, 500)
        yield* kafka.brokerUp
        yield* advance(29_000, 500)
        assert.deepStrictEqual([kafka.groupUnsafe("g").members.length, b.held.size], [2, 1])
        yield* advance(5_000, 500)
        assert.strictEqual(b.held.size, 2)
      })
    )
  )

  it.effect("the coordinator refuses a commit between the answers to JoinGroup and to SyncGroup", () =>
    Effect.gen(function* () {
      const time = yield* Time.make
      const group = new ClassicGroup({
        time,
        initialRebalanceDelay: 0,
        newMemberId: (clientId) => `${clientId}-1`,
        log: () => {}
      })
      const request = {
        clientId: "a",
        memberId: "",
        sessionTimeout: 30_000,
        rebalanceTimeout: 60_000,
        protocols: ["sticky"],
        topics: ["t"],
        userData: ""
      }
      const errors: Array<string | undefined> = []
      group.join(request, (answer) => errors.push(answer.error))
      group.join({ ...request, memberId: "unknown" }, (answer) => errors.push(answer.error))
      group.join({ ...request, memberId: "a-1" }, (answer) => errors.push(answer.error))
      assert.deepStrictEqual(errors, ["MEMBER_ID_REQUIRED", "UNKNOWN_MEMBER_ID", undefined])
      assert.strictEqual(group.refusal("a-1", 1), "REBALANCE_IN_PROGRESS")
      assert.strictEqual(group.heartbeat("a-1", 1), undefined)
      group.sync("a-1", 1, new Map(), () => {})
      assert.strictEqual(group.refusal("a-1", 1), undefined)
      assert.strictEqual(group.refusal("a-1", 0), "ILLEGAL_GENERATION")
      assert.strictEqual(group.refusal("b-1", 1), "UNKNOWN_MEMBER_ID")
    })
  )

  it.effect("a JoinGroup whose answer was lost is answered again, without another generation", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        kafka.faults.next("join", { kind: "slowAnswer", ms: 200 }, { clientId: "b" })
        kafka.faults.next("join", { kind: "slowAnswer", ms: 200 }, { clientId: "b" })
        const b = yield* member(kafka, "b")
        yield* advance(3_100)
        yield* kafka.sessionUnsafe("b").breakConnections
        yield* advance(500)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1])
        assert.strictEqual(kafka.groupUnsafe("g").generation, 2)
      })
    )
  )

  it.effect("an assignor that the others do not know is a mismatch, waited out", () =>
    cluster({ partitions: 1 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { assignors: ["other", "common"] })
        const b = yield* member(kafka, "b", { assignors: ["unknown"] })
        const c = yield* member(kafka, "c", { protocol: "incremental" })
        yield* advance(1_000)
        for (const one of [b, c]) {
          const [down] = one.of("Connection")
          assert.deepStrictEqual(
            Option.map(down!.cause, (e) => e.reason),
            Option.some("ProtocolMismatch")
          )
          assert.strictEqual(one.of("Connection").length, 1)
        }
        assert.strictEqual(a.held.size, 1)
        yield* a.session.leave
        yield* advance(1_000)
        assert.strictEqual(b.held.size + c.held.size, 1, "one of the two protocols has it now")
      })
    )
  )

  it.effect("the leader notices new partitions at its metadata age, also those of topics it shares with others", () =>
    cluster({ partitions: 1 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const { epoch } = a.partition("t", 0)
        yield* advance(1_000)
        yield* kafka.addPartitions("t", 3)
        yield* advance(28_000)
        assert.strictEqual(a.held.size, 1)
        yield* advance(2_000)
        assert.strictEqual(a.held.size, 3)
        assert.strictEqual(a.partition("t", 0).epoch, epoch)
        yield* kafka.deleteTopic("t")
        yield* advance(31_000)
        assert.strictEqual(a.held.size, 0)
        assert.strictEqual(a.of("Gone").length, 3)
      })
    )
  )

  it.effect("the first members of a group are gathered when the broker is told to", () =>
    cluster({ partitions: 2, initialRebalanceDelay: 3_000 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        const b = yield* member(kafka, "b")
        yield* advance(2_900)
        assert.strictEqual(a.of("Assigned").length, 0)
        yield* advance(200)
        assert.deepStrictEqual([a.held.size, b.held.size, a.session.generationUnsafe()], [1, 1, 1])
        const c = yield* member(kafka, "c")
        yield* advance(3_100)
        assert.strictEqual(c.of("Assigned").length, 1)
      })
    )
  )

  it.effect("a client that cannot wait is told a hold of 0 and rejoins at once", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { awaitedRevoke: false, onRevoking: () => {} })
        const b = yield* member(kafka, "b")
        yield* advance(3_100)
        assert.strictEqual(a.of("Revoking")[0]!.hold, 0)
        assert.deepStrictEqual([a.held.size, b.held.size], [1, 1])
      })
    )
  )

  it.effect("a moved leader makes an eager member rejoin, and everything is retained", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a")
        yield* fill(kafka, 0, 1)
        kafka.faults.next("fetch", { kind: "code", code: "NOT_LEADER_OR_FOLLOWER" })
        yield* fill(kafka, 0, 1)
        yield* advance(500)
        assert.strictEqual(a.of("Revoking").length, 1)
        assert.isTrue(
          a
            .of("Assigned")
            .at(-1)!
            .all.every((p) => p.retained)
        )
        assert.strictEqual(a.records().length, 2)
      })
    )
  )

  it.effect("leaving in the middle of a hold ends it, and says nothing", () =>
    cluster({ partitions: 2 }, (kafka) =>
      Effect.gen(function* () {
        const a = yield* member(kafka, "a", { onRevoking: () => {} })
        const b = yield* member(kafka, "b")
        yield* advance(3_100)
        yield* a.session.leave
        yield* turns
        assert.strictEqual(b.held.size, 2)
        assert.strictEqual(a.of("Lost").length, 0)
      })
    )
  )
})
