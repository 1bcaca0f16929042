import type {
  AssignedPartition,
  Revoking,
  Session,
  SessionSettings,
  Signal
} from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Broker, Connector } from "../src/Broker.ts"
import { Cluster, makeSession } from "../src/Driver.ts"
import { stickyName } from "../src/internal/assigner.ts"
import { encodeAssignment } from "../src/internal/groupData.ts"

const topic = "orders"
const id = "1".repeat(32)
const otherId = "2".repeat(32)
const rebalanceInProgress = 27
const coordinatorNode = 2

/** A coordinator that answers as it is told, beside another broker; another member leads. */
class Coordinator {
  joins = 0
  syncs = 0
  /** it had been asked about topics so often when it gave the last assignment */
  questionsBefore = 0
  readonly committed = new Map<number, bigint>()
  /** of these a transaction is about to replace it */
  pending: ReadonlyArray<number> = []
  /** of the topic, as all say it */
  partitions = 4
  /** what the member is given by its next SyncGroup */
  target: ReadonlyArray<number> = []
  /** heartbeats say that the group rebalances, until it is joined again */
  rebalancing = false
  /** the topic's id, as all say it */
  topicId = id
  /** what the other broker says, which has not heard of that one */
  lagging: string | undefined
  /** the ids that committed offsets were asked for by */
  readonly askedBy: Array<string | undefined> = []
  /** its answers about topics wait for it */
  gate: Promise<void> | undefined
  /** it was asked about topics so often */
  questions = 0
  /** and the other one */
  looked = 0
  /** the other broker answers nothing */
  isAlone = false
  /** the member leads the group, and is given what it assigns */
  isLed = false

  broker(isCoordinator: boolean): Broker {
    const never = () => new Promise<never>(() => undefined)
    return {
      address: "fake:1",
      isConnected: () => true,
      connect: () => Promise.resolve(),
      destroy: () => undefined,
      metadata: async (topics) => {
        if (isCoordinator) {
          this.questions++
          await this.gate
        } else {
          this.looked++
          if (this.isAlone) await never()
        }
        const leaders = new Map(Array.from({ length: this.partitions }, (_, partition) => [partition, 1] as const))
        const found = isCoordinator ? this.topicId : (this.lagging ?? this.topicId)
        return {
          brokers: new Map([[1, { host: "fake", port: 1 }]]),
          topics: new Map(topics.map((name) => [name, { topic: name, code: "NONE", id: found, leaders }]))
        }
      },
      findGroupCoordinator: async () => ({
        errorCode: 0,
        coordinator: { nodeId: coordinatorNode, host: "fake", port: 2 }
      }),
      joinGroup: async ({ groupProtocols }) => {
        this.joins++
        this.rebalancing = false
        const { metadata } = groupProtocols.find(({ name }) => name === stickyName)!
        return {
          errorCode: 0,
          generationId: this.joins,
          groupProtocol: stickyName,
          leaderId: this.isLed ? "member" : "another",
          memberId: "member",
          members: this.isLed ? [{ memberId: "member", memberMetadata: metadata }] : []
        }
      },
      syncGroup: async ({ groupAssignment: [own] }) => {
        this.syncs++
        this.questionsBefore = this.questions
        if (own !== undefined) return { errorCode: 0, memberAssignment: own.memberAssignment }
        const assignment = this.target.length === 0 ? {} : { [topic]: this.target }
        return { errorCode: 0, memberAssignment: encodeAssignment(assignment) }
      },
      heartbeat: async () => ({ errorCode: this.rebalancing ? rebalanceInProgress : 0 }),
      offsetFetch: async ({ requireStable, topics }) => ({
        responses: topics.map(({ partitions, topic: name, topicId }) => {
          this.askedBy.push(topicId)
          const isKnown = topicId === undefined || topicId === this.topicId
          return {
            topic: name,
            partitions: partitions.map(({ partition }) => {
              const isUnstable = requireStable && this.pending.includes(partition)
              const offset = isKnown && !isUnstable ? this.committed.get(partition) : undefined
              return { partition, offset: offset ?? -1n, metadata: "", errorCode: isUnstable ? 88 : isKnown ? 0 : 100 }
            })
          }
        })
      }),
      offsetCommit: async ({ topics }) => ({
        responses: topics.map(({ partitions, topic: name }) => ({
          topic: name,
          partitions: partitions.map(({ offset, partition }) => {
            this.committed.set(partition, offset)
            return { partition, errorCode: 0 }
          })
        }))
      }),
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
      open: (_address, node) => Promise.resolve(this.broker(node === coordinatorNode)),
      classify: (error, what) =>
        error instanceof KafkaClientError ? error : new KafkaClientError({ reason: "Connection", detail: what }),
      decompress: (_codec, bytes) => Promise.resolve(bytes)
    }
  }
}

