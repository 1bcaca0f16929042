/**
 * What happens in a history, and how all of it is healed at the end.
 */
import * as Effect from "effect/Effect"
import { Process } from "./member.ts"
import { Prng } from "@concurrent-kafka/testing/Prng"
import type { Action } from "./actionPlan.ts"
import { faultActions, type Step } from "./schedule.ts"
import { groupId, type Stage } from "./stage.ts"
import { TopicActions } from "./topics.ts"
import { Troubles } from "./troubles.ts"

/** Looking at a consumer costs more than a step of it. */
const quietsPerLook = 40

interface Slot {
  readonly clientId: string
  readonly index: number
  process: Process | undefined
  starts: number
}

export class Actions {
  readonly stage: Stage
  /** of the step that is being taken */
  chance: Prng
  private readonly topics: TopicActions
  private readonly troubles: Troubles
  private readonly slots: Array<Slot>
  /** all that were started, also who is closed or dead */
  private readonly processes: Array<Process> = []
  private quiets = 0

  constructor(stage: Stage) {
    this.stage = stage
    this.chance = new Prng(stage.plan.seed, "step 0")
    this.topics = new TopicActions(stage, this.chance)
    this.troubles = new Troubles(stage, this.chance)
    this.slots = stage.plan.members.slice(0, stage.cut.members).map((_, index) => ({
      clientId: `m${index + 1}`,
      index,
      process: undefined,
      starts: 0
    }))
  }

  private log(what: string): void {
    this.stage.checker.trace.log("SIM", what)
  }

  /** The result says whether it is to be taken. */
  begins(step: number): boolean {
    this.chance = new Prng(this.stage.plan.seed, `step ${step}`)
    this.topics.begins(step, this.chance)
    this.troubles.chance = this.chance
    return this.stage.cut.skip?.has(step) !== true
  }

  begin(): void {
    this.topics.begin()
    if (this.begins(0)) {
      this.topics.first()
      if (this.stage.plan.badStart) this.troubles.badStart()
      if (this.stage.plan.leaderless) this.troubles.leaderless()
    }
    this.start(this.slots[0]!)
  }

  act({ action, number, records }: Step): void {
    const taken = this.begins(number)
    if (this.chance.chance(0.2)) this.supervise()
    if (!taken) return
    if (this.carryOut(action, records)) this.stage.coverage.count(`action ${action}`)
    else if (faultActions.has(action)) {
      // there was nobody, or nothing, for it: something else goes wrong
      this.troubles.requestFault(undefined)
      this.stage.coverage.count("action requestFault")
    }
  }

