/** What a system is to do. */

/** How it is to do it: of this library all, of a bare client what it has. */
export interface Work {
  /** how the handler is written; default `fnUntraced` */
  readonly form?: "fnUntraced" | "void" | "gen" | "promise" | "yields" | "sleeps" | "hangs" | undefined
  /** how long it sleeps */
  readonly millis?: number | undefined
  /** default 100 */
  readonly concurrency?: number | undefined
  readonly ordering?: "unordered" | "key" | undefined
  readonly groupProtocol?: "classic" | "consumer" | undefined
  readonly maxHeldRecords?: number | undefined
}

export interface Job {
  readonly brokers: ReadonlyArray<string>
  readonly topic: string
  readonly groupId: string
  readonly work: Work
  /** first in each handler */
  readonly began: (value: Uint8Array | null, partition: number) => void
  /** last in it */
  readonly ended: () => void
  /** then the system closes, as it is meant to, so that its last commit is made */
  readonly done: Promise<void>
}

export type System = (job: Job) => Promise<{ readonly commits: number | undefined }>
