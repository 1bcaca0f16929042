/** One process that handles a topic with one hot key, and prints when it was done: hotKeyReader.ts <task as JSON> */
import { Effect } from "effect"
import { KafkaJs } from "@concurrent-kafka/kafkajs"
import { engineOn } from "./engine.ts"
import { hotName, type HotKeyReading, type HotKeyTask } from "./hotKey.ts"

const { brokers, groupId, records, topic } = JSON.parse(process.argv[2]!) as HotKeyTask

let first = 0
let handled = 0
let reading: HotKeyReading = { all: 0, others: 0, alone: 0 }
let hotRuns = false
let whenDone: () => void
const done = new Promise<void>((resolve) => {
  whenDone = resolve
})

await engineOn(
  {
    brokers,
    topic,
    groupId,
    work: { ordering: "key" },
    began: () => undefined,
    ended: () => undefined,
    done
  },
  KafkaJs.layer({ brokers }),
  () =>
    Effect.fnUntraced(function* (record) {
      const began = performance.now()
      if (first === 0) first = began
      const hot = record.key?.byteLength === hotName.length
      if (hot && hotRuns) throw new Error("two records of the hot key at once")
      if (hot) hotRuns = true
      yield* Effect.sleep(5)
      if (hot) hotRuns = false
      const now = performance.now()
      const all = (now - first) / 1000
      reading = hot
        ? { ...reading, all, alone: reading.alone + (now - began) / 1000 }
        : { ...reading, all, others: all }
      if (++handled === records) whenDone()
    })
)
process.stdout.write(JSON.stringify(reading))
process.exit(0)
