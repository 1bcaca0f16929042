/**
 * The threads of a pool, and who gets the next one.
 *
 * Invariants, with their tests in `test/workerPool.test.ts`:
 * - there are never more threads than `size`, one that is about to end included;
 * - waiting jobs begin in the order in which they came;
 * - each job is settled once, after nothing of it runs any more;
 * - a thread that has ended with a job is replaced at once, any other when a job waits: a module that crashes by itself, or does not
 *   load, is tried once for each job and not in a loop;
 * - when `close` is through, no thread is there.
 *
 * Everything here is synchronous. To settle a job runs what waits for it, which may begin the next one here: so that comes last.
 */
import type * as Exit from "effect/Exit"
import type { WorkerPlatform } from "effect/workers/Worker"
import type { WorkerRecord } from "../WorkerModule.ts"
import { type ModuleUnusable, NotCloneable, PoolClosed, type WorkerCrashed } from "../WorkerError.ts"
import { type JobReply, Thread, type ThreadEnd, type ThreadSettings } from "./thread.ts"
import { type JobOrder, pack, thrownOf } from "./wire.ts"

/** What became of a job. */
export type Settlement = JobReply | WorkerCrashed | NotCloneable | ModuleUnusable | PoolClosed

export interface Job {
  readonly record: WorkerRecord
  readonly of: Pick<JobOrder, "span" | "annotations" | "minimumLogLevel">
  readonly settle: (how: Settlement) => void
  /** of the job on its thread */
  id: number
  thread: Thread | undefined
  /** somebody has given up on it, and waits for this */
  abandoned: (() => void) | undefined
}

export interface ThreadsSettings extends Omit<ThreadSettings, "name"> {
  readonly name: string
  readonly size: number
}

/** What it tells, so that nothing disappears silently. */
export interface ThreadsReports {
  /** without a record where it had none */
  readonly crashed: (crash: WorkerCrashed, record: WorkerRecord | undefined) => void
  /** nobody waits for it */
  readonly unusable: (error: ModuleUnusable) => void
}

export interface ThreadsCounts {
  readonly threads: number
  readonly busy: number
  readonly waiting: number
  readonly started: number
  readonly crashed: number
  readonly terminated: number
}

export class Threads {
  private readonly platform: WorkerPlatform["Service"]
  private readonly settings: ThreadsSettings
  private readonly reports: ThreadsReports
  private readonly all = new Set<Thread>()
  private readonly loading = new Set<Thread>()
  private readonly idle: Array<Thread> = []
  /** in the order in which they came */
  private readonly waiting = new Set<Job>()
  private readonly running = new Map<Thread, Job>()
  private closed = false
  private ids = 0
  private started = 0
  private crashed = 0
  private terminated = 0

  constructor(platform: WorkerPlatform["Service"], settings: ThreadsSettings, reports: ThreadsReports) {
    this.platform = platform
    this.settings = settings
    this.reports = reports
  }

  get counts(): ThreadsCounts {
    return {
      threads: this.all.size,
      busy: this.running.size,
      waiting: this.waiting.size,
      started: this.started,
      crashed: this.crashed,
      terminated: this.terminated
    }
  }

  /** The first by itself: when the module cannot be used, that is said once. */
  startAll(then: (unusable: ModuleUnusable | undefined) => void): void {
    this.start((unusable) => {
      if (unusable === undefined) while (!this.closed && this.all.size < this.settings.size) this.start()
      then(unusable)
    })
  }

  submit(job: Job): void {
    if (this.closed) return job.settle(new PoolClosed())
    this.waiting.add(job)
    this.next()
  }

  /** `over` is called when nothing of it runs any more; the job is not settled then. */
  abandon(job: Job, over: () => void): void {
    if (job.thread === undefined) {
      this.waiting.delete(job)
      return over()
    }
    job.abandoned = over
    job.thread.interrupt(job.id)
  }

  close(over: () => void): void {
    this.closed = true
    const waiting = [...this.waiting]
    this.waiting.clear()
    let left = this.all.size
    if (left === 0) over()
    for (const thread of this.all) {
      thread.onceEnded(() => {
        if (--left === 0) over()
      })
      thread.terminate()
    }
    for (const job of waiting) job.settle(new PoolClosed())
  }

  /** Hands out what is idle, and starts threads for what waits beyond those that are already on their way. */
  private next(): void {
    while (this.waiting.size > 0 && this.idle.length > 0) {
      const thread = this.idle.pop()
      // it may have begun to end since it came here
      if (thread?.isIdle !== true) continue
      const [job] = this.waiting
      if (job === undefined) break
      this.waiting.delete(job)
      this.begin(thread, job)
    }
    while (!this.closed && this.loading.size < this.waiting.size && this.all.size < this.settings.size) this.start()
  }

  private begin(thread: Thread, job: Job): void {
    job.id = ++this.ids
    job.thread = thread
    this.running.set(thread, job)
    const { record, transfer } = pack(job.record)
    const sent = thread.begin(job.id, { _tag: "Job", id: job.id, record, ...job.of }, transfer)
    if (sent._tag === "Success") return
    this.running.delete(thread)
    this.idle.push(thread)
    job.settle(new NotCloneable({ what: "record", detail: detailOf(sent) }))
  }

  private start(then?: (unusable: ModuleUnusable | undefined) => void): void {
    const { name, ...settings } = this.settings
    const thread = new Thread(
      this.platform,
      { ...settings, name: `${name} ${++this.started}` },
      {
        loaded: (loaded) => {
          this.loading.delete(loaded)
          this.idle.push(loaded)
          this.next()
          then?.(undefined)
        },
        replied: (by, reply) => this.replied(by, reply),
        ended: (ended, end) => this.ended(ended, end, then)
      }
    )
    this.all.add(thread)
    this.loading.add(thread)
    thread.start()
  }

  private replied(thread: Thread, reply: JobReply): void {
    const job = this.running.get(thread)
    this.running.delete(thread)
    if (thread.isIdle) this.idle.push(thread)
    this.next()
    if (job !== undefined) finish(job, reply)
  }

  private ended(
    thread: Thread,
    { crash, terminated, unusable }: ThreadEnd,
    then: ((unusable: ModuleUnusable | undefined) => void) | undefined
  ): void {
    const job = this.running.get(thread)
    this.running.delete(thread)
    this.all.delete(thread)
    this.loading.delete(thread)
    if (terminated && unusable === undefined) this.terminated++
    if (this.closed) {
      then?.(unusable)
      if (job !== undefined) finish(job, new PoolClosed())
      return
    }
    if (unusable !== undefined) return this.notLoaded(unusable, then)
    if (!terminated) {
      this.crashed++
      this.reports.crashed(crash, job?.record)
    }
    if (job !== undefined || terminated) this.start()
    this.next()
    if (job !== undefined) finish(job, crash)
  }

  /** The one that has waited longest is told, so that none waits for ever and none is told of what it has not waited for. */
  private notLoaded(
    unusable: ModuleUnusable,
    then: ((unusable: ModuleUnusable | undefined) => void) | undefined
  ): void {
    const [job] = this.waiting
    if (job !== undefined) this.waiting.delete(job)
    this.next()
    if (job !== undefined) job.settle(unusable)
    else if (then === undefined) this.reports.unusable(unusable)
    then?.(unusable)
  }
}

const finish = (job: Job, how: Settlement): void => {
  if (job.abandoned === undefined) job.settle(how)
  else job.abandoned()
}

const detailOf = (sent: Exit.Exit<void, unknown>): string =>
  sent._tag === "Failure" ? thrownOf(sent.cause.reasons[0]).detail : ""
