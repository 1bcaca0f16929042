/** The part of a topic that there was at the start, and how much of it is behind: per partition from where the group stood to the end. */
import type { TopicPartition } from "@concurrent-kafka/core/ConsumerRecord"
import type { LogOffsets } from "@concurrent-kafka/core/ConsumerSession"

interface Part {
  readonly start: bigint
  readonly end: bigint
  /** Everything before it is done here. */
  passed: bigint
  /** Everything before it is done and the broker knows. */
  committed: bigint
}

/** A partition that ends before what is committed of it: what of it was done before cannot be told. */
export const behindTheEnd = (
  log: ReadonlyArray<LogOffsets>,
  committed: ReadonlyArray<{ readonly partition: number; readonly offset: bigint }>
) =>
  log
    .map(({ end, partition, topic }) => {
      const offset = committed.find((c) => c.partition === partition)?.offset ?? 0n
      return { topic, partition, committed: offset, end }
    })
    .find((p) => p.committed > p.end)

const within = (offset: bigint, { end, start }: { readonly start: bigint; readonly end: bigint }) =>
  offset < start ? start : offset > end ? end : offset

export class Stretch {
  private readonly parts = new Map<number, Part>()

  constructor(
    log: ReadonlyArray<LogOffsets>,
    committed: ReadonlyArray<{ readonly partition: number; readonly offset: bigint }>
  ) {
    for (const { end, partition, start } of log) {
      const begin = within(committed.find((c) => c.partition === partition)?.offset ?? start, { start, end })
      this.parts.set(partition, { start: begin, end, passed: begin, committed: begin })
    }
  }

  /** Of a partition that was not there at the start: nothing of it belongs to this. */
  endOf({ partition }: TopicPartition): bigint {
    return this.parts.get(partition)?.end ?? 0n
  }
  startOf({ partition }: TopicPartition): bigint {
    return this.parts.get(partition)?.start ?? 0n
  }
  pass({ partition }: TopicPartition, offset: bigint): void {
    const part = this.parts.get(partition)
    if (part !== undefined && offset > part.passed) part.passed = within(offset, part)
  }
  commit(partition: TopicPartition, offset: bigint): void {
    const part = this.parts.get(partition.partition)
    if (part !== undefined && offset > part.committed) part.committed = within(offset, part)
    this.pass(partition, offset)
  }
  get isPassed(): boolean {
    return [...this.parts.values()].every(({ end, passed }) => passed === end)
  }
  get isCommitted(): boolean {
    return [...this.parts.values()].every(({ committed, end }) => committed === end)
  }
  get total(): number {
    return [...this.parts.values()].reduce((sum, { end, start }) => sum + Number(end - start), 0)
  }
  get passed(): number {
    return [...this.parts.values()].reduce((sum, { passed, start }) => sum + Number(passed - start), 0)
  }
}
