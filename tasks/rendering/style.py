"""How the page looks: light, dark and on paper, without a single request."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #fbfbfc; --card: #ffffff; --text: #1a1d23; --soft: #5c6470; --line: #dfe2e8; --accent: #1f5fbf;
  --good: #14743f; --bad: #a8381f; --note: #fff6df; --note-line: #e7cf8f; --stripe: #f4f5f8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1b1e24; --text: #e6e8ec; --soft: #9aa3b0; --line: #323741; --accent: #82b1ff;
    --good: #6fd39a; --bad: #f0937c; --note: #2b2617; --note-line: #5d5027; --stripe: #21252c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1500px; margin: 0 auto; padding: 28px 28px 48px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; line-height: 1.3; margin: 0 0 6px; }
h3 { font-size: 15px; margin: 0 0 10px; }
p { margin: 0 0 8px; max-width: 85ch; }
a { color: var(--accent); }
.soft, .meta { color: var(--soft); }
.meta { margin-bottom: 14px; }
.notice {
  background: var(--note); border: 1px solid var(--note-line); border-radius: 8px; padding: 9px 14px;
  margin: 0 0 14px; max-width: none;
}
nav { margin: 0 0 22px; display: flex; flex-wrap: wrap; gap: 4px 18px; }
section { margin: 30px 0 0; padding: 22px 0 0; border-top: 1px solid var(--line); }
.lede { font-size: 17px; }
.scroll { overflow-x: auto; margin: 14px 0 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; background: var(--card); }
th, td { padding: 7px 16px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; font-size: 13px; color: var(--soft); border-bottom: 2px solid var(--line); }
th:first-child { text-align: left; }
tbody th { font-weight: 600; }
tbody tr:nth-child(even) { background: var(--stripe); }
.pm { color: var(--soft); }
td b { color: var(--good); }
.gain { display: block; font-size: 12px; line-height: 1.25; color: var(--soft); }
.panel {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px 12px;
  margin: 14px 0 0; break-inside: avoid;
}
.strip {
  display: grid; gap: 12px 10px;
  grid-template-columns: repeat(3, minmax(0, 1fr)) 2px repeat(2, minmax(0, 1fr)) 2px minmax(0, 1fr);
}
.group { display: grid; grid-template-columns: subgrid; grid-template-rows: auto 1fr auto; row-gap: 0; }
.images { grid-column: 1 / 4; } .errors { grid-column: 5 / 7; } .spread { grid-column: 8 / 9; }
figure { margin: 0; min-width: 0; display: grid; grid-template-rows: subgrid; grid-row: span 2; }
.frame {
  display: block; position: relative; background: #000; border-radius: 3px; overflow: hidden; cursor: zoom-in;
}
.frame img { display: block; width: 100%; height: 100%; }
.frame input { position: absolute; opacity: 0; width: 100%; height: 100%; margin: 0; cursor: zoom-in; }
.frame:focus-within { outline: 2px solid var(--accent); outline-offset: 1px; }
.frame input:checked + img {
  position: fixed; inset: 0; z-index: 9; width: 100vw; height: 100vh; object-fit: contain;
  background: #000; cursor: zoom-out; image-rendering: pixelated;
}
.empty {
  display: grid; place-items: center; color: var(--soft); background: var(--stripe); font-size: 13px; cursor: default;
}
.length { position: absolute; left: 4%; bottom: 5%; border-bottom: 2px solid #fff; pointer-events: none; }
.length span {
  position: absolute; left: 0; bottom: 3px; color: #fff; font-size: 11px; line-height: 1.2; white-space: nowrap;
  background: rgb(0 0 0 / 0.6); border-radius: 2px; padding: 0 3px;
}
figcaption { padding: 6px 2px 8px; line-height: 1.35; font-size: 13px; overflow-wrap: anywhere; }
figcaption b { display: block; }
figcaption span { color: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.bar { grid-column: 1 / -1; align-self: end; font-size: 11px; color: var(--soft); font-variant-numeric: tabular-nums; }
.bar i { display: block; height: 8px; border-radius: 2px; border: 1px solid var(--line); print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.bar div { display: grid; grid-template-columns: 1fr auto 1fr; padding-top: 2px; white-space: nowrap; }
.bar span:last-child { text-align: right; }
.others { margin: 8px 0 0; font-size: 12px; color: var(--soft); max-width: none; }
details { margin: 14px 0 0; }
summary { cursor: pointer; color: var(--accent); }
pre {
  background: var(--stripe); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; overflow-x: auto;
  font: 12.5px/1.5 ui-monospace, "SF Mono", Consolas, "DejaVu Sans Mono", monospace; margin: 10px 0 0;
}
dl {
  display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 7px 20px; margin: 12px 0 0; max-width: 110ch;
}
dt { font-weight: 600; } dd { margin: 0; }
@media (max-width: 1000px) {
  main { padding: 18px 14px 32px; }
  .strip { grid-template-columns: repeat(3, minmax(0, 1fr)); column-gap: 16px; }
  .images { grid-column: span 3; } .spread { grid-column: span 1; order: 1; } .errors { grid-column: span 2; order: 2; }
}
@media (max-width: 560px) {
  .strip { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .images, .errors, .spread { grid-column: span 2; grid-template-rows: none; }
  figure { grid-row: auto; display: block; }
  .spread figure, .spread .bar { grid-column: span 1; }
  .spread { order: 3; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 2px; } dd { margin-bottom: 8px; }
}
@media print {
  @page { size: A4 landscape; margin: 10mm; }
  :root {
    color-scheme: light; --page: #fff; --card: #fff; --text: #000; --soft: #444; --line: #ccc; --accent: #000;
    --good: #000; --bad: #000; --note: #fff; --note-line: #999; --stripe: #f6f6f6;
  }
  body { font-size: 10pt; }
  main { padding: 0; max-width: none; }
  nav, summary { display: none; }
  h2, h3, .lede { break-after: avoid; }
  .scroll { overflow: visible; }
  th, td { padding: 4px 8px; font-size: 8.5pt; }
  thead th { white-space: normal; font-size: 8pt; }
  tr, figure, dt, dd { break-inside: avoid; }
  pre { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  .strip { grid-template-columns: repeat(3, minmax(0, 1fr)) 2px repeat(2, minmax(0, 1fr)) 2px minmax(0, 1fr); }
  .images { grid-column: 1 / 4; } .errors { grid-column: 5 / 7; order: 0; }
  .spread { grid-column: 8 / 9; order: 0; }
}
"""
