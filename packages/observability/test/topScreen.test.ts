/** The table in a terminal that the test plays: what is written to it, what is put back, and what ends it. */
import { ConsumerRegistry, makeRegistry } from "@concurrent-kafka/core/ConsumerRegistry"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { EventEmitter } from "node:events"
import { stripVTControlCharacters } from "node:util"
import { pass, turns } from "../../core/test/harness.ts"
import { scripted } from "../../core/test/script.ts"
import { type Host, makeScreen, Screen } from "../src/internal/screen.ts"
import * as Top from "../src/Top.ts"
import { Told } from "./pageServer.ts"
import { now, snapshot } from "./topSnapshots.ts"

const enter = "\u001b[?1049h\u001b[?25l"
const leave = "\u001b[?25h\u001b[?1049l"

class Keyboard extends EventEmitter {
  isTTY = true
  raw = false
  flowing = false
  setRawMode(raw: boolean): void {
    this.raw = raw
  }
  resume(): void {
    this.flowing = true
  }
  pause(): void {
    this.flowing = false
  }
}

class Paper extends EventEmitter {
  columns = 100
  rows: number | undefined = 30
  written = ""
  isTTY: boolean
  constructor(isTTY: boolean) {
    super()
    this.isTTY = isTTY
  }
  write(text: string): void {
    this.written += text
  }
  /** what was written since it was asked last */
  news(): string {
    const news = this.written
    this.written = ""
    return news
  }
}

const terminal = (options: { readonly isTTY?: boolean; readonly env?: Host["env"] } = {}) => {
  const stdin = new Keyboard()
  const stdout = new Paper(options.isTTY ?? true)
  const exits = new Set<() => void>()
  let interrupts = 0
  const screen = makeScreen({
    stdin,
    stdout,
    env: options.env ?? {},
    onExit: (listener) => void exits.add(listener),
    offExit: (listener) => void exits.delete(listener),
    interrupt: () => void interrupts++
  })
  return { stdin, stdout, exits, screen, interrupts: () => interrupts }
}

/** Watches one consumer that has one partition. */
const watching = (played: ReturnType<typeof terminal>, options?: Top.TopOptions) =>
  Effect.gen(function* () {
    const s = yield* scripted()
    yield* s.session.assign([{ partition: 0, epoch: 1, committed: 0 }])
    yield* s.session.chunk(0, 1, 0, 4)
    const registry = makeRegistry()
    yield* registry.register(s.consumer)
    const fiber = yield* Top.watch(options).pipe(
      Effect.provideService(ConsumerRegistry, registry),
      Effect.provideService(Screen, played.screen),
      Effect.forkChild
    )
    yield* turns
    return { s, fiber }
  })

const frames = (text: string): number => text.split("\u001b[H").length - 1

/** As it was before: nothing is left of it. */
const restored = ({ exits, stdin, stdout }: ReturnType<typeof terminal>) => {
  assert.include(stdout.written, leave)
  assert.strictEqual(stdout.written.split(leave).length, 2, "once")
  assert.deepStrictEqual([stdin.raw, stdin.flowing, exits.size], [false, false, 0])
  assert.deepStrictEqual(
    [stdin.listenerCount("data"), stdout.listenerCount("resize"), stdout.listenerCount("error")],
    [0, 0, 0]
  )
}

