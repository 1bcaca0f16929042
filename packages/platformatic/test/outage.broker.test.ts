import { outage } from "../../driver/test/suites/outage.ts"
import { rolling } from "../../driver/test/suites/rolling.ts"
import { client } from "./client.ts"

outage(client)
rolling(client)
