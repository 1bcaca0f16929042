/**
 * One span for each request of a committer: `commit {topic}`, kind client, type settle. A trace of its own: it commits what many records
 * have done, and none of them waits for it.
 */
import * as Exit from "effect/Exit"
import type { CommitEntry, CommitOutcome, Session } from "../ConsumerSession.ts"
import {
  Attribute,
  endOfDefect,
  offsetOf,
  sharedTopic,
  shownFailure,
  type SpanPlan,
  spanName,
  system,
  TracedRequests
} from "./spans.ts"

export const tracedCommit = (session: Session): Session["commit"] => {
  const { groupId } = session.settings
  const requests = new TracedRequests()
  return (entries) =>
    requests.make(
      () => planOf(groupId, entries),
      () => session.commit(entries),
      (exit) => {
        const errorType = Exit.isSuccess(exit) ? codeOf(exit.value) : undefined
        if (errorType !== undefined) return { exit: shownFailure(errorType), errorType }
        return Exit.isSuccess(exit) ? { exit: Exit.void } : endOfDefect(exit.cause)
      }
    )
}

const planOf = (groupId: string, entries: ReadonlyArray<CommitEntry>): SpanPlan => {
  const topic = sharedTopic(entries)
  return {
    name: spanName("commit", topic),
    options: { root: true, kind: "client" },
    attributes: {
      [Attribute.system]: system,
      [Attribute.operationName]: "commit",
      [Attribute.operationType]: "settle",
      [Attribute.group]: groupId,
      ...(topic === undefined ? {} : { [Attribute.destination]: topic }),
      ...placeOf(entries)
    }
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
