import type { Revoking, Session, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type { Broker, Connector } from "../src/Broker.ts"
import { Cluster, makeSession } from "../src/Driver.ts"
import { cooperativeName } from "../src/internal/assigner.ts"
import { decodeSubscription, encodeAssignment } from "../src/internal/groupData.ts"
import { another } from "../src/internal/withholding.ts"

const topic = "orders"
const rebalanceInProgress = 27

/** A coordinator that answers as it is told; another member leads. */
class Coordinator {
  /** what each join has claimed, with the generation of the claim */
  readonly joins: Array<readonly [generation: number, partitions: ReadonlyArray<number>]> = []
  readonly commits: Array<{ readonly generation: number; readonly partition: number }> = []
  /** the ids that committed offsets were asked for by, and that they were committed for */
  readonly ids: Array<string | undefined> = []
  /** the topic's id, as the first metadata have it, and as the others have it */
  topicIds: readonly [string, string] = ["1".repeat(32), "1".repeat(32)]
  generation = 0
  /** what the member is given by its next SyncGroup */
  target: ReadonlyArray<number> = []
  /** of the answers to SyncGroup */
  another = false
  syncCode = 0
  /** heartbeats say that the group rebalances, until it is joined again */
  rebalancing = false
  /** it does not answer a JoinGroup */
  isAway = false
  /** the committed offsets are read behind it */
  offsetGate: Promise<void> | undefined
  /** of these a transaction is about to replace it */
  pending: ReadonlyArray<number> = []
  exists = true
  /** of the topic, as the metadata have it */
  partitions = 4
  /** the metadata were read so often */
  reads = 0
  /** it answers nothing about topics */
  isSilent = false
  /** and was asked so often meanwhile */
  questions = 0

  get broker(): Broker {
    const never = () => new Promise<never>(() => undefined)
    return {
      address: "fake:1",
      isConnected: () => true,
      connect: () => Promise.resolve(),
      destroy: () => undefined,
      metadata: async (topics) => {
        if (this.isSilent) {
          this.questions++
          throw new Error("the connection broke")
        }
        this.reads++
        const leaders = new Map(Array.from({ length: this.partitions }, (_, partition) => [partition, 1] as const))
        const code = this.exists ? "NONE" : "UNKNOWN_TOPIC_OR_PARTITION"
        const topicId = this.exists ? this.topicIds[this.reads === 1 ? 0 : 1] : undefined
        return {
          brokers: new Map([[1, { host: "fake", port: 1 }]]),
          topics: new Map(topics.map((name) => [name, { topic: name, code, id: topicId, leaders }]))
        }
      },
      findGroupCoordinator: async () => ({ errorCode: 0, coordinator: { nodeId: 1, host: "fake", port: 1 } }),
      joinGroup: async ({ groupProtocols }) => {
        if (this.isAway) throw new Error("the connection broke")
        assert.deepStrictEqual(
          groupProtocols.map(({ name }) => name),
          [cooperativeName]
        )
        const { generation, owned } = decodeSubscription(groupProtocols[0]!.metadata)
        this.joins.push([generation, owned[topic] ?? []])
        this.rebalancing = false
        this.generation++
        return {
          errorCode: 0,
          generationId: this.generation,
          groupProtocol: cooperativeName,
          leaderId: "another",
          memberId: "member",
          members: []
        }
      },
      syncGroup: async () => {
        const errorCode = this.syncCode
        this.syncCode = 0
        const assignment = this.target.length === 0 ? {} : { [topic]: this.target }
        return { errorCode, memberAssignment: encodeAssignment(assignment, this.another ? another : undefined) }
      },
      heartbeat: async () => ({ errorCode: this.rebalancing ? rebalanceInProgress : 0 }),
      offsetFetch: async ({ requireStable, topics }) => {
        await this.offsetGate
        this.ids.push(...topics.map(({ topicId }) => topicId))
        return {
          responses: topics.map(({ partitions, topic: name }) => ({
            topic: name,
            partitions: partitions.map(({ partition }) =>
              requireStable && this.pending.includes(partition)
                ? { partition, offset: -1n, metadata: "", errorCode: 88 }
                : { partition, offset: 7n, metadata: "m", errorCode: 0 }
            )
          }))
        }
      },
      offsetCommit: async ({ groupGenerationId, topics }) => {
        this.ids.push(...topics.map(({ topicId }) => topicId))
        return {
          responses: topics.map(({ partitions, topic: name }) => ({
            topic: name,
            partitions: partitions.map(({ partition }) => {
              this.commits.push({ generation: groupGenerationId, partition })
              return { partition, errorCode: groupGenerationId === this.generation ? 0 : 22 }
            })
          }))
        }
      },
      leaveGroup: async () => undefined,
      fetch: never,
      listOffsets: never,
      produce: never,
      initProducerId: never
    }
  }

  get connector(): Connector {
    return {
      staticMembership: true,
      groupProtocols: ["classic"],
      open: () => Promise.resolve(this.broker),
      classify: (error, what) =>
        error instanceof KafkaClientError ? error : new KafkaClientError({ reason: "Connection", detail: what }),
      decompress: (_codec, bytes) => Promise.resolve(bytes)
    }
  }

  /** The group rebalances, and this is what the member is given. */
  rebalance(target: ReadonlyArray<number>): void {
    this.target = target
    this.rebalancing = true
  }
}

interface Member {
  readonly session: Session
  readonly signals: ReadonlyArray<Signal>
  readonly of: <T extends Signal["_tag"]>(tag: T) => ReadonlyArray<Extract<Signal, { readonly _tag: T }>>
}

const settings: SessionSettings = {
  groupId: "shipping",
  topics: [topic],
  isolation: "read_committed",
  sessionTimeout: 30_000,
  heartbeatInterval: 5,
  rebalanceTimeout: 60_000,
  revokeTimeout: 10_000,
  metadataMaxAge: 30_000,
  maxWait: 250,
  topicTimeout: undefined,
  assignor: "cooperative-sticky"
}

const join = (
  coordinator: Coordinator,
  rest: Partial<SessionSettings> = {},
  onRevoking: (signal: Revoking) => void = (signal) => signal.acknowledgeUnsafe()
): Effect.Effect<Member, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const openCluster = () => new Cluster(coordinator.connector)
    const session = yield* makeSession({ settings: { ...settings, ...rest }, requestTimeout: 5000, openCluster })
    const signals: Array<Signal> = []
    yield* Effect.forkScoped(
      Effect.ignore(
        Effect.forever(
          Effect.map(Queue.take(session.inbox), (signal) => {
            signals.push(signal)
            if (signal._tag === "Revoking") onRevoking(signal)
          })
        )
      )
    )
    yield* session.join
    return { session, signals, of: (tag) => signals.filter((signal): signal is never => signal._tag === tag) }
  })

