/**
 * One worker thread, from its start to its end, with at most one job at a time.
 *
 *     loading --Loaded--> idle --begin--> busy --reply--> idle
 *        |                  |               |
 *        |                  |               +--interrupt--> busy, told to end --reply--> idle
 *        |                  |               |                      |
 *        +------------------+---------------+----------------------+--> ending --> ended
 *
 * It ends by itself (a crash), or is terminated: when it does not load, when a job does not end, when the pool is closed. A job is over
 * when its reply is here or its thread has ended, never before: what comes next in its lane must not run beside it.
 *
 * A thread may crash between two jobs: the next may have been sent to it by then, and never begin. So it says in memory that both see
 * whether that has begun.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { WorkerPlatform } from "effect/workers/Worker"
import * as Worker from "effect/workers/Worker"
import type { WorkerError as ChannelError } from "effect/workers/WorkerError"
import type { ResourceLimits } from "node:worker_threads"
import * as WorkerThreads from "node:worker_threads"
import { ModuleUnusable, WorkerCrashed } from "../WorkerError.ts"
import type { Order, Packed, Reply, ThreadData } from "./wire.ts"
import { thrownOf } from "./wire.ts"

export interface ThreadSettings {
  readonly href: string
  readonly name: string
  /** milliseconds */
  readonly loadTimeout: number
  /** milliseconds */
  readonly interruptGrace: number
  readonly resourceLimits: ResourceLimits | undefined
}

/** How a job has ended, as its thread says. */
export type JobReply = Exclude<Reply, { readonly _tag: "Loaded" | "Unusable" | "Uninterruptible" }>

export interface ThreadEnd {
  readonly crash: WorkerCrashed
  /** where it ended before it was loaded */
  readonly unusable: ModuleUnusable | undefined
  /** by us */
  readonly terminated: boolean
  /** whether the job that it had has begun */
  readonly begun: boolean
}

export interface ThreadEvents {
  readonly loaded: (thread: Thread) => void
  /** mostly it is idle again */
  readonly replied: (thread: Thread, reply: JobReply) => void
  /** once, and with it the job that it had */
  readonly ended: (thread: Thread, end: ThreadEnd) => void
}

// in the repository sources are run as they are
const entry = new URL(import.meta.url.endsWith(".ts") ? "./entry.ts" : "./entry.js", import.meta.url)

export class Thread {
  private readonly settings: ThreadSettings
  private readonly events: ThreadEvents
  private readonly worker: Worker.Worker<Reply, Order>
  private raw: WorkerThreads.Worker | undefined
  private readonly begun = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  private isLoaded = false
  private unusable: ModuleUnusable | undefined
  /** nothing is begun on it any more */
  private ending = false
  private terminated = false
  private hasEnded = false
  private exitCode: number | undefined
  private job: number | undefined
  private timer: NodeJS.Timeout | undefined
  private readonly whenEnded: Array<() => void> = []

  constructor(platform: WorkerPlatform["Service"], settings: ThreadSettings, events: ThreadEvents) {
    this.settings = settings
    this.events = events
    this.worker = Effect.runSync(
      Effect.provideService(platform.spawn<Reply, Order>(0), Worker.Spawner, () => this.spawn())
    )
  }

  get isIdle(): boolean {
    return this.isLoaded && !this.ending && this.job === undefined
  }

  get isEnding(): boolean {
    return this.ending
  }

  start(): void {
    const { href, loadTimeout } = this.settings
    this.timer = setTimeout(
      () =>
        this.giveUp(
          new ModuleUnusable({ why: "timeout", module: href, detail: `it was not loaded within ${loadTimeout} ms` })
        ),
      loadTimeout
    )
    // its end is seen by the observer, and it is ended by terminating the thread
    const fiber = Effect.runFork(this.worker.run((reply) => Effect.sync(() => this.receive(reply))))
    fiber.addObserver((exit) => this.end(exit))
  }

