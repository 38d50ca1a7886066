(function () {
  "use strict";
  var tip = document.getElementById("tip");
  function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function show(event, lines) {
    tip.textContent = "";
    lines.forEach(function (line, number) {
      var part = document.createElement(number ? "span" : "b");
      part.textContent = line + (number + 1 < lines.length ? "\n" : "");
      tip.appendChild(part);
    });
    tip.hidden = false;
    var box = tip.getBoundingClientRect();
    var x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    var y = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18;
    tip.style.left = Math.max(4, x) + "px";
    tip.style.top = Math.max(4, y) + "px";
  }
  function hide() { tip.hidden = true; }
  function seconds(value) {
    var size = Math.abs(value);
    if (size === 0) { return "0 s"; }
    if (size < 1e-3) { return +(value * 1e6).toPrecision(3) + " µs"; }
    if (size < 1) { return +(value * 1e3).toPrecision(3) + " ms"; }
    if (size < 120) { return +value.toPrecision(3) + " s"; }
    return Math.floor(value / 60) + " min " + Math.round(value % 60) + " s";
  }
  function bytes(value) {
    var units = ["B", "kiB", "MiB", "GiB", "TiB"], unit = 0;
    while (value >= 1024 && unit < 4) { value /= 1024; unit += 1; }
    return +value.toPrecision(3) + " " + units[unit];
  }
  function prepare(canvas, height) {
    var ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 600;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    var context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    return [context, width];
  }
  function step(span, count) {
    var raw = span / count, power = Math.pow(10, Math.floor(Math.log10(raw))), rest = raw / power;
    return power * (rest < 1.5 ? 1 : rest < 3.5 ? 2 : rest < 7.5 ? 5 : 10);
  }
  // A chart that can be zoomed into: wheel or drag over a span, double click or the button for all of it.
  function zoomable(box, canvas, view, draw) {
    var button = box.querySelector("button"), from = null;
    function all() { view.low = 0; view.high = 1; update(); }
    function update() {
      if (view.high - view.low > 0.9999) { view.low = 0; view.high = 1; }
      button.hidden = view.low === 0 && view.high === 1;
      draw();
    }
    function place(event) {
      var area = canvas.getBoundingClientRect();
      var share = (event.clientX - area.left - view.left) / Math.max(1, area.width - view.left);
      return view.low + Math.min(1, Math.max(0, share)) * (view.high - view.low);
    }
    function zoom(middle, factor) {
      var low = middle - (middle - view.low) * factor, high = middle + (view.high - middle) * factor;
      if (high - low < 1e-9) { return; }
      view.low = Math.max(0, low);
      view.high = Math.min(1, high);
      update();
    }
    canvas.addEventListener("wheel", function (event) {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) { return; }
      event.preventDefault();
      zoom(place(event), (event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8);
    }, { passive: false });
    canvas.addEventListener("pointerdown", function (event) { if (event.pointerType === "mouse") { from = [event.clientX, place(event)]; } });
    window.addEventListener("pointerup", function (event) {
      if (from && Math.abs(event.clientX - from[0]) > 6) {
        var to = place(event);
        if (Math.abs(to - from[1]) > 1e-9) {
          view.low = Math.min(from[1], to);
          view.high = Math.max(from[1], to);
          update();
        }
      }
      from = null;
    });
    canvas.addEventListener("dblclick", all);
    canvas.addEventListener("keydown", function (event) {
      var span = view.high - view.low, middle = (view.high + view.low) / 2, move = { ArrowLeft: -0.2, ArrowRight: 0.2 }[event.key];
      if (event.key === "+" || event.key === "=") { zoom(middle, 0.7); }
      else if (event.key === "-") { zoom(middle, 1.4); }
      else if (event.key === "Escape") { all(); }
      else if (move) {
        var shift = Math.max(-view.low, Math.min(1 - view.high, move * span));
        view.low += shift;
        view.high += shift;
        update();
      } else { return; }
      event.preventDefault();
    });
    button.addEventListener("click", all);
    canvas.addEventListener("pointerleave", hide);
    window.addEventListener("resize", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    update();
  }
  function stream(box, data) {
    var canvas = box.querySelector("canvas"), axis = 22, lines = data.rows.length;
    var tall = Math.max(7, Math.min(22, Math.floor(520 / Math.max(1, lines))));
    var height = lines * tall + axis, view = { low: 0, high: 1, left: 0 }, context, width;
    var names = ["compute", "transfer", "read from disk"];
    var ink = data.colors.map(function (color) {
      var parts = [1, 3, 5].map(function (at) { return parseInt(color.substr(at, 2), 16); });
      return 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2] > 140 ? "#10151c" : "#ffffff";
    });
    function x(time) { return view.left + (time / data.span - view.low) / (view.high - view.low) * (width - view.left); }
    function draw() {
      var made = prepare(canvas, height), transfer = css("--transfer"), load = css("--load"), bad = css("--text");
      context = made[0]; width = made[1];
      view.left = tall >= 11 && width > 520 ? 120 : 0;
      var low = view.low * data.span, high = view.high * data.span, unit = step(high - low, Math.max(3, width / 110));
      context.strokeStyle = css("--line"); context.fillStyle = css("--soft"); context.textAlign = "center";
      for (var mark = Math.ceil(low / unit) * unit; mark <= high + unit * 1e-6; mark += unit) {
        var at = Math.round(x(mark)) + 0.5;
        context.beginPath(); context.moveTo(at, 0); context.lineTo(at, height - axis); context.stroke();
        if (at > view.left + 12 && at < width - 20) { context.fillText(seconds(+mark.toPrecision(9)), at, height - 9); }
      }
      var last = {};
      for (var number = 0; number < data.runs.length; number += 1) {
        var run = data.runs[number], a = x(run[1]), b = x(run[1] + run[2]);
        if (b < view.left || a > width) { continue; }
        a = Math.max(a, view.left);
        var spot = run[0] + ":" + run[3] + ":" + Math.round(a * 2);
        if (b - a < 0.5) { if (last[spot]) { continue; } last[spot] = true; }
        var thin = run[3] !== 0;
        context.globalAlpha = thin ? 0.75 : 1;
        context.fillStyle = run[3] === 1 ? transfer : run[3] === 2 ? load : run[6] ? bad : data.colors[run[4]];
        context.fillRect(a, run[0] * tall + (thin ? tall * 0.3 : 1), Math.max(0.7, b - a - (b - a > 4 ? 0.6 : 0)), thin ? tall * 0.4 : tall - 2);
        if (run[6] && b - a > 3) { context.strokeStyle = css("--bad"); context.strokeRect(a + 0.5, run[0] * tall + 1.5, b - a - 1, tall - 3); }
        if (!thin && !run[6] && tall >= 14 && b - a > 40) {
          context.globalAlpha = 1; context.fillStyle = ink[run[4]]; context.textAlign = "left";
          var text = data.names[run[4]], room = b - a - 8;
          if (context.measureText(text).width < room) { context.fillText(text, a + 4, run[0] * tall + tall / 2); }
        }
      }
      context.globalAlpha = 1;
      if (view.left) {
        context.clearRect(0, 0, view.left - 4, height);
        context.fillStyle = css("--soft"); context.textAlign = "right";
        data.rows.forEach(function (row, index) { context.fillText(row[0], view.left - 8, index * tall + tall / 2, view.left - 12); });
      }
    }
    canvas.addEventListener("pointermove", function (event) {
      var area = canvas.getBoundingClientRect(), row = Math.floor((event.clientY - area.top) / tall), best = null, near = 3;
      for (var number = 0; number < data.runs.length; number += 1) {
        var run = data.runs[number];
        if (run[0] !== row) { continue; }
        var a = x(run[1]), b = x(run[1] + run[2]), here = event.clientX - area.left;
        var away = here < a ? a - here : here > b ? here - b : 0;
        if (away < near || (away === 0 && best && run[3] === 0)) { best = run; near = away; }
      }
      if (!best) { return hide(); }
      var shown = [data.names[best[4]], data.keys[best[5]], names[best[3]] + ": " + seconds(best[2]) + ", from " + seconds(best[1])];
      shown.push(data.rows[best[0]][1]);
      if (best[6]) { shown.push("failed: " + best[6]); } else if (best[3] === 0) { shown.push("result: " + bytes(best[7])); }
      show(event, shown);
    });
    zoomable(box, canvas, view, draw);
  }
  function flame(box, data) {
    var canvas = box.querySelector("canvas"), tall = 18, deepest = 0, context, width, focus = 0;
    data.nodes.forEach(function (node) { deepest = Math.max(deepest, node[1]); });
    var height = (deepest + 1) * tall, view = { low: 0, high: 1, left: 0 };
    function x(share) { return (share - view.low) / (view.high - view.low) * width; }
    function draw() {
      var made = prepare(canvas, height);
      context = made[0]; width = made[1];
      context.textAlign = "left";
      data.nodes.forEach(function (node) {
        var a = Math.max(0, x(node[2])), b = Math.min(width, x(node[2] + node[3]));
        if (b <= 0 || a >= width || b - a < 0.3) { return; }
        context.globalAlpha = node[1] < data.nodes[focus][1] ? 0.45 : 1;
        context.fillStyle = node[1] === 0 ? "#9aa7ba" : data.colors[node[6]];
        context.fillRect(a, node[1] * tall, Math.max(0.5, b - a - 0.6), tall - 1);
        if (b - a > 34) {
          context.save();
          context.beginPath(); context.rect(a, node[1] * tall, b - a - 3, tall); context.clip();
          context.fillStyle = "#10151c";
          context.fillText(node[1] === 0 ? "all" : data.texts[node[4]], a + 4, node[1] * tall + tall / 2);
          context.restore();
        }
      });
      context.globalAlpha = 1;
    }
    function at(event) {
      var area = canvas.getBoundingClientRect(), depth = Math.floor((event.clientY - area.top) / tall), here = event.clientX - area.left;
      for (var number = 0; number < data.nodes.length; number += 1) {
        var node = data.nodes[number];
        if (node[1] === depth && here >= x(node[2]) && here <= x(node[2] + node[3])) { return number; }
      }
      return -1;
    }
    canvas.addEventListener("pointermove", function (event) {
      var found = at(event);
      if (found < 0) { return hide(); }
      var node = data.nodes[found], lines = [node[1] === 0 ? "all samples" : data.texts[node[4]]];
      if (node[1]) { lines.push(data.texts[node[5]]); if (node[7] >= 0) { lines.push(data.texts[node[7]]); } }
      lines.push(seconds(node[0] * data.interval) + ", " + (100 * node[3]).toFixed(1) + " % (" + node[0] + " samples)");
      show(event, lines);
    });
    canvas.addEventListener("click", function (event) {
      var found = at(event);
      if (found < 0) { return; }
      focus = found;
      view.low = data.nodes[found][2];
      view.high = view.low + data.nodes[found][3];
      box.querySelector("button").hidden = found === 0;
      draw();
    });
    function all() { focus = 0; view.low = 0; view.high = 1; box.querySelector("button").hidden = true; draw(); }
    box.querySelector("button").addEventListener("click", all);
    canvas.addEventListener("keydown", function (event) { if (event.key === "Escape") { all(); } });
    canvas.addEventListener("pointerleave", hide);
    window.addEventListener("resize", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    draw();
  }
  var kinds = { stream: stream, flame: flame };
  Array.prototype.forEach.call(document.querySelectorAll(".chart"), function (box) {
    var source = document.getElementById(box.getAttribute("data-source"));
    kinds[box.getAttribute("data-kind")](box, JSON.parse(source.textContent));
  });
}());
