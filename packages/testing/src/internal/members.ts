/**
 * The processes of a history: started, closed, killed in the middle of a handler, frozen; and started again when they have ended
 * by themselves, as whoever runs a service does.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import type { ClientOptions, Cluster } from "../MemoryKafka.ts"
import { messageOf } from "./expect.ts"
import { begin, type Life, type Provided } from "./lives.ts"
import type { Recorder } from "./recorder.ts"
import type { Timeline } from "./timeline.ts"
import { Realm, type World } from "../World.ts"

/** A process that has ended by itself is started again after this time. */
const restartAfter = 1_000
/** A process that is to be met in the middle of a handler is met anyway after this time. */
const patience = 30_000

interface Alive {
  readonly name: string
  readonly realm: Realm
  readonly life: Life<unknown>
  /** what is done when it ends */
  then: (() => void) | undefined
  /** the partitions that it was seen with */
  held: string
}

/** Somebody is to be met in the middle of a handler, after so many instructions of it. */
interface Aim {
  readonly ops: number
  readonly hit: (process: Alive, inHandler: boolean) => void
}

/** A run of a handler: its instructions so far, and whether others have their turn before the next one. */
export interface HandlerRun {
  ops: number
  readonly interleaves: () => boolean
}

export interface MembersOptions<O> {
  readonly world: World
  readonly cluster: Cluster
  readonly timeline: Timeline
  readonly recorder: Recorder
  readonly services: Context.Context<O>
  readonly prepare: (name: string, realm: Realm) => Context.Context<never>
  readonly count: number
  readonly client: ClientOptions
  readonly programOf: (name: string) => Layer.Layer<never, unknown, O | Provided>
  /** the run of a handler that a fiber belongs to */
  readonly runOf: (fiber: { readonly context: Context.Context<never> }) => HandlerRun | undefined
}

export class Members<O> {
  crashes = 0
  crashesInHandlers = 0
  private readonly options: MembersOptions<O>
  private readonly alive: Array<Alive | undefined>
  private readonly starts: Array<number>
  /** what restarts processes */
  private readonly hand: Realm
  private readonly aims = new Set<Aim>()
  private isOver = false

  constructor(options: MembersOptions<O>) {
    this.options = options
    this.alive = Array.from({ length: options.count }, () => undefined)
    this.starts = Array.from({ length: options.count }, () => 0)
    this.hand = new Realm("members", options.world)
  }

  start(member: number): void {
    if (this.alive[member] !== undefined || this.isOver) return
    const { client, cluster, prepare, programOf, runOf, services, timeline, world } = this.options
    const count = ++this.starts[member]!
    const name = `m${member + 1}${count === 1 ? "" : `.${count}`}`
    timeline.say(name, () => "starts")
    const realm = new Realm(name, world)
    const life = begin<unknown, O | Provided>({
      name,
      program: programOf(name),
      outside: services as Context.Context<Exclude<O | Provided, Provided>>,
      cluster,
      client,
      inside: () => prepare(name, realm)
    })
    const process: Alive = { name, realm, life, then: undefined, held: "" }
    this.alive[member] = process
    const others = (run: HandlerRun): boolean => {
      if (realm.insteadOfTurn !== undefined) return true
      for (const aim of this.aims) {
        if (run.ops < aim.ops) continue
        this.aims.delete(aim)
        // what goes on from here goes on in a turn of its own, and this is instead of it
        realm.insteadOfTurn = () => aim.hit(process, true)
        return true
      }
      return run.interleaves()
    }
    realm.interrupts = (fiber) => {
      const run = runOf(fiber)
      if (run === undefined) return false
      run.ops++
      if (!others(run)) return false
      // it is asked about twice more before it goes on: a handler has as many instructions with others in between as without
      run.ops -= 2
      return true
    }
    life.fiber.addObserver((exit) => this.ended(member, process, exit))
  }

  private ended(member: number, process: Alive, exit: Exit.Exit<unknown, unknown>): void {
    if (process.realm.state === "dead" || this.alive[member] !== process) return
    const { recorder, timeline, world } = this.options
    this.alive[member] = undefined
    recorder.gone(process.name)
    const { then } = process
    const failure = Exit.isFailure(exit) ? exit.cause.reasons.find((reason) => reason._tag !== "Interrupt") : undefined
    timeline.say(process.name, () =>
      failure === undefined
        ? "is closed"
        : `ends by failure: ${messageOf(failure._tag === "Fail" ? failure.error : failure.defect)}`
    )
    if (then !== undefined) return then()
    if (failure !== undefined) world.after(this.hand, restartAfter, () => this.start(member))
  }

