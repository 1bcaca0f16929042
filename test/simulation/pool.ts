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
  readonly onResult?: ((result: Result) => void) | undefined
}

/** What a thread is told. */
export interface Task extends Cut {
  readonly seed: number
  readonly verbose: boolean
}

export const runSeeds = async (options: PoolOptions): Promise<ReadonlyArray<Result>> => {
  const { bail = false, cut = {}, onResult = () => {}, seeds, verbose = false } = options
  const count = Math.min(options.workers ?? availableParallelism(), seeds.length)
  const results: Array<Result> = []
  let next = 0
  let stopped = false
  const take = (result: Result): void => {
    results.push(result)
    onResult(result)
    if (bail && result.violations.length > 0) stopped = true
  }
  if (count <= 1) {
    for (const seed of seeds) {
      if (stopped) break
      take(await runHistory(seed, { ...cut, verbose }))
    }
    return results
  }
  await Promise.all(
    Array.from({ length: count }, async () => {
      const worker = new Worker(new URL("worker.ts", import.meta.url))
      const run = (task: Task): Promise<Result> =>
        new Promise((resolve, reject) => {
          worker.once("message", resolve)
          worker.once("error", reject)
          worker.postMessage(task)
        })
      try {
        while (!stopped && next < seeds.length) {
          const result = await run({ ...cut, seed: seeds[next++]!, verbose })
          worker.removeAllListeners("error")
          take(result)
        }
      } finally {
        await worker.terminate()
      }
    })
  )
  return results.sort((a, b) => a.seed - b.seed)
}
