"use strict";
// The comparison page: everything is drawn from the JSON in #data. Nothing is loaded from anywhere.
const DATA = JSON.parse(document.getElementById("data").textContent);
const COLORS = ["#1f5fbf", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#008b8b", "#c2571a", "#5b6675"];
const SIZES = { parameters_m: "parameters, M", decoder_parameters_m: "decoder parameters, M", gflop: "GFLOP of an image",
  decoder_gflop: "decoder GFLOP of an image", images_per_second_in_training: "training images/s (validation included)" };
const FEW = 12; // rows shown while nothing is chosen
const chosen = new Set(); // of rows, as "table:row"

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "circle", "line", "text", "title", "g"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const show = (x, digits = 4) => (x === null || x === undefined ? "–" : String(Number(x.toPrecision(digits))));
const color = (row) => COLORS[row % COLORS.length];
const section = (id) => { const node = document.getElementById(id); node.replaceChildren(); return node; };

// ---- the table -----------------------------------------------------------------------------------------------------

function score(row, name, best, factor = 1) {
  const [mean, std, low, high] = ["", "_std", "_low", "_high"].map((end) => row[name + end]);
  const td = make("td", mean !== null && mean === best ? { class: "best" } : {}, show(mean === null ? null : factor * mean));
  td.dataset.value = mean ?? "";
  if (std !== null) td.append(` ± ${show(factor * std, 2)}`);
  if (low !== null) td.append(make("small", {}, `[${show(factor * low)}, ${show(factor * high)}]`));
  return td;
}

function plain(value) {
  const td = make("td", {}, show(value));
  td.dataset.value = value ?? "";
  return td;
}

function ourRow(table, t, row, r) {
  const box = make("input", { type: "checkbox", "aria-label": `choose ${row.label}` });
  const tr = make("tr");
  box.addEventListener("change", () => {
    chosen[box.checked ? "add" : "delete"](`${t}:${r}`);
    tr.classList.toggle("chosen", box.checked);
    drawChosen();
  });
  const first = make("td", {}, box, make("span", { class: "key", style: `background:${color(r)}` }), row.label);
  first.dataset.value = row.label;
  tr.append(first, plain(row.n), plain(row.parameters_m), plain(row.decoder_parameters_m), plain(row.decoder_gflop));
  table.columns.forEach((column) => tr.append(score(row, column.name, column.best)));
  const gain = score(row, "gain", undefined, 100);
  gain.title = row.remarks;
  tr.append(gain);
  return tr;
}

function publishedRow(table, row) {
  const first = make("td", {}, `${row.label}, ${row.backbone}`);
  first.dataset.value = row.label;
  const operations = make("td", {}, row.operations, make("small", {}, row.operations === "-" ? "" : row.unit));
  operations.dataset.value = row.decoder_gflop ?? ""; // the column is the decoder's
  const tr = make("tr", { title: row.remarks }, first, make("td"), plain(row.parameters_m), plain(row.decoder_parameters_m), operations);
  table.columns.forEach((column) => tr.append(plain(row[column.name])));
  tr.append(make("td"));
  return tr;
}

function sortRows(element, column, descending) {
  for (const body of element.tBodies) { // published rows stay below ours
    const head = [...body.rows].filter((row) => row.cells.length === 1);
    const rows = [...body.rows].filter((row) => row.cells.length > 1);
    const value = (row) => row.cells[column].dataset.value ?? "";
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what has no value comes last, either way
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return descending ? -order : order;
    });
    body.append(...head, ...rows);
  }
  element.querySelectorAll("thead th").forEach((th, index) => {
    th.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending");
  });
}

function drawTable(table, t) {
  const names = ["", "n", "parameters M", "decoder M", "decoder GFLOP", ...table.columns.map((column) => column.heading), "gain %"];
  const element = make("table", { id: `table${t}` });
  const head = names.map((name, index) => {
    const th = make("th", { class: "sortable", title: "sort" }, name);
    th.addEventListener("click", () => sortRows(element, index, th.getAttribute("aria-sort") === "ascending"));
    return th;
  });
  element.append(make("thead", {}, make("tr", {}, ...head)));
  element.append(make("tbody", { class: "ours" }, ...table.rows.map((row, r) => ourRow(table, t, row, r))));
  if (table.published.length) {
    const words = make("th", { colspan: names.length }, "Published by others, not ours; operations of the decoder or the whole network, in the unit below them");
    element.append(make("tbody", { class: "published" }, make("tr", {}, words), ...table.published.map((row) => publishedRow(table, row))));
  }
  const notes = make("ul", { class: "soft" }, ...table.notes.map((note) => make("li", {}, note)));
  return make("div", {}, make("h2", {}, table.title), make("div", { class: "scroll" }, element), notes);
}

