/**
 * A producer whose sends the test answers one by one.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type Producer, type ProducerRecord, PublishError } from "../src/KafkaProducer.ts"
import { turns } from "./harness.ts"

export const publishError = (reason: PublishError["reason"], code = "NOT_ENOUGH_REPLICAS"): PublishError =>
  new PublishError({ reason, code, detail: "send 1 records" })

type Answer = Exit.Exit<boolean, PublishError>

export const taken: Answer = Exit.succeed(true)
export const refused: Answer = Exit.fail(publishError("refused", "MESSAGE_TOO_LARGE"))
export const retriable: Answer = Exit.fail(publishError("retriable"))

export interface Letter {
  readonly record: ProducerRecord
  /** milliseconds */
  readonly at: number
  state: "open" | "answered" | "interrupted"
  readonly answer: (answer: Answer) => void
}

export class Letters {
  readonly sends: Array<Letter> = []
  /** of each send, at once */
  always: Answer | undefined
  /** sends that nobody can interrupt */
  readonly stubborn: boolean

  constructor(options: { readonly always?: Answer; readonly stubborn?: boolean } = {}) {
    this.always = options.always
    this.stubborn = options.stubborn ?? false
  }

  readonly producer: Producer = {
    send: (records) => {
      const sending = Effect.clockWith((clock) =>
        Effect.callback<boolean, PublishError>((resume) => {
          assert.lengthOf(records, 1)
          const letter: Letter = {
            record: records[0]!,
            at: clock.currentTimeMillisUnsafe(),
            state: "open",
            answer: (answer) => {
              letter.state = "answered"
              resume(answer)
            }
          }
          this.sends.push(letter)
          if (this.always !== undefined) letter.answer(this.always)
          return Effect.sync(() => {
            letter.state = "interrupted"
          })
        })
      )
      return this.stubborn ? Effect.uninterruptible(sending) : sending
    }
  }

  get open(): number {
    return this.sends.filter(({ state }) => state === "open").length
  }
  get states(): ReadonlyArray<Letter["state"]> {
    return this.sends.map(({ state }) => state)
  }
  /** the newest send */
  answer(answer: Answer): Effect.Effect<void> {
    return Effect.andThen(
      Effect.sync(() => {
        const last = this.sends.at(-1)
        if (last === undefined || last.state !== "open") assert.fail("no dead letter is on its way")
        last!.answer(answer)
      }),
      turns
    )
  }
}
