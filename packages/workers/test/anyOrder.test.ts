/** Jobs that answer, fail, crash and are interrupted at any time, side by side: each gets its own end, and threads are accounted for. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import { WorkerPool } from "../src/WorkerPool.ts"
import * as Jobs from "./modules/jobs.worker.ts"
import { moduleUrl, open } from "./support.ts"

const size = 3
const jobs = 120

/** The same in each run; when what happens is the machine's to say. */
const randoms = (seed: number) => () => {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
  return seed / 2 ** 32
}

/** With which end each of them may be met, when nobody interrupts it. */
const tasks = [
  { task: ":", ends: "answer" },
  { task: "spin:15", ends: "answer" },
  { task: "throw:why", ends: "BadJob" },
  { task: "holdEffect", ends: "never" },
  { task: "spin:60000", ends: "never" },
  { task: "exit:1", ends: "WorkerCrashed" }
] as const

describe("jobs in any order", () => {
  it.live("get their own ends, and each thread that is gone was replaced once", () =>
    Effect.gen(function* () {
      const random = randoms(7)
      const { record } = yield* open
      const { handle, snapshot } = yield* WorkerPool.make<typeof Jobs>({
        module: moduleUrl("jobs"),
        error: Jobs.error,
        size,
        interruptGrace: 2
      })
      const seen = new Map<string, number>()
      const one = Effect.fnUntraced(function* (offset: number) {
        const [pick, when] = [random(), random()]
        const { ends, task } =
          tasks[pick < 0.4 ? 0 : pick < 0.7 ? 1 : pick < 0.8 ? 2 : pick < 0.87 ? 3 : pick < 0.95 ? 4 : 5]
        const fiber = yield* Effect.forkChild(handle(record(offset, task)), { startImmediately: true })
        assert.isAtMost((yield* snapshot).threads, size)
        const interrupts = ends === "never" || when < 0.2
        if (interrupts) {
          yield* Effect.sleep(when * 40)
          yield* Fiber.interrupt(fiber)
        }
        const exit = yield* Fiber.await(fiber)
        const end = Exit.isSuccess(exit)
          ? "answer"
          : Cause.hasInterruptsOnly(exit.cause)
            ? "interrupted"
            : exit.cause.reasons
                .filter(Cause.isFailReason)
                .map(({ error }) => (error as { readonly _tag: string })._tag)[0]
        if (Exit.isSuccess(exit)) assert.strictEqual(exit.value.record.offset, BigInt(offset))
        // one that is to be interrupted may have ended before
        if (end !== ends) assert.isTrue(interrupts && end === "interrupted", `${task} ended with ${end}`)
        seen.set(end ?? "", (seen.get(end ?? "") ?? 0) + 1)
      })
      yield* Effect.forEach(
        Array.from({ length: jobs }, (_, i) => i),
        one,
        { concurrency: size + 1, discard: true }
      )
      assert.sameMembers([...seen.keys()], ["answer", "interrupted", "BadJob", "WorkerCrashed"])
      const { busy, crashed, started, terminated, waiting } = yield* snapshot
      assert.deepStrictEqual({ busy, waiting, started }, { busy: 0, waiting: 0, started: size + crashed + terminated })
    }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))
  )
})
