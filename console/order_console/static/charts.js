// Lines over time, drawn as SVG into the figures of the page. Read with the pointer or the arrow keys.

const NAMESPACE = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 6, TOP = 10, BOTTOM = 20;
const GAP_MILLISECONDS = 12_000; // longer without a sample: the line is broken
const TABLE_ROWS = 20;

const FORMATS = {
  rate: (value) => short(value),
  count: (value) => grouped(value),
  milliseconds: (value) => (value < 1000 ? `${short(value)} ms` : `${short(value / 1000)} s`),
};

function short(value) {
  return value < 10 ? value.toFixed(1).replace(/\.0$/, "") : grouped(value);
}

function grouped(value) {
  return Math.round(value).toLocaleString("en-US");
}

export function clock(milliseconds) {
  return new Date(milliseconds).toISOString().slice(11, 19);
}

/** One figure with a legend, whose items name the series: data-key in the points, the class for its colour. */
export class Chart {
  constructor(figure) {
    this.figure = figure;
    this.svg = figure.querySelector("svg");
    this.reading = figure.querySelector("figcaption span");
    this.format = FORMATS[figure.dataset.unit];
    this.series = [...figure.querySelectorAll(".legend li")].map((item) => ({
      key: item.dataset.key,
      name: item.dataset.name,
      colour: item.className,
      output: item.querySelector("b"),
      button: item.querySelector("button"),
    }));
    for (const { button } of this.series) button.addEventListener("click", () => this.toggle(button));
    this.points = [];
    this.seconds = 300;
    this.cursor = null; // the time that is read, or null for the newest
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.pointAt(event));
    this.svg.addEventListener("pointerleave", () => this.readAt(null));
    this.svg.addEventListener("blur", () => this.readAt(null));
    this.svg.addEventListener("keydown", (event) => this.step(event));
    figure.querySelector("details").addEventListener("toggle", () => this.fillTable());
  }

  show(points, seconds) {
    this.points = points;
    this.seconds = seconds;
    this.draw();
  }

  get shown() {
    const newest = this.points.at(-1)?.at ?? 0;
    return this.points.filter((point) => point.at > newest - this.seconds * 1000);
  }

  draw() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!width) return;
    const points = this.shown;
    const newest = points.at(-1)?.at ?? 0;
    const series = this.series.filter(({ button }) => button.ariaPressed === "true");
    const values = points.flatMap((point) => series.map(({ key }) => point[key] ?? 0));
    const most = niceCeiling(Math.max(2, ...values));
    this.x = (at) => LEFT + (width - LEFT - RIGHT) * (1 - (newest - at) / (this.seconds * 1000));
    const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - value / most);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const drawn = [0, 0.5, 1].flatMap((share) => [
      element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(most * share), y2: y(most * share) }),
      label(LEFT - 8, y(most * share) + 4, "end", this.format(most * share)),
    ]);
    const minutes = this.seconds / 60;
    drawn.push(label(LEFT, height - 4, "start", `${minutes} min ago`), label(width - RIGHT, height - 4, "end", "now"));
    for (const { key, colour } of series.slice(0, 1)) {
      drawn.push(element("path", { class: `area ${colour}`, d: areas(points, key, this.x, y) }));
    }
    for (const { key, colour } of series) {
      drawn.push(element("path", { class: colour, d: outline(points, key, this.x, y) }));
    }
    if (this.cursor !== null) {
      const x = this.x(this.cursor);
      drawn.push(element("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: height - BOTTOM }));
    }
    this.svg.replaceChildren(...drawn);
    this.tell(points);
  }

  /** The legend holds the values at the cursor, else the newest. */
  tell(points) {
    const point = this.cursor === null ? points.at(-1) : points.find(({ at }) => at === this.cursor);
    for (const { key, output } of this.series) {
      const value = point?.[key];
      output.textContent = value === null || value === undefined ? "–" : this.format(value);
    }
    this.reading.textContent = point ? `${clock(point.at)} UTC` : "waiting for the first figures";
  }

  /** A large series hides what small ones do. */
  toggle(button) {
    button.ariaPressed = String(button.ariaPressed !== "true");
    this.draw();
  }

  readAt(at) {
    this.cursor = at;
    this.draw();
  }

  pointAt(event) {
    const points = this.shown;
    if (!points.length) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const distance = (point) => Math.abs(this.x(point.at) - x);
    this.readAt(points.reduce((best, point) => (distance(point) < distance(best) ? point : best)).at);
  }

  step(event) {
    const points = this.shown;
    const last = points.length - 1;
    const here = this.cursor === null ? last : points.findIndex(({ at }) => at === this.cursor);
    const there = { ArrowLeft: here - 1, ArrowRight: here + 1, PageUp: here - 10, PageDown: here + 10, Home: 0, End: last }[event.key];
    if (there === undefined || last < 0) return;
    event.preventDefault();
    const number = Math.min(last, Math.max(0, there));
    this.readAt(points[number].at);
    this.svg.setAttribute("aria-valuemax", String(last));
    this.svg.setAttribute("aria-valuenow", String(number));
    this.svg.setAttribute("aria-valuetext", this.words(points[number]));
  }

  words(point) {
    const values = this.series.map(({ key, name }) => `${name} ${point[key] === null ? "unknown" : this.format(point[key])}`);
    return `${clock(point.at)}: ${values.join(", ")}`;
  }

  /** Filled when it is opened, and then left alone: whoever reads it must not lose their place. */
  fillTable() {
    const body = this.figure.querySelector("tbody");
    const rows = this.shown.slice(-TABLE_ROWS).reverse();
    body.replaceChildren(...rows.map((point) => this.row(point)));
  }

  row(point) {
    const row = document.createElement("tr");
    const time = document.createElement("th");
    time.scope = "row";
    time.textContent = clock(point.at);
    row.append(time);
    for (const { key } of this.series) {
      const cell = document.createElement("td");
      cell.className = "number";
      cell.textContent = point[key] === null || point[key] === undefined ? "–" : this.format(point[key]);
      row.append(cell);
    }
    return row;
  }
}

function outline(points, key, x, y) {
  const line = (run) => run.map((point) => `${x(point.at).toFixed(1)} ${y(point[key]).toFixed(1)}`).join("L");
  return runs(points, key).map((run) => `M${line(run)}`).join("");
}

function areas(points, key, x, y) {
  const foot = (point) => `${x(point.at).toFixed(1)} ${y(0).toFixed(1)}`;
  return runs(points, key).map((run) => `M${foot(run[0])}L${outline(run, key, x, y).slice(1)}L${foot(run.at(-1))}Z`).join("");
}

/** Points that follow each other; where nothing is known, or for too long nothing came, another run begins. */
function runs(points, key) {
  const found = [];
  let run = null;
  for (const point of points) {
    if (point[key] === null || point[key] === undefined) {
      run = null;
      continue;
    }
    if (!run || point.at - run.at(-1).at > GAP_MILLISECONDS) found.push((run = []));
    run.push(point);
  }
  return found;
}

/** So that its half is a round number too. */
function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].find((step) => step * power >= value) * power;
}

function element(name, attributes) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, String(value));
  return made;
}

function label(x, y, anchor, text) {
  const made = element("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}