  private carryOut(action: Action, records: number): boolean {
    const { chance, stage, topics, troubles } = this
    switch (action) {
      case "produce":
        return topics.write(records)
      case "transaction":
        return topics.transact()
      case "marker":
        return topics.marker()
      case "hole":
        return topics.hole()
      case "retention":
        return topics.retention()
      case "truncate":
        return topics.truncate()
      case "recreate":
        return topics.recreate()
      case "delete":
        return topics.delete()
      case "grow":
        return topics.grow()
      case "tool":
        return topics.tool()
      case "join": {
        const down = this.slots.filter((slot) => this.isDown(slot))
        if (down.length === 0) return false
        this.start(chance.pick(down))
        return true
      }
      case "close":
        return this.some((process) => process.close(chance.chance(0.5)), isUpOrIdle)
      case "interrupt":
        return this.some((process) => process.interrupt(chance.chance(0.4)), isOwn)
      case "rerun":
        return this.some(
          (process) => process.rerun(),
          (process) => process.state === "idle"
        )
      case "crash":
        return this.some((process) => process.kill(), isAlive)
      case "rebalance":
        this.log("the group is asked to rebalance")
        Effect.runSync(stage.cluster.rebalance(groupId))
        return true
      case "freeze":
        return this.some((process) => troubles.freeze(process), isAlive)
      case "stutter":
        return this.some((process) => troubles.stutter(process))
      case "stranger": {
        const down = this.slots.filter((slot) => this.isDown(slot))
        if (down.length === 0 || stage.plan.protocol !== "eager") return false
        this.start(chance.pick(down), ["another"])
        return true
      }
      case "evict":
        return this.some((process) => troubles.evict(process))
      case "disconnect":
        return this.some((process) => troubles.disconnect(process))
      case "breakConnections":
        return this.some((process) => troubles.breakConnections(process))
      case "brokerDown":
        troubles.brokerDown()
        return true
      case "missGeneration":
        return this.some((process) => troubles.missGeneration(process))
      case "commitFault":
        return this.some((process) => troubles.commitFault(process))
      case "fatal":
        return this.some((process) => troubles.fatal(process))
      case "requestFault":
        return this.some((process) => troubles.requestFault(process))
      case "produceFault":
        return this.some((process) => troubles.produceFault(process))
      case "storm":
        troubles.storm()
        return true
      case "clock":
        return this.some((process) => troubles.setClock(process), isAlive)
      case "cutWhileHeld":
        return this.some((process) => {
          troubles.lateFetch(process)
          topics.cut(process)
        })
      case "closeWhileSuspended":
        if (stage.plan.protocol !== "eager" && !stage.plan.cooperative) return false
        return this.some((process) => {
          topics.write()
          if (stage.plan.cooperative) this.another()
          troubles.closeWhileSuspended(process)
        })
      case "loseWhileHeld":
        // who hears of it in a heartbeat while it still waits
        return this.some(
          (process) => {
            topics.write()
            troubles.loseWhileHeld(process)
          },
          (process) => process.isUp && process.revokeDrain > process.heartbeatInterval
        )
      case "failover":
        return this.some((process) => {
          topics.write()
          troubles.failover(process)
        })
      case "pause":
        return this.some((process) => process.user.pause(!process.user.hasPaused))
      case "pausePartition":
        return this.some((process) => process.user.pausePartition(chance))
      case "seek":
        return this.some((process) => process.user.seek(chance))
      case "concurrency":
        return this.some((process) => process.user.resize(chance.pick([1, 1, 2, 4, 20, "unbounded"])))
      case "flush":
        return this.some((process) => process.user.flush())
      case "twice":
        return this.some((process) => process.runTwice(), isOwn)
    }
  }

  // ------------------------------------------------------------------ members

  /** One more, so that others have to give something up. */
  private another(): void {
    const down = this.slots.filter((slot) => this.isDown(slot))
    if (down.length > 0) this.start(this.chance.pick(down))
  }

  private isDown(slot: Slot): boolean {
    const state = slot.process?.state
    return state === undefined || state === "closed" || state === "dead"
  }

  private start(slot: Slot, assignors?: ReadonlyArray<string>): void {
    const plan = this.stage.plan.members[slot.index]!
    slot.process = new Process(this.stage, slot.clientId, ++slot.starts, {
      ...plan,
      assignors: assignors ?? plan.assignors
    })
    this.processes.push(slot.process)
  }

  private some(f: (process: Process) => void, fits: (process: Process) => boolean = (p) => p.isUp): boolean {
    const fitting = this.slots.flatMap(({ process }) => (process !== undefined && fits(process) ? [process] : []))
    if (fitting.length === 0) return false
    f(this.chance.pick(fitting))
    return true
  }

  /** Who failed is closed and started again, as an operator or a container platform does. */
  private supervise(): void {
    for (const { process } of this.slots) if (process?.state === "failed") process.close(false)
  }

  // ------------------------------------------------------------------ healing and the end

  heal(): void {
    this.topics.heal()
    this.troubles.heal()
    // what was parked for long comes with the next epochs
    for (const { process } of this.slots)
      if (process !== undefined && isUpOrIdle(process) && this.stage.plan.parksLong) process.close(false)
    this.keepAlive()
  }

