/**
 * Processes under the clock and the scheduler that a test has: whether anything is left for them to do, and how one is killed so
 * that not one more instruction of it runs.
 *
 * A process that was killed still has fibers: they wait for a clock, a promise, a latch of somebody who lives. Whatever wakes them
 * they get no further than the next instruction, where `shouldYield` sends them behind everything else, and the task that would go
 * on with them is not run.
 */
import * as Context from "effect/Context"
import * as Scheduler from "effect/Scheduler"

export class Turns {
  /** tasks that were scheduled and have not run */
  pending = 0
  private readonly scheduler: Scheduler.Scheduler

  constructor(scheduler: Scheduler.Scheduler) {
    this.scheduler = scheduler
  }

  /** The scheduler of a process, as long as that is alive. */
  schedulerOf(process: { readonly isDead: boolean }): Scheduler.Scheduler {
    const { scheduler } = this
    return {
      executionMode: scheduler.executionMode,
      shouldYield: (fiber) => process.isDead || scheduler.shouldYield(fiber),
      makeDispatcher: () => {
        const dispatcher = scheduler.makeDispatcher()
        return {
          scheduleTask: (task, priority) => {
            if (process.isDead) return
            this.pending++
            dispatcher.scheduleTask(() => {
              this.pending--
              if (!process.isDead) task()
            }, priority)
          },
          flush: () => dispatcher.flush()
        }
      }
    }
  }

  contextOf(process: { readonly isDead: boolean }): Context.Context<never> {
    return Context.make(Scheduler.Scheduler, this.schedulerOf(process))
  }
}