  /** Closes it in order; what comes then. */
  close(member: number, then: () => void = () => {}): void {
    const process = this.alive[member]
    if (process === undefined || process.then !== undefined) return
    this.options.timeline.say(process.name, () => "is to close")
    process.then = then
    Effect.runForkWith(process.realm.context)(Fiber.interrupt(process.life.fiber))
  }

  /** kill -9 of this member, or in the middle of a handler of whoever has so many instructions next; down for so long. */
  crash(member: number, ops: number | undefined, ms: number): void {
    this.meet(member, ops, (process, inHandler) => {
      const { timeline, world } = this.options
      const index = this.alive.indexOf(process)
      timeline.say(process.name, () => `is killed${inHandler ? " in the middle of a handler" : ""}`)
      this.crashes++
      if (inHandler) this.crashesInHandlers++
      this.kill(process)
      world.after(this.hand, ms, () => this.start(index))
    })
  }

  /** Stands still, as `crash`. */
  freeze(member: number, ops: number | undefined, ms: number): void {
    this.meet(member, ops, (process, inHandler) => {
      const { timeline, world } = this.options
      timeline.say(process.name, () => `stands still for ${ms} ms${inHandler ? ", in the middle of a handler" : ""}`)
      for (const session of this.sessions(process.name)) Effect.runSync(session.freeze)
      world.freeze(process.realm)
      world.after(this.hand, ms, () => this.thaw(process))
    })
  }

  private meet(member: number, ops: number | undefined, hit: Aim["hit"]): void {
    const now = () => {
      const process = this.alive[member] ?? this.alive.find((other) => other !== undefined)
      if (process !== undefined) hit(process, false)
    }
    if (ops === undefined) return now()
    const aim: Aim = { ops, hit }
    this.aims.add(aim)
    this.options.world.after(this.hand, patience, () => {
      if (this.aims.delete(aim)) now()
    })
  }

  private thaw(process: Alive): void {
    if (process.realm.state !== "frozen") return
    this.options.timeline.say(process.name, () => "goes on")
    for (const session of this.sessions(process.name)) Effect.runSync(session.thaw)
    this.options.world.thaw(process.realm)
  }

  private kill(process: Alive): void {
    this.alive[this.alive.indexOf(process)] = undefined
    process.life.isDead = true
    this.options.world.kill(process.realm)
    for (const session of this.sessions(process.name)) Effect.runSync(session.crash)
    this.options.recorder.gone(process.name)
  }

  sessions(name: string) {
    return this.options.cluster
      .sessionsUnsafe()
      .filter((session) => session.clientId === name && session.isOpenUnsafe())
  }

  sessionsOf(member: number) {
    const process = this.alive[member]
    return process === undefined ? [] : this.sessions(process.name)
  }

  /** One after another. */
  rollingRestart(): void {
    const next = (member: number): void => {
      if (member >= this.alive.length) return
      if (this.alive[member] === undefined || this.alive[member].then !== undefined) return next(member + 1)
      this.close(member, () => {
        this.start(member)
        this.options.world.after(this.hand, restartAfter, () => next(member + 1))
      })
    }
    next(0)
  }

  /** Nothing more happens to them, and somebody is there. */
  heal(): void {
    this.aims.clear()
    for (const process of this.alive) {
      if (process === undefined) continue
      process.realm.insteadOfTurn = undefined
      this.thaw(process)
    }
    if (this.alive.every((process) => process === undefined)) this.start(0)
  }

  /** Says who holds what, when that has changed. */
  watch(): void {
    for (const process of this.alive) {
      if (process === undefined) continue
      const held = this.sessions(process.name)
        .flatMap((session) => session.heldUnsafe().map(({ partition, topic }) => `${topic}/${partition}`))
        .join(" ")
      if (held === process.held) continue
      process.held = held
      this.options.timeline.say(process.name, () => (held === "" ? "has no partitions" : `has ${held}`))
    }
  }

  end(): void {
    this.isOver = true
    for (const process of this.alive) if (process !== undefined) this.kill(process)
    this.options.world.kill(this.hand)
  }
}
