/** How scenarios begin. */
import { Effect } from "effect"
import type { Arena } from "./arena.ts"

/** Records that keep three processes busy. */
export const work = { perSecond: 300, keys: 400, millis: [20, 250] } as const

/** Three processes, each of which has handled some of a load that goes on. */
export const threeAtWork = Effect.fnUntraced(function* (arena: Arena) {
  const members = [yield* arena.member(), yield* arena.member(), yield* arena.member()] as const
  yield* arena.load(work)
  yield* Effect.forEach(members, (one) => arena.handles(one, 100))
  return members
})

/** The broker by way of its proxy, which lets everything through again at the end. */
export const behindProxy = Effect.fnUntraced(function* (arena: Arena) {
  const proxy = arena.kafka.nodes[0]!.proxy!
  yield* Effect.addFinalizer(() => proxy.heal)
  return { proxy, brokers: arena.kafka.proxied }
})
