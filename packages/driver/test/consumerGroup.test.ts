import type { Revoking, Session, SessionSettings, Signal } from "@concurrent-kafka/core/ConsumerSession"
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import type { Broker, Connector, ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer } from "../src/Broker.ts"
import { Cluster, makeSession } from "../src/Driver.ts"
import { versionIn } from "../src/Protocol.ts"
import { encodeBatch } from "./batches.ts"

const topic = "orders"
const id = "1".repeat(32)
const otherId = "2".repeat(32)
const coordinatorNode = 2

/** A coordinator that answers as it is told. */
class Coordinator {
  readonly beats: Array<ConsumerGroupHeartbeat> = []
  readonly commits: Array<{ readonly epoch: number; readonly offset: bigint }> = []
  epoch = 0
  /** what the member should have of the topic */
  target: ReadonlyArray<number> = []
  /** and of the one that has been created with its name since */
  targetOfOther: ReadonlyArray<number> = []
  /** the error code of each heartbeat */
  code = 0
  commitCode = 0
  /** answers to commits wait for it */
  commitGate: Promise<void> | undefined
  /** the committed offset of each partition; -1: there is none */
  offset = 7n
  /** of these a transaction is about to replace it */
  pending: ReadonlyArray<number> = []
  /** the ids by which it can be asked for; `undefined`: by any */
  offsetIds: ReadonlyArray<string | undefined> | undefined
  /** the committed offsets were read so often */
  offsetReads = 0
  /** the topic's id, as the metadata have it; `undefined`: it is not there */
  metadataId: string | undefined = id
  /** what the coordinator itself says, where it does not say the same */
  ownMetadata: (() => Promise<string | undefined>) | undefined
  /** the coordinator was asked for metadata so often */
  questions = 0
  /** answers to heartbeats wait for it */
  beatGate: Promise<void> | undefined
  /** the committed offsets are read behind it */
  offsetGate: Promise<void> | undefined
  finding: Promise<void> | undefined
  /** the error code that it is looked for with */
  findCode = 0
  /** the partitions of each fetch */
  readonly fetches: Array<ReadonlyArray<number>> = []
  /** there is no end of records, and an answer has room for those of one partition */
  isFull = false
  /** the next answer to a heartbeat does not arrive */
  lost = false
  /** the library has no version of the request that the broker has */
  versionless = false
  readonly groupProtocols: Connector["groupProtocols"]
  readonly staticMembership: boolean

  constructor(has: Partial<Pick<Connector, "groupProtocols" | "staticMembership">> = {}) {
    this.groupProtocols = has.groupProtocols ?? ["classic", "consumer"]
    this.staticMembership = has.staticMembership ?? true
  }

  async heartbeat(beat: ConsumerGroupHeartbeat): Promise<ConsumerGroupHeartbeatAnswer> {
    this.beats.push(beat)
    if (this.versionless) versionIn(undefined, { name: "ConsumerGroupHeartbeat", min: 1, max: 1 })
    const { code, target, targetOfOther } = this
    const refused = { errorMessage: undefined, memberEpoch: 0, heartbeatInterval: 0, assignment: undefined }
    await this.beatGate
    if (this.lost) {
      this.lost = false
      throw new Error("the connection broke")
    }
    if (code !== 0 || beat.memberEpoch < 0) return { ...refused, errorCode: code }
    if (beat.memberEpoch === 0) this.epoch++
    return {
      errorCode: 0,
      errorMessage: undefined,
      memberEpoch: this.epoch,
      heartbeatInterval: 5,
      assignment: [
        { topicId: id, partitions: target },
        { topicId: otherId, partitions: targetOfOther }
      ].filter(({ partitions }) => partitions.length > 0)
    }
  }

