/** All troubles, at random, one upon the other. */
import { Effect, Fiber, type Scope } from "effect"
import type { KafkaUnavailable } from "../../kafka/kafka.ts"
import * as Ledger from "../ledger.ts"
import { behindProxy, work } from "../openings.ts"
import { nothingElse, type Scenario } from "../scenario.ts"

export const storm: Scenario = {
  name: "storm",
  nodes: 1,
  partitions: 12,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const { chance } = arena
    const { brokers, proxy } = yield* behindProxy(arena)
    const come = arena.member({ brokers })
    for (let i = 0; i < 4; i++) yield* come
    yield* arena.load(work)
    yield* Effect.forEach(arena.members, (one) => arena.handles(one, 50))
    const frozen: Array<Fiber.Fiber<unknown>> = []
    const troubles: Readonly<Record<string, () => Effect.Effect<unknown, KafkaUnavailable, Scope.Scope>>> = {
      kill: () => Effect.andThen(chance.pick(arena.living()).kill, come),
      terminate: () => Effect.andThen(Effect.forkScoped(chance.pick(arena.living()).terminate), come),
      join: () => (arena.living().length < 6 ? come : chance.pick(arena.living()).kill),
      freeze: () => {
        const one = chance.pick(arena.living())
        const thaw = Effect.andThen(Effect.sleep(chance.int(500, 9000)), one.signal("SIGCONT"))
        return Effect.andThen(
          one.signal("SIGSTOP"),
          Effect.map(Effect.forkScoped(thaw), (fiber) => frozen.push(fiber))
        )
      },
      cut: () => proxy.cut,
      slow: () => proxy.delay(chance.int(50, 400)),
      silent: () =>
        Effect.andThen(
          proxy.blackhole(chance.pick(["both", "requests", "answers"])),
          Effect.sleep(chance.int(500, 8000))
        ),
      refuse: () => Effect.andThen(proxy.refuse, Effect.sleep(chance.int(100, 2000))),
      lostAnswers: () => proxy.eatAnswers(8, chance.int(1, 3)),
      broker: () => Effect.andThen(arena.kafka.kill(0), arena.kafka.restart(0))
    }
    const end = Ledger.now() + 40_000
    while (Ledger.now() < end) {
      const name = chance.pick(Object.keys(troubles))
      yield* arena.note(name)
      yield* troubles[name]!()
      yield* Effect.sleep(chance.int(100, 2500))
      if (chance.chance(0.7)) yield* proxy.heal
    }
    yield* proxy.heal
    yield* Effect.forEach(frozen, Fiber.join)
    yield* arena.goesOn(500, "60 seconds")
    return nothingElse
  })
}
