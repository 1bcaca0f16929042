/**
 * One span for each request of a committer: `commit {topic}`, kind client, type settle. A trace of its own: it commits what many records
 * have done, and none of them waits for it.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { CommitEntry, CommitOutcome, Session } from "../ConsumerSession.ts"
import { Attribute, endSpan, interruptedExit, offsetOf, sharedTopic, shownFailure, spanName, system } from "./spans.ts"

export const tracedCommit = (session: Session): Session["commit"] => {
  const { groupId } = session.settings
  return (entries) => {
    const topic = sharedTopic(entries)
    const made = Effect.makeSpan(spanName("commit", topic), {
      root: true,
      kind: "client",
      attributes: {
        [Attribute.system]: system,
        [Attribute.operationName]: "commit",
        [Attribute.operationType]: "settle",
        [Attribute.group]: groupId,
        ...(topic === undefined ? {} : { [Attribute.destination]: topic }),
        ...placeOf(entries)
      }
    })
    return Effect.flatMap(made, (span) =>
      Effect.onExit(session.commit(entries), (exit) => {
        const code = Exit.isSuccess(exit) ? codeOf(exit.value) : undefined
        if (code !== undefined) span.attribute(Attribute.errorType, code)
        return endSpan(
          span,
          code !== undefined ? shownFailure(code) : Exit.isSuccess(exit) ? Exit.void : interruptedExit
        )
      })
    )
  }
}

const placeOf = (entries: ReadonlyArray<CommitEntry>): Record<string, unknown> => {
  const [only] = entries
  return only === undefined || entries.length > 1
    ? {}
    : { [Attribute.partition]: String(only.partition), [Attribute.offset]: offsetOf(only.offset) }
}

/** Why the first of those was not stored that were not. */
const codeOf = (outcomes: ReadonlyArray<CommitOutcome>): string | undefined => {
  for (const one of outcomes) if (one.outcome !== "committed") return one.code
  return undefined
}
