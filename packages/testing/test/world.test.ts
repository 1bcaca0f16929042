/** Processes in virtual time: what one does that was killed, or stands still, and what its promises find when they resolve. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Prng } from "@concurrent-kafka/testing/Prng"
import { Realm, World } from "@concurrent-kafka/testing/World"

const open = () => {
  const world = new World(new Prng(1, "turns"))
  const realm = new Realm("a", world)
  const log: Array<string> = []
  const note = (text: string) => Effect.sync(() => void log.push(`${text} ${world.now - 1_000_000}`))
  const run = (effect: Effect.Effect<void>) => Effect.runForkWith(realm.context)(effect)
  return { log, note, realm, run, world }
}
const promise = Effect.promise(async () => {
  await Promise.resolve()
  await Promise.resolve()
})

describe("a process in virtual time", () => {
  it("sleeps without waiting", async () => {
    const { log, note, run, world } = open()
    run(note("a").pipe(Effect.andThen(Effect.sleep("1 hour")), Effect.andThen(note("b"))))
    await world.runUntil(world.now + 3_600_000)
    assert.deepStrictEqual(log, ["a 0", "b 3600000"])
  })

  it("has its promises before time moves, where somebody may wait for one", async () => {
    const { log, note, run, world } = open()
    world.mayWait = () => true
    run(promise.pipe(Effect.andThen(note("promise"))))
    run(Effect.sleep(1).pipe(Effect.andThen(note("sleep"))))
    await world.runUntil(world.now + 10)
    assert.deepStrictEqual(log, ["promise 0", "sleep 1"])
  })

  it("does nothing more when it was killed: not after a sleep, not after a promise, no finalizer", async () => {
    const { log, note, realm, run, world } = open()
    world.mayWait = () => true
    run(promise.pipe(Effect.andThen(note("promise")), Effect.ensuring(note("finalizer"))))
    const sleeps = run(Effect.sleep(5).pipe(Effect.andThen(note("sleep")), Effect.ensuring(note("finalizer"))))
    run(Effect.forever(Effect.yieldNow).pipe(Effect.ensuring(note("finalizer"))))
    world.kill(realm)
    sleeps.interruptUnsafe()
    await world.runUntil(world.now + 10)
    assert.deepStrictEqual(log, [])
  })

  it("goes on where it was when it has stood still", async () => {
    const { log, note, realm, run, world } = open()
    world.mayWait = () => true
    run(promise.pipe(Effect.andThen(note("promise"))))
    run(Effect.sleep(5).pipe(Effect.andThen(note("sleep"))))
    world.freeze(realm)
    await world.runUntil(world.now + 10)
    assert.deepStrictEqual(log, [])
    world.thaw(realm)
    await world.runUntil(world.now + 10)
    assert.deepStrictEqual(log, ["promise 10", "sleep 10"])
  })

  it("can be met between any two instructions", async () => {
    const met = new Set<string>()
    for (let at = 1; at <= 12; at++) {
      const { log, note, realm, run, world } = open()
      let left = at
      realm.interrupts = () => {
        if (--left !== 0) return false
        realm.insteadOfTurn = () => world.kill(realm)
        return true
      }
      run(Effect.andThen(Effect.andThen(note("a"), note("b")), note("c")))
      await world.runUntil(world.now + 1)
      met.add(log.join())
    }
    assert.deepStrictEqual([...met], ["", "a 0", "a 0,b 0", "a 0,b 0,c 0"])
  })
})