function sources(table) {
  const items = table.published.map((row) => make("li", {}, `${row.label}, ${row.backbone}: ${row.remarks}`));
  return make("details", { class: "published" }, make("summary", {}, "sources of the published rows"), make("ul", {}, ...items));
}

// ---- charts --------------------------------------------------------------------------------------------------------

function axes(title, points, [xName, yName]) {
  const [width, height, left, right, bottom] = [400, 260, 58, 22, 36];
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  };
  const [x0, x1] = range(points.map((p) => p[0])), [y0, y1] = range(points.map((p) => p[1]));
  const x = (v) => left + ((v - x0) / (x1 - x0)) * (width - left - right);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0)) * (height - bottom - 10);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  for (let i = 0; i <= 4; i++) {
    const [u, v] = [x0 + ((x1 - x0) * i) / 4, y0 + ((y1 - y0) * i) / 4];
    svg.append(make("line", { class: "axis", x1: left, x2: width - right, y1: y(v), y2: y(v) }));
    svg.append(make("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, show(v, 3)));
    svg.append(make("text", { x: x(u), y: height - bottom + 15, "text-anchor": "middle" }, show(u, 3)));
  }
  svg.append(make("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, xName));
  return { svg, x, y, figure: make("figure", {}, make("figcaption", {}, yName), svg) };
}

function rowsToShow(few = FEW) {
  const all = DATA.tables.flatMap((table, t) => table.rows.map((row, r) => ({ row, r, t, key: `${t}:${r}` })));
  return chosen.size ? all.filter((item) => chosen.has(item.key)) : all.slice(0, few);
}

function drawCurves() {
  const box = section("curves");
  const lines = rowsToShow().flatMap(({ row, r }) => row.runs.map((index) => ({ run: DATA.runs[index], r })));
  const names = [...new Set(lines.flatMap(({ run }) => Object.keys(run.curves)))];
  for (const name of names) {
    const own = lines.filter(({ run }) => (run.curves[name] || []).length);
    const chart = axes(name, own.flatMap(({ run }) => run.curves[name]), ["step", name]);
    for (const { run, r } of own) {
      const points = run.curves[name];
      const path = "M" + points.map(([u, v]) => `${chart.x(u).toFixed(1)},${chart.y(v).toFixed(1)}`).join("L");
      const label = make("title", {}, `${run.name} (seed ${run.seed})`);
      chart.svg.append(make("path", { d: path, fill: "none", stroke: color(r), "stroke-width": 1.6 }, label));
      const [u, v] = points[points.length - 1];
      chart.svg.append(make("circle", { cx: chart.x(u), cy: chart.y(v), r: 2.5, fill: color(r) }));
    }
    box.append(chart.figure);
  }
  if (!names.length) box.append(make("p", { class: "soft" }, "No curves: the runs shown have no readable metrics.csv."));
}

function drawSizes() {
  const box = section("sizes");
  const [sizeKey, table] = [document.getElementById("size").value, DATA.tables[document.getElementById("sizetable").value]];
  const scores = [...table.columns.map((column) => [column.heading, (row) => row[column.name]]),
    ["gain %", (row) => (row.gain === null ? null : 100 * row.gain)]];
  for (const [name, get] of scores) {
    const points = table.rows.map((row, r) => ({ row, r, at: [row[sizeKey], get(row)] })).filter(({ at }) => at[0] !== null && at[1] !== null);
    if (!points.length) continue;
    const chart = axes(name, points.map(({ at }) => at), [SIZES[sizeKey], name]);
    for (const { row, r, at } of points) {
      chart.svg.append(make("circle", { cx: chart.x(at[0]), cy: chart.y(at[1]), r: 5, fill: color(r), "fill-opacity": 0.8 },
        make("title", {}, `${row.label}: ${show(at[0])}, ${show(at[1])}`)));
    }
    box.append(chart.figure);
  }
}

// ---- what is said about chosen rows --------------------------------------------------------------------------------

function listing(head, rows) {
  const line = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, { class: "words" }, cell)));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, line(head, "th")), make("tbody", {}, ...rows.map((row) => line(row, "td")))));
}

