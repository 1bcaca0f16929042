/** The consumers of the process, each with how it is; one of them is looked at. */
import { byId, element, keyed, setText } from "./dom.js"
import { count, lagOf, plural } from "./format.js"

const words = { ok: "ok", degraded: "degraded", down: "down" }

const make = (choose) => (summary) => {
  const card = element("button", { type: "button", class: "card" })
  card.parts = {
    name: element("span", { class: "card-name" }),
    status: element("span", { class: "status" }),
    facts: element("span", { class: "facts" }),
    codes: element("span", { class: "codes" })
  }
  card.append(card.parts.name, card.parts.status, card.parts.facts, card.parts.codes)
  card.addEventListener("click", () => choose(summary.name))
  return card
}

export const showConsumers = (consumers, more, selected, choose) => {
  const nav = byId("consumers")
  nav.hidden = consumers.length < 2
  keyed(
    nav,
    more > 0 ? [...consumers, { name: "", more }] : consumers,
    ({ name }) => name,
    (summary) => (summary.more === undefined ? make(choose)(summary) : element("span", { class: "facts" })),
    (card, summary) => {
      if (summary.more !== undefined) return setText(card, `and ${plural(more, "consumer")} more`)
      const { codes, name, permits, status, totals } = summary
      card.setAttribute("aria-pressed", String(name === selected))
      setText(card.parts.name, name)
      setText(card.parts.status, words[status])
      card.parts.status.dataset.status = status
      const used =
        permits.limit === "unbounded" ? count(permits.used) : `${count(permits.used)}/${count(permits.limit)}`
      setText(card.parts.facts, `${plural(totals.partitions, "partition")}, lag ${lagOf(totals)}, permits ${used}`)
      setText(card.parts.codes, codes.join(", "))
    }
  )
}
