import { outage } from "../../driver/test/suites/outage.ts"
import { client } from "./client.ts"

outage(client)