  broker(isCoordinator: boolean): Broker {
    const never = () => new Promise<never>(() => undefined)
    let isOpen = true
    return {
      address: "fake:1",
      isConnected: () => isOpen,
      connect: () => Promise.resolve(),
      destroy: () => {
        isOpen = false
      },
      metadata: async (topics) => {
        if (isCoordinator) this.questions++
        const found = isCoordinator && this.ownMetadata !== undefined ? await this.ownMetadata() : this.metadataId
        const leaders = new Map([0, 1, 2, 3].map((partition) => [partition, 1] as const))
        const code = found === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : "NONE"
        return {
          brokers: new Map([[1, { host: "fake", port: 1 }]]),
          topics: new Map(topics.map((name) => [name, { topic: name, code, id: found, leaders }]))
        }
      },
      findGroupCoordinator: async () => {
        await this.finding
        return { errorCode: this.findCode, coordinator: { nodeId: coordinatorNode, host: "fake", port: 2 } }
      },
      consumerGroupHeartbeat: (beat) => this.heartbeat(beat),
      offsetFetch: async ({ requireStable, topics }) => {
        await this.offsetGate
        this.offsetReads++
        const refused = { offset: -1n, metadata: "" }
        const entry = (topicId: string | undefined, partition: number) => {
          if (this.offsetIds?.includes(topicId) === false) return { ...refused, partition, errorCode: 100 }
          if (requireStable && this.pending.includes(partition)) return { ...refused, partition, errorCode: 88 }
          return { partition, offset: this.offset, metadata: "m", errorCode: 0 }
        }
        return {
          responses: topics.map(({ partitions, topic: name, topicId }) => ({
            topic: name,
            partitions: partitions.map(({ partition }) => entry(topicId, partition))
          }))
        }
      },
      offsetCommit: async ({ groupGenerationId, topics }) => {
        for (const { offset } of topics.flatMap(({ partitions }) => partitions)) {
          this.commits.push({ epoch: groupGenerationId, offset })
        }
        const errorCode = groupGenerationId === this.epoch ? this.commitCode : 113
        await this.commitGate
        const answers = topics.map(({ partitions, topic: name }) => ({
          topic: name,
          partitions: partitions.map(({ partition }) => ({ partition, errorCode }))
        }))
        return { responses: answers }
      },
      fetch: async ({ topics }) => {
        this.fetches.push(topics.flatMap(({ partitions }) => partitions.map(({ partition }) => partition)))
        await new Promise((resolve) => setTimeout(resolve, 5))
        const [first] = topics.flatMap(({ partitions, topic: name }) => partitions.map((p) => ({ ...p, topic: name })))
        if (!this.isFull || first === undefined) return { errorCode: 0, clientSideThrottleTime: 0, partitions: [] }
        const { fetchOffset, partition } = first
        const batches = encodeBatch({ base: fetchOffset, last: 0, records: [{ delta: 0 }] })
        const rest = { errorCode: 0, highWatermark: 1000n, lastStable: 1000n, aborted: [], batches }
        return { errorCode: 0, clientSideThrottleTime: 0, partitions: [{ topic: first.topic, partition, ...rest }] }
      },
      joinGroup: never,
      syncGroup: never,
      heartbeat: never,
      leaveGroup: never,
      listOffsets: never,
      produce: never,
      initProducerId: never
    }
  }

  get connector(): Connector {
    return {
      staticMembership: this.staticMembership,
      groupProtocols: this.groupProtocols,
      open: (_address, node) => Promise.resolve(this.broker(node === coordinatorNode)),
      classify: (error, what) =>
        error instanceof KafkaClientError ? error : new KafkaClientError({ reason: "Connection", detail: what }),
      decompress: (_codec, bytes) => Promise.resolve(bytes)
    }
  }
}

interface Member {
  readonly session: Session
  readonly signals: Array<Signal>
  readonly of: <T extends Signal["_tag"]>(tag: T) => ReadonlyArray<Extract<Signal, { readonly _tag: T }>>
  ended: KafkaClientError | undefined
}

const open = (coordinator: Coordinator, rest: Partial<SessionSettings> = {}) => {
  const settings: SessionSettings = {
    groupId: "shipping",
    topics: [topic],
    isolation: "read_committed",
    sessionTimeout: 30_000,
    heartbeatInterval: 3000,
    rebalanceTimeout: 60_000,
    revokeTimeout: 10_000,
    metadataMaxAge: 30_000,
    maxWait: 250,
    topicTimeout: undefined,
    groupProtocol: "consumer",
    ...rest
  }
  return makeSession({ settings, requestTimeout: 5000, openCluster: () => new Cluster(coordinator.connector) })
}

const join = (
  coordinator: Coordinator,
  rest: Partial<SessionSettings> = {},
  onRevoking: (signal: Revoking) => void = (signal) => signal.acknowledgeUnsafe()
): Effect.Effect<Member, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const session = yield* open(coordinator, rest)
    const signals: Array<Signal> = []
    const member: Member = {
      session,
      signals,
      of: (tag) => signals.filter((signal): signal is never => signal._tag === tag),
      ended: undefined
    }
    const loop = Effect.forever(
      Effect.map(Queue.take(session.inbox), (signal) => {
        signals.push(signal)
        if (signal._tag === "Revoking") onRevoking(signal)
      })
    )
    yield* Effect.forkScoped(
      Effect.catchCause(loop, (cause) =>
        Effect.sync(() => {
          const failed = cause.reasons.find((reason) => reason._tag === "Fail")
          if (failed?._tag === "Fail" && failed.error._tag === "KafkaClientError") member.ended = failed.error
        })
      )
    )
    yield* session.join
    return member
  })

const until = (what: string, is: () => boolean): Effect.Effect<void> =>
  Effect.gen(function* () {
    const end = performance.now() + 5000
    while (!is()) {
      if (performance.now() > end) return yield* Effect.die(new Error(`waited for: ${what}`))
      yield* Effect.sleep(1)
    }
  })

/** as many heartbeats more */
const beats = (coordinator: Coordinator, count: number) =>
  Effect.suspend(() => {
    const before = coordinator.beats.length
    return until(`${count} heartbeats`, () => coordinator.beats.length >= before + count)
  })

const claimed = (beat: ConsumerGroupHeartbeat | undefined): ReadonlyArray<number> =>
  beat?.owned.flatMap(({ partitions, topicId }) => (topicId === id ? partitions : [])) ?? []

