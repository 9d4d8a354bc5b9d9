// For those who bring k6: a constant arrival rate against what `python -m bench prepare` has filled.
//
// SERVICE_URL=… SERVICE_API_KEY=… k6 run -e RATE=100 -e SECONDS=30 bench/k6.js
import http from "k6/http";
import { check } from "k6";
import { SharedArray } from "k6/data";
import exec from "k6/execution";

const file = __ENV.BENCH_QUERIES || "../.bench/queries.json"; // k6 reads it relative to this script.
const collection = JSON.parse(open(file)).collection;
const queries = new SharedArray("queries", () => JSON.parse(open(file)).queries);
const url = `${__ENV.SERVICE_URL}/v1/collections/${collection}/search`;
const headers = { Authorization: `Bearer ${__ENV.SERVICE_API_KEY}`, "Content-Type": "application/json" };

export const options = {
  scenarios: {
    open: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 50),
      timeUnit: "1s",
      duration: `${__ENV.SECONDS || 30}s`,
      preAllocatedVUs: 200, // Each holds one request that is under way; k6 drops what finds none, and counts it.
      maxVUs: 2000,
    },
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "p(99.9)", "max"],
  thresholds: { http_req_failed: ["rate==0"], dropped_iterations: ["count==0"] },
};

export default function () {
  const query = queries[exec.scenario.iterationInTest % queries.length];
  const body = JSON.stringify({ query, mode: __ENV.BENCH_MODE || "hybrid", limit: 10 });
  const response = http.post(url, body, { headers });
  check(response, { "has hits": (answer) => answer.status === 200 && answer.json("hits").length > 0 });
}
