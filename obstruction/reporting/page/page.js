"use strict";
// The maps and the table of a study. All numbers come as texts that are ready to be shown, and as
// arrays to sort and to colour by; cells are numbered scheme by scheme, d by d, l fastest.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { schemes, d, l, texts } = data;
  const size = d.length * l.length;
  const count = schemes.length * size;
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const tilted = bytes(data.tilted);
  const numbers = Object.fromEntries(
    Object.entries(data.numbers).map(([name, text]) => [name, doubles(text)]),
  );

  function doubles(text) {
    const view = new DataView(bytes(text).buffer);
    return Float64Array.from({ length: view.byteLength / 8 }, (_, i) => view.getFloat64(8 * i, true));
  }

  const schemeOf = (cell) => Math.floor(cell / size);
  const dOf = (cell) => d[Math.floor((cell % size) / l.length)];
  const lOf = (cell) => l[cell % l.length];
  const estimatorOf = (cell) => (tilted[cell] ? "tilted" : "direct");
  const many = (number) => number.toLocaleString("en");
  const byId = (id) => document.getElementById(id);

  // --- the table -----------------------------------------------------------------------------

  const keys = {
    scheme: schemeOf,
    d: dOf,
    l: lOf,
    exact: (cell) => numbers.exact[cell],
    empirical: (cell) => numbers.empirical[cell],
    z: (cell) => numbers.z[cell],
    estimator: (cell) => tilted[cell],
  };
  const table = byId("table");
  const body = table.tBodies[0];
  const filters = { scheme: byId("filter-scheme"), d: byId("filter-d"), l: byId("filter-l") };
  const pageSize = byId("filter-rows");
  let sorting = { column: "", up: true };
  let page = 0;
  let cells = [];

  // Reads 7, 2,5,10 and 1:100 or 1:100:5; returns a test, or null if it is none of these.
  function reader(text) {
    if (!text.trim()) return () => true;
    const parts = text.split(",").map((part) => part.trim());
    if (!parts.every((part) => /^\d+(:\d+){0,2}$/.test(part))) return null;
    const ranges = parts.map((part) => {
      const [start, stop = start, step = 1] = part.split(":").map(Number);
      return { start, stop, step: Math.max(1, step) };
    });
    return (x) =>
      ranges.some((r) => x >= r.start && x <= r.stop && (x - r.start) % r.step === 0);
  }

  function choose() {
    const tests = {};
    const wrong = [];
    for (const name of ["d", "l"]) {
      tests[name] = reader(filters[name].value);
      filters[name].setAttribute("aria-invalid", String(tests[name] === null));
      if (tests[name] === null) wrong.push(name);
    }
    byId("filter-error").textContent = wrong.length
      ? `${wrong.join(" and ")}: write a size, a list 2,5,10 or a range 10:20`
      : "";
    if (wrong.length) return;
    const scheme = filters.scheme.value;
    cells = [];
    for (let cell = 0; cell < count; cell++) {
      if (scheme !== "" && schemeOf(cell) !== Number(scheme)) continue;
      if (tests.d(dOf(cell)) && tests.l(lOf(cell))) cells.push(cell);
    }
    sort();
  }

  function sort() {
    const key = keys[sorting.column];
    const sign = sorting.up ? 1 : -1;
    cells.sort((a, b) => {
      if (!key) return a - b;
      const x = key(a);
      const y = key(b);
      // cells without a value come last, whatever the direction
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
      return x === y ? a - b : sign * (x < y ? -1 : 1);
    });
    page = 0;
    show();
  }

  function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  function row(cell) {
    const made = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.append(element("code", schemes[schemeOf(cell)].label));
    made.append(head);
    const shown = [
      ...[dOf(cell), lOf(cell), texts.exact[cell], texts.empirical[cell], texts.interval[cell]],
      ...[texts.z[cell], estimatorOf(cell)],
    ];
    made.append(...shown.map((text) => element("td", text)));
    return made;
  }

  function show() {
    const length = Number(pageSize.value);
    const last = Math.max(0, Math.ceil(cells.length / length) - 1);
    page = Math.min(Math.max(page, 0), last);
    const part = cells.slice(page * length, (page + 1) * length);
    body.replaceChildren(...part.map(row));
    const order = sorting.column
      ? `, sorted by ${sorting.column}, ${sorting.up ? "ascending" : "descending"}`
      : "";
    byId("status").textContent = part.length
      ? `Cells ${many(page * length + 1)} to ${many(page * length + part.length)} of ` +
        `${many(cells.length)}${order}`
      : "No cell of the study fits.";
    for (const button of byId("pager").children) {
      const edge = ["first", "previous"].includes(button.dataset.page) ? 0 : last;
      button.setAttribute("aria-disabled", String(page === edge));
    }
  }

  for (const head of table.tHead.rows[0].cells) {
    const column = head.dataset.column;
    if (!(column in keys)) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = sorting.column === column ? !sorting.up : true;
      sorting = { column, up };
      for (const other of table.tHead.rows[0].cells) {
        if (other.dataset.column in keys) other.setAttribute("aria-sort", "none");
      }
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort();
    });
  }

  byId("pager").addEventListener("click", (event) => {
    const step = event.target.dataset.page;
    if (!step) return;
    page = { first: 0, previous: page - 1, next: page + 1, last: Infinity }[step];
    show();
  });
  const form = byId("filters");
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(choose));
  form.hidden = byId("pager").hidden = false;
  choose();

  // --- the maps ------------------------------------------------------------------------------

  const kinds = {
    empirical: { of: (cell) => 10 ** numbers.empirical[cell], scale: "chance" },
    exact: { of: (cell) => 10 ** numbers.exact[cell], scale: "chance" },
    z: { of: (cell) => numbers.z[cell], scale: "z" },
    "log10 empirical": {
      // a rate of 0 has no logarithm
      of: (cell) => (numbers.empirical[cell] === -Infinity ? NaN : numbers.empirical[cell]),
      scale: "log10",
    },
    "log10 exact": { of: (cell) => Math.max(numbers.exact[cell], -1e9), scale: "log10" },
  };

  const cellsOf = (k) => Array.from({ length: size }, (_, i) => k * size + i);

  function sides(cell) {
    const i = Math.floor((cell % size) / l.length);
    const j = cell % l.length;
    return [data.axes.d[i], data.axes.d[i + 1], data.axes.l[j], data.axes.l[j + 1]];
  }

  function columns(list) {
    const made = { left: [], right: [], bottom: [], top: [] };
    for (const cell of list) {
      sides(cell).forEach((side, i) => Object.values(made)[i].push(side));
    }
    return made;
  }

  const chosenKind = () => byId("value").querySelector("input:checked").value;

  function colour(models, k) {
    const kind = kinds[chosenKind()];
    const { low, high, palette } = data.scales[kind.scale];
    models.colours.setv({ palette, low, high });
    models.cells.data = { ...models.cells.data, value: cellsOf(k).map(kind.of) };
  }

  function words(cell) {
    const made = document.createElement("span");
    made.append(
      element("b", `d = ${dOf(cell)}, l = ${lOf(cell)}`),
      `: exact ${texts.exact[cell]}, empirical ${texts.empirical[cell]} ${texts.interval[cell]}, ` +
        `z ${texts.z[cell]}, ${estimatorOf(cell)}`,
    );
    return made;
  }

  function interact(models, k) {
    let at = -1; // the cell of this map that the keyboard is on
    const plot = byId(`map-${k}`);
    const go = (cell) => {
      at = cell;
      const own = k * size + cell;
      models.cursor.data = { ...columns([own]), d: [dOf(own)], l: [lOf(own)] };
      byId(`readout-${k}`).replaceChildren(words(own));
    };
    plot.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 1;
      const moves = {
        ArrowLeft: [-step, 0],
        ArrowRight: [step, 0],
        ArrowDown: [0, -step],
        ArrowUp: [0, step],
        PageDown: [0, -10],
        PageUp: [0, 10],
        Home: [-Infinity, 0],
        End: [Infinity, 0],
      };
      const move = moves[event.key];
      if (!move || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const within = (x, length) => Math.min(Math.max(x, 0), length - 1);
      if (at < 0) return go(0);
      const i = within(Math.floor(at / l.length) + move[0], d.length);
      go(i * l.length + within((at % l.length) + move[1], l.length));
    });
    models.plot.on_event("tap", (event) => {
      const find = (edges, x) => edges.findIndex((edge, i) => x >= edge && x < edges[i + 1]);
      const [i, j] = [find(data.axes.d, event.x), find(data.axes.l, event.y)];
      if (i >= 0 && j >= 0) go(i * l.length + j);
    });
  }

  async function draw() {
    const { document: described, roots } = data.maps;
    const places = Object.fromEntries(roots.map((root, k) => [root, `map-${k}`]));
    await Bokeh.embed.embed_items({ maps: described }, [
      { docid: "maps", roots: places, root_ids: roots },
    ]);
    const found = Bokeh.documents[Bokeh.documents.length - 1];
    const all = schemes.map((_, k) => {
      const named = (name) => found.get_model_by_name(`${name}-${k}`);
      const models = Object.fromEntries(
        ["cells", "cursor", "colours"].map((name) => [name, named(name)]),
      );
      return { ...models, plot: found.get_model_by_id(roots[k]) };
    });
    all.forEach((models, k) => {
      const list = cellsOf(k);
      const part = (column) => column.slice(k * size, (k + 1) * size);
      models.cells.data = {
        ...columns(list),
        value: list.map(() => NaN),
        d: list.map((cell) => String(dOf(cell))),
        l: list.map((cell) => String(lOf(cell))),
        exact: part(texts.exact),
        empirical: part(texts.empirical),
        interval: part(texts.interval),
        z: part(texts.z),
        estimator: list.map(estimatorOf),
      };
      colour(models, k);
      interact(models, k);
    });
    byId("value").addEventListener("change", () => all.forEach(colour));
    document.documentElement.dataset.maps = "ready";
  }

  draw();
})();