const numbersOf = (partitions: ReadonlyArray<{ readonly partition: number }>) => partitions.map((p) => p.partition)

const gate = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { closed: promise, open: resolve }
}

describe("a member of the consumer protocol", () => {
  it.live("joins in epoch 0, says everything each time, and asks as often as the broker says", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator, { rebalanceTimeout: 45_000, instanceId: "pod-1" })
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      // the settings say 3 s
      yield* beats(coordinator, 5)
      const [first] = coordinator.beats
      assert.strictEqual(first!.memberEpoch, 0)
      assert.match(first!.memberId, /./)
      for (const beat of coordinator.beats) {
        assert.deepInclude(beat, { groupId: "shipping", memberId: first!.memberId, instanceId: "pod-1" })
        assert.deepInclude(beat, { rebalanceTimeout: 45_000, topics: [topic] })
      }
      assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [0, 1])
      assert.strictEqual(coordinator.beats.at(-1)!.memberEpoch, 1)
      const { all } = member.of("Assigned").at(-1)!
      for (const one of all) {
        assert.deepInclude(one, { retained: false, committed: { offset: 7n, metadata: "m" }, topicCommitted: true })
      }
      assert.strictEqual(member.session.generationUnsafe(), 1)
      assert.deepInclude(member.session.capabilities, { incremental: true, staticMembership: true })
    }).pipe(Effect.scoped)
  )

  it.live("what goes is given up when the engine has answered, and the next heartbeat says so at once", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1, 2]
      let asked: Revoking | undefined
      const member = yield* join(coordinator, {}, (signal) => (asked = signal))
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 3)
      const assignments = member.of("Assigned").length
      coordinator.target = [0]
      yield* until("asked", () => asked !== undefined)
      assert.deepInclude(asked, { exact: true, hold: 10_000 })
      assert.deepStrictEqual(numbersOf(asked!.partitions), [1, 2])
      yield* beats(coordinator, 5)
      assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [0, 1, 2])
      const [held] = asked!.partitions
      const [inTheHold] = yield* member.session.commit([{ ...held!, offset: 9n, metadata: "" }])
      assert.strictEqual(inTheHold!.outcome, "committed")
      asked!.acknowledgeUnsafe()
      yield* until("given up", () => claimed(coordinator.beats.at(-1)).length === 1)
      const sent = coordinator.commits.length
      const [late] = yield* member.session.commit([{ ...held!, offset: 10n, metadata: "" }])
      assert.deepInclude(late, { outcome: "stale", code: "EPOCH" })
      assert.strictEqual(coordinator.commits.length, sent)
      assert.strictEqual(member.of("Assigned").length, assignments)
      assert.strictEqual(member.of("Revoking").length, 1)
      // it comes back as another epoch, and what stayed is the same
      coordinator.target = [0, 1]
      yield* until("assigned again", () => member.of("Assigned").length > assignments)
      const { all } = member.of("Assigned").at(-1)!
      assert.deepStrictEqual(
        all.map(({ partition, retained }) => [partition, retained]),
        [
          [0, true],
          [1, false]
        ]
      )
      assert.isAbove(all[1]!.epoch, held!.epoch)
    }).pipe(Effect.scoped)
  )

  it.live("a hold that nobody answers ends, and an assignment says what is left", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator, { revokeTimeout: 50 }, () => undefined)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      coordinator.target = [1]
      yield* until("told", () => member.of("Assigned").at(-1)!.all.length === 1)
      assert.deepInclude(member.of("Assigned").at(-1)!.all[0], {
        partition: 1,
        retained: true,
        committed: { offset: 7n, metadata: "m" }
      })
      yield* until("given up", () => claimed(coordinator.beats.at(-1)).join() === "1")
    }).pipe(Effect.scoped)
  )

  it.live("what is taken back before it was announced is never announced, and claimed until then", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      const reading = gate()
      coordinator.offsetGate = reading.closed
      coordinator.target = [0, 1]
      yield* beats(coordinator, 1)
      const next = coordinator.beats.length
      yield* beats(coordinator, 2)
      // from the answer that has brought it on, so that the broker gives it to nobody
      assert.deepStrictEqual(claimed(coordinator.beats[next]), [0, 1])
      coordinator.target = [0]
      yield* beats(coordinator, 3)
      assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [0, 1])
      coordinator.offsetGate = undefined
      reading.open()
      yield* until("given up", () => claimed(coordinator.beats.at(-1)).join() === "0")
      for (const { all } of member.of("Assigned")) assert.notInclude(numbersOf(all), 1)
      assert.strictEqual(member.of("Revoking").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live.each([
    ["UNKNOWN_MEMBER_ID", 25],
    ["FENCED_MEMBER_EPOCH", 110]
  ] as const)("a fenced member has lost everything, and joins anew (%s)", ([, code]) =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      let asked: Revoking | undefined
      const member = yield* join(coordinator, {}, (signal) => (asked = signal))
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      const before = member.of("Assigned").at(-1)!.all
      // in the middle of a hold
      coordinator.target = [0]
      yield* until("asked", () => asked !== undefined)
      coordinator.code = code
      yield* until("lost", () => member.of("Lost").length === 1)
      assert.deepStrictEqual(numbersOf(member.of("Lost")[0]!.partitions), [0, 1])
      assert.strictEqual(member.session.generationUnsafe(), -1)
      const outcomes = yield* member.session.commit(before.map((one) => ({ ...one, offset: 9n, metadata: "" })))
      for (const one of outcomes) assert.deepInclude(one, { outcome: "stale", code: "EPOCH" })
      coordinator.code = 0
      yield* until("back", () => member.of("Assigned").at(-1)!.all[0]!.epoch > before[1]!.epoch)
      const { all } = member.of("Assigned").at(-1)!
      assert.deepStrictEqual(
        all.map(({ partition, retained }) => [partition, retained]),
        [[0, false]]
      )
      assert.strictEqual(member.of("Lost").length, 1)
      assert.isUndefined(member.ended)
      // a late answer to the revoke means nothing any more
      asked!.acknowledgeUnsafe()
      yield* beats(coordinator, 2)
      assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [0])
    }).pipe(Effect.scoped)
  )

  it.live("a coordinator that forgets its member each time is not asked without a pause", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").length === 1)
      coordinator.code = 25
      const before = coordinator.beats.length
      yield* Effect.sleep(1000)
      assert.isBelow(coordinator.beats.length - before, 12)
      assert.isAbove(coordinator.beats.length - before, 2)
    }).pipe(Effect.scoped)
  )

  it.live("a commit waits for the heartbeat that may move the epoch, and goes out in the new one", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      const [owned] = member.of("Assigned").at(-1)!.all
      const late = gate()
      coordinator.beatGate = late.closed
      yield* beats(coordinator, 1)
      coordinator.epoch = 8
      const entry = { ...owned!, offset: 9n, metadata: "" }
      const committing = yield* Effect.forkChild(member.session.commit([entry]), { startImmediately: true })
      yield* Effect.sleep(30)
      assert.strictEqual(coordinator.commits.length, 0)
      coordinator.beatGate = undefined
      late.open()
      assert.deepInclude((yield* Fiber.join(committing))[0], { outcome: "committed" })
      assert.deepStrictEqual(coordinator.commits, [{ epoch: 8, offset: 9n }])
      assert.strictEqual(member.session.generationUnsafe(), 8)
      assert.strictEqual(member.of("Assigned").length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("a commit waits for the heartbeat that ends the membership, and is of an epoch that is over", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      const [owned] = member.of("Assigned").at(-1)!.all
      const late = gate()
      coordinator.beatGate = late.closed
      coordinator.code = 25
      yield* beats(coordinator, 1)
      const entry = { ...owned!, offset: 9n, metadata: "" }
      const committing = yield* Effect.forkChild(member.session.commit([entry]), { startImmediately: true })
      coordinator.beatGate = undefined
      late.open()
      assert.deepInclude((yield* Fiber.join(committing))[0], { outcome: "stale", code: "EPOCH" })
      assert.strictEqual(coordinator.commits.length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a commit of another epoch is deferred, and the next heartbeat is sent at once", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      const [owned] = member.of("Assigned").at(-1)!.all
      coordinator.commitCode = 113
      const entry = { ...owned!, offset: 9n, metadata: "" }
      const [refused] = yield* member.session.commit([entry])
      assert.deepInclude(refused, { outcome: "deferred", code: "STALE_MEMBER_EPOCH" })
      coordinator.commitCode = 0
      yield* beats(coordinator, 1)
      assert.deepInclude((yield* member.session.commit([entry]))[0], { outcome: "committed" })
    }).pipe(Effect.scoped)
  )

  it.live("a commit that is refused by the id of its topic ends nothing of the one that has its name since", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      const [old] = member.of("Assigned").at(-1)!.all
      const late = gate()
      coordinator.commitGate = late.closed
      coordinator.commitCode = 100
      const entry = { ...old!, offset: 9n, metadata: "" }
      const committing = yield* Effect.forkChild(member.session.commit([entry]), { startImmediately: true })
      yield* until("it is on its way", () => coordinator.commits.length === 1)
      coordinator.metadataId = otherId
      coordinator.target = []
      coordinator.targetOfOther = [1]
      yield* until("the next one is there", () => numbersOf(member.of("Assigned").at(-1)!.all).join() === "1")
      const [next] = member.of("Assigned").at(-1)!.all
      coordinator.commitCode = 0
      coordinator.commitGate = undefined
      late.open()
      assert.deepInclude((yield* Fiber.join(committing))[0], {
        outcome: "rejected",
        code: "UNKNOWN_TOPIC_OR_PARTITION"
      })
      const [own] = yield* member.session.commit([{ ...next!, offset: 1n, metadata: "" }])
      assert.strictEqual(own!.outcome, "committed")
      assert.deepStrictEqual(
        member.of("Gone").map(({ epoch }) => epoch),
        [old!.epoch]
      )
    }).pipe(Effect.scoped)
  )

  it.live.each([
    ["its id", 100],
    ["its name", 3]
  ] as const)("a commit that is refused by %s ends all of its topic", ([, code]) =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      coordinator.commitCode = code
      const [own] = member.of("Assigned").at(-1)!.all
      const [refused] = yield* member.session.commit([{ ...own!, offset: 9n, metadata: "" }])
      assert.deepInclude(refused, { outcome: "rejected", code: "UNKNOWN_TOPIC_OR_PARTITION" })
      yield* until("gone", () => member.of("Gone").length === 2)
    }).pipe(Effect.scoped)
  )

  it.live("a transaction for a partition of another member holds up nobody, and is as good as an offset", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      coordinator.offset = -1n
      coordinator.pending = [3]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      for (const one of member.of("Assigned").at(-1)!.all) {
        assert.deepInclude(one, { committed: undefined, topicCommitted: true })
      }
      assert.strictEqual(coordinator.offsetReads, 1)
      // one for a partition that is to come is waited for
      coordinator.pending = [2]
      coordinator.target = [0, 1, 2]
      yield* until("it is read more than once", () => coordinator.offsetReads > 2)
      assert.strictEqual(member.of("Assigned").at(-1)!.all.length, 2)
      coordinator.pending = []
      coordinator.offset = 8n
      yield* until("assigned, too", () => member.of("Assigned").at(-1)!.all.length === 3)
      assert.deepInclude(member.of("Assigned").at(-1)!.all[2], { committed: { offset: 8n, metadata: "m" } })
    }).pipe(Effect.scoped)
  )

  it.live("what goes does not wait for a transaction that what comes waits for", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [2]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      coordinator.pending = [0, 1]
      coordinator.target = [0, 1, 2]
      yield* until("it is read more than once", () => coordinator.offsetReads > 2)
      // one that the engine has, and one that it has not heard of
      coordinator.target = [0]
      yield* until("given up", () => claimed(coordinator.beats.at(-1)).join() === "0")
      assert.deepStrictEqual(
        member.of("Revoking").map(({ partitions }) => numbersOf(partitions)),
        [[2]]
      )
      coordinator.pending = []
      yield* until("assigned", () => numbersOf(member.of("Assigned").at(-1)!.all).join() === "0")
      for (const { all } of member.of("Assigned")) assert.notInclude(numbersOf(all), 1)
    }).pipe(Effect.scoped)
  )

  it.live("what waits for a transaction waits alone, also for what comes later", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.pending = [0]
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      const owned = () => numbersOf(member.of("Assigned").at(-1)?.all ?? []).join()
      yield* until("the other is assigned", () => owned() === "1")
      coordinator.target = [0, 1, 2]
      yield* until("and one that has come meanwhile", () => owned() === "1,2")
      assert.strictEqual(claimed(coordinator.beats.at(-1)).join(), "0,1,2")
      coordinator.pending = []
      yield* until("and that one", () => owned() === "0,1,2")
      assert.deepStrictEqual(
        member
          .of("Assigned")
          .at(-1)!
          .all.map(({ retained }) => retained),
        [false, true, true]
      )
    }).pipe(Effect.scoped)
  )

  it.live("what is committed is asked for by the id that the broker has assigned, whatever metadata say of it", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      const late = gate()
      coordinator.beatGate = late.closed
      coordinator.target = [0]
      coordinator.offsetIds = [id]
      const member = yield* join(coordinator)
      // another broker has not heard of the newest topic of this name
      coordinator.metadataId = otherId
      coordinator.ownMetadata = async () => id
      coordinator.beatGate = undefined
      late.open()
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      assert.deepInclude(member.of("Assigned").at(-1)!.all[0], { committed: { offset: 7n, metadata: "m" } })
      assert.strictEqual(coordinator.offsetReads, 1)
    }).pipe(Effect.scoped)
  )

  it.live("what is of a topic that has gone is not announced as if nothing were committed, and holds up no other", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      coordinator.offsetIds = []
      const member = yield* join(coordinator)
      yield* until("it is read more than once", () => coordinator.offsetReads > 1)
      assert.strictEqual(member.of("Assigned").length, 0)
      // the topic of the name has another id now, and the group has offsets of that one
      coordinator.offsetIds = [otherId]
      coordinator.metadataId = otherId
      coordinator.target = []
      coordinator.targetOfOther = [1]
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      for (const { all } of member.of("Assigned")) {
        for (const one of all) assert.deepInclude(one, { partition: 1, committed: { offset: 7n, metadata: "m" } })
      }
    }).pipe(Effect.scoped)
  )

  it.live("an answer that does not arrive is made up for by the next heartbeat", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      coordinator.lost = true
      coordinator.target = [0, 1]
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      assert.strictEqual(member.of("Lost").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live.each([
    ["deleted", undefined],
    ["recreated", otherId]
  ] as const)(
    "D28: a topic that was deleted is gone, and not given up: nothing is committed of it (%s)",
    ([why, now]) =>
      Effect.gen(function* () {
        const coordinator = new Coordinator()
        coordinator.target = [0, 1]
        const member = yield* join(coordinator)
        yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
        const { all } = member.of("Assigned").at(-1)!
        coordinator.metadataId = now
        coordinator.target = []
        yield* until("gone", () => member.of("Gone").length === 2)
        for (const one of member.of("Gone")) assert.strictEqual(one.why, why)
        const outcomes = yield* member.session.commit(all.map((one) => ({ ...one, offset: 9n, metadata: "" })))
        for (const one of outcomes) assert.deepInclude(one, { outcome: "stale", code: "EPOCH" })
        yield* beats(coordinator, 2)
        assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [])
        assert.strictEqual(member.of("Revoking").length + coordinator.commits.length, 0)
      }).pipe(Effect.scoped)
  )

  /** Has two partitions, of which the second is taken back while `ownMetadata` says this. */
  const takenBack = (
    coordinator: Coordinator,
    ownMetadata: () => Promise<string | undefined>,
    rest: Partial<SessionSettings> = {}
  ) =>
    Effect.gen(function* () {
      coordinator.target = [0, 1]
      const member = yield* join(coordinator, rest)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      coordinator.ownMetadata = ownMetadata
      coordinator.target = [0]
      const [, goes] = member.of("Assigned").at(-1)!.all
      return { member, goes: goes! }
    })

  it.live("D28: what becomes of a topic is asked of the coordinator, who takes the commits, and of nobody else", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      // the others have not heard of it
      const { member } = yield* takenBack(coordinator, async () => otherId)
      yield* until("gone", () => member.of("Gone").some(({ partition }) => partition === 1))
      assert.isTrue(member.of("Gone").every(({ why }) => why === "recreated"))
      yield* until("given up", () => !claimed(coordinator.beats.at(-1)).includes(1))
      assert.strictEqual(member.of("Revoking").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("D28: it is asked again until it answers, and nothing is committed before", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      let failures = 3
      const answer = gate()
      const { goes, member } = yield* takenBack(coordinator, async () => {
        if (failures-- > 0) throw new Error("the connection broke")
        await answer.closed
        return otherId
      })
      yield* until("asked four times", () => coordinator.questions === 4)
      const [held] = yield* member.session.commit([{ ...goes, offset: 9n, metadata: "" }])
      assert.deepInclude(held, { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
      assert.deepStrictEqual(coordinator.commits, [])
      answer.open()
      yield* until("gone", () => member.of("Gone").some(({ partition }) => partition === 1))
      assert.strictEqual(member.of("Revoking").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("D28: a commit that waits for a heartbeat is not sent when that takes its partition back", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      const answer = gate()
      coordinator.ownMetadata = async () => {
        await answer.closed
        return otherId
      }
      const late = gate()
      coordinator.beatGate = late.closed
      coordinator.target = [0]
      yield* beats(coordinator, 1)
      const entries = member
        .of("Assigned")
        .at(-1)!
        .all.map((one) => ({ ...one, offset: 9n, metadata: "" }))
      const committing = yield* Effect.forkChild(member.session.commit(entries), { startImmediately: true })
      coordinator.beatGate = undefined
      late.open()
      const outcomes = yield* Fiber.join(committing)
      // the one that stays is committed all the same
      assert.deepStrictEqual(
        outcomes.map(({ outcome }) => outcome),
        ["committed", "deferred"]
      )
      answer.open()
      yield* until("gone", () => member.of("Gone").some(({ partition }) => partition === 1))
      assert.strictEqual(coordinator.commits.length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("D28: who hears nothing within the hold has lost what goes, and commits nothing of it", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      const { goes, member } = yield* takenBack(
        coordinator,
        async () => {
          throw new Error("the connection broke")
        },
        { revokeTimeout: 300 }
      )
      yield* until("lost", () => member.of("Lost").length === 1)
      const { epoch, partition } = goes
      assert.deepStrictEqual(member.of("Lost")[0]!.partitions, [{ topic, partition, epoch }])
      const [late] = yield* member.session.commit([{ ...goes, offset: 9n, metadata: "" }])
      assert.deepInclude(late, { outcome: "stale", code: "EPOCH" })
      yield* until("given up", () => claimed(coordinator.beats.at(-1)).join() === "0")
      const stays = member.of("Assigned").at(-1)!.all[0]!
      assert.deepInclude((yield* member.session.commit([{ ...stays, offset: 9n, metadata: "" }]))[0], {
        outcome: "committed"
      })
      assert.strictEqual(member.of("Revoking").length + member.of("Gone").length, 0)
      assert.deepStrictEqual(coordinator.commits.length, 1)
    }).pipe(Effect.scoped)
  )

  it.live("D28: what goes during the hold of another is not committed before it was asked what it is now", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1, 2]
      const asked: Array<Revoking> = []
      const member = yield* join(coordinator, {}, (signal) => void asked.push(signal))
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 3)
      const entries = member
        .of("Assigned")
        .at(-1)!
        .all.map((one) => ({ ...one, offset: 9n, metadata: "" }))
      const outcomes = () => Effect.map(member.session.commit(entries), (all) => all.map(({ outcome }) => outcome))
      coordinator.target = [0, 1]
      yield* until("held", () => asked.length === 1)
      coordinator.target = [0]
      yield* beats(coordinator, 3)
      assert.deepStrictEqual(yield* outcomes(), ["committed", "deferred", "committed"])
      // it may stay, after all
      coordinator.target = [0, 1]
      yield* beats(coordinator, 3)
      assert.deepStrictEqual(yield* outcomes(), ["committed", "committed", "committed"])
      coordinator.target = [0]
      yield* beats(coordinator, 3)
      asked[0]!.acknowledgeUnsafe()
      yield* until("held, too", () => asked.length === 2)
      assert.deepStrictEqual(numbersOf(asked[1]!.partitions), [1])
      assert.deepStrictEqual(yield* outcomes(), ["committed", "committed", "stale"])
      asked[1]!.acknowledgeUnsafe()
      yield* until("given up", () => claimed(coordinator.beats.at(-1)).join() === "0")
      assert.strictEqual(member.of("Lost").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("D28: nothing is fetched of what cannot be committed, until it is known what it is now", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1]
      let asked: Revoking | undefined
      const member = yield* join(coordinator, {}, (signal) => (asked = signal))
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 2)
      const { all } = member.of("Assigned").at(-1)!
      member.session.beginUnsafe(all.map((one) => ({ ...one, offset: 0n })))
      yield* until("both are fetched", () => coordinator.fetches.at(-1)?.length === 2)
      const answer = gate()
      coordinator.ownMetadata = async () => {
        await answer.closed
        return id
      }
      coordinator.target = [0]
      yield* until("the coordinator is asked", () => coordinator.questions > 0)
      // each loop may have begun one
      const from = coordinator.fetches.length + 2
      yield* until("others are fetched", () => coordinator.fetches.length >= from + 3)
      for (const partitions of coordinator.fetches.slice(from)) assert.deepStrictEqual(partitions, [0])
      answer.open()
      yield* until("held", () => asked !== undefined)
      yield* until("fetched again", () => coordinator.fetches.at(-1)!.includes(1))
      asked!.acknowledgeUnsafe()
    }).pipe(Effect.scoped)
  )

  it.live("D28: who may not ask any more is ended by that, and has lost nothing", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      const { member } = yield* takenBack(coordinator, async () => {
        // the heartbeat that would meet it as well is on its way
        coordinator.beatGate = new Promise(() => undefined)
        const before = coordinator.beats.length
        while (coordinator.beats.length === before) await new Promise((resolve) => setTimeout(resolve, 1))
        coordinator.findCode = 30
        throw new Error("the connection broke")
      })
      yield* until("ended", () => member.ended !== undefined)
      assert.strictEqual(member.ended!.reason, "Authorization")
      assert.include(member.ended!.detail, "GROUP_AUTHORIZATION_FAILED")
      assert.strictEqual(member.of("Lost").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a topic that the coordinator does not know once is not gone: it may have just started", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      let asked = 0
      // the group waits hardly longer than for a hold, and half a second has gone by
      const { member } = yield* takenBack(coordinator, async () => (++asked === 1 ? undefined : id), {
        rebalanceTimeout: 10_100
      })
      yield* until("held", () => member.of("Revoking").length === 1)
      assert.isAbove(member.of("Revoking")[0]!.hold, 8000)
      assert.isBelow(member.of("Revoking")[0]!.hold, 9600)
      assert.strictEqual(member.of("Gone").length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a topic of an id that nobody here knows is looked up", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.metadataId = otherId
      coordinator.target = [0]
      const member = yield* join(coordinator)
      yield* until("it knows that it has nothing", () => member.of("Assigned").at(-1)?.all.length === 0)
      yield* beats(coordinator, 3)
      assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [])
      coordinator.metadataId = id
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      yield* beats(coordinator, 1)
      assert.deepStrictEqual(claimed(coordinator.beats.at(-1)), [0])
    }).pipe(Effect.scoped)
  )

  it.live.each([
    [undefined, -1],
    ["pod-1", -2]
  ] as const)("says when it goes, and that it comes back if it has a name (%s)", ([instanceId, epoch]) =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0]
      const member = yield* join(coordinator, { instanceId })
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      yield* member.session.leave
      const last = coordinator.beats.at(-1)!
      assert.deepInclude(last, { memberEpoch: epoch, memberId: coordinator.beats[0]!.memberId, instanceId })
      yield* Effect.sleep(30)
      assert.strictEqual(coordinator.beats.at(-1), last)
      yield* member.session.join
      yield* until("back", () => member.of("Assigned").length >= 2)
      // another member with the same name
      assert.notStrictEqual(coordinator.beats.at(-1)!.memberId, last.memberId)
    }).pipe(Effect.scoped)
  )

  it.live("who leaves while the coordinator is looked for does not join any more", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      const finding = gate()
      coordinator.finding = finding.closed
      const member = yield* join(coordinator)
      yield* Effect.sleep(20)
      const leaving = yield* Effect.forkChild(member.session.leave, { startImmediately: true })
      coordinator.finding = undefined
      finding.open()
      yield* Fiber.join(leaving)
      yield* Effect.sleep(30)
      assert.isTrue(coordinator.beats.every(({ memberEpoch }) => memberEpoch === -1))
    }).pipe(Effect.scoped)
  )
})

