/**
 * What happens to topics and their logs: writing, transactions, holes, retention, truncation, deletion.
 */
import type { NewRecord, Transaction } from "@concurrent-kafka/testing/MemoryKafka"
import * as Effect from "effect/Effect"
import { deadLetterTopic } from "./handlers.ts"
import type { Process } from "./member.ts"
import { groupId, type Stage } from "./stage.ts"
import type { Prng } from "@concurrent-kafka/testing/Prng"
import { type Filter, keyOf, type LogTruth, type Rec } from "./truth.ts"

const mostPartitions = 6
const many = 300

interface OpenTransaction {
  readonly transaction: Transaction
  readonly recs: Array<Rec>
}

export class TopicActions {
  private readonly stage: Stage
  /** of the step that is being taken */
  chance: Prng
  /** its number, and how many records it has written */
  step = 0
  private writes = 0
  /** what could not be written, because no topic was there */
  private unwritten = 0
  private transactions: Array<OpenTransaction> = []
  /** topics that were deleted, and with how many partitions */
  private readonly deleted = new Map<string, number>()

  constructor(stage: Stage, chance: Prng) {
    this.stage = stage
    this.chance = chance
  }

  private sync<A>(effect: Effect.Effect<A>): A {
    return Effect.runSync(effect)
  }

  private log(what: string): void {
    this.stage.checker.trace.log("SIM", what)
  }

  begin(): void {
    const { checker, cluster, plan } = this.stage
    for (const topic of plan.topics) {
      this.sync(cluster.createTopic(topic.name, { partitions: topic.partitions }))
      checker.truth.create(topic.name, topic.partitions)
    }
    if (plan.deadLetters) this.sync(cluster.createTopic(deadLetterTopic, { partitions: 2 }))
  }

  /** What is there already when the first member comes. */
  first(): void {
    const { plan } = this.stage
    for (const topic of plan.topics) this.produce(topic.name, this.chance.int(0, plan.burst))
    if (plan.foreign) for (const log of this.logs()) if (this.chance.chance(0.6)) this.tool(log)
  }

  private logs(): ReadonlyArray<LogTruth> {
    return [...this.stage.checker.truth.logs.values()].filter((log) => !log.gone)
  }

  private topic(): string | undefined {
    const there = this.stage.plan.topics.filter((topic) => !this.deleted.has(topic.name))
    return there.length === 0 ? undefined : this.chance.pick(there).name
  }

  private ends(log: LogTruth): { readonly start: bigint; readonly end: bigint } {
    return this.stage.cluster.logOffsetsUnsafe(log.topic, log.partition, "read_uncommitted")
  }

  /** Somewhere in the log, its ends included. */
  private offset(log: LogTruth): bigint {
    const { end, start } = this.ends(log)
    return start + BigInt(this.chance.int(0, Number(end - start)))
  }

  // ------------------------------------------------------------------ records

  private filter(): Filter {
    return this.stage.plan.filters ? this.chance.weighted({ wanted: 6, unwanted: 3, throws: 0.3 }) : "wanted"
  }

  /** Writes some records. */
  write(count: number = this.chance.int(1, this.stage.plan.burst)): boolean {
    const topic = this.topic()
    if (topic === undefined) {
      this.unwritten += count
      return false
    }
    this.produce(topic, count)
    return true
  }

  /** Another step begins. */
  begins(step: number, chance: Prng): void {
    this.step = step
    this.chance = chance
    this.writes = 0
  }

  private produce(topic: string, wanted: number, open?: OpenTransaction): void {
    const { checker, cluster, cut } = this.stage
    const count = Math.min(wanted, cut.burst ?? wanted)
    const { truth } = checker
    const first = truth.nextId
    const filters = Array.from({ length: count }, () => this.filter())
    const { hotKey } = this.stage.plan
    // so many that one reader goes round in the place that he has for them
    const alone =
      wanted < many || this.chance.chance(0.3)
        ? undefined
        : this.chance.pick([...truth.logs.values()].filter((log) => log.topic === topic && !log.gone)).partition
    const records = filters.map((_, i) => ({
      partition: alone,
      value: String(first + i),
      key: this.chance.chance(0.4) ? null : `k${this.chance.chance(hotKey) ? 0 : this.chance.int(0, 9)}`
    })) satisfies ReadonlyArray<NewRecord>
    const written = this.sync(
      open === undefined ? cluster.produce(topic, records) : open.transaction.produce(topic, records)
    )
    this.log(`produces ${count} to ${topic}${open === undefined ? "" : " in a transaction"}`)
    written.forEach((at, i) => {
      const filter = filters[i]!
      const rec = truth.written({
        ...at,
        source: `${this.step}.${this.writes++}`,
        filter,
        key: records[i]!.key,
        unorderable: this.stage.plan.order === "function" && this.chance.chance(0.02),
        visible: open === undefined ? "yes" : "pending",
        done: filter === "unwanted"
      })
      open?.recs.push(rec)
    })
  }

  produceEverywhere(): void {
    for (const topic of this.stage.plan.topics) this.produce(topic.name, 6)
  }

  /** Opens a transaction, writes in one, or ends one. */
  transact(): boolean {
    const { chance, stage } = this
    const topic = this.topic()
    if (topic === undefined) return false
    const open = this.transactions.length > 0 && chance.chance(0.7) ? chance.pick(this.transactions) : undefined
    if (open === undefined) {
      const fresh = { transaction: this.sync(stage.cluster.transaction), recs: [] }
      this.transactions.push(fresh)
      this.produce(topic, chance.int(1, 5), fresh)
    } else if (chance.chance(0.3)) this.produce(topic, chance.int(1, 5), open)
    else this.endTransaction(open, chance.chance(0.6))
    return true
  }

