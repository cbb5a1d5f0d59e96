// Draws each figure of the page from its data, and again when a button changes how.
(() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Colours stand in the data as "--name" or "--name/alpha": the theme has their values.
  const colour = (text) => {
    const [name, alpha] = text.split("/");
    return style(name) + (alpha || "");
  };
  const painted = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? colour(value) : value;
    if (Array.isArray(value)) return typeof value.at(-1) === "number" ? value : value.map(painted);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v)]));
  };

  const coarse = matchMedia("(pointer: coarse)").matches; // fingers scroll the page instead
  // Labels at 1, 2 and 5 of each decade, or at decades where there are many.
  const logTicks = (numbers) => {
    const positive = numbers.filter((one) => one > 0);
    const decades = positive.length ? Math.log10(Math.max(...positive) / Math.min(...positive)) : 1;
    const tickformat = decades > 8 ? "~e" : "~g";
    return { dtick: decades > 2.5 ? Math.max(1, Math.ceil(decades / 10)) : "D2", tickformat };
  };
  const axis = (title, log, range, numbers) => ({
    title: { text: title, standoff: 8 }, type: log ? "log" : "linear", automargin: true, tickfont: { size: 12 },
    gridcolor: style("--grid"), linecolor: style("--line"), zerolinecolor: style("--line"), fixedrange: coarse,
    spikecolor: style("--faint"), spikethickness: -1, spikedash: "dot",
    ...(log ? logTicks(numbers) : {}), ...(range && !log ? { range } : { autorange: true }),
  });

  // A box with long names would hide a phone's figure; the buttons above have them whole.
  const named = (name) => (name && innerWidth < 700 && name.length > 16 ? { name: `${name.slice(0, 7)}…${name.slice(-7)}` } : {});

  const draw = (figure) => {
    const { spec, state, place } = figure;
    const other = state.other && spec.other;
    const traces = spec.traces.map(({ group, other: x, ...trace }) => ({
      ...painted(trace), ...named(trace.name), ...(other && x ? { x } : {}), visible: state.hidden.has(group) ? false : true,
    }));
    const shown = traces.filter((one) => one.visible && one.mode === "lines");
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, autosize: true,
      font: { family: "system-ui, sans-serif", size: 13, color: style("--ink") },
      margin: { l: 56, r: 12, t: 10, b: 48 }, dragmode: coarse ? false : "zoom",
      hovermode: spec.hover || "x unified",
      hoverlabel: { bgcolor: style("--raised"), bordercolor: style("--line"), font: { color: style("--ink") } },
      uirevision: JSON.stringify([state.logX, state.logY, state.other]),
      xaxis: axis(other ? spec.other : spec.x, state.logX, spec.xRange, shown.flatMap((one) => one.x)),
      yaxis: { ...axis(spec.y, state.logY, spec.yRange, shown.flatMap((one) => one.y)), ...(spec.yAxis || {}) },
    };
    return Plotly.react(place, traces, layout, { responsive: true, displayModeBar: false, doubleClick: "reset" });
  };

  const toggle = (button, change) => button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", pressed);
    change(pressed);
  });

  const figures = JSON.parse(document.getElementById("figures").textContent).map((spec) => {
    const place = document.getElementById(`plot-${spec.id}`);
    const state = { logX: spec.logX, logY: spec.logY, other: false, hidden: new Set(spec.hidden) };
    const figure = { spec, state, place };
    for (const button of document.querySelectorAll(`[data-figure="${spec.id}"]`)) {
      const { set, group } = button.dataset;
      toggle(button, (pressed) => {
        if (set) state[set] = pressed;
        else pressed ? state.hidden.delete(group) : state.hidden.add(group);
        draw(figure);
      });
    }
    return figure;
  });
  document.addEventListener("theme", () => figures.forEach(draw)); // which comes at the start, too
})();
