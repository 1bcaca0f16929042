/**
 * Permits against a counter. Somebody else takes from the same semaphore beside: together they never have more than it has.
 */
import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Permits } from "../src/internal/permits.ts"
import { between, holds, same } from "./model.ts"

const Limit = Schema.Union([between(1, 40), Schema.Literal("unbounded")])

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("acquire"), times: between(1, 20) }),
  Schema.Struct({ do: Schema.Literal("release"), times: between(1, 20) }),
  /** its fiber is left behind, and keeps it until it ends */
  Schema.Struct({ do: Schema.Literal("outlive") }),
  Schema.Struct({ do: Schema.Literal("zombieEnds") }),
  Schema.Struct({ do: Schema.Literal("rest") }),
  Schema.Struct({ do: Schema.Literal("resize"), limit: Limit }),
  Schema.Struct({ do: Schema.Literal("othersTake"), count: between(1, 10) }),
  Schema.Struct({ do: Schema.Literal("othersGive") })
])

it.prop(
  "I5: never more than the limit, over resizing, zombies and others at the same semaphore; who may have one gets one, and all are given back",
  [Limit, Schema.Array(Step)],
  ([limit, steps]) => {
    const permits = new Permits(limit)
    const { semaphore } = permits
    const take = (n: number): boolean => Effect.runSync(semaphore.takeIfAvailable(n))
    const give = (n: number): number => Effect.runSync(semaphore.release(n))
    let total = limit === "unbounded" ? Number.POSITIVE_INFINITY : limit
    let running = 0
    let zombies = 0
    let others: Array<number> = []
    const theirs = (): number => others.reduce((n, count) => n + count, 0)
    const used = (): number => running + zombies
    /** so many are in the semaphore, no more and no less */
    const free = (): void => {
      const left = total - permits.held - theirs()
      if (left === Number.POSITIVE_INFINITY) return
      if (left > 0) {
        holds(take(left), `${left} are free`)
        holds(!take(1), "more are free")
        give(left)
      } else holds(!take(1), "one is free")
    }
    const look = (): void => {
      same(permits.used, used(), "used")
      same(permits.byZombies, zombies, "by zombies")
      holds(permits.held >= permits.used, "one is used and was not taken")
      // lowered below what runs: then each that ends gives its own back, and none is kept
      if (permits.held > total) same(permits.held, permits.used, "kept over the limit")
      free()
    }
    for (const step of steps) {
      switch (step.do) {
        case "acquire":
          for (let i = 0; i < step.times; i++) {
            const { held } = permits
            const got = permits.acquire()
            // what it has in hand is its own: others cannot have taken it
            const inHand = held > used()
            same(
              got,
              inHand || held + theirs() < total,
              `one of ${total}: ${held} held, ${used()} used, ${theirs()} theirs`
            )
            if (!got) continue
            running++
            holds(used() <= total, "I5: more than there are")
            // lowered below what all of them hold: it does not become more
            holds(permits.held + theirs() <= Math.max(total, held + theirs()), "more than the semaphore has")
            // C22: at most an eighth at once
            const block = permits.limit === "unbounded" ? 1024 : Math.max(1, permits.limit >> 3)
            holds(permits.held - held <= block, `${permits.held - held} at once`)
          }
          break
        case "release":
          for (let i = 0; i < step.times && running > 0; i++) {
            permits.release()
            running--
            look()
          }
          break
        case "outlive":
          if (running === 0) break
          running--
          zombies++
          permits.byZombies++
          break
        case "zombieEnds":
          if (zombies === 0) break
          zombies--
          permits.byZombies--
          permits.release()
          break
        case "rest":
          permits.rest()
          same(permits.held, used(), "C22: what nobody uses is given back")
          break
        case "resize":
          total = step.limit === "unbounded" ? Number.POSITIVE_INFINITY : step.limit
          permits.resize(step.limit)
          same(permits.held, used(), "what nobody uses is given back")
          same(permits.limit, step.limit, "limit")
          break
        case "othersTake":
          if (take(step.count)) others.push(step.count)
          break
        case "othersGive": {
          const [count] = others.splice(0, 1)
          if (count !== undefined) give(count)
          break
        }
      }
      look()
    }
    for (; used() > 0; running > 0 ? running-- : zombies--) permits.release()
    permits.rest()
    for (const count of others) give(count)
    others = []
    same(permits.held, 0, "all are given back")
    free()
  },
  { arbitrary: { runs: 300, size: 80 } }
)
