/**
 * A TCP proxy on 127.0.0.1 that a test can make slow, cut, silent or closed while clients use it.
 */
import { Duration, Effect } from "effect"
import type { Scope } from "effect"
import * as net from "node:net"
import * as Frames from "./frames.ts"
import * as Ports from "./ports.ts"

export type Direction = "requests" | "answers" | "both"

export interface Proxy {
  readonly port: number
  readonly address: string
  /** Connections that are open now. */
  readonly connections: Effect.Effect<number>
  /** Ends all faults: bytes that were held go on, new connections are accepted. */
  readonly heal: Effect.Effect<void>
  /** Every chunk of bytes is passed on so much later, in both directions. */
  readonly delay: (by: Duration.Input) => Effect.Effect<void>
  /** Resets the connections that are open; new ones are accepted. */
  readonly cut: Effect.Effect<void>
  /** Nothing is passed on, nothing is closed, as on a network that drops all packets. */
  readonly blackhole: (direction?: Direction) => Effect.Effect<void>
  /** Resets the connections that are open and refuses new ones. */
  readonly refuse: Effect.Effect<void>
  /** The next so many requests of this kind reach the broker, and their answers do not come back; everything else does. Only with `kafka`. */
  readonly eatAnswers: (apiKey: number, count: number) => Effect.Effect<void>
  /** So many answers have been eaten. */
  readonly eaten: Effect.Effect<number>
}

interface Faults {
  delayMillis: number
  holdRequests: boolean
  holdAnswers: boolean
  eat: { readonly apiKey: number; left: number } | undefined
}

/** One direction of one connection. Bytes leave in the order in which they came, whatever happens to the delay meanwhile. */
class Pipe {
  private readonly queue: Array<{ due: number; readonly chunk: Buffer | "end" }> = []
  private timer: NodeJS.Timeout | undefined
  private readonly from: net.Socket
  private readonly to: net.Socket
  private readonly faults: Faults
  private readonly held: () => boolean

  constructor(
    from: net.Socket,
    to: net.Socket,
    faults: Faults,
    held: () => boolean,
    passed: (chunk: Buffer) => ReadonlyArray<Buffer>
  ) {
    this.from = from
    this.to = to
    this.faults = faults
    this.held = held
    from.on("data", (chunk) => passed(chunk).forEach((piece) => this.push(piece)))
    from.once("end", () => this.push("end"))
    to.on("drain", () => from.resume())
  }

  private push(chunk: Buffer | "end") {
    this.queue.push({ due: performance.now() + this.faults.delayMillis, chunk })
    this.flush()
  }

  flush() {
    clearTimeout(this.timer)
    this.timer = undefined
    while (!this.held()) {
      const next = this.queue[0]
      if (next === undefined) return
      const wait = next.due - performance.now()
      if (wait > 0) {
        this.timer = setTimeout(() => this.flush(), Math.ceil(wait))
        return
      }
      this.queue.shift()
      if (next.chunk === "end") this.to.end()
      else if (!this.to.write(next.chunk)) this.from.pause()
    }
    // nothing may pile up behind a hole: the sender's own socket has to fill, as on a real network
    this.from.pause()
  }

  /** After a fault has ended. */
  wake() {
    const latest = performance.now() + this.faults.delayMillis
    for (const entry of this.queue) entry.due = Math.min(entry.due, latest)
    this.from.resume()
    this.flush()
  }

  stop() {
    clearTimeout(this.timer)
    this.queue.length = 0
  }
}

/**
 * A proxy in front of a port of 127.0.0.1, closed with the scope.
 */
export const make = Effect.fnUntraced(function* (options: {
  readonly target: number
  readonly port?: number | undefined
  /** What passes is Kafka's protocol, so that answers can be eaten. */
  readonly kafka?: boolean | undefined
}): Effect.fn.Return<Proxy, never, Scope.Scope> {
  const port = options.port ?? (yield* Ports.free(1))[0] ?? 0
  const faults: Faults = { delayMillis: 0, holdRequests: false, holdAnswers: false, eat: undefined }
  let eaten = 0
  const eats = (apiKey: number): boolean => {
    if (faults.eat?.apiKey !== apiKey || faults.eat.left === 0) return false
    faults.eat.left--
    return true
  }
  const whole = (chunk: Buffer) => [chunk]
  const sockets = new Set<net.Socket>()
  const pipes = new Set<Pipe>()
  let server: net.Server | undefined

  const connect = (client: net.Socket) => {
    const broker = net.connect({ port: options.target, host: "127.0.0.1", allowHalfOpen: true })
    const both = [client, broker]
    const frames = options.kafka === true ? Frames.eating(eats, () => void eaten++) : { request: whole, answer: whole }
    const requests = new Pipe(client, broker, faults, () => faults.holdRequests, frames.request)
    const answers = new Pipe(broker, client, faults, () => faults.holdAnswers, frames.answer)
    sockets.add(client)
    pipes.add(requests).add(answers)
    const close = () => {
      sockets.delete(client)
      for (const pipe of [requests, answers]) {
        pipe.stop()
        pipes.delete(pipe)
      }
      for (const socket of both) socket.destroy()
    }
    for (const socket of both) {
      socket.setNoDelay(true)
      socket.on("error", close)
      socket.once("close", close)
    }
  }

  const open = Effect.callback<void>((resume) => {
    if (server !== undefined) return resume(Effect.void)
    const opening = net.createServer({ allowHalfOpen: true }, connect)
    server = opening
    opening.once("error", (error) => resume(Effect.die(error)))
    opening.listen({ port, host: "127.0.0.1" }, () => resume(Effect.void))
  })

  const cut = Effect.sync(() => {
    for (const socket of sockets) socket.resetAndDestroy()
  })

  const refuse = Effect.callback<void>((resume) => {
    const closing = server
    server = undefined
    if (closing === undefined) return resume(Effect.void)
    closing.close(() => resume(Effect.void))
    Effect.runSync(cut)
  })

  const set = (change: Partial<Faults>) =>
    Effect.sync(() => {
      Object.assign(faults, change)
      for (const pipe of pipes) pipe.wake()
    })

  yield* Effect.acquireRelease(open, () => refuse)
  return {
    port,
    address: `127.0.0.1:${port}`,
    connections: Effect.sync(() => sockets.size),
    heal: Effect.andThen(set({ delayMillis: 0, holdRequests: false, holdAnswers: false, eat: undefined }), open),
    delay: (by) => set({ delayMillis: Duration.toMillis(by) }),
    cut,
    blackhole: (direction = "both") =>
      set({ holdRequests: direction !== "answers", holdAnswers: direction !== "requests" }),
    refuse,
    eatAnswers: (apiKey, count) => set({ eat: { apiKey, left: count } }),
    eaten: Effect.sync(() => eaten)
  }
})