function drawSettings() {
  const box = section("settings"), items = rowsToShow(4);
  const all = items.map(({ row }) => DATA.runs[row.runs[0]].settings);
  const names = [...new Set(all.flatMap((settings) => Object.keys(settings)))];
  const text = (settings, name) => (name in settings ? JSON.stringify(settings[name]) : "–");
  const rows = names.map((name) => [name, ...all.map((settings) => text(settings, name))]).filter((row) => new Set(row.slice(1)).size > 1);
  box.append(rows.length ? listing(["setting", ...items.map(({ row }) => row.label)], rows) : make("p", { class: "soft" }, "No setting differs."));
}

function drawPairs() {
  const box = section("pairs"), labels = new Set(rowsToShow().map(({ row }) => row.label));
  for (const table of DATA.tables) {
    const rows = table.pairs.filter((pair) => labels.has(pair[0]) && labels.has(pair[1])).slice(0, 200);
    if (rows.length) box.append(listing(DATA.pair_head, rows));
  }
  if (!box.children.length) box.append(make("p", { class: "soft" }, "None: no two of the rows shown were scored on the same images with per_image.npz kept."));
}

function drawPictures() {
  const box = section("pictures");
  for (const { row } of rowsToShow()) {
    const run = DATA.runs[row.runs[0]];
    if (!run.picture) continue;
    box.append(make("h3", {}, `${row.label} (${run.name})`), make("img", { src: run.picture, alt: `pictures of ${row.label}` }));
  }
  if (!box.children.length) box.append(make("p", { class: "soft" }, "None of the runs shown has pictures."));
}

function drawWorst() {
  const box = section("worst"), labels = new Set(rowsToShow().map(({ row }) => row.label));
  for (const worst of DATA.worst.filter((item) => labels.has(item.first) && labels.has(item.second))) {
    const figures = worst.images.map(([id, ours, theirs]) => {
      const picture = DATA.thumbnails[id] ? [make("img", { src: DATA.thumbnails[id], alt: `image ${id}` })] : [];
      return make("figure", {}, ...picture, make("figcaption", {}, `${id}: ${show(ours, 3)} against ${show(theirs, 3)}`));
    });
    box.append(make("h3", {}, `${worst.what}: ${worst.first} behind ${worst.second}`), make("div", { class: "gallery" }, ...figures));
  }
  if (!box.children.length) box.append(make("p", { class: "soft" }, "None: it needs per_image.npz of two rows shown, on the same images."));
}

function drawChosen() {
  [drawCurves, drawSettings, drawPairs, drawPictures, drawWorst].forEach((draw) => draw());
}

function start() {
  const tables = document.getElementById("tables");
  DATA.tables.forEach((table, t) => {
    tables.append(drawTable(table, t));
    if (table.published.length) tables.append(sources(table));
  });
  document.getElementById("toggle").hidden = !DATA.tables.some((table) => table.published.length);
  section("skipped").append(...DATA.skipped.map(({ name, reason }) => make("li", {}, `${name}: ${reason}`)));
  document.getElementById("skippedbox").hidden = !DATA.skipped.length;
  document.getElementById("published").addEventListener("change", (event) => {
    document.querySelectorAll(".published").forEach((node) => { node.hidden = !event.target.checked; });
  });
  const [size, which] = [document.getElementById("size"), document.getElementById("sizetable")];
  Object.entries(SIZES).forEach(([value, name]) => size.append(make("option", { value }, name)));
  DATA.tables.forEach((table, value) => which.append(make("option", { value }, table.title)));
  [size, which].forEach((node) => node.addEventListener("change", drawSizes));
  drawSizes();
  drawChosen();
  const wish = /^#sort=(-?)(\d+)$/.exec(location.hash); // #sort=5: first table by its sixth column; #sort=-5: falling
  if (wish) sortRows(document.getElementById("table0"), Number(wish[2]), wish[1] === "-");
}

start();
