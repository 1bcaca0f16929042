/**
 * Brings records: one request after another for all partitions that want some, as a client does with one broker.
 *
 * A request answers for the partitions that were asked for, also when one was paused meanwhile: that is the one chunk which
 * may still come. When there is nothing, it waits until something is written or the wishes change; a log that was cut or
 * deleted is noticed at the end of the long poll (`maxWait`).
 */
import type { KafkaClientError } from "@concurrent-kafka/core/KafkaClient"
import * as Effect from "effect/Effect"
import type { Read } from "./log.ts"
import type { Held, SessionState } from "./state.ts"

interface Fetched {
  readonly held: Held
  readonly at: bigint
  readonly result: Read | { readonly _tag: "Gone"; readonly why: "deleted" | "recreated" }
}

interface FetchResponse {
  readonly error?: string | undefined
  readonly fetched: ReadonlyArray<Fetched>
}

export const fetcher = (state: SessionState): Effect.Effect<never, KafkaClientError> => {
  const { broker, settings } = state
  const isolation = settings.isolation
  /** where the next request begins, so that no partition is always last */
  let turn = 0

  const wanted = (): Array<Held> => {
    const all = [...state.held.values()].filter(
      (held) => held.position !== undefined && !held.paused && !held.revoking && !held.halted
    )
    const first = all.length === 0 ? 0 : turn % all.length
    return [...all.slice(first), ...all.slice(0, first)]
  }

  const read = (partitions: ReadonlyArray<Held>, maxChunk: number): FetchResponse => {
    const fetched: Array<Fetched> = []
    let left = broker.settings.maxFetchRecords
    for (const held of partitions) {
      const at = held.position
      if (at === undefined || state.current(held) !== held) continue
      const topic = broker.topics.find(held.topic)
      const log = topic?.partitions[held.partition]
      // a topic that was created again may have fewer partitions than it had
      if (topic === undefined || log === undefined || topic.id !== held.topicId) {
        fetched.push({ held, at, result: { _tag: "Gone", why: topic === undefined ? "deleted" : "recreated" } })
        continue
      }
      if (left <= 0) break
      const result = log.read(at, Math.min(left, maxChunk), isolation)
      if (result._tag === "Records") {
        if (result.nextOffset === at) continue
        left -= result.records.length
      }
      fetched.push({ held, at, result })
    }
    return { fetched }
  }

  const deliver = ({ at, held, result }: Fetched): void => {
    // Its epoch has ended since, or it was sought: nobody asked for this.
    if (state.current(held) !== held || held.position !== at || held.halted) return
    const { epoch, partition, topic } = held
    const log = broker.topics.log(held)
    switch (result._tag) {
      case "Records": {
        held.position = result.nextOffset
        const end = log?.visibleEnd(isolation) ?? result.nextOffset
        const { nextOffset, records } = result
        return state.signal({ _tag: "Chunk", topic, partition, epoch, records, nextOffset, end })
      }
      case "OutOfRange": {
        const start = log?.start ?? 0n
        const end = log?.visibleEnd(isolation) ?? 0n
        if (at < start) held.position = start
        else held.halted = true
        return state.signal({ _tag: "OutOfRange", topic, partition, epoch, position: at, start, end })
      }
      case "Gone": {
        held.halted = true
        held.gone = true
        return state.signal({ _tag: "Gone", topic, partition, epoch, why: result.why })
      }
    }
  }

  /** Whether a request would bring something: it may have come while the answer that there is nothing was on its way. */
  const hasNews = (held: Held): boolean => {
    const topic = broker.topics.find(held.topic)
    const log = topic?.partitions[held.partition]
    const at = held.position!
    return (
      log === undefined ||
      topic!.id !== held.topicId ||
      log.visibleEnd(isolation) > at ||
      at < log.start ||
      at > log.end
    )
  }

  /** Until something is written, or `maxWait` after something was cut, or the wishes change. */
  const wait = (partitions: ReadonlyArray<Held>): Effect.Effect<void> =>
    Effect.suspend(() => {
      let cancel: (() => void) | undefined
      const watcher = (change: "data" | "cut") => {
        if (change === "data") state.wakeFetcher()
        else cancel ??= broker.time.after(settings.maxWait, () => state.wakeFetcher())
      }
      const logs = partitions.flatMap((held) => broker.topics.log(held) ?? [])
      if (partitions.some(hasNews)) return Effect.void
      for (const log of logs) log.watchers.add(watcher)
      return Effect.ensuring(
        state.wake.await,
        Effect.sync(() => {
          cancel?.()
          for (const log of logs) log.watchers.delete(watcher)
        })
      )
    })

  return Effect.gen(function* () {
    for (;;) {
      state.wake.closeUnsafe()
      const partitions = wanted()
      if (partitions.length === 0) {
        yield* state.wake.await
        continue
      }
      const { error, fetched } = yield* state.retrying<FetchResponse>("records", () => ({
        api: "fetch",
        latency: broker.settings.fetchLatency,
        serve: (answer, fault) =>
          answer(read(partitions, fault?.kind === "smallChunk" ? fault.records : broker.settings.maxChunk)),
        refuse: (code) => ({ error: code, fetched: [] })
      }))
      if (error !== undefined) {
        // kafkajs joins again when a leader has moved, although the group has nothing to do with it.
        if (error === "NOT_LEADER_OR_FOLLOWER" && state.client.protocol === "eager") state.askToRejoin()
        yield* state.pause
        continue
      }
      turn += Math.max(1, fetched.length)
      for (const one of fetched) deliver(one)
      if (fetched.length === 0) yield* wait(partitions)
    }
  })
}
