/** What is in the log of a topic in the end. */
import * as Effect from "effect/Effect"
import { join, range, settingsOf, unique, until } from "./members.ts"

/** The values of each partition as a session reads them. */
export const logOf = (topic: string, partitions: number, count: number) =>
  Effect.gen(function* () {
    const member = yield* join(settingsOf(unique("reader"), [topic]))
    yield* until(`${count} records`, () => member.records.length >= count, 30_000)
    // whatever is there twice would come now
    yield* Effect.sleep(500)
    return range(partitions).map((partition) =>
      member.records.filter((record) => record.partition === partition).map(({ value }) => String(Buffer.from(value!)))
    )
  })
