/**
 * What happens in a history: to the topics, to the group's members, to the network; and how all of it is healed at the end.
 */
import type { NewRecord, Transaction } from "@concurrent-kafka/testing/MemoryKafka"
import * as Effect from "effect/Effect"
import { groupId, Process, type Stage } from "./member.ts"
import type { Action } from "./plan.ts"
import type { Prng } from "./prng.ts"
import { type Filter, keyOf, type LogTruth, type Rec } from "./truth.ts"

interface OpenTransaction {
  readonly transaction: Transaction
  readonly recs: Array<Rec>
  readonly topics: Set<string>
}

interface Slot {
  readonly clientId: string
  readonly index: number
  process: Process | undefined
  starts: number
}

export class Actions {
  readonly stage: Stage
  readonly chance: Prng
  private readonly slots: Array<Slot>
  /** all that were started, also who is closed or dead */
  private readonly processes: Array<Process> = []
  private transactions: Array<OpenTransaction> = []

  constructor(stage: Stage, chance: Prng) {
    this.stage = stage
    this.chance = chance
    this.slots = stage.plan.members.map((_, index) => ({
      clientId: `m${index + 1}`,
      index,
      process: undefined,
      starts: 0
    }))
  }

  private sync<A>(effect: Effect.Effect<A>): A {
    return Effect.runSync(effect)
  }

  private log(what: string): void {
    this.stage.checker.trace.log("SIM", what)
  }

  begin(): void {
    const { checker, cluster, plan } = this.stage
    for (const topic of plan.topics) {
      this.sync(cluster.createTopic(topic.name, { partitions: topic.partitions }))
      checker.truth.create(topic.name, topic.partitions)
    }
    for (const topic of plan.topics) this.produce(topic.name, this.chance.int(0, plan.burst))
    this.start(this.slots[0]!)
  }

  act(): void {
    const action = this.chance.weighted(this.stage.plan.actions)
    if (this.carryOut(action)) this.stage.coverage.count(`action ${action}`)
  }

  private carryOut(action: Action): boolean {
    const { chance, stage } = this
    const { cluster } = stage
    switch (action) {
      case "produce":
        return this.produce(this.topic(), chance.int(1, stage.plan.burst))
      case "transaction":
        return this.transact()
      case "marker": {
        const log = this.partition()
        this.log(`marker in ${keyOf(log)}`)
        this.sync(cluster.appendMarker(log.topic, log.partition))
        return true
      }
      case "hole":
        return this.hole()
      case "join": {
        const down = this.slots.filter((slot) => this.isDown(slot))
        if (down.length === 0) return false
        this.start(chance.pick(down))
        return true
      }
      case "close":
        return this.withProcess((p) => p.close(chance.chance(0.5)))
      case "rebalance":
        this.log("the group is asked to rebalance")
        this.sync(cluster.rebalance(groupId))
        return true
      default:
        return false
    }
  }

  // ------------------------------------------------------------------ records

  private topic(): string {
    return this.chance.pick(this.stage.plan.topics).name
  }

  private partition(): LogTruth {
    const all = [...this.stage.checker.truth.logs.values()].filter((log) => !log.gone)
    return this.chance.pick(all)
  }

  private filter(): Filter {
    if (!this.stage.plan.filters) return "wanted"
    return this.chance.weighted({ wanted: 6, unwanted: 3, throws: 0.3 })
  }

  private produce(topic: string, count: number, open?: OpenTransaction): boolean {
    const { cluster, checker } = this.stage
    const { truth } = checker
    const first = truth.nextId
    const filters = Array.from({ length: count }, () => this.filter())
    const records: Array<NewRecord> = filters.map((_, i) => ({
      value: String(first + i),
      key: this.chance.chance(0.5) ? null : `k${this.chance.int(0, 9)}`
    }))
    const written =
      open === undefined
        ? this.sync(cluster.produce(topic, records))
        : this.sync(open.transaction.produce(topic, records))
    this.log(`produces ${count} to ${topic}${open === undefined ? "" : " in a transaction"}`)
    written.forEach((at, i) => {
      const filter = filters[i]!
      const rec = truth.written({
        ...at,
        filter,
        visible: open === undefined ? "yes" : "pending",
        done: filter === "unwanted"
      })
      open?.recs.push(rec)
    })
    return true
  }

  produceEverywhere(): void {
    for (const topic of this.stage.plan.topics) this.produce(topic.name, 5)
  }

  /** Opens a transaction, writes in one, or ends one. */
  private transact(): boolean {
    const { chance, stage } = this
    const open = this.transactions.length > 0 && chance.chance(0.7) ? chance.pick(this.transactions) : undefined
    if (open === undefined) {
      const fresh = { transaction: this.sync(stage.cluster.transaction), recs: [], topics: new Set<string>() }
      this.transactions.push(fresh)
      return this.produce(this.topic(), chance.int(1, 5), fresh)
    }
    if (chance.chance(0.3)) return this.produce(this.topic(), chance.int(1, 5), open)
    this.endTransaction(open, chance.chance(0.6))
    return true
  }

