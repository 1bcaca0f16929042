/** A live page on a socket of its own, consumers that a test says everything of, and a reader of its events. */
import type { ConcurrentConsumerShape } from "@concurrent-kafka/core/ConcurrentConsumer"
import { ConsumerError } from "@concurrent-kafka/core/ConsumerError"
import type { Registry } from "@concurrent-kafka/core/ConsumerRegistry"
import { InvalidOptions } from "@concurrent-kafka/core/InvalidOptions"
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { LivePage } from "../src/index.ts"
import { endpoints } from "./http.ts"
import { snapshot } from "./topSnapshots.ts"

/** A consumer whose snapshot is what the test says; what is done to it is written down. */
export class Told {
  now: Snapshot
  asked = 0
  broken = false
  readonly done: Array<string> = []
  readonly shape: ConcurrentConsumerShape

  constructor(some: Partial<Snapshot> = {}) {
    this.now = snapshot(some)
    const did = (what: string) => Effect.sync(() => void this.done.push(what))
    const whole = (what: string, partitions: ReadonlyArray<{ readonly partition: number }> | undefined) =>
      partitions?.some(({ partition }) => partition === 99) === true
        ? Effect.fail(new ConsumerError({ reason: { _tag: "NotOwned", topic: "orders", partition: 99 } }))
        : did(partitions === undefined ? what : `${what} ${partitions.map(({ partition }) => partition).join(" ")}`)
    this.shape = {
      name: this.now.name,
      run: () => Effect.never,
      health: Effect.sync(() => this.now.health),
      snapshot: Effect.sync(() => {
        this.asked++
        if (this.broken) throw new Error("no snapshot")
        return this.now
      }),
      snapshots: () => Stream.never,
      failure: Effect.never,
      setConcurrency: (n) =>
        n === "unbounded" || n >= 1
          ? did(`concurrency ${n}`)
          : Effect.fail(new InvalidOptions({ option: "concurrency", value: n, accepted: "an integer of at least 1" })),
      pause: (partitions) => whole("pause", partitions),
      resume: (partitions) => whole("resume", partitions),
      seek: () => Effect.void,
      flush: Effect.succeed([])
    }
  }
}

export interface Page {
  readonly url: string
  readonly registry: Registry
  readonly told: Told
}

export const page = (
  options: LivePage.PageOptions = {},
  some: Partial<Snapshot> = {}
): Effect.Effect<Page, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { registry, url } = yield* endpoints(LivePage.layer(options))
    const told = new Told(some)
    yield* Effect.orDie(registry.register(told.shape))
    return { url: `${url}${options.path ?? "/kafka"}/`, registry, told }
  })

export interface Event {
  readonly name: string
  readonly id: string
  // oxlint-disable-next-line typescript/no-explicit-any -- what was received, of which a test says what it should be
  readonly data: any
}

/** The events of one browser, until it goes away. */
export class Reader {
  private readonly abort = new AbortController()
  private readonly text: Promise<ReadableStreamDefaultReader<string>>
  readonly response: Promise<Response>
  private rest = ""
  private readonly ahead: Array<Event> = []
  bytes = 0

  constructor(url: string, query = "", headers: Record<string, string> = {}) {
    this.response = fetch(`${url}events${query}`, {
      headers: { connection: "close", ...headers },
      signal: this.abort.signal
    })
    this.text = this.response.then((response) => response.body!.pipeThrough(new TextDecoderStream()).getReader())
  }
  /** `undefined` when the server has ended the stream */
  async next(): Promise<Event | undefined> {
    while (this.ahead.length === 0) {
      const { done, value } = await (await this.text).read()
      if (done) return undefined
      this.bytes += value.length
      const events = (this.rest + value).split("\n\n")
      this.rest = events.pop()!
      for (const event of events) {
        const lines = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)))
        this.ahead.push({ name: lines.event, id: lines.id, data: JSON.parse(lines.data) })
      }
    }
    return this.ahead.shift()
  }
  async until(name: string): Promise<Event> {
    for (;;) {
      const event = await this.next()
      if (event === undefined) throw new Error(`the stream has ended before "${name}"`)
      if (event.name === name) return event
    }
  }
  leave(): void {
    this.abort.abort()
  }
}

/** Until it is so; a second and a half at most, unless it may take longer. */
export const soon = async (isSo: () => boolean | Promise<boolean>, millis = 1_500): Promise<boolean> => {
  const end = Date.now() + millis
  while (Date.now() < end) {
    if (await isSo()) return true
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return false
}
