/** The consumer that is looked at: its name, its health, its numbers, and lists of what is oldest and what has happened. */
import { byId, element, keyed, setText } from "./dom.js"
import { age, bytes, clock, count, lagOf, millis, oldLevel, plural, rate, short } from "./format.js"

const placeOf = ({ offset, partition, topic }) => `${topic}/${partition}${offset === undefined ? "" : ` at ${offset}`}`

const make =
  (tag, ...names) =>
  () => {
    const node = element(tag)
    node.parts = Object.fromEntries(names.map((name) => [name, element("span", { class: name })]))
    node.append(...Object.values(node.parts))
    return node
  }
const fill = (node, texts) => {
  for (const [name, text] of Object.entries(texts)) setText(node.parts[name], text)
}

const showReasons = (reasons, now) => {
  const list = byId("reasons")
  list.hidden = reasons.length === 0
  keyed(
    list,
    reasons,
    ({ at, code, message }) => `${code} ${at === undefined ? message : placeOf(at)}`,
    make("li", "code", "message", "where"),
    (node, { at, code, members, message, since }) => {
      node.dataset.code = code
      fill(node, {
        code,
        message,
        where: [
          at === undefined ? undefined : placeOf(at),
          members === undefined ? undefined : members.join(", "),
          `for ${age(now - since)}`
        ]
          .filter((text) => text !== undefined)
          .join(", ")
      })
    }
  )
}

/** A number that is there at all times, with what belongs to it, and a bar of how much of a limit it is. */
const tilesOf = (detail, { permits, totals }, rates, now) => {
  const { commits, handlerTime, held, outcomes, rebalanceCounts, waitTime } = detail
  const limit = permits.limit === "unbounded" ? undefined : permits.limit
  const fullest = Math.max(held.records / held.maxRecords, held.bytes / held.maxBytes)
  const letters = outcomes.deadLettered
  return [
    {
      name: "Throughput",
      value: rates === undefined ? "-" : rate(rates.done),
      unit: "/s",
      note: `${short(outcomes.handled)} handled since ${clock(detail.startedAt)}`
    },
    {
      name: "Handler time",
      value: millis(handlerTime.p50),
      note: `p99 ${millis(handlerTime.p99)}, wait p99 ${millis(waitTime.p99)}`
    },
    {
      name: "Lag",
      value: lagOf(totals),
      note: [
        totals.unknown > 0
          ? `end of ${plural(totals.unknown, "partition")} unknown`
          : `${short(totals.ahead)} not fetched`,
        plural(totals.gaps, "gap")
      ].join(", ")
    },
    {
      name: "Permits",
      value: count(permits.used),
      unit: limit === undefined ? "" : ` of ${count(limit)}`,
      bar: limit === undefined ? undefined : { of: permits.used / limit, bad: permits.byZombies / limit },
      note: limit === undefined ? "unbounded" : undefined
    },
    {
      name: "Held",
      value: count(held.records),
      unit: ` of ${short(held.maxRecords)}`,
      bar: { of: fullest, bad: 0 },
      title: `${bytes(held.bytes)} of ${bytes(held.maxBytes)}`
    },
    {
      name: "Retries",
      value: count(totals.waiting),
      unit: " waiting",
      note: `${short(detail.retries)} so far${totals.parked > 0 ? `, ${count(totals.parked)} parked` : ""}`,
      level: totals.parked > 0 ? 3 : totals.waiting > 0 ? 2 : 0
    },
    {
      name: "Dead letters",
      value: count(letters),
      note: `${count(totals.sending)} on their way, ${count(outcomes.skipped)} skipped`,
      level: letters + outcomes.skipped > 0 ? 2 : 0
    },
    {
      name: "Zombies",
      value: count(permits.byZombies),
      note: `${count(detail.interrupted)} interrupted, ${count(detail.released)} released`,
      level: permits.byZombies > 0 ? 3 : 0
    },
    {
      name: "Commits",
      value: count(commits.ok),
      note:
        `${count(commits.failed)} failed` +
        (commits.lastAt === undefined ? "" : `, last ${age(now - commits.lastAt)} ago`),
      level: 0
    },
    {
      name: "Rebalances",
      value: count(rebalanceCounts.assigned),
      note: `${count(rebalanceCounts.revoked)} revoked, ${count(rebalanceCounts.lost)} lost`,
      level: rebalanceCounts.lost > 0 ? 2 : 0
    }
  ]
}

