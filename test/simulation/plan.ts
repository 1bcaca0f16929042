/**
 * What a seed stands for: the group, its topics and members, how handlers behave, what goes wrong and how often. Each seed
 * switches on some of everything and leaves the rest out: histories in which everything happens at once hide what only shows
 * when little else happens.
 */
import type { ConsumerOptions } from "@concurrent-kafka/core/ConcurrentConsumer"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { least } from "./schedule.ts"

export type Behaviour =
  | "instant"
  | "short"
  | "sleep"
  | "long"
  | "yield"
  | "promise"
  | "timer"
  | "fail"
  | "die"
  | "throw"
  | "self"
  | "stubborn"
  | "stubbornAck"
  | "ack"
  | "ackFail"
  | "finalizer"
  | "finalizerDies"
  | "cleanup"
  | "again"
  | "giveUp"
  | "bury"

/** `decide`: a function that decides everything there is to decide. `steps`: put together out of retry, park and dead letter. */
export type PolicyKind = "none" | "skip" | "make" | "stop" | "decide" | "steps"

export type Order = "unordered" | "key" | "partition" | "function"

export type Action =
  | "produce"
  | "transaction"
  | "marker"
  | "hole"
  | "retention"
  | "truncate"
  | "recreate"
  | "delete"
  | "grow"
  | "tool"
  | "join"
  | "close"
  | "interrupt"
  | "rerun"
  | "crash"
  | "freeze"
  | "stutter"
  | "stranger"
  | "rebalance"
  | "evict"
  | "disconnect"
  | "breakConnections"
  | "brokerDown"
  | "missGeneration"
  | "commitFault"
  | "fatal"
  | "requestFault"
  | "produceFault"
  | "storm"
  | "cutWhileHeld"
  | "loseWhileHeld"
  | "failover"
  | "clock"
  | "pause"
  | "pausePartition"
  | "seek"
  | "concurrency"
  | "flush"
  | "twice"

export interface MemberPlan {
  readonly options: Omit<ConsumerOptions, "name" | "headerFilter"> & {
    readonly batchSize: number
    readonly batchInterval: number
    readonly minCommitInterval: number
    readonly sessionTimeout: number
    readonly heartbeatInterval: number
    readonly rebalanceTimeout: number
    readonly revokeTimeout: number
    readonly metadataMaxAge: number
    readonly maxWait: number
    readonly concurrency: number | "unbounded"
    readonly members: number
    readonly offsetMap: "own" | "all" | "off"
    readonly mapInterval: number
    readonly startFrom: "earliest" | "latest"
    readonly onOutOfRange: "earliest" | "latest"
    readonly shutdown: "interrupt" | "drain"
    readonly shutdownTimeout: number
    readonly interruptGrace: number
    readonly flushReserve: number
    readonly revokeDrain: number
    readonly maxHeldRecords: number
    readonly maxHeldBytes: number
    readonly maxUncommitted: number
  }
  readonly timeout: number | undefined
  readonly policy: PolicyKind
  readonly requestTimeout: number
  /** it is a program of its own, launched and interrupted as a whole */
  readonly launched: boolean
  readonly awaitedRevoke: boolean
  readonly perPartitionCommitResult: boolean
  /** the assignors that it offers: other versions know other ones, beside the one that all know */
  readonly assignors: ReadonlyArray<string>
}