  keepAlive(): void {
    this.supervise()
    for (const slot of this.slots) {
      // who has nothing in common with the others makes room
      const stranger = slot.process?.isStranger === true ? slot.process : undefined
      if (stranger !== undefined && isUpOrIdle(stranger)) stranger.close(false)
      if (this.isDown(slot)) this.start(slot)
      else if (slot.process!.state === "idle") slot.process!.rerun()
      slot.process!.heal()
    }
  }

  produceEverywhere(): void {
    this.topics.produceEverywhere()
  }

  /** The result is how long it lasts at most. */
  lastTrouble(): number {
    const { chance, topics, troubles } = this
    const process = chance.pick(this.slots).process!
    switch (
      chance.weighted({
        lateCommit: 2,
        lateCommitInRebalance: 4,
        lateCommitPutOff: 2,
        lateCommitThenSeek: 3,
        failover: 2,
        cutWhileHeld: 3
      })
    ) {
      case "lateCommit":
        topics.produceEverywhere()
        return troubles.lateCommit(process)
      case "lateCommitInRebalance":
        topics.produceEverywhere()
        return troubles.lateCommit(process) + troubles.rebalanceIn(process.requestTimeout - chance.int(0, 1_500))
      case "lateCommitPutOff":
        topics.produceEverywhere()
        troubles.deferIn(process.requestTimeout - 50, process)
        return troubles.lateCommit(process) + process.requestTimeout
      case "lateCommitThenSeek":
        topics.produceEverywhere()
        troubles.soon(() => {
          process.user.seek(chance)
          topics.produceEverywhere()
        })
        return troubles.lateCommit(process)
      case "failover":
        topics.produceEverywhere()
        troubles.failover(process)
        return 2 * process.heartbeatInterval
      case "cutWhileHeld":
        troubles.lateFetch(process)
        topics.cut(process)
        return 0
    }
  }

  /** Why the group is not at rest. */
  unrest(): string | undefined {
    for (const slot of this.slots) {
      if (slot.process === undefined || !slot.process.isUp) return `${slot.clientId} is ${slot.process?.state}`
    }
    for (const { owners, state } of this.processes) {
      for (const { name, running } of owners) if (state !== "dead" && running.size > 0) return `${name} still handles`
    }
    const group = this.stage.cluster.groupUnsafe(groupId)
    if (group.state !== "Stable") return `the group is ${group.state}`
    for (const { process } of this.slots) {
      const { health, held, permits } = process!.look()
      const { name } = process!
      for (const owner of process!.owners) {
        const beyond = this.stage.checker.commits.beyondTheEnd(owner)
        if (beyond !== undefined) return `${owner.name} reads ${beyond} beyond its end`
      }
      if (held.records !== 0 || held.bytes !== 0) return `${name} holds ${held.records} records, ${held.bytes} bytes`
      // what retention took is shown for an hour
      const trouble = health.reasons.find(({ code }) => code !== "standby" && code !== "lostToRetention")
      if (trouble !== undefined) return `${name} is not well: ${trouble.code}, ${trouble.message}`
      if (permits.used !== 0 || permits.byZombies !== 0) {
        return `${name} uses ${permits.used} permits, ${permits.byZombies} by zombies`
      }
    }
    return undefined
  }

  /** Called whenever nothing is left to do at this moment. */
  watch(): void {
    const due = ++this.quiets % quietsPerLook === 0
    for (const { process } of this.slots) {
      if (process === undefined || process.realm.state !== "running" || process.state === "dead") continue
      for (const owner of process.owners) this.stage.checker.watch(owner)
      if (due) process.check()
    }
  }

  /** Everybody is asked what he counted. */
  checkIdle(): void {
    for (const { process } of this.slots) process?.check()
  }

  unnoticed(): void {
    for (const { owners } of this.processes) for (const owner of owners) this.stage.checker.commits.unnoticed(owner)
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
      if (left > 0) checker.violation("I8", `${process.name} leaves ${left} timers`)
    }
  }
}

const isUpOrIdle = (process: Process): boolean => process.isUp || process.state === "idle"

const isOwn = (process: Process): boolean => process.isOwn

const isAlive = (process: Process): boolean => process.state !== "closed" && process.state !== "dead"
