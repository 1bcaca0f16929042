/** The service as processes of their own. Each is ended with its scope, by its own id. */
import { Deferred, Effect, Schedule } from "effect"
import { spawn } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { inspect } from "node:util"
import type { Role } from "../src/app.ts"

const service = join(import.meta.dirname, "..", "src", "service.ts")

export interface Exited {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Child {
  readonly pid: number
  readonly exited: Effect.Effect<Exited>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  /** What it has written so far. */
  readonly said: Effect.Effect<string>
}

/** What it says goes to a file: of what is killed in the middle nothing is lost there. */
export const start = Effect.fnUntraced(function* (
  role: Role,
  environment: Readonly<Record<string, string>>,
  file: string
) {
  const exited = yield* Deferred.make<Exited>()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const output = openSync(file, "a")
      const started = spawn(process.execPath, [service, role], {
        stdio: ["ignore", output, output],
        env: { ...process.env, ...environment }
      })
      closeSync(output)
      started.once("exit", (code, signal) => Deferred.doneUnsafe(exited, Effect.succeed({ code, signal })))
      return started
    }),
    (started) =>
      Effect.suspend(() => {
        if (started.exitCode !== null || started.signalCode !== null) return Effect.void
        started.kill("SIGKILL")
        return Effect.asVoid(Deferred.await(exited))
      })
  )
  const made: Child = {
    pid: child.pid ?? 0,
    exited: Deferred.await(exited),
    signal: (name) => Effect.sync(() => void child.kill(name)),
    said: Effect.sync(() => readFileSync(file, "utf8"))
  }
  return made
})

/** Until it answers that each of its consumers has its partitions. */
export const ready = (child: Child, url: string) => {
  let last: unknown = "nothing"
  const failed = (what: string) =>
    Effect.flatMap(child.said, (said) => Effect.die(new Error(`${what}; last answer: ${String(last)}\n${said}`)))
  return Effect.tryPromise(async () => {
    // 503 when the port is open and the routes are not there yet, and while a consumer has no partitions; nothing when it is killed here
    const answer = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(1_000) })
    last = await answer.text()
    return answer.ok
  }).pipe(
    Effect.tapError((error) => Effect.sync(() => (last = inspect(error.cause)))),
    Effect.filterOrFail((ok) => ok),
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.raceFirst(Effect.flatMap(child.exited, ({ code }) => failed(`the service ended with ${code}`))),
    Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => failed("the service is not ready") }),
    Effect.asVoid,
    Effect.orDie
  )
}