export interface Plan {
  readonly seed: number
  readonly protocol: "eager" | "incremental"
  /** things go wrong from the beginning */
  readonly troubled: boolean
  /** a parked record stays so until something else than its time lets it go */
  readonly parksLong: boolean
  readonly topics: ReadonlyArray<{ readonly name: string; readonly partitions: number }>
  readonly members: ReadonlyArray<MemberPlan>
  readonly filters: boolean
  readonly order: Order
  /** how much of all records the hottest key has */
  readonly hotKey: number
  /** the dead-letter topic is there */
  readonly deadLetters: boolean
  /** characters of metadata that the broker takes */
  readonly maxMetadata: number
  readonly latency: { readonly request: number; readonly fetch: number; readonly commit: number }
  readonly maxChunk: number
  readonly maxFetchRecords: number
  readonly initialRebalanceDelay: number
  /** virtual milliseconds during which things happen */
  readonly length: number
  /** between two actions, on average */
  readonly pace: number
  readonly actions: Readonly<Partial<Record<Action, number>>>
  readonly behaviours: Readonly<Partial<Record<Behaviour, number>>>
  /** the longest sleep of a handler */
  readonly slow: number
  /** so much longer than others does one sleep that ignores its interruption */
  readonly stubborn: number
  /** records in one go at most */
  readonly burst: number
  /** requests that fail before the first member is there */
  readonly badStart: boolean
  /** the tasks of a fiber that are ready run together, as in Node, or each in its turn */
  readonly together: boolean
  /** offsets that somebody committed before, with metadata that means nothing to us */
  readonly foreign: boolean
}

const maybe = (chance: Prng, probability: number, low: number, high: number): number =>
  chance.chance(probability) ? chance.int(low, high) : 0

const memberPlan = (
  chance: Prng,
  plan: {
    readonly latest: boolean
    readonly slow: number
    readonly zombies: boolean
    readonly lossy: boolean
    readonly parksLong: boolean
    readonly mapped: boolean
    readonly versions: boolean
    readonly several: boolean
  }
): MemberPlan => {
  const interruptGrace = chance.pick(plan.zombies ? [0, 200] : [0, 200, 1000])
  const flushReserve = chance.pick([300, 1000, 2000])
  const revokeDrain = chance.pick(plan.lossy ? [2000, 5000] : [0, 0, 500, 2000, 5000])
  const least = interruptGrace + flushReserve
  const heartbeatInterval = chance.pick(plan.lossy ? [300, 1000] : [300, 1000, 3000])
  const revokeTimeout = revokeDrain + least + chance.pick([1, 500, 4000])
  const policy = chance.weighted<PolicyKind>(
    plan.parksLong ? { skip: 1, decide: 6, steps: 4 } : { none: 2, skip: 2, make: 3, stop: 1, decide: 6, steps: 4 }
  )
  return {
    options: {
      members: plan.several ? chance.pick([1, 2, 2, 3]) : 1,
      concurrency:
        chance.weighted({ one: 1, few: 4, some: 3, many: 1, all: 1 }) === "one"
          ? 1
          : chance.pick([2, 3, 5, 10, 40, "unbounded"]),
      offsetMap: plan.mapped ? chance.pick(["own", "own", "all"]) : "off",
      mapInterval: chance.pick([0, 200, 1000]),
      startFrom: plan.latest ? "latest" : "earliest",
      onOutOfRange: plan.latest ? "latest" : "earliest",
      maxUncommitted: chance.pick(plan.parksLong ? [3, 8, 50, 10_000] : [1, 3, 8, 50, 10_000, 10_000]),
      maxHeldRecords: chance.pick([1, 5, 20, 100, 20_000]),
      maxHeldBytes: chance.pick([1, 30, 500, 33_554_432, 33_554_432]),
      shutdown: chance.pick(["interrupt", "drain"]),
      shutdownTimeout: least + chance.pick([1, 1000, 6000, 15_000]),
      flushReserve,
      revokeDrain,
      interruptGrace,
      batchSize: chance.pick([1, 1, 3, 10, 40]),
      batchInterval: chance.pick([50, 500, 2000, 8000]),
      minCommitInterval: chance.pick([0, 50, 50, 400]),
      heartbeatInterval,
      sessionTimeout: heartbeatInterval * chance.pick([3, 5, 10]),
      rebalanceTimeout: revokeTimeout + chance.pick([1, 2000, 20_000]),
      revokeTimeout,
      metadataMaxAge: chance.pick([1000, 5000, 20_000]),
      maxWait: chance.pick([100, 250])
    },
    // a handler with a timeout can fail, and must have a policy
    timeout: policy !== "none" && chance.chance(plan.zombies ? 0.6 : 0.3) ? chance.pick([40, 400, 2500]) : undefined,
    policy,
    requestTimeout: chance.pick([1500, 5000, 12_000]),
    launched: chance.chance(0.2),
    awaitedRevoke: !chance.chance(0.12),
    perPartitionCommitResult: !chance.chance(0.15),
    assignors: plan.versions ? chance.pick([["sticky"], ["sticky-2", "sticky"], ["sticky", "range"]]) : ["sticky"]
  }
}