describe("the table on a terminal", () => {
  it.effect("is drawn in place once a second, until q; then the window is as it was, with the last picture below", () =>
    Effect.gen(function* () {
      const played = terminal()
      const { fiber, s } = yield* watching(played)
      const first = played.stdout.news()
      assert.isTrue(first.startsWith(enter))
      assert.strictEqual(frames(first), 1)
      assert.isTrue(played.stdin.raw && played.stdin.flowing)
      assert.notInclude(first, "\n\n")
      yield* s.desk.finish(0, 0, 2)
      yield* pass(1_000)
      const second = played.stdout.news()
      assert.strictEqual(frames(second), 1)
      assert.match(second, /t\/0 .* 1 +1 +2 /)
      yield* pass(3_000)
      played.stdin.emit("data", Buffer.from("\u001b[q"))
      played.stdin.emit("data", "x")
      yield* turns
      assert.isUndefined(fiber.pollUnsafe())
      played.stdin.emit("data", Buffer.from("q"))
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.void)
      restored(played)
      assert.strictEqual(played.interrupts(), 0)
      const below = played.stdout.written.split(leave)[1]!
      assert.include(below, "1 consumer, 1 partition")
      assert.notInclude(below, "\u001b[H")
    })
  )

  it.effect("has rates of what came after the first look as soon as it was seen twice", () =>
    Effect.gen(function* () {
      const played = terminal({ env: { NO_COLOR: "1" } })
      const { fiber, s } = yield* watching(played)
      yield* s.session.assign([{ partition: 0, epoch: 2, committed: 0 }])
      yield* s.session.chunk(0, 2, 0, 4)
      yield* pass(1_000)
      assert.match(stripVTControlCharacters(played.stdout.news()), /t\/0 .* -$/m)
      yield* s.desk.finish(0, 0, 1, 2)
      yield* pass(1_000)
      assert.match(stripVTControlCharacters(played.stdout.news()), /t\/0 .* 3$/m)
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("follows the window's size at once", () =>
    Effect.gen(function* () {
      const played = terminal()
      const { fiber } = yield* watching(played)
      played.stdout.news()
      played.stdout.columns = 60
      played.stdout.rows = 5
      played.stdout.emit("resize")
      yield* turns
      const drawn = played.stdout.news()
      assert.strictEqual(frames(drawn), 1)
      const lines = stripVTControlCharacters(drawn).split("\r\n")
      assert.isAtMost(lines.length, 5)
      for (const line of lines) assert.isAtMost(line.length, 60)
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("Ctrl-C puts everything back and then does what it would have done: the program is interrupted", () =>
    Effect.gen(function* () {
      const played = terminal()
      const { fiber } = yield* watching(played)
      played.stdin.emit("data", Buffer.from("\u0003"))
      // at once: where nobody hears the signal, it ends the process
      restored({ ...played, stdout: Object.assign(new Paper(true), { written: played.stdout.written }) })
      assert.strictEqual(played.interrupts(), 1)
      yield* Fiber.await(fiber)
      restored(played)
    })
  )

  it.effect("puts everything back when it is interrupted, and when the process ends with an exception", () =>
    Effect.gen(function* () {
      const interrupted = terminal()
      const { fiber } = yield* watching(interrupted)
      yield* Fiber.interrupt(fiber)
      restored(interrupted)
      const crashed = terminal()
      yield* watching(crashed)
      for (const listener of crashed.exits) listener()
      assert.include(crashed.stdout.written, leave)
      assert.deepStrictEqual([crashed.stdin.raw, crashed.exits.size], [false, 0])
      crashed.stdout.news()
      yield* pass(5_000)
      assert.strictEqual(crashed.stdout.written, "", "nothing is drawn after it")
    })
  )

  it.effect("has colours, and none with NO_COLOR", () =>
    Effect.gen(function* () {
      const colors = (text: string) => text.includes("\u001b[32m")
      for (const [env, expected] of [
        [{}, true],
        [{ NO_COLOR: "" }, true],
        [{ NO_COLOR: "1" }, false]
      ] as const) {
        const played = terminal({ env })
        const { fiber } = yield* watching(played)
        assert.strictEqual(colors(played.stdout.written), expected)
        yield* Fiber.interrupt(fiber)
      }
    })
  )
})

describe("the table elsewhere", () => {
  for (const [where, options] of [
    ["a pipe", { isTTY: false }],
    ["a dumb terminal", { env: { TERM: "dumb" } }]
  ] as const) {
    it.effect(`is a plain block every two seconds: ${where}`, () =>
      Effect.gen(function* () {
        const played = terminal(options)
        const { fiber } = yield* watching(played)
        assert.strictEqual(played.stdout.written, "")
        for (let i = 0; i < 3; i++) {
          yield* pass(2_000)
          const block = played.stdout.news()
          assert.notInclude(block, "\u001b")
          assert.match(block, /^1 consumer, 1 partition [^]*\n\n$/)
        }
        assert.isFalse(played.stdin.raw)
        played.stdout.emit("error")
        assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.void, "whoever read it has gone")
      })
    )
  }

  it.effect("is one block with `once`, on a terminal too", () =>
    Effect.gen(function* () {
      for (const isTTY of [true, false]) {
        const played = terminal({ isTTY, env: { NO_COLOR: "1" } })
        const { fiber, s } = yield* watching(played, { once: true, interval: 500 })
        yield* s.desk.finish(0, 0)
        yield* pass(500)
        assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.void)
        assert.notInclude(played.stdout.written, "\u001b")
        assert.include(played.stdout.written, "done 1, 2/s")
      }
    })
  )

  it.effect("has a rate again at the second look after the clock was set back", () =>
    Effect.gen(function* () {
      const played = terminal({ isTTY: false })
      const told = new Told()
      const registry = makeRegistry()
      yield* registry.register(told.shape)
      const tell = (at: number, handled: number) => {
        told.now = snapshot({ at, startedAt: now, outcomes: { ...told.now.outcomes, handled } })
      }
      tell(now + 10_000_000, 50)
      const fiber = yield* Top.watch({ interval: "1 second" }).pipe(
        Effect.provideService(ConsumerRegistry, registry),
        Effect.provideService(Screen, played.screen),
        Effect.forkChild
      )
      yield* turns
      const rates: Array<string | undefined> = []
      for (const [at, handled] of [
        [10_001_000, 60],
        [5_000_000, 70],
        [5_001_000, 80],
        [5_002_000, 100]
      ] as const) {
        tell(now + at, handled)
        yield* pass(1_000)
        rates.push(/done \d+, (\S+)\/s/.exec(played.stdout.news())?.[1])
      }
      assert.deepStrictEqual(rates, ["10", "-", "10", "15"])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("refuses an interval that is none", () =>
    Effect.gen(function* () {
      for (const interval of [0, "Infinity"] as const) {
        const exit = yield* Effect.exit(Top.watch({ interval }))
        assert.isTrue(Exit.isFailure(exit) && !Cause.hasDies(exit.cause), `${interval}`)
      }
    })
  )
})
