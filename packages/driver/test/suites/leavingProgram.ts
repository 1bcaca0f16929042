/** A program for `leaving.ts`: joins, reads, commits, ends its scope, and prints what is then still there. */
import { KafkaClient } from "@concurrent-kafka/core/KafkaClient"
import { KafkaProducer } from "@concurrent-kafka/core/KafkaProducer"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import type { Client } from "../client.ts"
import { join, settingsOf, unique, until } from "../members.ts"

const [module = "", brokers = "", protocol = "", topic = "", how = ""] = process.argv.slice(2)
const groupProtocol = protocol === "consumer" ? "consumer" : "classic"
const { client }: { readonly client: Client } = await import(module)

const resources = () => process.getActiveResourcesInfo().filter((name) => name !== "TTYWrap" && name !== "PipeWrap")
/** A destroyed socket is gone a few turns of the event loop later. */
const print = Effect.gen(function* () {
  for (let turns = 0; turns < 20 && resources().length > 0; turns++)
    yield* Effect.promise(() => new Promise(setImmediate))
  process.stdout.write(`closed ${JSON.stringify(resources())}\n`)
})

const program = Effect.gen(function* () {
  const settings = settingsOf(unique("group"), [topic], { groupProtocol })
  const member = yield* join(settings)
  yield* until("the records", () => member.records.length === 200)
  yield* member.commit(0, 100n)
  // the second pair of connections is opened, too
  member.session.pauseUnsafe([member.partition(0)])
  yield* Effect.sleep(50)
  member.session.resumeUnsafe([member.partition(0)])
  const admin = yield* (yield* KafkaClient).openAdmin
  yield* admin.partitions([topic])
  if (how === "producing") {
    const { send } = yield* KafkaProducer
    const value = new TextEncoder().encode("v")
    yield* send([{ topic, value }])
    // one more is under way when everything closes
    yield* Effect.forkDetach(send([{ topic, value }]), { startImmediately: true })
    // and one that will never get there
    yield* Effect.forkDetach(send([{ topic: unique("missing"), value }]), { startImmediately: true })
  }
  if (how === "leave") yield* member.session.leave
  if (how === "joining") {
    // a second member is in the middle of its JoinGroup
    const scope = yield* Scope.make()
    yield* Scope.provide(join(settings, { onRevoking: () => undefined }), scope)
    yield* Effect.sleep(20)
    yield* Scope.close(scope, Exit.void)
  }
  if (how === "waiting") {
    yield* Effect.forkScoped(join(settingsOf(unique("group"), [unique("missing")], { groupProtocol })))
    yield* Effect.sleep(100)
  }
  if (how === "fail") return yield* Effect.fail("wanted")
})

await Effect.runPromise(
  program.pipe(
    Effect.scoped,
    Effect.provide(client.layer({ brokers: brokers.split(",") })),
    Effect.ignore,
    Effect.andThen(print)
  )
)
