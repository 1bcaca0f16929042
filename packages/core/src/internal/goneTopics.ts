/**
 * Partitions that are not there any more, which health names until their topic is seen again.
 *
 * That it is there again shows in an assignment only if this member is given a part of it; the group may have given all of it to
 * others. So the topic itself is asked for, as often as the client looks at its metadata.
 */
import * as Effect from "effect/Effect"
import type { TopicPartition } from "../ConsumerRecord.ts"
import type { Gone } from "../ConsumerSession.ts"
import { keyOf, type RunState } from "./state.ts"

interface Missing {
  readonly at: number
  readonly signal: Gone
}

export class GoneTopics {
  private readonly missing = new Map<string, Missing>()
  private asking = false
  private readonly run: RunState
  private readonly fork: (effect: Effect.Effect<unknown>) => void

  constructor(run: RunState, fork: (effect: Effect.Effect<unknown>) => void) {
    this.run = run
    this.fork = fork
  }

  get all(): ReadonlyArray<Missing> {
    return [...this.missing.values()]
  }

  add(signal: Gone): void {
    this.missing.set(keyOf(signal), { at: this.run.now(), signal })
    if (this.asking) return
    this.asking = true
    this.fork(this.ask)
  }

  /** It was given to us anew. */
  found(partition: TopicPartition): void {
    this.missing.delete(keyOf(partition))
  }

  /** These topics are there: what is not given to us of them is another member's, or there are fewer partitions now. */
  seen(topics: ReadonlySet<string>): void {
    for (const [key, { signal }] of [...this.missing]) if (topics.has(signal.topic)) this.missing.delete(key)
  }

  clear(): void {
    this.missing.clear()
  }

  private readonly ask: Effect.Effect<void> = Effect.suspend(() =>
    Effect.andThen(Effect.sleep(this.run.session.settings.metadataMaxAge), this.askNow)
  )

  private readonly askNow: Effect.Effect<void> = Effect.suspend(() => {
    const topics = [...new Set(this.all.map(({ signal }) => signal.topic))]
    const answers = Effect.forEach(
      topics,
      (topic) =>
        Effect.map(Effect.exit(this.run.session.logOffsets([{ topic, partition: 0 }])), (exit) => {
          if (exit._tag === "Success") this.seen(new Set([topic]))
        }),
      { discard: true }
    )
    return Effect.flatMap(answers, () => {
      if (this.missing.size > 0) return this.ask
      this.asking = false
      return Effect.void
    })
  })
}
