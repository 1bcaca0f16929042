/**
 * Says that sessions are about to end while the event loop stands still, when nothing that runs on it can: a thread of its own waits for
 * beats, and writes a line to standard error when none has come for half of the shortest session.
 *
 * There is one thread for all consumers, from the first to the last of them; it sleeps between two beats, and holds no process back. Where
 * none can be had there is no such line, which is said once, and everything else goes on.
 */
import { Worker } from "node:worker_threads"
import { neutral } from "./topText.ts"

const beatMillis = 500
const mostBytes = 512

/**
 * Places in what both threads share: beats so far, after how many milliseconds without one to warn, how long the text is, whether the
 * session is known to be as long as that.
 */
const place = { beat: 0, limit: 1, length: 2, known: 3 } as const

// text, and not a file, so that it is there however this module was built or bundled
const thread = `
const { workerData } = require("node:worker_threads")
const { writeSync } = require("node:fs")
const state = new Int32Array(workerData.state)
const text = new Uint8Array(workerData.text)
for (;;) {
  const beat = Atomics.load(state, ${place.beat})
  const limit = Atomics.load(state, ${place.limit})
  if (Atomics.wait(state, ${place.beat}, beat, limit) !== "timed-out") continue
  const who = new TextDecoder().decode(text.slice(0, Atomics.load(state, ${place.length})))
  const seconds = (limit / 1000).toFixed(1)
  const known = Atomics.load(state, ${place.known}) === 1
  try {
    writeSync(2, "[" + new Date().toISOString() + "] WARN: the event loop has stood still for " + seconds +
      " s; if it does for " + seconds + " s more, the session of " + who + " ends, and its partitions go to others" +
      (known ? "" : " (as far as is known: the brokers' group.consumer.session.timeout.ms counts, and not sessionTimeout)") + "\\n")
  } catch {}
  Atomics.wait(state, ${place.beat}, beat)
}
`

interface Session {
  readonly consumer: string
  readonly millis: number
  readonly known: boolean
}

export class LoopWatch {
  private readonly state = new SharedArrayBuffer(Object.keys(place).length * Int32Array.BYTES_PER_ELEMENT)
  private readonly text = new SharedArrayBuffer(mostBytes)
  private readonly numbers = new Int32Array(this.state)
  private readonly sessions = new Set<Session>()
  private worker: Worker | undefined
  private timer: NodeJS.Timeout | undefined
  private refused = false
  private readonly refusedBy: (cause: unknown) => void

  /** `refusedBy`: called once, when no thread can be had. */
  constructor(refusedBy: (cause: unknown) => void) {
    this.refusedBy = refusedBy
  }

  /** Until what it gives back is called. `known`: its session is known to be so long. */
  readonly add = (consumer: string, millis: number, known: boolean): (() => void) => {
    const session = { consumer, millis, known }
    this.sessions.add(session)
    this.changed()
    return () => {
      this.sessions.delete(session)
      this.changed()
    }
  }

  stop(): void {
    this.sessions.clear()
    this.changed()
  }

  private changed(): void {
    if (this.sessions.size === 0) {
      this.end()
      return
    }
    const least = [...this.sessions].reduce((a, b) => (b.millis < a.millis ? b : a))
    const others = this.sessions.size - 1
    const who = neutral(least.consumer) + (others === 0 ? "" : ` (the first of ${this.sessions.size} consumers)`)
    const { written } = new TextEncoder().encodeInto(who, new Uint8Array(mostBytes))
    new Uint8Array(this.text).set(new TextEncoder().encode(who).subarray(0, written))
    Atomics.store(this.numbers, place.length, written)
    Atomics.store(this.numbers, place.limit, Math.max(1, Math.floor(least.millis / 2)))
    Atomics.store(this.numbers, place.known, least.known ? 1 : 0)
    this.beat()
    if (this.worker === undefined && !this.refused) this.begin()
  }

  private begin(): void {
    try {
      const worker = new Worker(thread, {
        eval: true,
        workerData: { state: this.state, text: this.text },
        // it needs next to nothing, and not what the program was started with
        resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 },
        env: {},
        execArgv: []
      })
      worker.unref()
      worker.on("error", (cause) => this.refuse(cause))
      this.worker = worker
      this.timer = setInterval(() => this.beat(), beatMillis).unref()
    } catch (cause) {
      // without the permission (`--permission` without `--allow-worker`), or beyond a limit of processes
      this.refuse(cause)
    }
  }

  /** There is no thread, and there will be none: all else goes on. */
  private refuse(cause: unknown): void {
    this.end()
    if (this.refused) return
    this.refused = true
    this.refusedBy(cause)
  }

  private end(): void {
    clearInterval(this.timer)
    void this.worker?.terminate()
    this.worker = undefined
  }

  private beat(): void {
    Atomics.add(this.numbers, place.beat, 1)
    Atomics.notify(this.numbers, place.beat)
  }
}