interface Member {
  readonly session: Session
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
  topicTimeout: undefined
}

const join = (
  coordinator: Coordinator,
  rest: Partial<SessionSettings> = {},
  onRevoking: (signal: Revoking, session: Session) => void = (signal) => signal.acknowledgeUnsafe()
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
            if (signal._tag === "Revoking") onRevoking(signal, session)
          })
        )
      )
    )
    yield* session.join
    return { session, of: (tag) => signals.filter((signal): signal is never => signal._tag === tag) }
  })

const until = (what: string, is: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const end = performance.now() + 5000
    while (!is()) {
      if (performance.now() > end) return yield* Effect.die(new Error(`waited for: ${what}`))
      yield* Effect.sleep(1)
    }
  })

/** Its partitions, when it has been told of so many assignments. */
const assigned = (member: Member, times: number): Effect.Effect<ReadonlyArray<AssignedPartition>> =>
  Effect.map(
    until(`assigned ${times} times`, () => member.of("Assigned").length >= times),
    () => member.of("Assigned")[times - 1]!.all
  )

const at = (p: AssignedPartition, offset: bigint) => ({ ...p, offset, metadata: "" })

const gate = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { closed: promise, open: resolve }
}

describe("an eager member that does not lead, when its topic is created again", () => {
  it.live("created again in the hold: another epoch, which does not begin where the old one was committed", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      let asked: Revoking | undefined
      const member = yield* join(coordinator, {}, (signal) => (asked = signal))
      const before = yield* assigned(member, 1)
      yield* member.session.commit(before.map((p) => at(p, 5n)))
      coordinator.rebalancing = true
      yield* until("asked", () => asked !== undefined)
      coordinator.topicId = otherId
      // the coordinator deletes what it has for a topic that is gone, and takes by name what comes behind that
      coordinator.committed.clear()
      const [flushed] = yield* member.session.commit([at(before[0]!, 9n)])
      assert.strictEqual(flushed!.outcome, "committed")
      asked!.acknowledgeUnsafe()
      const after = yield* assigned(member, 2)
      assert.deepStrictEqual(
        after.map(({ committed, partition, retained }) => [partition, retained, committed]),
        [
          [0, false, undefined],
          [1, false, undefined]
        ]
      )
      for (const [i, { epoch }] of after.entries()) assert.isAbove(epoch, before[i]!.epoch)
      assert.deepStrictEqual(
        member.of("Gone").map(({ epoch, why }) => [epoch, why]),
        before.map(({ epoch }) => [epoch, "recreated"])
      )
      // the next one is of that topic, and retained
      coordinator.rebalancing = true
      asked = undefined
      yield* until("asked again", () => asked !== undefined)
      yield* member.session.commit([at(after[0]!, 1n)])
      asked!.acknowledgeUnsafe()
      const last = yield* assigned(member, 3)
      assert.deepInclude(last[0], { retained: true, committed: { offset: 1n, metadata: "" } })
      assert.strictEqual(member.of("Gone").length, 2)
    }).pipe(Effect.scoped)
  )

  it.live("created again before the hold: gone, and nothing of it is committed", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      const before = yield* assigned(member, 1)
      coordinator.topicId = otherId
      const answer = gate()
      coordinator.gate = answer.closed
      const { questions } = coordinator
      coordinator.rebalancing = true
      yield* until("the coordinator is asked", () => coordinator.questions > questions)
      for (const one of yield* member.session.commit(before.map((p) => at(p, 9n)))) {
        assert.deepInclude(one, { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
      }
      coordinator.gate = undefined
      answer.open()
      const after = yield* assigned(member, 2)
      assert.strictEqual(member.of("Gone").length, 2)
      assert.strictEqual(member.of("Revoking").length, 0)
      assert.strictEqual(coordinator.committed.size, 0)
      for (const one of after) assert.deepInclude(one, { retained: false, committed: undefined })
      // that assignment was what it takes: no other follows
      assert.strictEqual(coordinator.joins, 2)
      const [own] = yield* member.session.commit([at(after[0]!, 1n)])
      assert.strictEqual(own!.outcome, "committed")
    }).pipe(Effect.scoped)
  )

  it.live("a coordinator that does not answer takes nothing but a moment of the hold", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const began: Array<number> = []
      const member = yield* join(
        coordinator,
        { revokeTimeout: 1200, rebalanceTimeout: 1300 },
        () => void began.push(performance.now())
      )
      const [own] = yield* assigned(member, 1)
      coordinator.gate = new Promise(() => undefined)
      const from = performance.now()
      coordinator.rebalancing = true
      yield* until("held", () => began.length === 1)
      const { hold } = member.of("Revoking")[0]!
      assert.closeTo(hold, 1250 - (began[0]! - from), 100)
      assert.isAbove(hold, 500)
      // and what is held can be committed
      assert.strictEqual((yield* member.session.commit([at(own!, 3n)]))[0]!.outcome, "committed")
      const [still] = yield* assigned(member, 2)
      assert.deepInclude(still, { retained: true, committed: { offset: 3n, metadata: "" } })
    }).pipe(Effect.scoped)
  )
})