export const planOf = (seed: number): Plan => {
  const chance = new Prng(seed, "plan")
  const members = chance.pick([3, 3, 4])
  // partitions are lost amid a drain, which takes a while
  const lossy = chance.chance(0.12)
  const slow = chance.pick(lossy ? [3000, 12_000] : [50, 400, 3000, 12_000])
  // handlers that outlive their epochs, in lanes that others want
  const zombies = chance.chance(0.12)
  const order = chance.weighted<Order>({ unordered: zombies ? 0 : 4, key: 4, partition: 2, function: 2 })
  // some members of a group may be without the map, or all
  const mapped = chance.weighted({ all: 6, some: 1, none: 2 })
  const parksLong = chance.chance(0.2)
  const shape = {
    latest: chance.chance(0.25),
    slow,
    zombies,
    lossy,
    parksLong,
    versions: chance.chance(0.25),
    several: chance.chance(0.2)
  }
  const on: Sometimes = (probability, low, high) => maybe(chance, probability, low, high)
  // without trouble more can be asked: what is done must be committed before a partition is given up
  const troubled = chance.chance(0.7)
  const focus = zombies
    ? { seek: 3, evict: 3, rebalance: 3 }
    : lossy
      ? { loseWhileHeld: 6 }
      : chance.chance(0.35)
        ? chance.pick(focuses)
        : {}
  const topics = Array.from({ length: chance.int(1, 2) }, (_, i) => ({ name: `t${i}`, partitions: chance.int(1, 4) }))
  const partitions = topics.reduce((sum, topic) => sum + topic.partitions, 0)
  if (partitions < least.partitions) topics[0]!.partitions += least.partitions - partitions
  return {
    seed,
    protocol: chance.pick(["eager", "incremental"]),
    troubled,
    parksLong,
    topics,
    members: Array.from({ length: members }, () =>
      memberPlan(chance, { ...shape, mapped: mapped === "all" || (mapped === "some" && chance.chance(0.5)) })
    ),
    maxMetadata: chance.pick([40, 200, 4096, 4096]),
    filters: chance.chance(0.3),
    order,
    hotKey: chance.pick([0, 0, 0.5]),
    deadLetters: !chance.chance(0.1),
    latency: {
      request: chance.pick([0, 0, 2, 30]),
      fetch: chance.pick([0, 1, 20]),
      commit: chance.pick([0, 5, 5, 80])
    },
    maxChunk: chance.pick([1, 4, 30]),
    maxFetchRecords: chance.pick([2, 20, 100]),
    initialRebalanceDelay: chance.pick([0, 0, 500]),
    length: chance.pick([12_000, 25_000, 50_000]),
    pace: chance.pick([100, 300, 800]),
    actions: {
      produce: chance.int(8, 20),
      ...ofTopics(on),
      ...ofMembers(on),
      ...(troubled ? ofNetwork(on) : {}),
      ...ofUsers(on),
      ...focus
    },
    behaviours: {
      instant: 6,
      sleep: lossy ? 20 : on(0.9, 2, 20),
      long: on(0.3, 1, 2),
      yield: on(0.3, 1, 4),
      promise: on(0.3, 1, 4),
      timer: on(0.3, 1, 4),
      fail: parksLong ? 4 : on(0.5, 1, 3),
      die: on(0.3, 1, 2),
      throw: on(0.2, 1, 2),
      self: on(0.3, 1, 2),
      stubborn: zombies ? 3 : on(0.25, 1, 2),
      stubbornAck: on(0.25, 1, 3),
      ack: on(0.3, 1, 3),
      ackFail: on(0.2, 1, 2),
      finalizer: on(0.3, 1, 3),
      finalizerDies: on(0.15, 1, 1),
      cleanup: on(0.3, 1, 3),
      again: on(0.3, 1, 3),
      giveUp: on(0.2, 1, 2),
      bury: on(0.2, 1, 2)
    },
    slow,
    stubborn: zombies ? 6_000 : 200,
    burst: chance.pick([3, 8, 25]),
    badStart: troubled && chance.chance(0.3),
    together: chance.chance(0.5),
    foreign: chance.chance(0.15)
  }
}

