/** The queries of the dashboard and of the alert rules. */
import { readFileSync } from "node:fs"
import { join } from "node:path"

export const folder = join(import.meta.dirname, "..", "dashboards")

interface Panel {
  readonly title: string
  readonly type: string
  readonly targets?: ReadonlyArray<{ readonly expr: string }>
}

interface Dashboard {
  readonly panels: ReadonlyArray<Panel>
  readonly templating: { readonly list: ReadonlyArray<{ readonly name: string; readonly definition?: string }> }
}

export interface Query {
  readonly title: string
  readonly expr: string
}

export const dashboard: Dashboard = JSON.parse(readFileSync(join(folder, "concurrent-kafka.json"), "utf8"))

export const panelQueries: ReadonlyArray<Query> = dashboard.panels.flatMap(({ targets = [], title }) =>
  targets.map(({ expr }) => ({ title, expr }))
)

/** As Grafana fills it in, for all consumers and instances. */
export const filledIn = (expr: string): string =>
  expr.replaceAll("$__rate_interval", "1m").replaceAll("$consumer", ".*").replaceAll("$instance", ".*")

export const alerts = readFileSync(join(folder, "alerts.yml"), "utf8")

/** Without what is in braces and quotes, after `by` or `on`, and functions: names of metrics. */
export const namesIn = (expr: string): ReadonlyArray<string> => [
  ...new Set(
    [
      ...filledIn(expr)
        .replaceAll(/\{[^}]*\}|"[^"]*"|\[[^\]]*\]/g, " ")
        .replaceAll(/\b(by|on|without|ignoring) *\([^)]*\)/g, " ")
        .matchAll(/\b([a-z]\w*_\w+)\b(?!\s*\()/g)
    ].map(([, name = ""]) => name)
  )
]