const until = (what: string, is: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const end = performance.now() + 5000
    while (!is()) {
      if (performance.now() > end) return yield* Effect.die(new Error(`waited for: ${what}`))
      yield* Effect.sleep(1)
    }
  })

const numbersOf = (partitions: ReadonlyArray<{ readonly partition: number }>) => partitions.map((p) => p.partition)

/** What the newest assignment says: the partitions, and whether each is retained. */
const announced = (member: Member) =>
  member
    .of("Assigned")
    .at(-1)
    ?.all.map((p) => [p.partition, p.retained] as const)

const has = (member: Member, count: number) =>
  until(`it has ${count}`, () => member.of("Assigned").at(-1)?.all.length === count)

const gate = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { closed: promise, open: resolve }
}

describe("a cooperative member", () => {
  it.live("has what has come of the topic that the committed offset was read of, and commits for that one", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      // created again after the topics were looked for
      const now = "2".repeat(32)
      coordinator.topicIds = [coordinator.topicIds[0], now]
      const member = yield* join(coordinator)
      yield* has(member, 1)
      const [own] = member.of("Assigned")[0]!.all
      const [outcome] = yield* member.session.commit([{ ...own!, offset: 9n, metadata: "" }])
      assert.strictEqual(outcome!.outcome, "committed")
      assert.deepStrictEqual(coordinator.ids, [now, now])
    }).pipe(Effect.scoped)
  )

  it.live(
    "puts commits off while its group rebalances, and not because nobody answers: who closes waits for a generation only",
    () =>
      Effect.gen(function* () {
        const coordinator = new Coordinator()
        coordinator.target = [0]
        const member = yield* join(coordinator)
        yield* has(member, 1)
        const [own] = member.of("Assigned")[0]!.all
        const commit = Effect.map(member.session.commit([{ ...own!, offset: 9n, metadata: "" }]), ([one]) => one!)
        coordinator.isAway = true
        coordinator.rebalance([0])
        const outcomes = new Set<string>()
        yield* until("it joins", () => coordinator.rebalancing)
        for (let turns = 0; turns < 2000 && !outcomes.has("retriable COORDINATOR_NOT_AVAILABLE"); turns++) {
          const outcome = yield* commit
          outcomes.add(outcome.outcome === "committed" ? "committed" : `${outcome.outcome} ${outcome.code}`)
          yield* Effect.sleep(1)
        }
        assert.include([...outcomes], "retriable COORDINATOR_NOT_AVAILABLE")
        assert.include([...outcomes], "deferred REBALANCE_IN_PROGRESS")
        coordinator.isAway = false
        yield* until("announced again", () => member.of("Assigned").length === 2)
        assert.strictEqual((yield* commit).outcome, "committed")
        assert.strictEqual(member.of("Lost").length, 0)
      })
  )

  it.live("what goes is announced with the rest, then held, and claimed until the engine has answered", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      let asked: Revoking | undefined
      const member = yield* join(coordinator, {}, (signal) => (asked = signal))
      yield* has(member, 2)
      coordinator.rebalance([0, 2])
      yield* until("asked", () => asked !== undefined)
      assert.deepStrictEqual(coordinator.joins.at(-1), [1, [0, 1]])
      // what has come does not wait for the drain
      assert.deepStrictEqual(announced(member), [
        [0, true],
        [1, true],
        [2, false]
      ])
      assert.deepInclude(asked, { exact: true, hold: 10_000 })
      assert.deepStrictEqual(numbersOf(asked!.partitions), [1])
      const [goes] = asked!.partitions
      const [inTheHold] = yield* member.session.commit([{ ...goes!, offset: 9n, metadata: "" }])
      assert.strictEqual(inTheHold!.outcome, "committed")
      assert.deepStrictEqual(coordinator.commits, [{ generation: 2, partition: 1 }])
      // others want to go on
      coordinator.rebalance([0, 2])
      yield* Effect.sleep(50)
      assert.strictEqual(coordinator.joins.length, 2)
      asked!.acknowledgeUnsafe()
      yield* until("it joins without it", () => coordinator.joins.length === 3)
      assert.deepStrictEqual(coordinator.joins.at(-1), [2, [0, 2]])
      yield* until("announced", () => member.of("Assigned").at(-1)!.all.length === 2)
      assert.deepStrictEqual(announced(member), [
        [0, true],
        [2, true]
      ])
      const [late] = yield* member.session.commit([{ ...goes!, offset: 10n, metadata: "" }])
      assert.deepInclude(late, { outcome: "stale", code: "EPOCH" })
      assert.strictEqual(member.of("Revoking").length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("a hold that nobody answers ends, and an assignment says what is left before the member joins again", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator, { revokeTimeout: 50 }, () => undefined)
      yield* has(member, 2)
      coordinator.rebalance([1])
      yield* until("it joins without it", () => coordinator.joins.length === 3)
      assert.deepStrictEqual(coordinator.joins.at(-1), [2, [1]])
      const after = () => member.signals.slice(member.signals.findIndex(({ _tag }) => _tag === "Revoking") + 1)
      // one that ends the hold, and one of the generation without it
      yield* until("told", () => after().length === 2)
      for (const signal of after()) assert.deepInclude(signal, { _tag: "Assigned" })
      assert.deepStrictEqual(announced(member), [[1, true]])
    }).pipe(Effect.scoped)
  )

  it.live(
    "a rebalance while the committed offsets of what has come are read: it is claimed, and announced behind that",
    () =>
      Effect.gen(function* () {
        const coordinator = new Coordinator()
        coordinator.target = [0]
        const member = yield* join(coordinator)
        yield* has(member, 1)
        const reading = gate()
        coordinator.offsetGate = reading.closed
        coordinator.rebalance([0, 1, 2])
        yield* until("it has joined", () => coordinator.joins.length === 2)
        // one of them is not to be its own, after all: nobody was told of it
        coordinator.rebalance([0, 1])
        yield* until("it joins again", () => coordinator.joins.length === 3)
        assert.strictEqual(member.of("Assigned").length, 1)
        coordinator.offsetGate = undefined
        reading.open()
        yield* until("and once more without that one", () => coordinator.joins.length === 4)
        assert.deepStrictEqual(coordinator.joins.slice(2), [
          [2, [0, 1, 2]],
          [3, [0, 1]]
        ])
        yield* until("announced, and that it stays", () => member.of("Assigned").length === 3)
        const [, first, second] = member.of("Assigned")
        const retained = (assigned: typeof first) => assigned!.all.map((p) => [p.partition, p.retained])
        assert.deepStrictEqual(retained(first), [
          [0, true],
          [1, false]
        ])
        assert.deepInclude(first!.all[1], { committed: { offset: 7n, metadata: "m" } })
        assert.deepStrictEqual(retained(second), [
          [0, true],
          [1, true]
        ])
        assert.strictEqual(member.of("Revoking").length, 0)
      }).pipe(Effect.scoped)
  )

  it.live("a missed generation retains nothing, and commits nothing for what is not given again", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      yield* has(member, 2)
      const before = member.of("Assigned").at(-1)!.all
      coordinator.syncCode = rebalanceInProgress
      coordinator.rebalance([0])
      yield* until("it is a member again", () => member.of("Assigned").at(-1)!.all.length === 1)
      // of the generation that it was heard of last
      assert.deepStrictEqual(coordinator.joins.slice(1, 3), [
        [1, [0, 1]],
        [1, [0, 1]]
      ])
      assert.deepStrictEqual(announced(member)?.[0]?.[0], 0)
      const fresh = member.of("Assigned").find(({ all }) => all.length === 1)!.all[0]!
      assert.isFalse(fresh.retained)
      assert.isAbove(fresh.epoch, before[1]!.epoch)
      const late = yield* member.session.commit(before.map((p) => ({ ...p, offset: 9n, metadata: "" })))
      for (const one of late) assert.deepInclude(one, { outcome: "stale", code: "EPOCH" })
      assert.deepStrictEqual(coordinator.commits, [])
      assert.strictEqual(member.of("Revoking").length, 0)
      yield* until("it claims no more than it has", () => coordinator.joins.at(-1)!.join() === "3,0")
    }).pipe(Effect.scoped)
  )

  it.live("what goes does not wait for a transaction that what comes waits for", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      yield* has(member, 2)
      coordinator.pending = [2]
      coordinator.rebalance([0, 2])
      yield* until("it joins without it", () => coordinator.joins.length === 3)
      assert.deepStrictEqual(coordinator.joins.at(-1), [2, [0, 2]])
      assert.deepStrictEqual(
        member.of("Revoking").map(({ partitions }) => numbersOf(partitions)),
        [[1]]
      )
      // the engine was told of the generation, and of nothing whose start is not known
      assert.deepStrictEqual(
        member.of("Assigned").map(({ all }) => numbersOf(all)),
        [
          [0, 1],
          [0, 1],
          ...member
            .of("Assigned")
            .slice(2)
            .map(() => [0])
        ]
      )
      coordinator.pending = []
      yield* until("announced", () => announced(member)?.join() === "0,true,2,false")
      assert.deepInclude(member.of("Assigned").at(-1)!.all[1], { committed: { offset: 7n, metadata: "m" } })
    }).pipe(Effect.scoped)
  )

  it.live("nor for an answer that takes long", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      yield* has(member, 2)
      const reading = gate()
      coordinator.offsetGate = reading.closed
      coordinator.rebalance([0, 2])
      yield* until("it joins without it", () => coordinator.joins.length === 3)
      assert.deepStrictEqual(
        member.of("Revoking").map(({ partitions }) => numbersOf(partitions)),
        [[1]]
      )
      coordinator.offsetGate = undefined
      reading.open()
      yield* until("announced", () => announced(member)?.join() === "0,true,2,false")
    }).pipe(Effect.scoped)
  )

  it.live("what waits for a transaction waits alone", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* has(member, 1)
      coordinator.pending = [1, 3]
      coordinator.rebalance([0, 1, 2, 3])
      yield* has(member, 2)
      assert.deepStrictEqual(announced(member), [
        [0, true],
        [2, false]
      ])
      // others rebalance: it is claimed, and nothing is known of it before
      coordinator.rebalance([0, 1, 2, 3])
      yield* until("joined again", () => member.session.generationUnsafe() === 3)
      assert.deepStrictEqual(coordinator.joins.at(-1), [2, [0, 1, 2, 3]])
      coordinator.pending = [3]
      yield* has(member, 3)
      assert.deepStrictEqual(announced(member), [
        [0, true],
        [1, false],
        [2, true]
      ])
      coordinator.pending = []
      yield* has(member, 4)
      assert.strictEqual(member.of("Revoking").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("what goes is no other topic because a coordinator is behind, and has fewer partitions of it", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 3]
      const member = yield* join(coordinator)
      yield* has(member, 2)
      coordinator.partitions = 2
      coordinator.rebalance([0])
      yield* until("it joins without it", () => coordinator.joins.length === 3)
      assert.deepStrictEqual(
        member.of("Revoking").map(({ partitions }) => numbersOf(partitions)),
        [[3]]
      )
      assert.strictEqual(member.of("Gone").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a topic that was deleted is gone, and not given up", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      yield* has(member, 2)
      coordinator.exists = false
      coordinator.rebalance([])
      yield* until("both are gone", () => member.of("Gone").length === 2)
      yield* until("it claims nothing", () => coordinator.joins.at(-1)![1].length === 0)
      assert.deepStrictEqual(
        member.of("Gone").map(({ why }) => why),
        ["deleted", "deleted"]
      )
      assert.strictEqual(member.of("Revoking").length, 0)
      assert.deepStrictEqual(coordinator.commits, [])
    }).pipe(Effect.scoped)
  )

  it.live("D28: who does not hear what has become of a topic has lost what goes of it, and goes on with the rest", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator, { revokeTimeout: 200 })
      yield* has(member, 2)
      const [, goes] = member.of("Assigned").at(-1)!.all
      coordinator.isSilent = true
      coordinator.rebalance([0])
      yield* until("it looks", () => coordinator.questions > 0)
      const [meanwhile] = yield* member.session.commit([{ ...goes!, offset: 9n, metadata: "" }])
      assert.deepInclude(meanwhile, { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
      yield* until("lost", () => member.of("Lost").length === 1)
      assert.deepStrictEqual(numbersOf(member.of("Lost")[0]!.partitions), [1])
      yield* until("it joins without it", () => coordinator.joins.at(-1)!.join() === "2,0")
      coordinator.isSilent = false
      assert.strictEqual(member.of("Revoking").length + member.of("Gone").length, 0)
      assert.deepStrictEqual(coordinator.commits, [])
    }).pipe(Effect.scoped)
  )

  it.live(
    "D28: nothing of what goes is committed while what has come is read, before anybody has asked what it is now",
    () =>
      Effect.gen(function* () {
        const coordinator = new Coordinator()
        coordinator.target = [0, 1]
        let asked: Revoking | undefined
        const member = yield* join(coordinator, {}, (signal) => (asked = signal))
        yield* has(member, 2)
        const [stays, goes] = member.of("Assigned").at(-1)!.all
        const reading = gate()
        coordinator.offsetGate = reading.closed
        coordinator.rebalance([0, 2])
        yield* until("it is a member again", () => member.session.generationUnsafe() === 2)
        const both = [stays!, goes!].map((p) => ({ ...p, offset: 9n, metadata: "" }))
        assert.deepStrictEqual(
          (yield* member.session.commit(both)).map(({ outcome }) => outcome),
          ["committed", "deferred"]
        )
        coordinator.offsetGate = undefined
        reading.open()
        yield* until("held", () => asked !== undefined)
        assert.deepStrictEqual(
          (yield* member.session.commit(both)).map(({ outcome }) => outcome),
          ["committed", "committed"]
        )
        asked!.acknowledgeUnsafe()
        yield* until("it joins without it", () => coordinator.joins.length === 3)
      }).pipe(Effect.scoped)
  )

  it.live("a static member that does not lead: partitions that the leader has assigned are none to rejoin for", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator, { instanceId: "pod-1", metadataMaxAge: 300 })
      yield* has(member, 1)
      const looks = (count: number) => {
        const before = coordinator.reads
        return until(`it looks ${count} times`, () => coordinator.reads >= before + count)
      }
      // the leader has noticed, and given some of them to it
      coordinator.partitions = 6
      coordinator.rebalance([0, 4])
      yield* has(member, 2)
      yield* looks(3)
      assert.strictEqual(coordinator.joins.length, 2)
      // the leader has gone, and its restart does not lead
      coordinator.partitions = 8
      yield* until("it rejoins", () => coordinator.joins.length === 3)
    }).pipe(Effect.scoped)
  )

  it.live("a generation that withheld something is followed by another, also when nobody else begins it", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.another = true
      const member = yield* join(coordinator, { revokeTimeout: 100 })
      yield* until("it is a member", () => member.of("Assigned").length === 1)
      const began = performance.now()
      coordinator.target = [3]
      yield* has(member, 1)
      assert.isAbove(performance.now() - began, 50)
      // the coordinator tells who has not heard the answer from who wants another generation by what they say
      assert.deepStrictEqual(coordinator.joins.slice(0, 2), [
        [-1, []],
        [1, []]
      ])
      coordinator.another = false
    }).pipe(Effect.scoped)
  )

  it.effect("rounds that change nothing follow each other ever more slowly, and the next ones at once again", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.another = true
      yield* join(coordinator, { heartbeatInterval: 3000, sessionTimeout: 120_000 })
      let second = 0
      /** The seconds between the joins of the next so many seconds. */
      const pass = (seconds: number) =>
        Effect.gen(function* () {
          const at: Array<number> = []
          for (const end = second + seconds; second < end; second++) {
            const before = coordinator.joins.length
            yield* TestClock.adjust(1000)
            yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
            if (coordinator.joins.length > before) at.push(second)
          }
          return at.slice(1).map((time, i) => time - at[i]!)
        })
      const isNear = (found: ReadonlyArray<number>, wanted: ReadonlyArray<number>) => {
        assert.strictEqual(found.length, wanted.length, found.join())
        for (const [i, gap] of found.entries()) assert.closeTo(gap, wanted[i]!, 2)
      }
      isNear(yield* pass(400), [29, 58, 116, 120])
      const settles = Effect.gen(function* () {
        coordinator.another = false
        coordinator.rebalance([])
        yield* pass(200)
        coordinator.another = true
        coordinator.rebalance([])
      })
      yield* settles
      isNear(yield* pass(100), [29, 58])
      yield* settles
      yield* pass(27)
      // another member was first: that round, too, has changed nothing
      coordinator.rebalance([])
      isNear(yield* pass(90), [58])
      yield* settles
      yield* pass(8)
      // somebody has given up what he should
      coordinator.rebalance([])
      isNear(yield* pass(60), [29])
    }).pipe(Effect.scoped)
  )
})
