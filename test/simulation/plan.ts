/**
 * What a seed stands for: the group, its topics and members, how handlers behave, what goes wrong and how often. Each seed
 * switches on some of everything and leaves the rest out: histories in which everything happens at once hide what only shows
 * when little else happens.
 */
import { Prng } from "@concurrent-kafka/testing/Prng"
import { type Action, focuses, ofMembers, ofNetwork, ofTopics, ofUsers, type Sometimes } from "./actionPlan.ts"
import { type MemberPlan, memberPlan } from "./memberPlan.ts"
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
  | "ackStubborn"
  | "ack"
  | "ackFail"
  | "finalizer"
  | "finalizerDies"
  | "cleanup"
  | "again"
  | "giveUp"
  | "bury"
  | "block"

export type Order = "unordered" | "key" | "partition" | "function"

export interface Plan {
  readonly seed: number
  readonly protocol: "eager" | "incremental"
  /** in rounds, of which each puts off what is to be committed; only where it is incremental */
  readonly cooperative: boolean
  /** things go wrong from the beginning */
  readonly troubled: boolean
  /** there are records whose handlers keep the event loop for longer than a session */
  readonly blocking: boolean
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
  /** a partition of which nobody can say where it begins, for a while */
  readonly leaderless: boolean
  /** the tasks of a fiber that are ready run together, as in Node, or each in its turn */
  readonly together: boolean
  /** offsets that somebody committed before, with metadata that means nothing to us */
  readonly foreign: boolean
}

export const planOf = (seed: number): Plan => {
  const chance = new Prng(seed, "plan")
  const members = chance.pick([3, 3, 4])
  // partitions are lost amid a drain, which takes a while
  const lossy = chance.chance(0.14)
  // the sessions of blocking ones are lost again and again, and what ran beside them is suspected with them
  const blocking = new Prng(seed, "blocking").chance(0.25)
  const slow = chance.pick(lossy || blocking ? [3000, 12_000] : [50, 400, 3000, 12_000])
  // handlers that outlive their epochs, in lanes that others want
  const zombies = chance.chance(0.14)
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
    blocking,
    versions: chance.chance(0.25),
    several: chance.chance(0.2)
  }
  const on: Sometimes = (probability, low, high) => (chance.chance(probability) ? chance.int(low, high) : 0)
  // without trouble more can be asked: what is done must be committed before a partition is given up
  const troubled = chance.chance(0.7)
  const focus = zombies
    ? { seek: 3, evict: 3, rebalance: 3, interrupt: 3 }
    : lossy
      ? { loseWhileHeld: 6 }
      : chance.chance(0.35)
        ? chance.pick(focuses)
        : {}
  const topics = Array.from({ length: chance.int(1, 2) }, (_, i) => ({ name: `t${i}`, partitions: chance.int(1, 4) }))
  const partitions = topics.reduce((sum, topic) => sum + topic.partitions, 0)
  if (partitions < least.partitions) topics[0]!.partitions += least.partitions - partitions
  const protocol = chance.pick(["eager", "incremental"] as const)
  return {
    seed,
    protocol,
    cooperative: protocol === "incremental" && new Prng(seed, "cooperative").chance(0.5),
    troubled,
    blocking,
    parksLong,
    topics,
    members: Array.from({ length: members }, () =>
      memberPlan(chance, { ...shape, mapped: mapped === "all" || (mapped === "some" && chance.chance(0.5)) })
    ),
    maxMetadata: chance.pick([40, 40, 40, 200, 4096]),
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
      // who closes between two generations loses nothing of what is done, which can be asked where nothing else goes wrong
      ...(troubled ? ofNetwork(on) : { closeWhileSuspended: 3 }),
      ...ofUsers(on),
      ...focus
    },
    behaviours: {
      instant: 6,
      sleep: lossy || blocking ? 20 : on(0.9, 2, 20),
      long: on(0.3, 1, 2),
      yield: on(0.3, 1, 4),
      promise: on(0.3, 1, 4),
      timer: on(0.3, 1, 4),
      fail: parksLong ? 8 : on(0.5, 1, 3),
      die: on(0.3, 1, 2),
      throw: on(0.2, 1, 2),
      self: on(0.3, 1, 2),
      stubborn: zombies ? 3 : on(0.25, 1, 2),
      stubbornAck: on(0.25, 1, 3),
      ackStubborn: zombies ? 3 : on(0.2, 1, 2),
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
    leaderless: chance.chance(0.1),
    together: chance.chance(0.5),
    foreign: chance.chance(0.15)
  }
}

/** What is in a history by its plan alone. */
export const featuresOf = (plan: Plan): ReadonlyArray<string> => [
  `order ${plan.order}`,
  ...(plan.together ? ["together"] : []),
  ...(plan.foreign ? ["foreign metadata"] : []),
  ...(plan.cooperative ? ["cooperative"] : []),
  ...(plan.members.some((member) => member.assignors.length > 1) ? ["other assignors"] : []),
  ...(plan.protocol === "eager" && plan.members.some(({ claims }) => claims !== 1) ? ["other claims"] : []),
  ...(plan.members.some((member) => member.launched) ? ["launched"] : []),
  ...(plan.members.some((member) => member.options.offsetMap === "off") ? ["no map"] : []),
  ...(plan.members.some((member) => member.options.startFrom === "latest") ? ["latest"] : [])
]
