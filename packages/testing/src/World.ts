/**
 * Virtual time and the turns of everything that runs, for simulations of several processes in one.
 *
 * Each process of a simulation is a realm with a scheduler and a clock of its own: it can be frozen, and killed so that not one
 * more instruction of it runs. Between realms whose turn it could be chance decides, as it does between processes; inside of one
 * the order is Effect's own. Time moves only when nobody has anything left to do, to the next timer.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import type { Prng } from "./Prng.ts"

/** More turns than this at one moment are a loop without an end. */
const maxTurnsAtOnce = 400_000

/** After everything that a promise can do by itself. */
const nextTask: (f: () => void) => void = (() => {
  const { setImmediate } = globalThis as { readonly setImmediate?: (f: () => void) => void }
  return setImmediate ?? ((f) => void setTimeout(f, 0))
})()

/** Rings for a realm. */
interface Timer {
  readonly at: number
  readonly order: number
  readonly realm: Realm
  readonly fire: () => void
  cancelled: boolean
}

/**
 * A process: fibers that begin with its `context` belong to it.
 *
 * @since 0.1.0
 * @category models
 */
export class Realm {
  readonly name: string
  /** Changed by `World.freeze`, `World.thaw` and `World.kill`. */
  state: "running" | "frozen" | "dead" = "running"
  readonly scheduler: Scheduler.Scheduler
  readonly clock: Clock.Clock
  /** What fibers of this realm begin with: its clock and its scheduler. */
  readonly context: Context.Context<never>
  /** Decides between any two instructions of a fiber whether others have their turn first. */
  interrupts: ((fiber: Fiber.Fiber<unknown, unknown>) => boolean) | undefined = undefined
  /** Called once, in place of its next turn. */
  insteadOfTurn: (() => void) | undefined = undefined
  /** Its time of day was set, and is wrong by so many milliseconds. */
  wallOffset = 0
  /** How long it was frozen, in milliseconds. */
  frozenFor = 0
  /** When it was frozen last. */
  frozenAt = 0
  /** What waits for its turns, from `head` on. */
  tasks: Array<() => void> = []
  head = 0
  /** What it waits for. */
  readonly timers = new Set<Timer>()

  /** `together`: the tasks of a fiber that are ready run in one turn, as in Node; else each in its own. */
  constructor(name: string, world: World, together = false) {
    this.name = name
    this.scheduler = {
      executionMode: "async",
      // whoever is woken from outside (a promise) while this process is dead or stands still gets no further than here
      shouldYield: (fiber) =>
        this.state !== "running" ||
        fiber.currentOpCount >= fiber.cache.maxOpsBeforeYield ||
        this.interrupts?.(fiber) === true,
      makeDispatcher: together
        ? () => new Batches(this, world)
        : () => ({ scheduleTask: (task) => world.schedule(this, task), flush: () => {} })
    }
    const millis = () => world.now + this.wallOffset
    const wall = () => BigInt(Math.round(millis() * 1_000_000))
    const nanos = () => BigInt(Math.round(world.now * 1_000_000))
    this.clock = {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: wall,
      currentTimeNanos: Effect.sync(wall),
      monotonicTimeNanosUnsafe: nanos,
      monotonicTimeNanos: Effect.sync(nanos),
      sleep: (duration) => {
        const ms = Duration.toMillis(duration)
        if (ms <= 0) return Effect.yieldNow
        if (!Number.isFinite(ms)) return Effect.never
        return Effect.callback<void>((resume) => {
          const cancel = world.after(this, ms, () => resume(Effect.void))
          return Effect.sync(cancel)
        })
      }
    }
    this.context = Context.make(Clock.Clock, this.clock).pipe(Context.add(Scheduler.Scheduler, this.scheduler))
  }

  /** Milliseconds that it was awake since `at`, which lies in its life. */
  awakeSince(at: number, frozenBefore: number, now: number): number {
    const frozen = this.frozenFor - frozenBefore + (this.state === "frozen" ? now - this.frozenAt : 0)
    return now - at - frozen
  }
}

/** Everything of one dispatcher that is ready when its turn comes, at once. */
class Batches implements Scheduler.SchedulerDispatcher {
  private readonly realm: Realm
  private readonly world: World
  private tasks: Array<() => void> = []

  constructor(realm: Realm, world: World) {
    this.realm = realm
    this.world = world
  }

  scheduleTask(task: () => void): void {
    if (this.tasks.push(task) > 1) return
    this.world.schedule(this.realm, () => {
      const { tasks } = this
      this.tasks = []
      for (const each of tasks) if (this.realm.state !== "dead") each()
    })
  }

  flush(): void {}
}

/**
 * All realms of a simulation, and their time.
 *
 * @since 0.1.0
 * @category models
 */
