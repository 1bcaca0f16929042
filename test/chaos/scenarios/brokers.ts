/** What happens to brokers: killed, restarted, and a dead-letter topic that has none for a while. */
import { Effect } from "effect"
import { until } from "../../integration/until.ts"
import type { Arena } from "../arena.ts"
import { threeAtWork, work } from "../openings.ts"
import { nothingElse, type Scenario } from "../scenario.ts"

export const brokerKill: Scenario = {
  name: "broker-kill",
  nodes: 1,
  partitions: 12,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const members = [...(yield* threeAtWork(arena))]
    const killed = members[0]!
    // once shorter than a session; once longer, and a process is killed meanwhile
    for (const away of ["1 second", "8 seconds"] as const) {
      yield* arena.kafka.kill(0)
      yield* Effect.sleep(away)
      if (away === "8 seconds") {
        yield* killed.kill
        members[0] = yield* arena.member()
      }
      yield* arena.kafka.restart(0)
      yield* Effect.forEach(members, (one) => arena.handles(one, 200), { concurrency: "unbounded" })
    }
    return nothingElse
  })
}

/** Until every partition has all of its replicas again: the next node may go. */
const whole = (arena: Arena, topic: string) =>
  until(`all replicas of ${topic} are in sync`, arena.outside.inSync(topic), (least) => least === 3)

export const rollingBrokers: Scenario = {
  name: "rolling-brokers",
  nodes: 3,
  partitions: 12,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const options = { concurrency: 300, sessionTimeout: 10_000 }
    const members = [yield* arena.member(options), yield* arena.member(options)]
    yield* arena.sees("both have partitions", () => members.every(({ assigned }) => assigned === 6))
    const longRunning = { keys: 1_000_000, millis: [20_000, 20_000] } as const
    yield* arena.send(60, longRunning)
    yield* arena.load({ ...longRunning, perSecond: 10 })
    for (let node = 0; node < 3; node++) {
      yield* arena.kafka.restart(node)
      yield* whole(arena, arena.topic)
      yield* whole(arena, "__consumer_offsets")
    }
    return (facts) => {
      const interrupted = facts.handlings.filter(({ outcome }) => outcome === "interrupted").length
      const attempts = facts.handlings.length - facts.produced.length
      return [
        ...(interrupted > 0 ? [`${interrupted} handlers of 20 s were interrupted`] : []),
        ...(attempts > 0 ? [`${attempts} handlers of 20 s ran again`] : [])
      ]
    }
  })
}

export const deadLetters: Scenario = {
  name: "dead-letters",
  nodes: 3,
  partitions: 12,
  orderly: false,
  play: Effect.fnUntraced(function* (arena) {
    const topic = `${arena.topic}.dead`
    // on the third node alone, which will be away
    yield* arena.outside.createTopic(topic, -1, {
      replicaAssignment: [{ partition: 0, replicas: [3] }],
      configEntries: [{ name: "message.timestamp.type", value: "LogAppendTime" }]
    })
    const options = { deadLetters: topic }
    const members = [yield* arena.member(options), yield* arena.member(options)]
    // one of a hundred fails for good, another one the first time
    yield* arena.load({
      ...work,
      kindOf: (record) => (record % 100 === 0 ? "fails" : record % 100 === 50 ? "flaky" : "work")
    })
    yield* Effect.forEach(members, (one) => arena.handles(one, 100))
    yield* arena.kafka.kill(2)
    yield* arena.sees("health says that dead letters are not taken", () =>
      members.some((one) => one.said("deadLetterFailing"))
    )
    yield* arena.goesOn(1000)
    yield* arena.kafka.restart(2)
    yield* Effect.forEach(members, (one) => arena.handles(one, 200))
    yield* arena.settle
    const letters = yield* arena.letters(topic)
    return (facts) => {
      const dead = new Set(letters.map(({ record }) => record))
      const failing = facts.produced.filter(({ acknowledged, record }) => record % 100 === 0 && acknowledged !== null)
      const without = failing.filter(({ record }) => !dead.has(record)).map(({ record }) => record)
      const wrong = letters.filter(({ kind }) => kind !== "fails")
      return [
        ...(failing.length < 10 ? [`only ${failing.length} records have failed`] : []),
        ...(without.length > 0 ? [`records without a dead letter: ${without.join(", ")}`] : []),
        ...(wrong.length > 0 ? [`${wrong.length} dead letters of records that did not fail for good`] : [])
      ]
    }
  })
}
