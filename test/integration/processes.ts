/** Processes of their own. Each is ended with its scope, by its own id. */
import { Deferred, Effect } from "effect"
import { spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"

export interface Exited {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** performance.now() */
  readonly at: number
}

export interface Process {
  readonly pid: number
  readonly exited: Effect.Effect<Exited>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  /** Ends it by interruption; returns when it is gone, with the milliseconds that it took. */
  readonly terminate: Effect.Effect<Exited & { readonly millis: number }>
  /** As the out-of-memory killer does. Also ends a process that is stopped. */
  readonly kill: Effect.Effect<Exited>
}

/** Its standard input ends with this process. What it says goes to the file; without one its errors are printed here. */
export const start = Effect.fnUntraced(function* (command: string, args: ReadonlyArray<string>, output?: string) {
  const exited = yield* Deferred.make<Exited>()
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const file = output === undefined ? undefined : openSync(output, "a")
      const started = spawn(command, args, { stdio: ["pipe", file ?? "ignore", file ?? "inherit"] })
      if (file !== undefined) closeSync(file)
      started.once("exit", (code, signal) =>
        Deferred.doneUnsafe(exited, Effect.succeed({ code, signal, at: performance.now() }))
      )
      return started
    }),
    (started) =>
      Effect.suspend(() => {
        if (started.exitCode !== null || started.signalCode !== null) return Effect.void
        started.kill("SIGKILL")
        return Effect.asVoid(Deferred.await(exited))
      })
  )
  const signal = (name: NodeJS.Signals) => Effect.sync(() => void child.kill(name))
  const process: Process = {
    pid: child.pid!,
    exited: Deferred.await(exited),
    signal,
    terminate: Effect.suspend(() => {
      const began = performance.now()
      return Effect.andThen(
        signal("SIGTERM"),
        Effect.map(Deferred.await(exited), (end) => ({ ...end, millis: end.at - began }))
      )
    }),
    kill: Effect.andThen(signal("SIGKILL"), Deferred.await(exited))
  }
  return process
})