export class World {
  /** Milliseconds since 1970. */
  now = 1_000_000
  /** Called when nothing is left to do at this moment. */
  onQuiet: () => void = () => {}
  /** Whether somebody may wait for a promise that nobody tells of: time then lets it have its microtasks first. */
  mayWait: () => boolean = () => false
  private readonly chance: Prng
  private readonly ready: Array<Realm> = []
  private readonly heap: Array<Timer> = []
  private orders = 0
  private promised = false
  /** Turns so far. */
  steps = 0

  constructor(chance: Prng) {
    this.chance = chance
  }

  /** The task has its turn after all others of its realm. */
  schedule(realm: Realm, task: () => void): void {
    if (realm.state === "dead") return
    realm.tasks.push(task)
    if (realm.tasks.length - realm.head === 1 && realm.state === "running") this.ready.push(realm)
  }

  /** Runs `fire` in so many milliseconds, for this realm: later when that is frozen, never when it is dead. The result cancels it. */
  after(realm: Realm, ms: number, fire: () => void): () => void {
    const timer: Timer = { at: this.now + ms, order: this.orders++, realm, fire, cancelled: false }
    if (realm.state === "dead") return () => {}
    realm.timers.add(timer)
    this.push(timer)
    return () => {
      timer.cancelled = true
      realm.timers.delete(timer)
    }
  }

  /** A promise was resolved: who waits for it goes on in a microtask, which time must not overtake. */
  resolved(): void {
    this.promised = true
  }

  /** It stands still: neither tasks nor timers of it run. */
  freeze(realm: Realm): void {
    if (realm.state !== "running") return
    realm.state = "frozen"
    realm.frozenAt = this.now
    const at = this.ready.indexOf(realm)
    if (at >= 0) this.ready.splice(at, 1)
  }

  /** It goes on where it was. */
  thaw(realm: Realm): void {
    if (realm.state !== "frozen") return
    realm.state = "running"
    realm.frozenFor += this.now - realm.frozenAt
    if (realm.tasks.length > realm.head) this.ready.push(realm)
  }

  /** kill -9: nothing of it runs any more, whatever wakes its fibers. */
  kill(realm: Realm): void {
    realm.state = "dead"
    realm.tasks = []
    realm.head = 0
    const at = this.ready.indexOf(realm)
    if (at >= 0) this.ready.splice(at, 1)
    for (const timer of realm.timers) timer.cancelled = true
    realm.timers.clear()
  }

  /** Until this time, or until `enough` when everything is quiet. */
  async runUntil(time: number, enough?: () => boolean): Promise<void> {
    for (;;) {
      await this.settle()
      this.onQuiet()
      if (this.ready.length > 0 || this.promised) continue
      if (enough?.() === true) return
      const timer = this.nextTimer()
      if (timer === undefined || timer.at > time) break
      this.pop()
      this.now = timer.at
      timer.realm.timers.delete(timer)
      if (timer.realm.state === "frozen") this.schedule(timer.realm, timer.fire)
      else timer.fire()
    }
    this.now = Math.max(this.now, time)
  }

  /** Everything that can happen without time. */
  async settle(): Promise<void> {
    for (let turns = 0, waited = false; ;) {
      while (this.ready.length > 0) {
        if (++turns > maxTurnsAtOnce) throw new Error(`no end of turns at ${this.now}, in ${this.ready[0]!.name}`)
        waited = false
        this.turn()
      }
      if (!this.promised && (waited || !this.mayWait())) return
      waited = !this.promised
      this.promised = false
      await new Promise<void>((resolve) => nextTask(() => resolve()))
    }
  }

  private turn(): void {
    this.steps++
    const at = this.ready.length === 1 ? 0 : this.chance.int(0, this.ready.length - 1)
    const realm = this.ready[at]!
    const { insteadOfTurn } = realm
    if (insteadOfTurn !== undefined) {
      realm.insteadOfTurn = undefined
      return insteadOfTurn()
    }
    const task = realm.tasks[realm.head]!
    realm.tasks[realm.head++] = undefined as unknown as () => void
    if (realm.head === realm.tasks.length) {
      realm.tasks = []
      realm.head = 0
      this.ready.splice(at, 1)
    }
    task()
  }

  private nextTimer(): Timer | undefined {
    while (this.heap.length > 0 && this.heap[0]!.cancelled) this.pop()
    return this.heap[0]
  }

  private push(timer: Timer): void {
    const { heap } = this
    let i = heap.push(timer) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (before(heap[parent]!, timer)) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = timer
  }

  private pop(): void {
    const { heap } = this
    const last = heap.pop()!
    if (heap.length === 0) return
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (before(last, heap[child]!)) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last
  }
}

const before = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)
