import type { AssignedPartition, Session, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Broker, Connector } from "../src/Broker.ts"
import { Cluster, makeSession } from "../src/Driver.ts"
import { stickyName } from "../src/internal/assigner.ts"
import { encodeAssignment } from "../src/internal/groupData.ts"
import { encodeBatch } from "./batches.ts"

const topic = "orders"
const id = "1".repeat(32)
const otherId = "2".repeat(32)
const coordinatorNode = 2
/** a broker that nobody else speaks with any more */
const isolatedNode = 3

/** What a broker says of the topic; `undefined`: there is none. */
type Said =
  | { readonly id: string | undefined; readonly partitions: number; readonly leader?: number; readonly code?: string }
  | undefined

const now: Said = { id, partitions: 4 }

/** A coordinator beside another broker, each of which says what it knows. */
class Brokers {
  joins = 0
  /** the member leads the group, and is given what it assigns */
  readonly isLed: boolean
  coordinatorSays: Said = now
  otherSays: Said = now
  /** how often they have said it */
  readonly said = { coordinator: 0, other: 0 }
  /** the coordinator answers behind it */
  gate: Promise<void> | undefined
  /** and was asked so often since */
  asked = 0
  commits = 0
  /** partitions that were asked for */
  readonly fetched = new Set<number>()
  /** what an answer says of each of them, and which records it has */
  fetchCode = 0
  batches: Buffer = Buffer.alloc(0)
  /** by the broker that nobody else speaks with */
  fetchedOfIsolated = 0
  /** how often it was said that one is not known */
  unknown = 0
  /** no metadata come before it */
  readGate: Promise<void> | undefined
  /** an answer comes behind it */
  fetchGate: Promise<void> | undefined

  constructor(isLed = false) {
    this.isLed = isLed
  }

  broker(node: number | undefined): Broker {
    const isCoordinator = node === coordinatorNode
    const never = () => new Promise<never>(() => undefined)
    return {
      address: "fake:1",
      isConnected: () => true,
      connect: () => Promise.resolve(),
      destroy: () => undefined,
      metadata: async (topics) => {
        await this.readGate
        if (isCoordinator && this.gate !== undefined) {
          this.asked++
          await this.gate
        }
        this.said[isCoordinator ? "coordinator" : "other"]++
        const said = isCoordinator ? this.coordinatorSays : this.otherSays
        const leaders = new Map(
          Array.from({ length: said?.partitions ?? 0 }, (_, partition) => [partition, said?.leader ?? 1] as const)
        )
        const code = said === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : (said.code ?? "NONE")
        return {
          brokers: new Map([
            [1, { host: "fake", port: 1 }],
            [isolatedNode, { host: "fake", port: isolatedNode }]
          ]),
          topics: new Map(topics.map((name) => [name, { topic: name, code, id: said?.id, leaders }]))
        }
      },
      findGroupCoordinator: async () => ({
        errorCode: 0,
        coordinator: { nodeId: coordinatorNode, host: "fake", port: 2 }
      }),
      joinGroup: async ({ groupProtocols }) => {
        this.joins++
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
      syncGroup: async ({ groupAssignment: [own] }) => ({
        errorCode: 0,
        memberAssignment: own?.memberAssignment ?? encodeAssignment({ [topic]: [0, 3] })
      }),
      heartbeat: async () => ({ errorCode: 0 }),
      offsetFetch: async ({ topics }) => ({
        responses: topics.map(({ partitions, topic: name }) => ({
          topic: name,
          partitions: partitions.map(({ partition }) => ({ partition, offset: -1n, metadata: "", errorCode: 0 }))
        }))
      }),
      offsetCommit: async ({ topics }) => {
        this.commits++
        return {
          responses: topics.map(({ partitions, topic: name }) => ({
            topic: name,
            partitions: partitions.map(({ partition }) => ({ partition, errorCode: 0 }))
          }))
        }
      },
      leaveGroup: async () => undefined,
      fetch: async ({ topics }) => {
        if (node === isolatedNode) this.fetchedOfIsolated++
        for (const { partitions } of topics) for (const { partition } of partitions) this.fetched.add(partition)
        await new Promise((resolve) => setTimeout(resolve, 20))
        await this.fetchGate
        const { batches, fetchCode: errorCode } = this
        if (errorCode !== 0) this.unknown++
        const answer = { topic, errorCode, highWatermark: 9n, lastStable: 9n, aborted: [], batches }
        return {
          errorCode: 0,
          clientSideThrottleTime: 0,
          partitions: topics.flatMap(({ partitions }) => partitions.map(({ partition }) => ({ ...answer, partition })))
        }
      },
      listOffsets: never,
      produce: never,
      initProducerId: never
    }
  }

  get connector(): Connector {
    return {
      staticMembership: true,
      groupProtocols: ["classic"],
      open: (_address, node) => Promise.resolve(this.broker(node)),
      classify: (error, what) =>
        error instanceof KafkaClientError ? error : new KafkaClientError({ reason: "Connection", detail: what }),
      decompress: (_codec, bytes) => Promise.resolve(bytes)
    }
  }
}

interface Member {
  readonly session: Session
  readonly of: <T extends Signal["_tag"]>(tag: T) => ReadonlyArray<Extract<Signal, { readonly _tag: T }>>
  /** fails as the session does */
  readonly ended: Effect.Effect<never, KafkaClientError | Cause.Done>
  /** of its first assignment, begun */
  readonly owned: ReadonlyArray<AssignedPartition>
}

const settings: SessionSettings = {
  groupId: "shipping",
  topics: [topic],
  isolation: "read_committed",
  sessionTimeout: 30_000,
  heartbeatInterval: 3000,
  rebalanceTimeout: 60_000,
  revokeTimeout: 10_000,
  metadataMaxAge: 100,
  maxWait: 250,
  topicTimeout: undefined
}

const join = (brokers: Brokers, { metadataMaxAge } = settings): Effect.Effect<Member, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const openCluster = () => new Cluster(brokers.connector)
    const session = yield* makeSession({ settings: { ...settings, metadataMaxAge }, requestTimeout: 5000, openCluster })
    const signals: Array<Signal> = []
    const reading = yield* Effect.forkScoped(
      Effect.forever(
        Effect.map(Queue.take(session.inbox), (signal) => {
          signals.push(signal)
          if (signal._tag === "Revoking") signal.acknowledgeUnsafe()
        })
      )
    )
    yield* session.join
    const of: Member["of"] = (tag) => signals.filter((signal): signal is never => signal._tag === tag)
    yield* until("assigned", () => of("Assigned").length === 1)
    const owned = of("Assigned")[0]!.all
    session.beginUnsafe(owned.map((p) => ({ ...p, offset: 0n })))
    return { session, of, owned, ended: Fiber.join(reading) }
  })

