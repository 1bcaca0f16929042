/**
 * Many histories on all cores. Which thread runs a seed changes nothing in it; results come in the order of the seeds.
 */
import { availableParallelism } from "node:os"
import { Worker } from "node:worker_threads"
import { type Result, runHistory } from "./history.ts"
import type { Cut } from "./schedule.ts"

export interface PoolOptions {
  readonly seeds: ReadonlyArray<number>
  readonly workers?: number | undefined
  readonly verbose?: boolean | undefined
  /** what is left out of each */
  readonly cut?: Cut | undefined
  /** stop at the first seed that fails */
  readonly bail?: boolean | undefined
  /** milliseconds after which a history has failed: something in it goes round in a circle. Each is on another thread then */
  readonly limitMillis?: number | undefined
  readonly onResult?: ((result: Result) => void) | undefined
}

/** What a thread is told. */
export interface Task extends Cut {
  readonly seed: number
  readonly verbose: boolean
}

/** A thread that plays one history after the other, until one does not end. */
class Player {
  private worker: Worker | undefined = undefined

  play(task: Task, limitMillis: number | undefined): Promise<Result> {
    const worker = (this.worker ??= new Worker(new URL("worker.ts", import.meta.url)))
    return new Promise((resolve) => {
      const ends = () => {
        clearTimeout(timer)
        worker.off("message", played)
        worker.off("error", failed)
      }
      const played = (result: Result) => {
        ends()
        resolve(result)
      }
      const givesUp = (detail: string) => {
        ends()
        this.worker = undefined
        void worker.terminate()
        resolve(broken(task.seed, detail))
      }
      // thrown where nobody could catch it
      const failed = (error: unknown) =>
        givesUp(error instanceof Error ? (error.stack ?? error.message) : String(error))
      const late = () => givesUp(`the history does not end within ${limitMillis! / 1000} s`)
      const timer = limitMillis === undefined ? undefined : setTimeout(late, limitMillis)
      worker.on("message", played)
      worker.on("error", failed)
      worker.postMessage(task)
    })
  }

  async end(): Promise<void> {
    await this.worker?.terminate()
  }
}

/** Nothing is known of it but that it did not end, or how. */
const broken = (seed: number, detail: string): Result => ({
  seed,
  violations: [{ invariant: "end", detail, at: 1_000_000 }],
  hash: "",
  lines: 0,
  steps: 0,
  records: 0,
  partitions: 0,
  members: 0,
  faults: 0,
  schedule: [],
  virtualMillis: 0,
  counts: {},
  trace: []
})

export const runSeeds = async (options: PoolOptions): Promise<ReadonlyArray<Result>> => {
  const { bail = false, cut = {}, limitMillis, onResult = () => {}, seeds, verbose = false } = options
  const count = Math.min(options.workers ?? availableParallelism(), seeds.length)
  const results: Array<Result> = []
  let next = 0
  let stopped = false
  const take = (result: Result): void => {
    results.push(result)
    onResult(result)
    if (bail && result.violations.length > 0) stopped = true
  }
  if (count <= 1 && limitMillis === undefined) {
    for (const seed of seeds) {
      if (stopped) break
      take(await runHistory(seed, { ...cut, verbose }))
    }
    return results
  }
  await Promise.all(
    Array.from({ length: count }, async () => {
      const player = new Player()
      try {
        while (!stopped && next < seeds.length) {
          take(await player.play({ ...cut, seed: seeds[next++]!, verbose }, limitMillis))
        }
      } finally {
        await player.end()
      }
    })
  )
  return results.sort((a, b) => a.seed - b.seed)
}
