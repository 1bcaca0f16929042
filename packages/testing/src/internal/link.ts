/**
 * The way of a session's requests to the broker and back: latency, broken connections, a frozen process, and the faults.
 *
 * A session has two connections, as clients do, so that a long poll holds up nothing else: one for the group, one for the
 * records. A request whose connection breaks gets no answer; whether it was served is decided by when it broke.
 */
import { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { Api, Fault } from "../Faults.ts"
import type { FaultBook, Requester } from "./faults.ts"
import type { Code } from "./protocol.ts"
import type { Time } from "./time.ts"

interface Connection {
  open: boolean
  readonly pending: Set<() => void>
}

const connect = (): Connection => ({ open: true, pending: new Set() })

/** A request with all that it says: what it reads of its sender it reads before it is sent, and says however late it is served. */
export interface Call<A> {
  readonly api: Api
  /** milliseconds until it reaches the broker */
  readonly latency: number
  /** Runs on the broker; the answer may be given later. */
  readonly serve: (answer: (response: A) => void, fault: Fault | undefined) => void
  /** The answer that says this error. */
  readonly refuse: (code: Code, fault: Fault) => A
}

export class Link {
  private readonly time: Time
  private readonly faults: FaultBook
  private readonly requester: Requester
  private readonly requestTimeout: number
  /** JoinGroup and SyncGroup wait for others by their nature, so clients wait longer for them. */
  private readonly joinTimeout: number
  private readonly brokerIsUp: () => boolean
  private readonly connections = { group: connect(), records: connect() }
  /** closed while the process is frozen */
  readonly gate = Latch.makeUnsafe(true)
  /** this session alone cannot reach the broker */
  disconnected = false

  constructor(options: {
    readonly time: Time
    readonly faults: FaultBook
    readonly requester: Requester
    readonly requestTimeout: number
    readonly joinTimeout: number
    readonly brokerIsUp: () => boolean
  }) {
    this.time = options.time
    this.faults = options.faults
    this.requester = options.requester
    this.requestTimeout = options.requestTimeout
    this.joinTimeout = options.joinTimeout
    this.brokerIsUp = options.brokerIsUp
  }

  get isReachable(): boolean {
    return !this.disconnected && this.brokerIsUp()
  }

  /** Breaks what is open. Requests that wait for an answer fail in the next turn. */
  break(which?: "group" | "records"): void {
    for (const name of which === undefined ? (["group", "records"] as const) : [which]) {
      const broken = this.connections[name]
      this.connections[name] = connect()
      broken.open = false
      for (const fail of broken.pending) this.time.defer(fail)
      broken.pending.clear()
    }
  }

  /** `make`: called when the request is sent, by a process that does not stand still. */
  call<A>(make: () => Call<A>): Effect.Effect<A, KafkaClientError> {
    const self = this
    const attempt = Effect.gen(function* (): Effect.fn.Return<A, KafkaClientError> {
      yield* self.gate.await
      const { api, latency, refuse, serve } = make()
      const fault = self.faults.meet(api, self.requester)
      if (!self.isReachable || fault?.kind === "refused") return yield* noConnection(api)
      const name = api === "fetch" || api === "listOffsets" ? "records" : "group"
      const connection = self.connections[name]
      const limit = api === "join" || api === "sync" ? self.joinTimeout : self.requestTimeout
      const giveUp = Effect.gen(function* () {
        yield* Effect.raceFirst(self.time.sleep(limit), closed(connection))
        if (connection.open) self.break(name)
        return yield* timedOut(api, limit)
      })
      const serveLate = (ms: number) =>
        self.time.after(ms, () => {
          if (self.brokerIsUp()) serve(() => {}, fault)
        })
      if (fault?.kind === "slowRequest" && fault.ms > limit) {
        serveLate(fault.ms)
        return yield* giveUp
      }
      yield* self.time.sleep(latency + (fault?.kind === "slowRequest" ? fault.ms : 0))
      if (!connection.open) return yield* brokenConnection(api)
      switch (fault?.kind) {
        case "dropped":
          self.break(name)
          return yield* brokenConnection(api)
        case "answerLost":
          serve(() => {}, fault)
          self.break(name)
          return yield* brokenConnection(api)
        case "servedLate":
          self.break(name)
          serveLate(fault.ms)
          return yield* brokenConnection(api)
        case "noAnswer":
          return yield* giveUp
        default:
          break
      }
      if (fault?.kind === "slowAnswer" && fault.ms > limit) {
        serve(() => {}, fault)
        return yield* giveUp
      }
      const response =
        fault?.kind === "code" && fault.partitions === undefined
          ? refuse(fault.code, fault)
          : yield* self.answer<A>(api, name, connection, limit, (done) => serve(done, fault))
      if (fault?.kind === "slowAnswer") {
        yield* self.time.sleep(fault.ms)
        if (!connection.open) return yield* brokenConnection(api)
      }
      return response
    })
    return Effect.gen(function* (): Effect.fn.Return<A, KafkaClientError> {
      const result = yield* Effect.result(attempt)
      // A frozen process reads nothing, whatever has come or not come.
      yield* self.gate.await
      return yield* Effect.fromResult(result)
    })
  }

  private answer<A>(
    api: Api,
    name: "group" | "records",
    connection: Connection,
    limit: number,
    serve: (answer: (response: A) => void) => void
  ): Effect.Effect<A, KafkaClientError> {
    return Effect.callback<A, KafkaClientError>((resume) => {
      let waiting = false
      let settled = false
      let stop = () => {}
      const settle = (effect: Effect.Effect<A, KafkaClientError>) => {
        if (settled) return
        settled = true
        stop()
        connection.pending.delete(fail)
        resume(effect)
      }
      const fail = () => settle(brokenConnection(api))
      serve((response) => {
        const answered = Effect.succeed(response)
        if (waiting) this.time.defer(() => settle(answered))
        else settle(answered)
      })
      waiting = true
      if (settled) return
      connection.pending.add(fail)
      // another request of the same member may have taken the place of this one: then nobody answers it
      stop = this.time.after(limit, () => {
        stop = () => {}
        settle(timedOut(api, limit))
        if (connection.open) this.break(name)
      })
      return Effect.sync(() => {
        settled = true
        stop()
        connection.pending.delete(fail)
      })
    })
  }
}

const closed = (connection: Connection): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const close = () => resume(Effect.void)
    if (!connection.open) return close()
    connection.pending.add(close)
    return Effect.sync(() => connection.pending.delete(close))
  })

const noConnection = (api: Api) =>
  new KafkaClientError({ reason: "Connection", detail: `${api}: no connection to the broker` })
const brokenConnection = (api: Api) =>
  new KafkaClientError({ reason: "Connection", detail: `${api}: the connection broke before the answer` })
const timedOut = (api: Api, ms: number) =>
  new KafkaClientError({ reason: "Timeout", detail: `${api}: no answer within ${ms} ms` })
