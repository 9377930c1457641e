// A trickle of visitors, for a service that nobody else talks to: real rankings, with an id of their own each.

const EVERY_MS = 40;
const AT_ONCE = 8;

export class Visitors {
  constructor(button, request) {
    this.request = request;
    this.pending = 0;
    button.disabled = false;
    button.addEventListener("click", () => {
      const sends = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", `${sends}`);
      button.textContent = sends ? "Stop visitors" : "Send visitors";
      clearInterval(this.timer);
      if (sends) this.timer = setInterval(() => this.#send(), EVERY_MS);
    });
  }

  async #send() {
    if (this.pending >= AT_ONCE || document.hidden) return;
    this.pending += 1;
    const headers = {
      "Content-Type": "application/json", "X-Visitor-Id": `console-${crypto.getRandomValues(new Uint32Array(1))[0]}`,
      "X-Priority": "sheddable",
    };
    try {
      await fetch("v1/rank", { method: "POST", headers, body: JSON.stringify(this.request()) });
    } catch {
      // The state beside the name says that the service does not answer.
    } finally {
      this.pending -= 1;
    }
  }
}
