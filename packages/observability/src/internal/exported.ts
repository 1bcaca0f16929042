/**
 * The series as an exporter reads them that has no route of its own, such as Effect's `OtlpMetrics`: a registry whose content is made when
 * it is read. What is written to it goes to the program's own, and is read with ours.
 *
 * What OpenTelemetry has a name for has it here as it is, with its attributes as they are called there. Effect's exporters take a metric's
 * unit from its attribute `unit`; without one they say "1", of which a gauge's name would get `_ratio` on its way to Prometheus.
 */
import type { Snapshot } from "@concurrent-kafka/core/Snapshot"
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import type { Delays } from "./loopMonitor.ts"
import { type Bounds, seriesOf } from "./series.ts"

type Entry = Metric.Metric.Metadata<unknown, unknown>

const names: Readonly<Record<string, string>> = {
  messaging_client_consumed_messages_total: "messaging.client.consumed.messages",
  messaging_process_duration_seconds: "messaging.process.duration",
  messaging_client_operation_duration_seconds: "messaging.client.operation.duration",
  messaging_system: "messaging.system",
  messaging_consumer_group_name: "messaging.consumer.group.name",
  messaging_operation_name: "messaging.operation.name",
  messaging_operation_type: "messaging.operation.type",
  error_type: "error.type",
  nodejs_eventloop_delay_p50_seconds: "nodejs.eventloop.delay.p50",
  nodejs_eventloop_delay_p90_seconds: "nodejs.eventloop.delay.p90",
  nodejs_eventloop_delay_p99_seconds: "nodejs.eventloop.delay.p99",
  nodejs_eventloop_delay_mean_seconds: "nodejs.eventloop.delay.mean",
  nodejs_eventloop_delay_max_seconds: "nodejs.eventloop.delay.max"
}

const unitOf = (id: string): string =>
  id.endsWith("_seconds")
    ? "s"
    : /_bytes(_limit)?$/.test(id)
      ? "By"
      : id.startsWith("messaging_")
        ? "{message}"
        : "{count}"

const renamed = (entry: Entry): Entry => ({
  ...entry,
  id: names[entry.id] ?? entry.id,
  attributes: {
    ...Object.fromEntries(Object.entries(entry.attributes ?? {}).map(([key, value]) => [names[key] ?? key, value])),
    unit: unitOf(entry.id)
  }
})

/** JSON has no infinity, and a reader would take what is left for nothing; there is no such limit then. */
const isFinite = ({ hooks, type }: Entry, context: Context.Context<never>): boolean => {
  if (type !== "Gauge") return true
  const state = hooks.get(context)
  return !(typeof state === "object" && state !== null && "value" in state && state.value === Number.POSITIVE_INFINITY)
}

export class ExportedRegistry extends Map<string, Entry> {
  // set before any method of `Map` is called: its constructor is given nothing
  readonly own: Metric.MetricRegistry
  private readonly ours: () => Iterable<readonly [string, Entry]>

  constructor(own: Metric.MetricRegistry, ours: () => Iterable<readonly [string, Entry]>) {
    super()
    this.own = own
    this.ours = ours
  }

  private all(): Map<string, Entry> {
    return new Map([...this.ours(), ...this.own])
  }
  override get size(): number {
    return this.all().size
  }
  override keys(): MapIterator<string> {
    return this.all().keys()
  }
  override values(): MapIterator<Entry> {
    return this.all().values()
  }
  override entries(): MapIterator<[string, Entry]> {
    return this.all().entries()
  }
  override [Symbol.iterator](): MapIterator<[string, Entry]> {
    return this.all().entries()
  }
  override forEach(then: (value: Entry, key: string, map: Map<string, Entry>) => void): void {
    for (const [key, value] of this.all()) then(value, key, this)
  }
  override get(key: string): Entry | undefined {
    return this.own.get(key)
  }
  override has(key: string): boolean {
    return this.own.has(key)
  }
  override set(key: string, value: Entry): this {
    this.own.set(key, value)
    return this
  }
  override delete(key: string): boolean {
    return this.own.delete(key)
  }
  override clear(): void {
    this.own.clear()
  }
}

/** The program's own metrics, without ours. */
export const ownRegistry = (registry: Metric.MetricRegistry): Metric.MetricRegistry =>
  registry instanceof ExportedRegistry ? registry.own : registry

export const exportedRegistry = (
  context: Context.Context<never>,
  snapshots: () => ReadonlyArray<Snapshot>,
  delays: () => Delays | undefined,
  most: Bounds
): Metric.MetricRegistry =>
  new ExportedRegistry(ownRegistry(Context.get(context, Metric.MetricRegistry)), () =>
    [...seriesOf(snapshots(), delays(), most, context)]
      .filter(([, entry]) => isFinite(entry, context))
      .map(([key, entry]) => [key, renamed(entry)] as const)
  )