describe("an eager member whose metadata have not heard that its topic was created again", () => {
  it.live("is not told that nothing is committed: the coordinator knows which topic there is", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      coordinator.lagging = otherId
      coordinator.committed.set(0, 100n)
      const member = yield* join(coordinator)
      const [own] = yield* assigned(member, 1)
      assert.deepInclude(own, { committed: { offset: 100n, metadata: "" }, topicCommitted: true })
      assert.deepStrictEqual(coordinator.askedBy, [id])
    }).pipe(Effect.scoped)
  )
})

describe("an eager member, while transactions are about to replace committed offsets", () => {
  const says = (all: ReadonlyArray<AssignedPartition>) => all.map((p) => [p.partition, p.retained, p.committed?.offset])

  it.live("what waits for a transaction waits alone, and what is retained does not wait at all", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      const before = yield* assigned(member, 1)
      yield* member.session.commit(before.map((p) => at(p, 5n)))
      // one that comes, and one that is retained
      coordinator.pending = [0, 2]
      coordinator.target = [0, 1, 2, 3]
      coordinator.rebalancing = true
      const first = yield* assigned(member, 2)
      assert.deepStrictEqual(says(first), [
        [0, true, 5n],
        [1, true, 5n],
        [3, false, undefined]
      ])
      for (const one of yield* member.session.commit(first.map((p) => at(p, 6n)))) {
        assert.strictEqual(one.outcome, "committed")
      }
      // others rebalance meanwhile: what the engine knows of is held
      coordinator.rebalancing = true
      yield* assigned(member, 3)
      assert.deepStrictEqual(
        member.of("Revoking").map(({ partitions }) => partitions.map(({ partition }) => partition)),
        [
          [0, 1],
          [0, 1, 3]
        ]
      )
      coordinator.committed.set(2, 8n)
      coordinator.pending = [0]
      assert.deepStrictEqual(says(yield* assigned(member, 4)), [
        [0, true, 6n],
        [1, true, 6n],
        [2, false, 8n],
        [3, true, 6n]
      ])
      assert.strictEqual(coordinator.joins, 3)
    }).pipe(Effect.scoped)
  )

  it.live("what was held and somebody else has committed for is another epoch, and waits", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      const [before] = yield* assigned(member, 1)
      coordinator.pending = [0]
      coordinator.committed.set(0, 50n)
      coordinator.rebalancing = true
      assert.deepStrictEqual(says(yield* assigned(member, 2)), [[1, true, undefined]])
      assert.deepInclude((yield* member.session.commit([at(before!, 6n)]))[0], { outcome: "stale", code: "EPOCH" })
      coordinator.pending = []
      coordinator.committed.set(0, 60n)
      const after = yield* assigned(member, 3)
      assert.deepStrictEqual(says(after), [
        [0, false, 60n],
        [1, true, undefined]
      ])
      assert.isAbove(after[0]!.epoch, before!.epoch)
    }).pipe(Effect.scoped)
  )
})