const makeTile = ({ name }) => {
  const tile = element("div", { class: "tile" })
  const value = element("span", { class: "value" })
  const unit = element("span", { class: "unit" })
  const fillOf = element("span", { class: "fill" })
  const bad = element("span", { class: "bad" })
  tile.parts = {
    value,
    unit,
    note: element("span", { class: "note" }),
    bar: element("span", { class: "meter", "aria-hidden": "true" }, fillOf, bad),
    fillOf,
    bad
  }
  tile.append(
    element("dt", {}, name),
    element("dd", {}, element("span", { class: "figure" }, value, unit), tile.parts.bar, tile.parts.note)
  )
  return tile
}

const updateTile = ({ dataset, parts }, { bar, level = 0, note, title, unit = "", value }) => {
  setText(parts.value, value)
  setText(parts.unit, unit)
  setText(parts.note, note ?? title ?? "")
  dataset.level = String(level)
  parts.bar.hidden = bar === undefined
  if (bar === undefined) return
  parts.fillOf.style.width = `${Math.min(100, 100 * bar.of).toFixed(1)}%`
  parts.bad.style.width = `${Math.min(100, 100 * bar.bad).toFixed(1)}%`
}

const kinds = { assigned: "assigned", revoked: "revoked", lost: "lost" }

const emptyItem = (text) => [{ empty: text }]

const showLists = (detail, now) => {
  keyed(
    byId("oldest"),
    detail.oldest.length === 0 ? emptyItem("nothing is held") : detail.oldest,
    (item) => item.empty ?? `${placeOf(item)}`,
    make("li", "place", "what", "when"),
    (node, item) => {
      if (item.empty !== undefined) return fill(node, { place: item.empty })
      const old = now - item.receivedAt
      node.dataset.level = oldLevel(item, now)
      fill(node, {
        place: placeOf(item),
        what: item.attempt > 1 ? `${item.state}, attempt ${item.attempt}` : item.state,
        when: old < 1_000 ? "< 1 s" : age(old)
      })
    }
  )
  const happened = detail.rebalances.toReversed().slice(0, 6)
  keyed(
    byId("rebalances"),
    happened.length === 0 ? emptyItem("none yet") : happened,
    (item) => item.empty ?? `${item.at} ${item.kind} ${item.partitions} ${item.inFlight}`,
    make("li", "place", "what", "when"),
    (node, item) => {
      if (item.empty !== undefined) return fill(node, { place: item.empty })
      fill(node, {
        place: `${kinds[item.kind]} ${plural(item.partitions, "partition")}`,
        what: [
          item.inFlight > 0 ? `${count(item.inFlight)} in flight` : undefined,
          item.kind === "revoked" ? `held ${millis(item.millis)}` : undefined
        ]
          .filter((text) => text !== undefined)
          .join(", "),
        when: clock(item.at)
      })
      node.dataset.kind = item.kind
    }
  )
  byId("lanes-panel").hidden = detail.hotLanes.length === 0
  keyed(
    byId("lanes"),
    detail.hotLanes,
    (lane) => `${placeOf(lane)} ${lane.lane}`,
    make("li", "place", "what", "when"),
    (node, lane) => fill(node, { place: lane.lane, what: placeOf(lane), when: `${count(lane.waiting)} wait` })
  )
  byId("members-panel").hidden = detail.members.length === 0
  keyed(
    byId("members"),
    detail.members,
    ({ name }) => name,
    make("li", "place", "what", "when"),
    (node, member) =>
      fill(node, { place: member.name, what: member.status, when: plural(member.partitions, "partition") })
  )
}

export const showDetail = (detail, summary, now, rates) => {
  setText(byId("name"), detail.name)
  const status = byId("status")
  setText(status, `${summary.status}${summary.live ? "" : ", not live"}${summary.ready ? "" : ", not ready"}`)
  status.dataset.status = summary.status
  setText(
    byId("facts"),
    [
      summary.group === detail.name ? undefined : `group ${summary.group}`,
      `generation ${detail.generation}`,
      `up ${age(now - detail.startedAt)}`,
      detail.unexpected > 0 ? plural(detail.unexpected, "unexpected transition") : undefined,
      detail.lostToRetention > 0 ? `${count(detail.lostToRetention)} offsets lost to retention` : undefined
    ]
      .filter((text) => text !== undefined)
      .join(" \u00b7 ")
  )
  showReasons(detail.reasons, now)
  keyed(byId("tiles"), tilesOf(detail, summary, rates, now), ({ name }) => name, makeTile, updateTile)
  showLists(detail, now)
}
