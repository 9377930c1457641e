/** Against a live service (`SERVICE_URL`), and against one that answers as a test says. */

import assert from "node:assert/strict";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import {
  DeadlinePassed,
  FrontrowClient,
  Overloaded,
  type RankRequest,
  Rejected,
  RetryBudget,
  ServiceFailed,
  Unreachable,
  UnreadableAnswer,
} from "../src/index.js";

const live = new FrontrowClient(process.env["SERVICE_URL"] ?? "http://127.0.0.1:8000", { timeoutMs: 20_000 });
const request: RankRequest = { candidates: ["A1", { id: "mine", features: { price: 12.5 } }, "A2"] };

type Step = (response: ServerResponse) => void;

const ranked = (...ids: string[]): Step => {
  const ranking = ids.map((id, place) => ({ id, score: -place, position: place + 1 }));
  const model = { name: "m", version: "1" };
  const facts = { request_id: "r", variant: "control", assignment: "hash", model, unknown_candidates: [], degraded: false };
  return (response) => {
    response.writeHead(200, { "Content-Type": "application/json", "X-Code-Version": "abc" });
    response.end(JSON.stringify({ ...facts, ranking }));
  };
};

const refused = (status: number, headers: Record<string, string> = {}): Step => {
  const problem = { type: "urn:frontrow:x", title: "X", status, detail: "because", request_id: "r" };
  return (response) => {
    response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
    response.end(JSON.stringify(problem));
  };
};

const cut: Step = (response) => response.destroy();
const silent: Step = () => {};
const half: Step = (response) => {
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": "100" });
  response.write("{", () => response.destroy());
};

/** A service that takes one step a request, and what it was asked. */
async function scripted(steps: Step[], body: (url: string, asked: IncomingMessage[]) => Promise<void>): Promise<void> {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    const step = steps[asked.length];
    asked.push(request);
    request.resume().on("end", () => step?.(response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

test("a ranking says who made it", async () => {
  const ranking = await live.rank(
    { ...request, context: { device: "mobile", days_to_trip: 3 } },
    { visitorId: "ada", requestId: "ts-1", priority: "critical" },
  );
  assert.deepEqual(ranking.ranking.map((one) => one.id).sort(), ["A1", "A2", "mine"]);
  assert.equal(ranking.request_id, "ts-1");
  assert.equal(ranking.assignment, "hash");
  assert.equal(ranking.model.name, "activity-ranker");
  assert.equal(ranking.code_version, "test");
});

test("a misspelt feature is an error of the compiler, and one with the place of the fault", async () => {
  // @ts-expect-error no model has such a feature
  const wrong: RankRequest = { candidates: ["A1"], context: { devise: "mobile" } };
  await assert.rejects(live.rank(wrong), (error) => {
    assert(error instanceof Rejected);
    assert.equal(error.problem.status, 422);
    assert.match(error.problem.faults?.[0]?.place ?? "", /^\$\.context/);
    return true;
  });
});

test("events are kept once, however often they are sent", async () => {
  const event = { visitor_id: "ada", activity_id: "A1", type: "view" as const };
  assert.deepEqual(await live.sendEvents([event]), { kept: 1, unknown_activities: [], too_old: 0 });
});

test("who cannot be read ranks all the same", async () => {
  assert.equal((await live.rank(request, { visitorId: "a\nb" })).assignment, "fallback");
});

test("a deadline that passed gives the order that was given", async () => {
  await scripted([silent], async (url) => {
    const order = await new FrontrowClient(url).order({ ...request, top_k: 2 }, { timeoutMs: 50 });
    assert.deepEqual(order.ids, ["A1", "mine"]);
    assert.equal(order.degraded, true);
    assert(order.reason instanceof DeadlinePassed);
  });
});

test("each attempt says how much time is left", async () => {
  await scripted([cut, ranked("A1")], async (url, asked) => {
    await new FrontrowClient(url).rank(request, { timeoutMs: 5_000 });
    const [first, second] = asked.map((one) => Number(one.headers["x-request-timeout-ms"]));
    assert(first! <= 5_000 && second! <= first!);
  });
});

const repeated: [string, Step][] = [
  ["a refusal that says when", refused(503, { "Retry-After": "0" })],
  ["a connection that ended without a word", cut],
];
for (const [what, step] of repeated) {
  test(`${what} is tried again once`, async () => {
    await scripted([step, ranked("A2", "A1")], async (url, asked) => {
      const order = await new FrontrowClient(url).order(request);
      assert.deepEqual([order.ids, order.degraded, asked.length], [["A2", "A1"], false, 2]);
    });
  });
}

const final: [string, Step, new (...given: never[]) => Error][] = [
  ["a refusal that does not say when", refused(503), Overloaded],
  ["a refusal for longer than the caller waits", refused(503, { "Retry-After": "60" }), Overloaded],
  ["a deadline that passed in the service", refused(504), DeadlinePassed],
  ["a defect", refused(500), ServiceFailed],
  ["a mistake", refused(422), Rejected],
  ["an answer that was cut", half, Unreachable],
  ["what is no JSON", (response) => response.end("<html>"), UnreadableAnswer],
];
for (const [what, step, kind] of final) {
  test(`${what} is not tried again`, async () => {
    await scripted([step, ranked("A1")], async (url, asked) => {
      await assert.rejects(new FrontrowClient(url).rank(request), kind);
      assert.equal(asked.length, 1);
    });
  });
}

test("a closed port is named", async () => {
  let closed = "";
  await scripted([], async (url) => void (closed = url));
  await assert.rejects(new FrontrowClient(closed).rank(request), (error) => {
    assert(error instanceof Unreachable);
    assert.match(error.message, /ECONNREFUSED/);
    return true;
  });
});

test("an empty budget has no retries, and calls fill it", async () => {
  const budget = new RetryBudget(0.5, 1);
  await scripted([cut, ranked("A1"), cut, ranked("A1"), cut, ranked("A1")], async (url, asked) => {
    const client = new FrontrowClient(url, { budget });
    await client.rank(request);
    await assert.rejects(client.rank(request), Unreachable);
    assert.equal(asked.length, 3);
  });
});

test("a caller who leaves gets its own reason", async () => {
  await scripted([silent], async (url) => {
    const leaving = new AbortController();
    const ranking = new FrontrowClient(url).rank(request, { signal: leaving.signal });
    leaving.abort(new RangeError("no more"));
    await assert.rejects(ranking, RangeError);
  });
});