describe("an eager member whose coordinator is behind", () => {
  it.live("ends nothing of a topic that has fewer partitions there: they do not go by themselves", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 3]
      const member = yield* join(coordinator)
      yield* assigned(member, 1)
      coordinator.partitions = 2
      coordinator.rebalancing = true
      assert.isTrue((yield* assigned(member, 2)).every(({ retained }) => retained))
      assert.strictEqual(member.of("Gone").length, 0)
    }).pipe(Effect.scoped)
  )
})

describe("a static member that does not lead", () => {
  it.live("reads how many partitions there are from the coordinator: another broker may not answer", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator, { instanceId: "pod-1" })
      yield* assigned(member, 1)
      coordinator.isAlone = true
      const before = coordinator.questions
      coordinator.rebalancing = true
      yield* until("it has heard what it is given", () => coordinator.syncs === 2)
      // before the hold, and for this
      assert.strictEqual(coordinator.questionsBefore, before + 2)
    }).pipe(Effect.scoped)
  )

  it.live("goes without, well before its session ends, when that one does not answer", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      const member = yield* join(coordinator, { instanceId: "pod-1", sessionTimeout: 2000 })
      yield* assigned(member, 1)
      coordinator.gate = new Promise(() => undefined)
      const began = performance.now()
      coordinator.rebalancing = true
      yield* until("it has heard what it is given", () => coordinator.syncs === 2)
      assert.isBelow(performance.now() - began, 1000)
    }).pipe(Effect.scoped)
  )
})

describe("a member that leads", () => {
  it.live("reads what it assigns by from the coordinator: another broker may not answer", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.isLed = true
      const member = yield* join(coordinator)
      yield* assigned(member, 1)
      coordinator.isAlone = true
      const before = coordinator.questions
      coordinator.rebalancing = true
      yield* until("it has assigned", () => coordinator.syncs === 2)
      // before the hold, and for this
      assert.strictEqual(coordinator.questionsBefore, before + 2)
    }).pipe(Effect.scoped)
  )

  it.live(
    "assigns by what it knows, well before its session ends, when that one does not answer, and looks again",
    () =>
      Effect.gen(function* () {
        const coordinator = new Coordinator()
        coordinator.isLed = true
        const member = yield* join(coordinator, { sessionTimeout: 2000 })
        yield* assigned(member, 1)
        coordinator.gate = new Promise(() => undefined)
        const looked = coordinator.looked
        const began = performance.now()
        coordinator.rebalancing = true
        yield* until("it has assigned", () => coordinator.syncs === 2)
        // it is asked before the hold, too
        assert.isBelow(performance.now() - began, 1500)
        const partitions = (yield* assigned(member, 2)).map(({ partition, retained }) => [partition, retained])
        assert.deepStrictEqual(
          partitions,
          [0, 1, 2, 3].map((partition) => [partition, true])
        )
        // by whoever answers, and not only when the metadata are old
        yield* until("it has looked", () => coordinator.looked >= looked + 2)
      }).pipe(Effect.scoped)
  )
})