describe("what a heartbeat may be answered with", () => {
  it.live.each([
    [30, "Authorization", "GROUP_AUTHORIZATION_FAILED"],
    [29, "Authorization", "TOPIC_AUTHORIZATION_FAILED"],
    [35, "UnsupportedClient", 'use groupProtocol "classic"'],
    [42, "UnsupportedClient", "INVALID_REQUEST"],
    [82, "FencedInstance", "pod-1"],
    [112, "UnsupportedClient", "UNSUPPORTED_ASSIGNOR"],
    [128, "UnsupportedClient", "INVALID_REGULAR_EXPRESSION"]
  ] as const)("%d ends the session: %s", ([code, reason, detail]) =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.code = code
      const member = yield* join(coordinator, { instanceId: "pod-1" })
      yield* until("ended", () => member.ended !== undefined)
      assert.strictEqual(member.ended!.reason, reason)
      assert.include(member.ended!.detail, detail)
    }).pipe(Effect.scoped)
  )

  it.live("nothing, since the broker has never heard of it: ends the session, and says what to do", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.versionless = true
      const member = yield* join(coordinator)
      yield* until("ended", () => member.ended !== undefined)
      assert.strictEqual(member.ended!.reason, "UnsupportedClient")
      assert.include(member.ended!.detail, 'use groupProtocol "classic"')
    }).pipe(Effect.scoped)
  )

  it.live.each([
    [14, "Connection", "COORDINATOR_LOAD_IN_PROGRESS"],
    [15, "Connection", "COORDINATOR_NOT_AVAILABLE"],
    [16, "Connection", "NOT_COORDINATOR"],
    [23, "ProtocolMismatch", "classic protocol"],
    [69, "ProtocolMismatch", "classic protocol"],
    [81, "Connection", "GROUP_MAX_SIZE_REACHED"],
    [111, "FencedInstance", "pod-1"]
  ] as const)("%d is waited out, and told: %s", ([code, reason, detail]) =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.code = code
      coordinator.target = [0]
      const member = yield* join(coordinator, { instanceId: "pod-1" })
      yield* until("told", () => member.of("Connection").length > 0)
      const cause = Option.getOrThrow(member.of("Connection")[0]!.cause)
      assert.strictEqual(cause.reason, reason)
      assert.include(cause.detail, detail)
      coordinator.code = 0
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 1)
      yield* until("told", () => member.of("Connection").at(-1)!.state === "up")
      assert.isUndefined(member.ended)
    }).pipe(Effect.scoped)
  )

  it.effect(
    "D36: a second member with an instance id waits as long as the first may be a dead one, and then fails",
    () =>
      Effect.gen(function* () {
        const coordinator = new Coordinator()
        coordinator.code = 111
        const member = yield* join(coordinator, { instanceId: "pod-1" })
        const ended = () => member.ended
        const pass = (seconds: number) =>
          Effect.gen(function* () {
            for (let i = 0; i < seconds * 10 && member.ended === undefined; i++) {
              yield* TestClock.adjust(100)
              yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
            }
          })
        yield* pass(60)
        assert.isUndefined(ended())
        // seldom enough to disturb nobody
        assert.isBelow(coordinator.beats.length, 90)
        yield* pass(10)
        assert.strictEqual(ended()?.reason, "FencedInstance")
        assert.include(ended()?.detail, "pod-1")
      }).pipe(Effect.scoped)
  )
})

