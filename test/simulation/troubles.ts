/**
 * What goes wrong between members and broker. Everything that lasts ends by itself after a while, or when the history heals.
 */
import type { Api, Fault, FaultWeights } from "@concurrent-kafka/testing/Faults"
import * as Effect from "effect/Effect"
import type { Process } from "./member.ts"
import type { EpochTruth, Owner } from "./owner.ts"
import type { Prng } from "@concurrent-kafka/testing/Prng"
import { groupId, type Stage } from "./stage.ts"
import { Realm } from "@concurrent-kafka/testing/World"

const retriable = ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT", "UNKNOWN_SERVER_ERROR"]
const deferred = ["REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "STALE_MEMBER_EPOCH"]
const rejected = ["OFFSET_METADATA_TOO_LARGE", "REQUEST_TOO_LARGE"]
const fatal = ["TOPIC_AUTHORIZATION_FAILED", "INVALID_GROUP_ID", "FENCED_INSTANCE_ID"]

const stormy: FaultWeights = {
  commit: {
    code: 0.08,
    answerLost: 0.06,
    dropped: 0.06,
    servedLate: 0.05,
    slowAnswer: 0.1,
    slowRequest: 0.1,
    noAnswer: 0.03
  },
  fetch: { smallChunk: 0.3, slowAnswer: 0.1, dropped: 0.03, code: 0.03 },
  heartbeat: { slowAnswer: 0.1, dropped: 0.05, code: 0.05 },
  join: { slowRequest: 0.1, answerLost: 0.05, code: 0.05 },
  sync: { slowRequest: 0.1, slowAnswer: 0.1, answerLost: 0.05 },
  offsetFetch: { slowAnswer: 0.1, dropped: 0.05, code: 0.05 },
  listOffsets: { code: 0.2, dropped: 0.1 },
  metadata: { dropped: 0.1 },
  produce: { code: 0.1, answerLost: 0.1, dropped: 0.1, slowAnswer: 0.1, noAnswer: 0.03 },
  leave: { dropped: 0.1, slowRequest: 0.1 }
}

export class Troubles {
  private readonly stage: Stage
  /** of the step that is being taken */
  chance: Prng
  private readonly realm: Realm
  private readonly lasting = new Set<() => void>()

  constructor(stage: Stage, chance: Prng) {
    this.stage = stage
    this.chance = chance
    this.realm = new Realm("sim", stage.world)
  }

  private log(what: string): void {
    this.stage.checker.trace.log("SIM", what)
  }

  /** Commits, of this process or of all, may not go through for so long, and a little longer. */
  private disturbs(ms: number, process: Process | undefined): void {
    const { checker, world } = this.stage
    const who = process === undefined ? checker : process.life
    who.calmSince = Math.max(who.calmSince, world.now + ms + 30_000)
  }

  /** Until it ends by itself, or is ended. */
  private lasts(ms: number, process: Process | undefined, end: () => void): void {
    this.disturbs(ms, process)
    const once = () => {
      if (this.lasting.delete(once)) end()
    }
    this.lasting.add(once)
    this.stage.world.after(this.realm, ms, once)
  }

  freeze(process: Process): void {
    process.freeze()
    this.lasts(this.chance.skewed(50, 40_000), process, () => process.thaw())
  }

  /** Its event loop is busy with something else: everything of it comes late, again and again. */
  stutter(process: Process): void {
    const { chance } = this
    const most = chance.pick([30, 300, 2_000])
    let goesOn = true
    const block = (): void => {
      if (!goesOn || process.state === "dead" || process.state === "closed") return
      process.freeze()
      this.stage.world.after(this.realm, chance.int(1, most), () => {
        process.thaw()
        this.stage.world.after(this.realm, chance.int(1, most), block)
      })
    }
    this.log(`the event loop of ${process.name} is slow`)
    this.lasts(chance.int(1_000, 8_000), process, () => {
      goesOn = false
      process.thaw()
    })
    block()
  }

  evict(process: Process): void {
    this.log(`${process.name} is evicted`)
    this.disturbs(5_000, process)
    process.session(this.chance)?.evict.pipe(Effect.runSync)
  }

  disconnect(process: Process): void {
    const session = process.session(this.chance)
    if (session === undefined) return
    this.log(`${process.name} is disconnected`)
    Effect.runSync(session.disconnect)
    this.lasts(this.chance.skewed(50, 30_000), process, () => {
      this.log(`${process.name} is connected again`)
      Effect.runSync(session.reconnect)
    })
  }

  breakConnections(process: Process): void {
    this.log(`the connections of ${process.name} break`)
    this.disturbs(1_000, process)
    process.session(this.chance)?.breakConnections.pipe(Effect.runSync)
  }

  brokerDown(): void {
    this.log("the broker is down")
    Effect.runSync(this.stage.cluster.brokerDown)
    this.lasts(this.chance.skewed(20, 15_000), undefined, () => {
      this.log("the broker is up")
      Effect.runSync(this.stage.cluster.brokerUp)
    })
  }

  /** One member learns late, or never, what it got in a generation. */
  missGeneration(process: Process): void {
    const { chance } = this
    const { cluster } = this.stage
    const ms = chance.int(500, 12_000)
    const fault: Fault = chance.pick<Fault>([
      { kind: "slowRequest", ms },
      { kind: "slowAnswer", ms },
      { kind: "answerLost" },
      { kind: "dropped" }
    ])
    const api: Api = chance.pick<Api>(["sync", "sync", "join", "heartbeat"])
    this.disturbs(ms, process)
    this.script(process, api, fault, 1)
    this.log("the group is asked to rebalance")
    Effect.runSync(cluster.rebalance(groupId))
  }

  private script(process: Process | undefined, api: Api, fault: Fault, times: number): void {
    const target = process === undefined ? {} : { clientId: process.name }
    const { kind, ...rest } = fault
    this.log(`fault for ${process?.name ?? "everybody"}: ${api} ${kind} ${JSON.stringify(rest)} ${times} times`)
    this.stage.cluster.faults.next(api, fault, { ...target, times })
  }

  commitFault(process: Process): void {
    const { chance } = this
    const ms = chance.skewed(10, 4_000)
    const partitions = chance.chance(0.5) ? this.somePartition(process) : undefined
    const code = (codes: ReadonlyArray<string>): Fault => ({
      kind: "code",
      code: chance.pick(codes),
      ...(partitions === undefined ? {} : { partitions })
    })
    const fault = chance.pick<() => Fault>([
      () => code(retriable),
      () => code(retriable),
      () => code(deferred),
      () => code(rejected),
      () => ({ kind: "dropped" }),
      () => ({ kind: "answerLost" }),
      // before the client gives up on it: later the broker can not apply it any more
      () => ({ kind: "servedLate", ms: Math.min(ms, process.requestTimeout - 100) }),
      () => ({ kind: "noAnswer" }),
      () => ({ kind: "refused" }),
      () => ({ kind: "slowAnswer", ms }),
      // the same, of one whose answer is waited for
      () => ({ kind: "slowRequest", ms: Math.min(ms, 2 * process.requestTimeout - 100) })
    ])()
    this.disturbs(ms, process)
    this.script(process, "commit", fault, chance.int(1, 3))
  }

  /** Refused for good: the consumer has to end. */
  fatal(process: Process): void {
    const { chance } = this
    this.disturbs(0, process)
    if (chance.chance(0.5)) {
      const reason = chance.pick(["Authentication", "Authorization", "CorruptData"] as const)
      this.log(`the session of ${process.name} ends: ${reason}`)
      process.session(this.chance)?.end(reason).pipe(Effect.runSync)
    } else this.script(process, "commit", { kind: "code", code: chance.pick(fatal) }, 1)
  }

  requestFault(process: Process | undefined): void {
    const { chance } = this
    const api = chance.pick<Api>([
      "metadata",
      "join",
      "sync",
      "heartbeat",
      "leave",
      "offsetFetch",
      "fetch",
      "fetch",
      "listOffsets"
    ])
    const ms = chance.skewed(10, 8_000)
    const codes: Partial<Record<Api, ReadonlyArray<string>>> = {
      fetch: ["NOT_LEADER_OR_FOLLOWER", "KAFKA_STORAGE_ERROR"],
      listOffsets: ["NOT_LEADER_OR_FOLLOWER"],
      offsetFetch: ["UNSTABLE_OFFSET_COMMIT", "NOT_COORDINATOR"]
    }
    const fault = chance.pick<Fault>([
      { kind: "slowRequest", ms },
      { kind: "slowAnswer", ms },
      { kind: "refused" },
      { kind: "dropped" },
      { kind: "answerLost" },
      { kind: "noAnswer" },
      { kind: "code", code: chance.pick(codes[api] ?? ["NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS"]) },
      ...(api === "fetch" ? [{ kind: "smallChunk", records: 1 } as const] : [])
    ])
    this.disturbs(ms, process)
    this.script(process, api, fault, chance.int(1, 3))
  }

  /** A dead letter is not taken, not answered, or refused for good. */
  produceFault(process: Process): void {
    const { chance } = this
    const ms = chance.skewed(10, 4_000)
    const fault = chance.pick<Fault>([
      { kind: "code", code: chance.pick(["NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT"]) },
      { kind: "code", code: chance.pick(["MESSAGE_TOO_LARGE", "TOPIC_AUTHORIZATION_FAILED"]) },
      { kind: "dropped" },
      { kind: "answerLost" },
      { kind: "noAnswer" },
      { kind: "refused" },
      { kind: "slowAnswer", ms },
      { kind: "slowRequest", ms }
    ])
    this.script(process, "produce", fault, chance.int(1, 4))
  }

  storm(): void {
    const ms = this.chance.int(1_000, 12_000)
    this.log("a storm of faults")
    const end = this.stage.cluster.faults.random({
      source: this.chance,
      weights: stormy,
      maxDelay: 1_200,
      maxSmallChunk: this.stage.plan.maxChunk,
      codes: { commit: [...retriable, ...deferred, ...rejected] }
    })
    this.lasts(ms + 2_000, undefined, () => {
      this.log("the storm is over")
      end()
    })
  }

  /** A fetch is answered when its partitions are being given back. */
  lateFetch(process: Process): void {
    const ms = process.heartbeatInterval + this.chance.int(1, 400)
    this.script(process, "fetch", { kind: "slowRequest", ms }, 1)
    this.disturbs(ms, process)
    this.log("the group is asked to rebalance")
    Effect.runSync(this.stage.cluster.rebalance(groupId))
  }

  /**
   * A member is closed when it has flushed, and nobody has told it yet what it keeps, or when its commits are put off: at once, or when
   * more is done since.
   */
  closeWhileSuspended(process: Process): void {
    this.log("the group is asked to rebalance")
    Effect.runSync(this.stage.cluster.rebalance(groupId))
    const atOnce = this.chance.chance(0.3)
    const suspendedAt = new Map<EpochTruth, number>()
    const isDue = ({ cooperative, epochs, running }: Owner) =>
      [...epochs.values()].some((epoch) => {
        const isBetween = cooperative
          ? epoch.state === "open" && epoch.putOffSince !== undefined
          : epoch.state === "suspended" && [...running].some((attempt) => attempt.epoch === epoch)
        if (!isBetween) return false
        const since = suspendedAt.get(epoch) ?? this.stage.world.now
        suspendedAt.set(epoch, since)
        return atOnce || [...epoch.certain.values()].some((at) => at >= since)
      })
    let tries = 0
    const look = () => {
      if (!process.isUp || ++tries > 800) return
      if (process.owners.some(isDue)) process.close(false)
      else this.stage.world.after(this.realm, 5, look)
    }
    look()
  }

  /** A member is thrown out, or closed, while it drains what it has to give back. */
  loseWhileHeld(process: Process): void {
    this.disturbs(5_000, process)
    this.log("the group is asked to rebalance")
    Effect.runSync(this.stage.cluster.rebalance(groupId))
    const { chance } = this
    let tries = 0
    const look = () => {
      if (!process.isUp || ++tries > 200) return
      if (!process.owners.some(({ epochs }) => [...epochs.values()].some(({ state }) => state === "revoking")))
        return void this.stage.world.after(this.realm, 20, look)
      if (chance.chance(0.3)) process.close(false)
      else this.evict(process)
    }
    look()
  }

  /** A member is thrown out, and the coordinator goes away before it has written that down. */
  failover(process: Process): void {
    const { cluster, world } = this.stage
    this.evict(process)
    let moved = false
    const move = () => {
      if (moved) return
      moved = true
      forget()
      this.log("the coordinator moves")
      Effect.runSync(cluster.brokerDown)
      world.after(this.realm, 20, () => Effect.runSync(cluster.brokerUp))
    }
    // when it has refused a commit of that member
    const forget = cluster.onCommitUnsafe(({ clientId, entries }) => {
      if (clientId === process.name && entries.some((entry) => entry.code === "UNKNOWN_MEMBER_ID")) {
        world.after(this.realm, 1, move)
      }
    })
    world.after(this.realm, this.chance.int(40, 200), () => {
      if (process.isUp) process.user.flush()
    })
    this.lasts(this.chance.int(200, 500), undefined, move)
  }

  /** The first commit after that time is put off. */
  deferIn(ms: number, process: Process): void {
    const code = this.chance.pick([...deferred, ...retriable])
    this.stage.world.after(this.realm, ms, () => this.script(process, "commit", { kind: "code", code }, 1))
  }

  rebalanceIn(ms: number): number {
    const { cluster, world } = this.stage
    world.after(this.realm, ms, () => {
      this.log("the group is asked to rebalance")
      Effect.runSync(cluster.rebalance(groupId))
    })
    return ms
  }

  /** The next commit of this process gets no answer, and is carried out after the one that follows it. */
  lateCommit(process: Process): number {
    const ms = process.requestTimeout - 100
    this.script(process, "commit", { kind: "servedLate", ms }, 1)
    return ms
  }

  /** When the next commit is likely to be on its way. */
  soon(then: () => void): void {
    this.stage.world.after(this.realm, this.chance.int(60, 600), then)
  }

  /** For a while nobody can say where one of the partitions begins and ends. */
  leaderless(): void {
    const { checker, world } = this.stage
    const key = this.chance.pick([...checker.truth.logs.keys()])
    this.log(`${key} has no leader`)
    checker.leaderless.add(key)
    const end = () => {
      if (!this.lasting.delete(end)) return
      this.log(`${key} has a leader`)
      checker.leaderless.delete(key)
    }
    this.lasting.add(end)
    world.after(this.realm, this.chance.int(8_000, 20_000), end)
  }

  /** Somebody sets the time of day. */
  setClock(process: Process): void {
    const ms = this.chance.pick([-3_600_000, -30_000, -800, 800, 30_000, 3_600_000])
    this.log(`the clock of ${process.name} is set by ${ms}`)
    process.realm.wallOffset += ms
  }

  /** Nothing about the first start works at once. */
  badStart(): void {
    const { chance } = this
    const times = chance.int(1, 6)
    this.disturbs(5_000, undefined)
    this.script(undefined, "listOffsets", { kind: "code", code: "NOT_LEADER_OR_FOLLOWER" }, chance.int(0, 3))
    this.script(
      undefined,
      "commit",
      chance.pick<Fault>([
        { kind: "code", code: chance.pick(retriable) },
        { kind: "code", code: chance.pick(deferred) },
        { kind: "slowAnswer", ms: 3_000 },
        { kind: "dropped" },
        { kind: "answerLost" }
      ]),
      times
    )
  }

  private somePartition(process: Process) {
    const held = process.session(this.chance)?.heldUnsafe() ?? []
    if (held.length === 0) return undefined
    const { partition, topic } = this.chance.pick(held)
    return [{ topic, partition }]
  }

  heal(): void {
    this.disturbs(0, undefined)
    this.stage.cluster.faults.clear()
    for (const end of [...this.lasting]) end()
  }
}