const until = (what: string, is: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const end = performance.now() + 5000
    while (!is()) {
      if (performance.now() > end) return yield* Effect.die(new Error(`waited for: ${what}`))
      yield* Effect.sleep(1)
    }
  })

/** Until that many answers more. */
const looks = ({ said }: Brokers, who: keyof Brokers["said"], count: number) =>
  Effect.suspend(() => {
    const before = said[who]
    return until(`${count} more answers`, () => said[who] >= before + count)
  })

const commit = ({ owned, session }: Member) =>
  Effect.map(session.commit([{ ...owned[0]!, offset: 9n, metadata: "" }]), ([one]) => one!.outcome)

const gate = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { closed: promise, open: resolve }
}

describe.concurrent("what brokers say of a topic", () => {
  it.live("a broker that is behind ends nothing, and nobody rejoins for it", () =>
    Effect.forEach(
      [
        { now, said: { id, partitions: 2 } },
        { now, said: { id, partitions: 2 }, isLed: true },
        { now, said: { id: otherId, partitions: 4 } },
        { now, said: { id: otherId, partitions: 4 }, isLed: true },
        { now, said: undefined },
        { now, said: undefined, isLed: true },
        { now: { id: undefined, partitions: 4 }, said: { id: undefined, partitions: 2 } },
        { now: { id: undefined, partitions: 4 }, said: { id: undefined, partitions: 2 }, isLed: true }
      ],
      ({ isLed, now, said }) =>
        Effect.gen(function* () {
          const brokers = new Brokers(isLed)
          brokers.coordinatorSays = now
          brokers.otherSays = now
          const member = yield* join(brokers)
          brokers.otherSays = said
          // as often as is believed of who may say it
          yield* looks(brokers, "other", 4)
          assert.strictEqual(member.of("Gone").length, 0)
          assert.strictEqual(brokers.joins, 1)
          // it goes on, by what the coordinator knows
          brokers.fetched.clear()
          yield* until("all are fetched", () => brokers.fetched.size === member.owned.length)
          assert.strictEqual(yield* commit(member), "committed")
        }).pipe(Effect.scoped),
      { concurrency: "unbounded", discard: true }
    )
  )

  it.live(
    "partitions that are added are rejoined for when the coordinator has heard of them, by which is assigned",
    () =>
      Effect.gen(function* () {
        const brokers = new Brokers(true)
        const member = yield* join(brokers)
        brokers.otherSays = { id, partitions: 6 }
        yield* looks(brokers, "coordinator", 2)
        assert.strictEqual(brokers.joins, 1)
        brokers.coordinatorSays = brokers.otherSays
        yield* until("all are assigned", () => member.of("Assigned").at(-1)!.all.length === 6)
        assert.strictEqual(brokers.joins, 2)
      }).pipe(Effect.scoped)
  )

  it.live("nothing is committed for a topic of which it is not known whether it is another one", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers)
      const answer = gate()
      brokers.gate = answer.closed
      brokers.otherSays = { id: otherId, partitions: 4 }
      yield* until("the coordinator is asked", () => brokers.asked > 0)
      assert.strictEqual(yield* commit(member), "deferred")
      brokers.coordinatorSays = brokers.otherSays
      answer.open()
      yield* until("gone", () => member.of("Gone").length === 2)
      assert.isTrue(member.of("Gone").every(({ why }) => why === "recreated"))
      assert.strictEqual(brokers.commits, 0)
      yield* until("given anew", () => member.of("Assigned").length === 2)
    }).pipe(Effect.scoped)
  )

  it.live(
    "what a broker does not know is not asked for again before metadata are read: it may be another topic then",
    () =>
      Effect.gen(function* () {
        const brokers = new Brokers()
        const member = yield* join(brokers)
        yield* until("all are fetched", () => brokers.fetched.size === member.owned.length)
        const answer = gate()
        brokers.readGate = answer.closed
        brokers.fetchCode = 3
        yield* until("it is said", () => brokers.unknown > 0)
        brokers.unknown = 0
        // several times as long as it waits before it asks again
        yield* Effect.sleep("700 millis")
        assert.strictEqual(brokers.unknown, 0)
        // nor is anything committed, which would be taken for the other one
        assert.strictEqual(yield* commit(member), "deferred")
        const { coordinator } = brokers.said
        answer.open()
        yield* until("it is said again", () => brokers.unknown > 0)
        // the first broker may not have heard of it
        assert.isAbove(brokers.said.coordinator, coordinator)
        brokers.fetchCode = 0
        brokers.fetched.clear()
        yield* until("all are fetched again", () => brokers.fetched.size === member.owned.length)
        assert.strictEqual(member.of("Gone").length, 0)
      }).pipe(Effect.scoped)
  )

  it.live("a topic that was not known, and is another one, is fetched as that, however old metadata may become", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers, { ...settings, metadataMaxAge: 60_000 })
      yield* until("all are fetched", () => brokers.fetched.size === member.owned.length)
      brokers.coordinatorSays = { id: otherId, partitions: 4 }
      brokers.otherSays = brokers.coordinatorSays
      brokers.fetchCode = 3
      yield* until("given anew", () => member.of("Assigned").length === 2)
      brokers.fetchCode = 0
      const { all } = member.of("Assigned")[1]!
      member.session.beginUnsafe(all.map((p) => ({ ...p, offset: 0n })))
      brokers.fetched.clear()
      yield* until("all are fetched again", () => brokers.fetched.size === all.length)
      assert.isTrue(member.of("Gone").every(({ why }) => why === "recreated"))
    }).pipe(Effect.scoped)
  )

  it.live("a doubt ends by the coordinator's word, and by nobody else's", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers)
      const answer = gate()
      brokers.gate = answer.closed
      brokers.otherSays = { id: otherId, partitions: 4 }
      yield* until("the coordinator is asked", () => brokers.asked > 0)
      // another broker, which is behind
      brokers.otherSays = now
      const { other } = brokers.said
      yield* until("it is asked", () => brokers.said.other > other + 1)
      assert.strictEqual(yield* commit(member), "deferred")
      brokers.coordinatorSays = { id: otherId, partitions: 4 }
      answer.open()
      yield* until("gone", () => member.of("Gone").length === 2)
      assert.strictEqual(brokers.commits, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a broker that takes a topic for another one is not fetched from, also when that was denied long ago", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers)
      brokers.otherSays = { id: otherId, partitions: 4, leader: isolatedNode }
      // doubted, and then believed to be wrong
      for (const expected of ["deferred", "committed"]) {
        yield* Effect.repeat(commit(member), {
          until: (outcome) => outcome === expected,
          schedule: Schedule.spaced("5 millis")
        })
      }
      // it says so, and the coordinator nothing for a while
      brokers.asked = 0
      brokers.gate = gate().closed
      yield* until("the coordinator is asked", () => brokers.asked > 0)
      brokers.fetched.clear()
      yield* until("all are fetched", () => brokers.fetched.size === member.owned.length)
      assert.strictEqual(brokers.fetchedOfIsolated, 0)
      assert.strictEqual(member.of("Gone").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("what somebody else has read of it is cleared up at once, however old metadata may become", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers, { ...settings, metadataMaxAge: 60_000 })
      brokers.otherSays = { id: otherId, partitions: 4 }
      brokers.coordinatorSays = brokers.otherSays
      // of which it knows no leader
      yield* Effect.forkScoped(Effect.ignore(member.session.logOffsets([{ topic, partition: 9 }])))
      yield* until("gone", () => member.of("Gone").length === 2)
      assert.isTrue(member.of("Gone").every(({ why }) => why === "recreated"))
    }).pipe(Effect.scoped)
  )

  it.live("who may not read it is said by the coordinator, too, or by a fetch", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers)
      const refused = { id, partitions: 0, code: "TOPIC_AUTHORIZATION_FAILED" }
      brokers.otherSays = refused
      yield* looks(brokers, "other", 3)
      assert.strictEqual(yield* commit(member), "committed")
      brokers.coordinatorSays = refused
      const error = yield* Effect.flip(member.ended)
      assert.deepInclude(error, { reason: "Authorization" })
    }).pipe(Effect.scoped)
  )

  it.live("what comes of a topic is not used while it is not known whether it is another one, and is read again", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const [coming, asking] = [gate(), gate()]
      brokers.fetchGate = coming.closed
      brokers.batches = encodeBatch({ base: 0n, last: 0, records: [{ delta: 0, value: "a" }] })
      const member = yield* join(brokers)
      yield* until("all are asked for", () => brokers.fetched.size === member.owned.length)
      brokers.gate = asking.closed
      brokers.otherSays = { id: otherId, partitions: 4 }
      yield* until("the coordinator is asked", () => brokers.asked > 0)
      coming.open()
      brokers.fetched.clear()
      yield* Effect.sleep("100 millis")
      assert.strictEqual(member.of("Chunk").length, 0)
      assert.strictEqual(brokers.fetched.size, 0)
      asking.open()
      brokers.otherSays = now
      yield* until("all have come", () => member.of("Chunk").length === member.owned.length)
    }).pipe(Effect.scoped)
  )

  it.live("nor while the coordinator may be the one that is behind", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      const member = yield* join(brokers)
      brokers.otherSays = { id: otherId, partitions: 4 }
      const { coordinator } = brokers.said
      yield* until("it has said otherwise", () => brokers.said.coordinator > coordinator)
      assert.strictEqual(yield* commit(member), "deferred")
      brokers.coordinatorSays = brokers.otherSays
      yield* until("gone", () => member.of("Gone").length === 2)
      assert.strictEqual(brokers.commits, 0)
    }).pipe(Effect.scoped)
  )

  it.live("without ids: fewer partitions are another topic when the coordinator says so for a second", () =>
    Effect.gen(function* () {
      const brokers = new Brokers()
      brokers.coordinatorSays = { id: undefined, partitions: 4 }
      brokers.otherSays = brokers.coordinatorSays
      const member = yield* join(brokers)
      brokers.coordinatorSays = { id: undefined, partitions: 2 }
      brokers.otherSays = brokers.coordinatorSays
      yield* looks(brokers, "coordinator", 2)
      assert.strictEqual(member.of("Gone").length, 0)
      assert.strictEqual(yield* commit(member), "deferred")
      // all of them: what has fewer partitions now is another topic
      yield* until("gone", () => member.of("Gone").length === 2)
      assert.isTrue(member.of("Gone").every(({ why }) => why === "recreated"))
      assert.strictEqual(brokers.commits, 0)
    }).pipe(Effect.scoped)
  )
})
