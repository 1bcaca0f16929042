/**
 * What the histories have reached: the rows of the engine's state machines, everything that was done to it, and how many of the
 * histories have something of each kind in them.
 */
import type { Machine } from "@concurrent-kafka/core/Diagnostics"

/** How often each thing happened, by its name: `action ...`, `fault ...`, `behaviour ...`, `feature ...`, or machine and row. */
export type Counts = Record<string, number>

export class Coverage {
  readonly counts: Counts = {}
  counted: (what: string) => void = () => {}

  row(machine: Machine, row: string): void {
    this.count(`${machine} ${row}`)
  }

  count(what: string, times = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + times
    this.counted(what)
  }
}

/** A kind that fewer histories have than this is as good as not tested by some hundred of them. */
export const leastShare = 0.05

/** What a history has of each kind: one of these counts. Where a name ends with `:` all that begin with it are meant. */
const kinds: Readonly<Record<string, ReadonlyArray<string>>> = {
  "revoke, eager": ["partition P6"],
  "revoke, exact": ["partition P5"],
  "drain clock": ["partition P9"],
  "retained after a revoke": ["partition P13"],
  "cooperative rebalances": ["feature cooperative"],
  "close between two rounds": ["feature close between two rounds"],
  "revoke that is not held": ["feature hold 0"],
  "asked to rebalance": ["action rebalance"],
  lost: ["partition P15"],
  "lost while draining": ["feature lost while draining"],
  crash: ["action crash"],
  freeze: ["action freeze"],
  "slow event loop": ["action stutter"],
  "another version's assignors": ["feature other assignors"],
  "another version's claims": ["feature other claims"],
  "no common assignor": ["action stranger"],
  eviction: ["action evict"],
  "missed generation": ["action missGeneration"],
  "coordinator moves": ["action failover"],
  "broker down": ["action brokerDown"],
  disconnected: ["action disconnect"],
  "connections break": ["action breakConnections"],
  storm: ["action storm"],
  "bad start": ["partition P3"],
  "partition without a leader": ["feature leaderless"],
  "clock set": ["action clock"],
  "session ends for good": ["action fatal"],
  "commit error": ["fault commit:code"],
  "commit without answer": ["fault commit:noAnswer", "fault commit:answerLost", "fault commit:dropped"],
  "commit applied late": ["fault commit:servedLate"],
  "commit put off": ["commit K5"],
  "metadata too large": ["commit K13"],
  "fetch fault": ["fault fetch:"],
  "join or sync fault": ["fault join:", "fault sync:"],
  "heartbeat fault": ["fault heartbeat:"],
  "offset fetch fault": ["fault offsetFetch:"],
  "log offsets fault": ["fault listOffsets:"],
  "leave fault": ["fault leave:"],
  "producer fault": ["fault produce:"],
  transaction: ["action transaction"],
  "transaction aborted": ["feature aborted"],
  marker: ["action marker"],
  hole: ["action hole"],
  retention: ["action retention", "feature retention"],
  "retention under a reader": ["partition P23"],
  truncation: ["action truncate", "feature truncation"],
  "truncation noticed": ["partition P24"],
  "truncation unnoticed": ["feature truncation unnoticed"],
  "topic deleted": ["action delete"],
  "topic created anew": ["action recreate"],
  "topic gone under a reader": ["partition P25"],
  "partitions grow": ["action grow"],
  "foreign metadata": ["feature foreign metadata"],
  "handler: interrupts itself": ["record R7"],
  "handler: dies": ["behaviour die", "behaviour throw"],
  "handler: acknowledges": ["behaviour ack", "behaviour ackFail", "behaviour stubbornAck", "behaviour ackStubborn"],
  "handler: finalizers": ["behaviour finalizer", "behaviour cleanup"],
  "handler: finalizer dies": ["behaviour finalizerDies"],
  "handler: decides itself": ["behaviour again", "behaviour giveUp", "behaviour bury"],
  "handler: stubborn": ["behaviour stubborn", "behaviour stubbornAck", "behaviour ackStubborn"],
  timeout: ["record R8"],
  zombie: ["record R16"],
  "zombie ends": ["record R19"],
  "zombie of a timeout": ["feature zombie of a timeout"],
  "lane waits for a zombie": ["feature lane waits for a zombie"],
  retry: ["record R9"],
  "retry given up": ["record R6a"],
  "dead letter": ["record R10"],
  "dead letter not taken": ["record R11"],
  parked: ["feature parked"],
  "park limit": ["record R20"],
  "parked for an hour": ["feature parked for long"],
  "order: none": ["feature order unordered"],
  "order: key": ["feature order key"],
  "order: partition": ["feature order partition"],
  "order: function": ["feature order function"],
  "order function dies": ["feature order function dies"],
  "filter says no": ["record R2"],
  "filter dies": ["feature filter dies"],
  "map carried over an epoch": ["record R1"],
  "no map": ["feature no map"],
  "starts at the end": ["feature latest"],
  paused: ["action pause", "action pausePartition"],
  seek: ["partition P22"],
  "concurrency changed": ["action concurrency"],
  "shared turns": ["feature together"],
  "handler: blocks": ["behaviour block"],
  "refused after three sessions": ["feature refused"],
  "run again": ["partition P27"],
  "close, drained": ["partition P16"],
  "close, interrupted": ["partition P17"],
  "close while suspended": ["partition P17a"],
  "close while draining": ["partition P21"],
  "stop decision": ["feature stop"],
  program: ["feature launched"],
  "several members": ["feature several members"]
}

/** In how many of the histories there is something of each kind. */
export const sharesOf = (all: ReadonlyArray<Counts>): ReadonlyArray<readonly [kind: string, share: number]> =>
  Object.entries(kinds).map(([kind, names]) => {
    const has = (counts: Counts): boolean =>
      names.some((name) =>
        name.endsWith(":") ? Object.keys(counts).some((one) => one.startsWith(name)) : counts[name] !== undefined
      )
    return [kind, all.filter(has).length / Math.max(1, all.length)]
  })