  private spawn(): WorkerThreads.Worker {
    const { href, name, resourceLimits } = this.settings
    const data: ThreadData = { href, begun: this.begun }
    const raw = new WorkerThreads.Worker(entry, {
      name,
      workerData: data,
      ...(resourceLimits === undefined ? {} : { resourceLimits })
    })
    // heard before `end` is called, which comes when all that belongs to it is closed: a job would be sent to nobody meanwhile
    raw.once("error", () => {
      this.ending = true
    })
    raw.once("messageerror", () => {
      this.ending = true
    })
    raw.once("exit", (code) => {
      this.exitCode = code
      this.ending = true
    })
    this.raw = raw
    return raw
  }

  /** A failure: the record cannot cross, and the thread is idle as before. */
  begin(id: number, order: Order, transfer: Packed["transfer"]): Exit.Exit<void, ChannelError> {
    this.job = id
    Atomics.store(this.begun, 0, 0)
    const sent = Effect.runSyncExit(this.worker.send(order, transfer))
    if (Exit.isFailure(sent)) this.job = undefined
    return sent
  }

  /** Over with its reply, or with the end of the thread. */
  interrupt(id: number): void {
    if (this.job !== id) return
    const { interruptGrace } = this.settings
    if (interruptGrace === 0) return this.terminate()
    this.timer = setTimeout(() => this.terminate(), interruptGrace)
    Effect.runSyncExit(this.worker.send({ _tag: "Interrupt", id }))
  }

  terminate(): void {
    clearTimeout(this.timer)
    // one that has crashed has not been ended by us
    if (!this.ending) this.terminated = true
    // a reply may still come before the end: nothing more is begun on it then
    this.ending = true
    void this.raw?.terminate()
  }

  /** Called when it has ended, or at once. */
  onceEnded(f: () => void): void {
    if (this.hasEnded) f()
    else this.whenEnded.push(f)
  }

  private giveUp(unusable: ModuleUnusable): void {
    this.unusable = unusable
    this.terminate()
  }

  private receive(reply: Reply): void {
    if (reply._tag === "Loaded") {
      if (this.unusable !== undefined) return
      clearTimeout(this.timer)
      this.isLoaded = true
      return this.events.loaded(this)
    }
    if (reply._tag === "Unusable") {
      const { detail, why } = reply
      return this.giveUp(new ModuleUnusable({ why, module: this.settings.href, detail }))
    }
    if (reply.id !== this.job) return
    if (reply._tag === "Uninterruptible") return this.terminate()
    clearTimeout(this.timer)
    this.job = undefined
    this.events.replied(this, reply)
  }

  private end(exit: Exit.Exit<never, ChannelError>): void {
    clearTimeout(this.timer)
    this.ending = true
    this.hasEnded = true
    this.job = undefined
    const crash = crashOf(exit, this.exitCode)
    const unusable = this.isLoaded ? undefined : (this.unusable ?? this.crashedAtLoad(crash))
    const begun = Atomics.load(this.begun, 0) === 1
    this.events.ended(this, { crash, unusable, terminated: this.terminated, begun })
    for (const f of this.whenEnded) f()
  }

  private crashedAtLoad(crash: WorkerCrashed): ModuleUnusable {
    const { detail, name } = thrownOf(crash.cause)
    return new ModuleUnusable({
      why: "crashed",
      module: this.settings.href,
      detail: crash.cause === undefined ? `its thread exited with code ${this.exitCode}` : `${name}: ${detail}`
    })
  }
}

const outOfMemory = "ERR_WORKER_OUT_OF_MEMORY"

const crashOf = (exit: Exit.Exit<never, ChannelError>, exitCode: number | undefined): WorkerCrashed => {
  const error = Exit.isFailure(exit) ? exit.cause.reasons.find((reason) => reason._tag !== "Interrupt") : undefined
  const cause: unknown =
    error === undefined ? undefined : error._tag === "Die" ? error.defect : error.error.reason.cause
  if (cause === undefined) return new WorkerCrashed({ how: "exit", exitCode })
  const how =
    typeof cause === "object" && cause !== null && "code" in cause && cause.code === outOfMemory
      ? "outOfMemory"
      : "exception"
  return new WorkerCrashed({ how, exitCode, cause })
}