/** What takes several things at once to happen: tried again and again in some histories. */
const focuses: ReadonlyArray<Partial<Record<Action, number>>> = [
  { failover: 8 },
  { cutWhileHeld: 8 },
  { loseWhileHeld: 6 },
  { interrupt: 6, rerun: 6, rebalance: 3 },
  { seek: 5, rebalance: 5 },
  { missGeneration: 6, join: 3, close: 2 },
  { commitFault: 12, rebalance: 2 },
  { evict: 5, commitFault: 4 },
  { pause: 3, pausePartition: 5, rebalance: 3, concurrency: 3 }
]

type Sometimes = (probability: number, low: number, high: number) => number

const ofTopics = (on: Sometimes) => ({
  transaction: on(0.2, 1, 2),
  marker: on(0.2, 1, 2),
  hole: on(0.2, 1, 2),
  retention: on(0.2, 1, 2),
  truncate: on(0.17, 1, 2),
  recreate: on(0.12, 1, 1),
  delete: on(0.1, 1, 1),
  grow: on(0.15, 1, 1),
  tool: on(0.06, 1, 1)
})

const ofMembers = (on: Sometimes) => ({
  join: on(1, 1, 3),
  close: on(0.6, 1, 2),
  interrupt: on(0.3, 1, 2),
  rerun: 3,
  crash: on(0.3, 1, 2),
  rebalance: on(0.5, 1, 3),
  stranger: on(0.2, 1, 1)
})

const ofNetwork = (on: Sometimes) => ({
  freeze: on(0.3, 1, 2),
  stutter: on(0.15, 1, 2),
  evict: on(0.25, 1, 2),
  disconnect: on(0.2, 1, 2),
  breakConnections: on(0.2, 1, 2),
  brokerDown: on(0.2, 1, 1),
  missGeneration: on(0.25, 1, 2),
  commitFault: on(0.5, 1, 5),
  fatal: on(0.16, 1, 1),
  requestFault: on(0.4, 1, 4),
  produceFault: on(0.55, 1, 6),
  storm: on(0.2, 1, 1),
  cutWhileHeld: on(0.15, 1, 1),
  loseWhileHeld: on(0.45, 1, 3),
  failover: on(0.15, 1, 1),
  clock: on(0.15, 1, 2)
})

const ofUsers = (on: Sometimes) => ({
  pause: on(0.2, 1, 2),
  pausePartition: on(0.2, 1, 2),
  seek: on(0.15, 1, 2),
  concurrency: on(0.25, 1, 2),
  flush: on(0.3, 1, 2),
  twice: on(0.1, 1, 1)
})

/** What is in a history by its plan alone. */
export const featuresOf = (plan: Plan): ReadonlyArray<string> => [
  `order ${plan.order}`,
  ...(plan.together ? ["together"] : []),
  ...(plan.foreign ? ["foreign metadata"] : []),
  ...(plan.members.some((member) => member.assignors.length > 1) ? ["other assignors"] : []),
  ...(plan.members.some((member) => member.launched) ? ["launched"] : []),
  ...(plan.members.some((member) => member.options.offsetMap === "off") ? ["no map"] : []),
  ...(plan.members.some((member) => member.options.startFrom === "latest") ? ["latest"] : [])
]
