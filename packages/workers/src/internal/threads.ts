/**
 * The threads of a pool, and who gets the next one.
 *
 * Invariants, with their tests in `test/workerPool.test.ts`:
 * - there are never more threads than `size`, one that is about to end included;
 * - waiting jobs begin in the order in which they came;
 * - each job is settled once, after nothing of it runs any more; what is wrong with one record is said to that job and to no other;
 * - a job that was sent to a thread which ended before it began there is handed out again, once: what keeps it from beginning may be
 *   its own record;
 * - a thread that has ended with a job is replaced at once, any other when a job waits: a module that crashes by itself is not started
 *   in a loop;
 * - after a load that failed none is started for a pause, which grows, and then one at a time until one has loaded (`loads.ts`);
 *   jobs are failed with that only when no other thread is there to wait for;
 * - when `close` is through, no thread is there.
 *
 * Everything here is synchronous. To settle a job runs what waits for it, which may begin the next one here: so that comes last.
 */
import type * as Exit from "effect/Exit"
import type { WorkerPlatform } from "effect/workers/Worker"
import type { WorkerRecord } from "../WorkerModule.ts"
import { type ModuleUnusable, NotCloneable, PoolClosed, type WorkerCrashed } from "../WorkerError.ts"
import { type Later, Loads } from "./loads.ts"
import { type JobReply, Thread, type ThreadEnd, type ThreadSettings } from "./thread.ts"
import { type PackedOrder, thrownOf } from "./wire.ts"

/** What became of a job. */
export type Settlement = JobReply | WorkerCrashed | NotCloneable | ModuleUnusable | PoolClosed

export interface Job {
  readonly record: WorkerRecord
  /** Throws where the record is none, as far as another thread is concerned. */
  readonly pack: (id: number) => PackedOrder
  readonly settle: (how: Settlement) => void
  /** they rise in the order in which jobs came */
  id: number
  thread: Thread | undefined
  /** it was sent to a thread that ended before it had begun */
  missed: boolean
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
  private readonly loads: Loads
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

  constructor(platform: WorkerPlatform["Service"], settings: ThreadsSettings, reports: ThreadsReports, later: Later) {
    this.platform = platform
    this.settings = settings
    this.reports = reports
    this.loads = new Loads(later, () => this.next())
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
      if (unusable === undefined) while (this.mayStart) this.start()
      then(unusable)
    })
  }

  submit(job: Job): void {
    if (this.closed) return job.settle(new PoolClosed())
    job.id = ++this.ids
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
    this.loads.close()
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
    while (this.loading.size < this.waiting.size && this.mayStart) this.start()
  }

  private get mayStart(): boolean {
    return !this.closed && this.all.size < this.settings.size && this.loads.mayStart(this.loading.size)
  }

  private begin(thread: Thread, job: Job): void {
    let packed: PackedOrder
    try {
      packed = job.pack(job.id)
    } catch (error) {
      return this.refused(thread, job, thrownOf(error).detail)
    }
    job.thread = thread
    this.running.set(thread, job)
    const sent = thread.begin(job.id, packed.order, packed.transfer)
    if (sent._tag === "Success") return
    this.running.delete(thread)
    this.refused(thread, job, detailOf(sent))
  }

  private refused(thread: Thread, job: Job, detail: string): void {
    this.idle.push(thread)
    job.settle(new NotCloneable({ what: "record", detail }))
  }

  private start(then?: (unusable: ModuleUnusable | undefined) => void): void {
    const { name, ...settings } = this.settings
    const thread = new Thread(
      this.platform,
      { ...settings, name: `${name} ${++this.started}` },
      {
        loaded: (loaded) => {
          this.loading.delete(loaded)
          this.loads.succeeded()
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
    try {
      this.next()
    } finally {
      // it is over, whatever becomes of others
      if (job !== undefined) finish(job, reply)
    }
  }

  private ended(
    thread: Thread,
    { begun, crash, terminated, unusable }: ThreadEnd,
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
    if (unusable !== undefined) return then === undefined ? this.notLoaded(unusable) : then(unusable)
    const again = job !== undefined && !begun && !job.missed && job.abandoned === undefined
    if (!terminated) {
      this.crashed++
      this.reports.crashed(crash, again ? undefined : job?.record)
    }
    if (again) this.handBack(job)
    if ((job !== undefined || terminated) && this.mayStart) this.start()
    try {
      this.next()
    } finally {
      if (job !== undefined && !again) finish(job, crash)
    }
  }

  /** In front of those that came after it. */
  private handBack(job: Job): void {
    job.missed = true
    job.thread = undefined
    const waiting = [job, ...this.waiting].sort((a, b) => a.id - b.id)
    this.waiting.clear()
    for (const one of waiting) this.waiting.add(one)
  }

  /** Jobs wait for the threads that are there, and for the next try; where nothing is left to wait for each of them is told. */
  private notLoaded(unusable: ModuleUnusable): void {
    this.loads.failed()
    const left = [...this.all].some((thread) => !thread.isEnding)
    const told = left ? [] : [...this.waiting]
    if (told.length === 0) return this.reports.unusable(unusable)
    this.waiting.clear()
    for (const job of told) job.settle(unusable)
  }
}

const finish = (job: Job, how: Settlement): void => {
  if (job.abandoned === undefined) job.settle(how)
  else job.abandoned()
}

const detailOf = (sent: Exit.Exit<void, unknown>): string =>
  sent._tag === "Failure" ? thrownOf(sent.cause.reasons[0]).detail : ""
