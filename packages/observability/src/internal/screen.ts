/**
 * The terminal that the process has, or whatever its output goes to.
 *
 * A picture has the alternate screen, so that what was there before is there again after it. What must not stay behind (a hidden cursor,
 * raw input, the alternate screen) is put back once, by whatever comes first: the end of the scope, Ctrl-C, or the end of the process,
 * also by an exception that nobody catches.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Size } from "../Top.ts"

/** What is used of `process.stdin`. */
export interface Input {
  readonly isTTY?: boolean
  readonly setRawMode?: (raw: boolean) => unknown
  readonly resume: () => unknown
  readonly pause: () => unknown
  readonly on: (event: "data", listener: (data: Uint8Array | string) => void) => unknown
  readonly off: (event: "data", listener: (data: Uint8Array | string) => void) => unknown
}

/** What is used of `process.stdout`. */
export interface Output {
  readonly isTTY?: boolean
  readonly columns?: number | undefined
  readonly rows?: number | undefined
  readonly write: (text: string) => unknown
  readonly on: (event: "resize" | "error", listener: () => void) => unknown
  readonly off: (event: "resize" | "error", listener: () => void) => unknown
}

/** What is used of `process`. */
export interface Host {
  readonly stdin: Input
  readonly stdout: Output
  readonly env: Readonly<Record<string, string | undefined>>
  readonly onExit: (listener: () => void) => void
  readonly offExit: (listener: () => void) => void
  /** what Ctrl-C does where the terminal does it */
  readonly interrupt: () => void
}

export interface Picture {
  /** Over the one before; the last one stays when the window is as it was again. */
  readonly draw: (lines: ReadonlyArray<string>) => void
  /** Ends when the window has got another size since it was asked last. */
  readonly resized: Effect.Effect<void>
  /** Ends when somebody has asked for it, or nobody can see it any more. */
  readonly ended: Effect.Effect<void>
}

export interface ScreenShape {
  /** It can be drawn over. */
  readonly inPlace: boolean
  readonly colors: boolean
  readonly size: () => { readonly columns: number; readonly rows: number | undefined }
  readonly print: (lines: ReadonlyArray<string>) => void
  /** Of printed lines: ends when nobody reads them any more. */
  readonly gone: Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  /** Until the scope closes. */
  readonly open: Effect.Effect<Picture, never, Scope.Scope>
}

const enter = "\u001b[?1049h\u001b[?25l"
const leave = "\u001b[?25h\u001b[?1049l"
const home = "\u001b[H"
const eraseRestOfLine = "\u001b[K"
const eraseBelow = "\u001b[J"
const wrapOff = "\u001b[?7l"
const wrapOn = "\u001b[?7h"

const ctrlC = "\u0003"
const defaultColumns = 80

const sizeOf = ({ columns, rows }: Output): ReturnType<ScreenShape["size"]> => ({
  // a terminal that says 0 does not know
  columns: columns === undefined || columns < 1 ? defaultColumns : columns,
  rows: rows === undefined || rows < 1 ? undefined : rows
})

const listening = (
  output: Output,
  event: "resize" | "error",
  listener: () => void
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => void output.on(event, listener)),
    () => Effect.sync(() => void output.off(event, listener))
  )

export const makeScreen = (host: Host): ScreenShape => {
  const { env, stdin, stdout } = host
  const isTerminal = stdout.isTTY === true && env["TERM"] !== "dumb"
  const noColor = env["NO_COLOR"] !== undefined && env["NO_COLOR"] !== ""
  const block = (lines: ReadonlyArray<string>): string => lines.map((line) => `${line}\n`).join("")

  const gone = Effect.gen(function* () {
    const broken = yield* Deferred.make<void>()
    // a pipe whose reader has gone: what else is written would end the process
    yield* listening(stdout, "error", () => Deferred.doneUnsafe(broken, Effect.void))
    return Deferred.await(broken)
  })

  const open = Effect.gen(function* () {
    const ended = yield* Deferred.make<void>()
    const resizes = yield* Queue.sliding<void>(1)
    let last: ReadonlyArray<string> = []
    let isOpen = true
    const end = () => Deferred.doneUnsafe(ended, Effect.void)

    const onData = (data: Uint8Array | string): void => {
      const text = typeof data === "string" ? data : new TextDecoder().decode(data)
      // an escape sequence is a key that is none of these, whatever letters are in it
      if (text.startsWith("\u001b")) return
      if (text.includes(ctrlC)) {
        restore()
        end()
        host.interrupt()
      } else if (/^q/i.test(text)) end()
    }
    const restore = (): void => {
      if (!isOpen) return
      isOpen = false
      host.offExit(restore)
      stdin.off("data", onData)
      if (stdin.isTTY === true) stdin.setRawMode?.(false)
      stdin.pause()
      stdout.write(wrapOn + leave + block(last))
    }
    yield* listening(stdout, "error", end)
    yield* listening(stdout, "resize", () => Queue.offerUnsafe(resizes, undefined))
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        host.onExit(restore)
        stdout.write(enter + wrapOff)
        // without a keyboard there is nothing to hear, and whoever reads the input is not disturbed
        if (stdin.isTTY !== true) return
        stdin.setRawMode?.(true)
        stdin.on("data", onData)
        stdin.resume()
      }),
      () => Effect.sync(restore)
    )
    const picture: Picture = {
      draw: (lines) => {
        if (!isOpen) return
        last = lines
        stdout.write(home + lines.map((line) => line + eraseRestOfLine).join("\r\n") + eraseBelow)
      },
      resized: Queue.take(resizes),
      ended: Deferred.await(ended)
    }
    return picture
  })

  return {
    inPlace: isTerminal,
    colors: isTerminal && !noColor,
    size: (): Size => sizeOf(stdout),
    print: (lines) => void stdout.write(`${block(lines)}\n`),
    gone,
    open
  }
}

/** Another one in tests. */
export const Screen = Context.Reference<ScreenShape>("@concurrent-kafka/observability/Screen", {
  defaultValue: () =>
    makeScreen({
      stdin: process.stdin,
      stdout: process.stdout,
      env: process.env,
      onExit: (listener) => void process.on("exit", listener),
      offExit: (listener) => void process.off("exit", listener),
      interrupt: () => void process.kill(process.pid, "SIGINT")
    })
})