  private endTransaction(open: OpenTransaction, commit: boolean): void {
    this.log(`a transaction of ${open.recs.length} is ${commit ? "committed" : "aborted"}`)
    this.transactions = this.transactions.filter((one) => one !== open)
    if (!commit) this.stage.checker.happened("aborted")
    for (const rec of open.recs) rec.visible = commit ? "yes" : "never"
    this.sync(commit ? open.transaction.commit : open.transaction.abort)
  }

  marker(): boolean {
    const log = this.chance.pick(this.logs())
    if (log === undefined) return false
    this.log(`marker in ${keyOf(log)}`)
    this.sync(this.stage.cluster.appendMarker(log.topic, log.partition))
    return true
  }

  /** Takes single records out of a log, as compaction does. */
  hole(): boolean {
    const log = this.chance.pick(this.logs())
    const recs = log?.records.filter((rec) => !rec.removed && rec.visible === "yes" && this.chance.chance(0.1)) ?? []
    if (log === undefined || recs.length === 0) return false
    this.log(`holes in ${keyOf(log)}: ${recs.map((rec) => rec.offset).join(" ")}`)
    for (const rec of recs) rec.removed = true
    this.sync(
      this.stage.cluster.removeOffsets(
        log.topic,
        log.partition,
        recs.map((rec) => rec.offset)
      )
    )
    return true
  }

  // ------------------------------------------------------------------ logs and topics

  /** Cuts one log that this process reads: in front of where it reads, or behind. */
  cut(process: Process): void {
    const held = (process.session(this.chance)?.heldUnsafe() ?? []).filter(
      ({ position }) => position !== undefined && position > 0n
    )
    if (held.length === 0) return
    const { partition, position, topic } = this.chance.pick(held)
    const log = this.logs().find((one) => one.topic === topic && one.partition === partition)
    if (log === undefined) return
    if (this.chance.chance(0.3)) this.retention(log)
    else this.truncate(log, BigInt(this.chance.int(0, Number(position!) - 1)))
  }

  retention(log: LogTruth | undefined = this.chance.pick(this.logs())): boolean {
    if (log === undefined) return false
    const to = this.offset(log)
    this.stage.checker.happened("retention")
    this.log(`retention cuts ${keyOf(log)} to ${to}`)
    this.sync(this.stage.cluster.deleteRecordsBefore(log.topic, log.partition, to))
    return true
  }

  truncate(log: LogTruth | undefined = this.chance.pick(this.logs()), at?: bigint): boolean {
    if (log === undefined) return false
    const { end, start } = this.ends(log)
    const to = at === undefined ? this.offset(log) : at < start ? start : at
    if (to >= end) return false
    this.stage.checker.happened("truncation")
    this.log(`${keyOf(log)} is truncated to ${to}`)
    this.sync(this.stage.cluster.truncateTo(log.topic, log.partition, to))
    this.stage.checker.truth.truncate(log.topic, log.partition, to)
    return true
  }

  recreate(): boolean {
    const topic = this.topic()
    if (topic === undefined) return false
    const { checker, cluster } = this.stage
    const partitions = this.chance.int(1, 4)
    const keepCommitted = this.chance.chance(0.3)
    this.log(`${topic} is deleted and created again with ${partitions}${keepCommitted ? ", commits stay" : ""}`)
    this.sync(cluster.recreateTopic(topic, { partitions, keepCommitted }))
    checker.truth.delete(topic)
    checker.truth.create(topic, partitions)
    return true
  }

  delete(): boolean {
    const topic = this.topic()
    if (topic === undefined) return false
    this.log(`${topic} is deleted`)
    this.deleted.set(topic, this.logs().filter((log) => log.topic === topic).length)
    this.sync(this.stage.cluster.deleteTopic(topic))
    this.stage.checker.truth.delete(topic)
    return true
  }

  /** What was deleted is there again, as another topic. */
  restore(): void {
    for (const [topic, partitions] of this.deleted) {
      this.log(`${topic} is created again`)
      this.sync(this.stage.cluster.createTopic(topic, { partitions }))
      this.stage.checker.truth.create(topic, partitions)
    }
    this.deleted.clear()
  }

  grow(): boolean {
    const topic = this.topic()
    const before = this.logs().filter((log) => log.topic === topic).length
    if (topic === undefined || before >= mostPartitions) return false
    const total = this.chance.int(before + 1, mostPartitions)
    this.log(`${topic} grows to ${total} partitions`)
    this.sync(this.stage.cluster.addPartitions(topic, total))
    this.stage.checker.truth.grow(topic, before, total)
    return true
  }

  /** Somebody sets the group's offset by hand, with metadata of his own. */
  tool(log: LogTruth | undefined = this.chance.pick(this.logs())): boolean {
    if (log === undefined) return false
    const offset = this.offset(log)
    // a map of ours, beside another offset than its own
    const now = this.stage.cluster.committedUnsafe(groupId, log.topic, log.partition)
    const moved = now === undefined || now.offset === offset ? "" : now.metadata
    const metadata = this.chance.pick([moved, moved, "x", "{}", "\u0000\uffff", "d".repeat(4096), "YmFzZTY0"])
    this.stage.checker.happened("foreign metadata")
    this.log(`a tool commits ${keyOf(log)} = ${offset}`)
    this.sync(this.stage.cluster.setCommitted(groupId, log.topic, log.partition, { offset, metadata }))
    this.stage.checker.commits.setByTool(log, offset)
    return true
  }

  heal(): void {
    this.restore()
    if (this.unwritten > 0) this.write(this.unwritten)
    for (const open of [...this.transactions]) this.endTransaction(open, true)
  }
}
