/**
 * Commits of a session: one request with the generation pinned, never retried. What may not be sent is refused here.
 */
import type { CommitEntry, CommitOutcome } from "@concurrent-kafka/core/ConsumerSession"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { type CommitRequest, type CommitResponse, fateOf } from "./protocol.ts"
import type { Held, Sent, SessionState } from "./state.ts"
import { keyOf } from "./topics.ts"

export const committer = (state: SessionState, scope: Scope.Scope) => {
  const { broker, client, settings } = state
  const utf8 = new TextEncoder()

  const outcome = (entry: CommitEntry, fate: ReturnType<typeof fateOf>): CommitOutcome => ({
    topic: entry.topic,
    partition: entry.partition,
    epoch: entry.epoch,
    ...fate
  })

  const send = (request: CommitRequest): Effect.Effect<CommitResponse | undefined> =>
    state.link
      .call<CommitResponse>(() => ({
        api: "commit",
        latency: broker.settings.commitLatency,
        serve: (answer, fault) => {
          if (fault?.kind !== "code" || fault.partitions === undefined)
            return answer(broker.coordinator.commit(request))
          const met = new Set(fault.partitions.map(keyOf))
          const served = request.entries.filter((entry) => !met.has(keyOf(entry)))
          const codes = [...broker.coordinator.commit({ ...request, entries: served }).codes]
          answer({ codes: request.entries.map((entry) => (met.has(keyOf(entry)) ? fault.code : codes.shift())) })
        },
        refuse: (code) => {
          const codes = request.entries.map(() => code)
          broker.coordinator.record(request, codes)
          return { codes }
        }
      }))
      .pipe(Effect.catch(() => Effect.succeed(undefined)))

  const bytes = (request: CommitRequest): number =>
    request.entries.reduce((sum, entry) => sum + 24 + entry.topic.length + utf8.encode(entry.metadata).length, 64)

  return (entries: ReadonlyArray<CommitEntry>): Effect.Effect<ReadonlyArray<CommitOutcome>> =>
    Effect.gen(function* () {
      // A frozen process sends nothing; what it holds is looked at when it goes on.
      yield* state.link.gate.await
      const outcomes: Array<CommitOutcome | undefined> = []
      const going: Array<{ readonly index: number; readonly entry: CommitEntry; readonly held: Held }> = []
      entries.forEach((entry, index) => {
        const held = state.current(entry)
        if (held === undefined) {
          outcomes[index] = outcome(entry, { outcome: "stale", code: "EPOCH" })
        } else if (state.joining) {
          outcomes[index] = outcome(entry, { outcome: "deferred", code: "REBALANCE_IN_PROGRESS" })
        } else {
          const metadata = client.commitMetadata ? entry.metadata : ""
          going.push({ index, entry: { ...entry, metadata }, held })
        }
      })
      const request: CommitRequest = {
        groupId: settings.groupId,
        clientId: client.clientId,
        memberId: state.memberId,
        generation: state.generation,
        entries: going.map(({ entry }) => ({
          topic: entry.topic,
          partition: entry.partition,
          offset: entry.offset,
          metadata: entry.metadata
        }))
      }
      if (going.length > 0 && bytes(request) > broker.settings.maxRequestBytes) {
        for (const { entry, index } of going) outcomes[index] = outcome(entry, fateOf("REQUEST_TOO_LARGE"))
      } else if (going.length > 0) {
        const sent = going.map(({ entry, held }): [Held, Sent] => [
          held,
          state.sent(held, { offset: entry.offset, metadata: entry.metadata })
        ])
        // A request that is on its way goes its way, also when nobody waits for its answer any more.
        const response = yield* Effect.flatMap(
          Effect.forkIn(send(request), scope, { startImmediately: true }),
          Fiber.join
        )
        const codes = response === undefined ? going.map(() => "NO_ANSWER") : response.codes
        sent.forEach(([held, one], i) => {
          const answer = response === undefined ? "none" : codes[i] === undefined ? "committed" : "refused"
          state.answered(held, one, answer)
        })
        const worst = client.perPartitionCommitResult ? undefined : codes.find((code) => code !== undefined)
        going.forEach(({ entry, index }, i) => {
          outcomes[index] = outcome(entry, fateOf(worst ?? codes[i]))
        })
      }
      return outcomes as ReadonlyArray<CommitOutcome>
    })
}