describe("a library that cannot", () => {
  it.effect.each([
    [{ groupProtocols: ["classic"] }, { groupProtocol: "consumer" }, 'groupProtocol "consumer"'],
    [{ staticMembership: false }, { groupProtocol: "classic", instanceId: "pod-1" }, "instanceId"]
  ] as const)("%j is refused before anybody joins: %j", ([has, settings, detail]) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open(new Coordinator(has), settings))
      assert.strictEqual(error.reason, "UnsupportedClient")
      assert.include(error.detail, detail)
    }).pipe(Effect.scoped)
  )
})

describe("fetching", () => {
  it.live("partitions come in turn where an answer has no room for all of them", () =>
    Effect.gen(function* () {
      const coordinator = new Coordinator()
      coordinator.target = [0, 1, 2, 3]
      coordinator.isFull = true
      const member = yield* join(coordinator)
      yield* until("assigned", () => member.of("Assigned").at(-1)?.all.length === 4)
      member.session.beginUnsafe(member.of("Assigned")[0]!.all.map((p) => ({ ...p, offset: 0n })))
      yield* until("some records", () => member.of("Chunk").length >= 40)
      const counts = [0, 1, 2, 3].map(
        (partition) => member.of("Chunk").filter((chunk) => chunk.partition === partition).length
      )
      assert.isAtMost(Math.max(...counts) - Math.min(...counts), 1, counts.join())
    })
  )
})
