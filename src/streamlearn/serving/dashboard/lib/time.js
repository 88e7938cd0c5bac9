// Times, durations and numbers as people read them. Every absolute time is a <time>, shown in UTC or local time as chosen.

import { h, say } from "./dom.js";

const EVENT = "streamlearn:zone";
let zone = localStorage.getItem("streamlearn.zone") === "local" ? "local" : "utc";

/** "utc" or "local". */
export function timeZone() {
  return zone;
}

/** Show every time in "utc" or "local" from now on; it is remembered. */
export function setTimeZone(chosen) {
  zone = chosen;
  localStorage.setItem("streamlearn.zone", chosen);
  for (const element of document.querySelectorAll("time[data-t]")) write(element);
  document.dispatchEvent(new Event(EVENT));
}

/** Call `fn` when UTC or local time was chosen; the returned function ends that. */
export function onTimeZone(fn) {
  document.addEventListener(EVENT, fn);
  return () => document.removeEventListener(EVENT, fn);
}

/** Unix seconds by this machine's clock. */
export function clock() {
  return Date.now() / 1000;
}

/** A <time> for Unix seconds `t`; "–" for null. `style`: "full" (date and time), "time", or "date". */
export function when(t, style = "full") {
  if (t === null || t === undefined) return document.createTextNode("–");
  return write(h("time", { datetime: iso(t), "data-t": t, "data-style": style }));
}

/** A <time> that says how long ago `t` was and keeps saying it; its title is the time itself. */
export function since(t) {
  if (t === null || t === undefined) return document.createTextNode("–");
  return write(h("time", { datetime: iso(t), "data-t": t, "data-style": "ago" }));
}

/** How long ago Unix seconds `t` was, as text: "3 min ago"; "–" for null. */
export function ago(t) {
  if (t === null || t === undefined) return "–";
  const seconds = clock() - t;
  if (seconds < 1) return seconds < -1 ? `in ${span(-seconds)}` : "now";
  return `${span(seconds)} ago`;
}

/** Unix seconds as text in the chosen zone; `style` as in `when`, "short" leaves out today's date. */
export function clockText(t, style = "full") {
  const d = new Date(t * 1000);
  const p = zone === "utc" ? parts(d, "UTC") : parts(d, "");
  const date = `${p[0]}-${two(p[1])}-${two(p[2])}`;
  const time = `${two(p[3])}:${two(p[4])}:${two(p[5])}`;
  if (style === "date") return date;
  if (style === "time") return time;
  if (style === "short" && Math.abs(clock() - t) < 43200) return time;
  return `${date} ${time}`;
}

/** Seconds as text with its two largest units at most: "4 min 10 s", "1.2 s", "3 d 4 h"; "–" for null. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const x = Math.abs(seconds);
  if (x < 0.0995) return `${Math.round(x * 1000)} ms`;
  if (x < 9.95) return `${x.toFixed(1)} s`;
  const whole = Math.round(x);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return twoUnits(whole, 60, "min", 1, "s");
  return whole < 86400 ? twoUnits(whole, 3600, "h", 60, "min") : twoUnits(whole, 86400, "d", 3600, "h");
}

function twoUnits(whole, size, name, small, smallName) {
  const [big, rest] = [Math.floor(whole / size), Math.floor((whole % size) / small)];
  return rest && big < 20 ? `${big} ${name} ${rest} ${smallName}` : `${big} ${name}`;
}

/** A number with some three significant digits, thousands apart: 0.853, 12.4, 1,204, 3.1e-71; "–" for null. */
export function number(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e15) return x.toLocaleString("en");
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return x.toExponential(1).replace("e+", "e");
  if (size >= 100) return Math.round(x).toLocaleString("en");
  return size >= 10 ? x.toFixed(1) : x.toFixed(size >= 1 ? 2 : 3);
}

/** A share of 1 as text: 0.125 → "12.5 %"; "–" for null. */
export function percent(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const value = Math.round(x * 1000) / 10;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} %`;
}

/** Keep every `since` up to date. Called once, by the shell. */
export function keepTime() {
  setInterval(() => {
    for (const element of document.querySelectorAll("time[data-style=ago]")) write(element);
  }, 5000);
}

function write(element) {
  const t = Number(element.dataset.t);
  const { style } = element.dataset;
  const name = zone === "utc" ? "UTC" : "local time";
  say(element, style === "ago" ? ago(t) : clockText(t, style));
  element.title = `${clockText(t)} ${name}`;
  return element;
}

function iso(t) {
  return new Date(t * 1000).toISOString();
}

function parts(d, utc) {
  return ["FullYear", "Month", "Date", "Hours", "Minutes", "Seconds"].map(
    (one, i) => d[`get${utc}${one}`]() + (i === 1 ? 1 : 0),
  );
}

function two(n) {
  return String(n).padStart(2, "0");
}