  private endTransaction(open: OpenTransaction, commit: boolean): void {
    this.log(`a transaction of ${open.recs.length} is ${commit ? "committed" : "aborted"}`)
    this.transactions = this.transactions.filter((one) => one !== open)
    for (const rec of open.recs) rec.visible = commit ? "yes" : "never"
    this.sync(commit ? open.transaction.commit : open.transaction.abort)
  }

  /** Takes single records out of a log, as compaction does. */
  private hole(): boolean {
    const log = this.partition()
    const recs = log.records.filter((rec) => !rec.removed && rec.visible === "yes" && this.chance.chance(0.1))
    if (recs.length === 0) return false
    this.log(`holes in ${keyOf(log)}: ${recs.map((rec) => rec.offset).join(" ")}`)
    for (const rec of recs) rec.removed = true
    this.sync(
      this.stage.cluster.removeOffsets(
        log.topic,
        log.partition,
        recs.map((rec) => rec.offset)
      )
    )
    return true
  }

  // ------------------------------------------------------------------ members

  private isDown(slot: Slot): boolean {
    const state = slot.process?.state
    return state === undefined || state === "closed" || state === "dead"
  }

  private start(slot: Slot): void {
    slot.process = new Process(this.stage, slot.clientId, ++slot.starts, this.stage.plan.members[slot.index]!)
    this.processes.push(slot.process)
  }

  private withProcess(f: (process: Process) => void, fits: (process: Process) => boolean = (p) => p.isUp): boolean {
    const fitting = this.slots.flatMap(({ process }) => (process !== undefined && fits(process) ? [process] : []))
    if (fitting.length === 0) return false
    f(this.chance.pick(fitting))
    return true
  }

  /** Who failed is closed and started again, as an operator or a container platform does. */
  private supervise(): void {
    for (const slot of this.slots) {
      const { process } = slot
      if (process?.state === "failed") process.close(false)
      else if (process?.state === "idle" && this.chance.chance(0.5)) process.rerun()
    }
  }

  // ------------------------------------------------------------------ healing and the end

  heal(): void {
    for (const open of [...this.transactions]) this.endTransaction(open, true)
    this.keepAlive()
  }

  keepAlive(): void {
    this.supervise()
    for (const slot of this.slots) if (this.isDown(slot)) this.start(slot)
  }

  /** Everybody has what he should have, and nothing of the past runs on. */
  isCalm(): boolean {
    return this.unrest() === undefined
  }

  unrest(): string | undefined {
    for (const slot of this.slots) {
      if (slot.process === undefined || !slot.process.isUp) return `${slot.clientId} is ${slot.process?.state}`
    }
    for (const process of this.processes) {
      if (process.state !== "dead" && process.owner.running.size > 0) return `${process.owner.name} still handles`
    }
    const group = this.stage.cluster.groupUnsafe(groupId)
    return group.state === "Stable" ? undefined : `the group is ${group.state}`
  }

  /** Called whenever nothing is left to do at this moment. */
  watch(): void {}

  /** Nothing may be held when nothing is left to do. */
  checkIdle(): void {
    const { checker } = this.stage
    for (const { process } of this.slots) {
      if (process?.consumer === undefined) continue
      const snapshot = this.sync(process.consumer.snapshot)
      const { name } = process.owner
      if (snapshot.unexpectedTransitions !== 0) checker.violation("table", `${name}: ${snapshot.unexpectedTransitions}`)
      if (snapshot.held.records !== 0 || snapshot.held.bytes !== 0) {
        checker.violation(
          "I6",
          `${name} holds ${snapshot.held.records} records, ${snapshot.held.bytes} bytes, and is idle`
        )
      }
      if (snapshot.permits.used !== 0 || snapshot.permits.byZombies !== 0) {
        checker.violation("I5", `${name} uses ${snapshot.permits.used} permits, and is idle`)
      }
    }
  }

  closeAll(): void {
    for (const { process } of this.slots) process?.close(this.chance.chance(0.5))
  }

  allClosed(): boolean {
    return this.slots.every(({ process }) => process?.state === "closed")
  }

  checkClosed(): void {
    const { checker, cluster } = this.stage
    const { members } = cluster.groupUnsafe(groupId)
    if (members.length > 0) checker.violation("I8", `${members.map((m) => m.clientId).join()} did not leave`)
    for (const process of this.processes) {
      if (process.state !== "closed") continue
      const left = process.realm.timers.size
      if (left > 0) checker.violation("I8", `${process.owner.name} leaves ${left} timers`)
    }
  }
}
