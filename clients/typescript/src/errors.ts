/** Everything that is not a ranking, named after what happened. */

import type { components } from "./schema.js";

export type Problem = components["schemas"]["ProblemDocument"];

export class FrontrowError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

/** The request is wrong and would be wrong again (4xx, 501): `problem.faults` name each place. */
export class Rejected extends FrontrowError {
  constructor(readonly problem: Problem) {
    super(`${problem.status} ${problem.title}: ${problem.detail}`);
  }
}

/** There is no answer to a request that may be right: a page shows its own order. */
export class NoRanking extends FrontrowError {
  constructor(
    message: string,
    readonly problem?: Problem,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** It took longer than the caller waits; of a 504 the service says so itself. */
export class DeadlinePassed extends NoRanking {}

/** Refused at the door (503): nothing was queued or kept. */
export class Overloaded extends NoRanking {}

/** A defect of the service (500), or a proxy without one (502). */
export class ServiceFailed extends NoRanking {}

/** No connection, or one that ended. */
export class Unreachable extends NoRanking {}

/** Somebody answered, but not as Frontrow does. */
export class UnreadableAnswer extends NoRanking {}

/** What an answer that is no success means. Whoever sends no problem document is quoted by the status alone. */
export function failure(response: Response, document: unknown): FrontrowError {
  const { status } = response;
  const problem = isProblem(document) ? document : blank(response);
  const text = problem.detail || problem.title;
  if (status === 503) return new Overloaded(text, problem);
  if (status === 504) return new DeadlinePassed(text, problem);
  if (status === 501 || (status >= 400 && status < 500)) return new Rejected(problem);
  return status >= 500 ? new ServiceFailed(`${status} ${text}`, problem) : new UnreadableAnswer(`${status} ${text}`, problem);
}

function isProblem(document: unknown): document is Problem {
  return typeof document === "object" && document !== null && "type" in document && "title" in document;
}

function blank(response: Response): Problem {
  const title = response.statusText || "Unknown status";
  const requestId = response.headers.get("X-Request-Id") ?? "";
  return { type: "about:blank", title, status: response.status, detail: "", request_id: requestId };
}
