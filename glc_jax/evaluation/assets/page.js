"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const ORIGINAL = "original";
  const INPUT = "input"; // the degraded picture, where there is one

  // ------------------------------------------------------------------ the data, by name
  const methods = new Map(data.methods.map((method) => [method.id, method]));
  const items = new Map(data.items.map((item) => [key(item.image, item.degradation, item.method, item.point), item]));
  const pictures = [...new Map(data.items.map((item) => [item.image, item])).values()];
  const degraded = data.degradations.length > 0;
  const restored = data.methods.find((method) => method.restorer);
  const metrics = Object.entries(data.metrics).filter(([name]) => name !== "fid" && name !== "kid");

  function key(...parts) {
    return JSON.stringify(parts);
  }

  function address(path) {
    return path.split("/").map(encodeURIComponent).join("/");
  }

  function element(name, properties = {}, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  }

  function number(value, decimals) {
    if (value === null || value === undefined) return "–";
    return value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }

  function fill(select, options) {
    select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  }

  // ------------------------------------------------------------------ the slider
  const state = {
    picture: 0, left: degraded ? INPUT : ORIGINAL, right: (restored ?? data.methods[0]).id,
    point: data.points.at(-1), degradation: data.degradations[0] ?? null, position: 50,
  };
  const stage = $("stage");

  function place(position) {
    state.position = Math.min(100, Math.max(0, position));
    stage.style.setProperty("--position", `${state.position}%`);
    const value = String(Math.round(state.position));
    stage.setAttribute("aria-valuenow", value);
    stage.setAttribute("aria-valuetext", `${value} % left picture`);
  }

  function follow(event) {
    const box = stage.getBoundingClientRect();
    place(((event.clientX - box.left) / box.width) * 100);
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 2;
    const moves = {
      ArrowLeft: state.position - step, ArrowRight: state.position + step,
      ArrowDown: state.position - step, ArrowUp: state.position + step,
      PageDown: state.position - 10, PageUp: state.position + 10, Home: 0, End: 100,
    };
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    place(moves[event.key]);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("select, input")) return;
    const digit = Number(event.key);
    if (event.key === "n" || event.key === "N") show({ picture: state.picture + 1 });
    else if (event.key === "p" || event.key === "P") show({ picture: state.picture - 1 });
    else if (digit >= 1 && digit <= data.points.length) show({ point: data.points[digit - 1] });
  });

  // What there is to see of the current picture under a codec's id, ORIGINAL or INPUT.
  function view(method) {
    const picture = pictures[state.picture];
    const find = (...names) => items.get(key(picture.image, state.degradation, ...names));
    if (method === ORIGINAL) return { name: "Original", item: picture, file: picture.files.original };
    if (method === INPUT) {
      const item = find(null, null);
      return { name: `Degraded (${state.degradation})`, item, file: item?.files.input };
    }
    const item = find(method, state.point);
    return { name: methods.get(method).label, item, file: item?.files.reconstruction };
  }

  function facts(item) {
    return metrics
      .filter(([metric]) => item[metric] !== null)
      .map(([metric, about]) => `${about.label} ${number(item[metric], about.decimals)} ${about.unit}`.trim());
  }

  function side(image, caption, method) {
    const { name, item, file } = view(method);
    image.classList.toggle("absent", !item);
    caption.replaceChildren(element("strong", {}, name));
    if (!item) {
      image.removeAttribute("src");
      caption.append(" · not measured");
      return;
    }
    const source = address(file);
    if (image.getAttribute("src") !== source) image.src = source;
    image.alt = `${name}: ${item.image}`;
    if (method === ORIGINAL) {
      caption.append(` · ${item.width} × ${item.height}`);
      return;
    }
    const known = facts(item);
    if (method !== INPUT) {
      caption.append(" · ", element("a", { href: address(item.files.file), download: "" }, `${number(item.bytes, 0)} bytes`));
      known.unshift(`${number(item.bpp, 4)} bpp`);
    }
    caption.append(` · ${known.join(" · ")}`);
  }

  // Everything beside everything, where pictures were spoiled or restored.
  function row() {
    const { width, height } = pictures[state.picture];
    const all = [ORIGINAL, ...(degraded ? [INPUT] : []), ...methods.keys()];
    const figures = all.map(view).filter(({ item }) => item).map(({ name, item, file }, i) => {
      const caption = element("figcaption", {}, element("strong", {}, name));
      if (item.bytes !== null && i > 0) caption.append(` · ${number(item.bytes, 0)} bytes`);
      if (i > 0) caption.append(` · ${facts(item).join(" · ")}`);
      const image = element("img", { src: address(file), alt: `${name}: ${item.image}`, loading: "lazy", width, height });
      return element("figure", {}, element("a", { href: address(file) }, image), caption);
    });
    $("row").replaceChildren(...figures);
  }

  function resize() {
    const { width, height } = pictures[state.picture];
    const natural = $("zoom").getAttribute("aria-pressed") === "true";
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.style.width = natural ? `${width / devicePixelRatio}px` : `min(100%, ${(64 * width) / height}vh)`;
  }

  function show(change) {
    Object.assign(state, change);
    state.picture = (state.picture + pictures.length) % pictures.length;
    const picture = pictures[state.picture];
    stage.style.backgroundImage = `url("${address(picture.files.thumbnail)}")`;
    resize();
    side($("image-left"), $("caption-left"), state.left);
    side($("image-right"), $("caption-right"), state.right);
    $("left").value = state.left;
    $("right").value = state.right;
    $("rate").value = state.point;
    if (degraded) $("degradation").value = state.degradation;
    if (degraded || restored) row();
    $("current").textContent = `${picture.image} (${state.picture + 1} of ${pictures.length})`;
    mark([...$("strip").children], state.picture);
    mark([...document.querySelectorAll("#items tbody tr")], null, picture.image);
  }

  function mark(nodes, index, name) {
    for (const [i, node] of nodes.entries()) {
      const current = name === undefined ? i === index : node.dataset.image === name;
      if (current === (node.getAttribute("aria-current") === "true")) continue;
      if (current) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
      if (current && name === undefined) {
        const strip = $("strip");
        strip.scrollLeft = node.offsetLeft - strip.offsetLeft - (strip.clientWidth - node.clientWidth) / 2;
      }
    }
  }

  function thumbnail(picture, properties) {
    return element("img", { loading: "lazy", decoding: "async", alt: "", src: address(picture.files.thumbnail), ...properties });
  }

  const choices = data.methods.map((method) => [method.id, method.label]);
  const rates = data.points.map((point) => [point, point]);
  const itself = degraded ? [[INPUT, "Degraded"]] : [];
  fill($("left"), [[ORIGINAL, "Original"], ...itself, ...choices]);
  fill($("right"), [...choices, ...itself, [ORIGINAL, "Original"]]);
  for (const select of [$("degradation"), $("items-degradation")]) {
    fill(select, data.degradations.map((name) => [name, name]));
    select.parentElement.hidden = !degraded;
  }
  $("degradation").addEventListener("change", (event) => show({ degradation: event.target.value }));
  fill($("rate"), rates);
  $("left").addEventListener("change", (event) => show({ left: event.target.value }));
  $("right").addEventListener("change", (event) => show({ right: event.target.value }));
  $("rate").addEventListener("change", (event) => show({ point: event.target.value }));
  $("previous").addEventListener("click", () => show({ picture: state.picture - 1 }));
  $("next").addEventListener("click", () => show({ picture: state.picture + 1 }));
  $("zoom").addEventListener("click", (event) => {
    const pressed = event.target.getAttribute("aria-pressed") !== "true";
    event.target.setAttribute("aria-pressed", String(pressed));
    resize();
  });
  for (const [i, picture] of pictures.entries()) {
    const width = Math.round((68 * picture.width) / picture.height);
    const button = element("button", { type: "button", title: picture.image }, thumbnail(picture, { width, height: 68 }));
    button.setAttribute("aria-label", picture.image);
    button.addEventListener("click", () => show({ picture: i }));
    $("strip").append(button);
  }

  // ------------------------------------------------------------------ tables that sort
  // A column: {label, value(row) to sort by, cell(row) to show (text or a node), text}.
  function table(node, columns, rows, decorate = () => {}) {
    const body = element("tbody");
    const lines = rows.map((row) => {
      const cells = columns.map((column) => element("td", { className: column.text ? "text" : "" }, column.cell(row)));
      const line = element("tr", {}, ...cells);
      decorate(line, row);
      return { row, line };
    });
    const heads = columns.map((column) => {
      const button = element("button", { type: "button" }, column.label);
      const head = element("th", { scope: "col", className: column.text ? "text" : "" }, button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        lines.sort((a, b) => compare(column.value(a.row), column.value(b.row), rising));
        body.replaceChildren(...lines.map(({ line }) => line));
      });
      return head;
    });
    body.replaceChildren(...lines.map(({ line }) => line));
    node.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), body);
  }

  function compare(a, b, rising) {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
    const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    return rising ? order : -order;
  }

  function column(label, name, decimals) {
    return { label, value: (row) => row[name] ?? null, cell: (row) => number(row[name], decimals) };
  }

  function text(label, value) {
    return { label, value, cell: value, text: true };
  }

  function measures(rows, names) {
    const columns = [column("bytes", "bytes", 0), column("bpp", "bpp", 4), column("bpp, estimated", "bpp_estimated", 4)];
    for (const [name, about] of names) {
      columns.push(column(about.unit ? `${about.label} (${about.unit})` : about.label, name, about.decimals));
    }
    columns.push(column("encode (s)", "encode_seconds", 2), column("decode (s)", "decode_seconds", 2));
    return columns;
  }

  const averages = [...data.averages, ...data.means];
  const input = text("Input", (row) => row.degradation ?? "mean");
  table(
    document.querySelector("#averages table"),
    [...(degraded ? [input] : []), text("Codec", (row) => methods.get(row.method)?.label ?? "not coded"),
      text("rate", (row) => row.point ?? "–"),
      column("pictures", "images", 0), ...measures(averages, Object.entries(data.metrics))],
    averages,
  );

  const method = $("items-method");
  const point = $("items-point");
  const degradation = $("items-degradation");
  function listItems() {
    const coded = method.value !== INPUT;
    const [wanted, rate] = coded ? [method.value, point.value] : [null, null];
    const input = degraded ? degradation.value : null;
    const rows = data.items.filter((item) => item.degradation === input && item.method === wanted && item.point === rate);
    const name = {
      label: "Picture",
      value: (row) => row.image,
      text: true,
      cell: (row) => element("button", { type: "button", className: "picture" }, thumbnail(row, {}), row.image),
    };
    const size = { label: "size", value: (row) => row.width * row.height, cell: (row) => `${row.width} × ${row.height}` };
    table(document.querySelector("#items table"), [name, size, ...measures(rows, metrics)], rows, (line, row) => {
      line.dataset.image = row.image;
      line.addEventListener("click", () => {
        const picture = pictures.findIndex((each) => each.image === row.image);
        const shown = { picture, degradation: row.degradation };
        show(coded ? { ...shown, right: row.method, point: row.point } : { ...shown, right: INPUT });
        $("viewer").scrollIntoView();
        stage.focus({ preventScroll: true });
      });
    });
    show({});
  }
  fill(method, [...choices, ...itself]);
  fill(point, rates);
  point.value = state.point;
  method.addEventListener("change", listItems);
  point.addEventListener("change", listItems);
  degradation.addEventListener("change", listItems);

  if (data.bd_rates.length) {
    const label = (name) => (methods.has(name) ? methods.get(name).label : name);
    table(
      document.querySelector("#bd-rates table"),
      [text("against", (row) => label(row.anchor)), text("metric", (row) => data.metrics[row.metric].label),
        { label: "BD-rate", value: (row) => row.percent, cell: (row) => `${row.percent > 0 ? "+" : ""}${number(row.percent, 1)} %` },
        { label: "common range", value: (row) => row.overlap, cell: (row) => `${number(100 * row.overlap, 0)} %` }],
      data.bd_rates,
    );
  }
  $("bd-rates").hidden = !data.bd_rates.length;

  // ------------------------------------------------------------------ the rest
  $("title").textContent = `${data.methods[0].label} on ${data.dataset.label}`;
  const day = new Date(data.created).toLocaleDateString("en", { dateStyle: "long" });
  $("subtitle").textContent =
    `${pictures.length} pictures, measured with real files on ${day}. ` +
    "bpp counts every byte on disk; “estimated” is the model’s own figure, which papers report." +
    (degraded ? ` Coded was what is left of them after ${data.degradations.join(", ")}; what came out is compared with the pictures as they were.` : "");
  for (const [name, file] of Object.entries(data.plots)) {
    const image = element("img", { loading: "lazy", src: address(file), alt: `${data.metrics[name].label} over bits per pixel` });
    image.width = 1024;
    image.height = 704;
    document.querySelector("#curves .plots").append(element("a", { href: address(file) }, image));
  }
  const failures = data.failures.map((failure) => {
    const where = failure.method ? ` (${methods.get(failure.method).label}, rate ${failure.point})` : "";
    const spoilt = failure.degradation ? `, ${failure.degradation}` : "";
    return `Not measured: ${failure.image}${spoilt}${where}: ${failure.reason}`;
  });
  const notes = [...data.notes, ...failures];
  document.querySelector("#notes ul").append(...notes.map((note) => element("li", {}, note)));
  $("notes").hidden = !notes.length;

  const about = [["Data set", `${data.dataset.label}, ${data.dataset.pictures} pictures`]];
  for (const each of data.methods) {
    const { id, label, matches, ...identity } = each;
    const words = Object.entries(identity)
      .filter(([, value]) => value !== null && typeof value !== "object")
      .map(([name, value]) => `${name} ${value}`);
    if (matches) words.push(`at the file size nearest to that of ${methods.get(matches).label}`);
    about.push([label, words.join(", ")]);
  }
  if (data.dataset.published) about.push(["Published curves", data.dataset.published]);
  about.push(["Machine", `${data.machine.processor}, ${data.machine.cores} cores, ${data.machine.devices.join(", ")}`]);
  about.push(["Versions", Object.entries(data.versions).map((pair) => pair.join(" ")).join(", ")]);
  const list = document.querySelector("#about dl");
  for (const [name, words] of about) list.append(element("dt", {}, name), element("dd", {}, words));
  list.append(element("dt", {}, "Data"), element("dd", {},
    element("a", { href: "results.json" }, "results.json"), " · ", element("a", { href: "items.csv" }, "items.csv")));

  place(50);
  listItems();
})();
