# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report page's style sheet: a telephone, a wide screen and paper, light and dark."""

from __future__ import annotations

# It is in Python because Ansible takes only Python files along to a target.
STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #17191c; --muted: #555c66; --rule: #d9dde3; --link: #1d56a8;
  --good: #1b6b3a; --good-back: #e7f4ec; --bad: #ad1f1a; --bad-back: #fdeceb; --warn: #7f5300; --warn-back: #fdf3dd;
  --band: #c9d8ee; --band-edge: #5f7fae; --fault: #fdf5f3; --grid: #e6e9ed;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #131518; --ink: #e9ebee; --muted: #a5adb8; --rule: #363c45; --link: #8fbcf7;
    --good: #74d196; --good-back: #15291d; --bad: #ff8d85; --bad-back: #351a19; --warn: #efbd62; --warn-back: #2f2614;
    --band: #2b415f; --band-edge: #7d9fcf; --fault: #21191a; --grid: #272c33;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0 auto; max-width: 66rem; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 3rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1, h2 { line-height: 1.25; margin: 0; text-wrap: balance; }
h1 { font-size: 1.1rem; font-weight: 600; }
h2 { font-size: 1.25rem; }
p { margin: 0; }
a { color: var(--link); text-underline-offset: .15em; }
a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 2px; }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
.muted, figcaption, caption, footer { color: var(--muted); }
.small { font-size: .875rem; }
.defs { position: absolute; }
table + .small { margin-top: .6rem; }

.where { font-size: .9375rem; color: var(--muted); margin-top: .15rem; }
.verdict {
  margin-top: 1rem; padding: 1.1rem 1.25rem 1.25rem; border: 1px solid var(--tone); border-left-width: 6px;
  border-radius: 8px; background: var(--back);
}
.verdict > p:first-child {
  font-size: clamp(1.45rem, 1.1rem + 1.6vw, 2.1rem); font-weight: 700; line-height: 1.2; color: var(--tone); text-wrap:
  balance;
}
.good { --tone: var(--good); --back: var(--good-back); }
.bad { --tone: var(--bad); --back: var(--bad-back); }
.none { --tone: var(--warn); --back: var(--warn-back); }
.glance { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .9rem 1.5rem; margin: 1rem 0 0; }
.glance dt { font-size: .8125rem; }
.glance dd { margin: 0; font-size: 1.25rem; font-weight: 650; line-height: 1.3; }
.glance dd span { display: block; font-size: .8125rem; font-weight: 400; }
.glance dt, .glance dd span { color: var(--ink); }

main > section, main > article { margin-top: 2.25rem; }
main > section > h2 + * { margin-top: .6rem; }
.attention { list-style: none; margin: 0; padding: 0; }
.attention > li { padding: .6rem 0 .6rem .9rem; border-left: 3px solid var(--bad); }
.attention > li + li { margin-top: .6rem; }
.attention ul { margin: .15rem 0 0; padding-left: 1.1rem; }
.attention a { font-weight: 600; }

table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
caption { text-align: left; font-size: .875rem; padding-bottom: .35rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem .5rem 0; border-bottom: 1px solid var(--rule); }
th:last-child, td:last-child { padding-right: 0; }
thead th {
  font-size: .8125rem; font-weight: 600; color: var(--muted); vertical-align: bottom; white-space: nowrap;
  overflow-wrap: normal;
}
tbody th { font-weight: 500; min-width: 16.5rem; }
td small { display: block; font-size: .8125rem; }
small { font-size: inherit; font-weight: 400; color: var(--muted); }
.times { white-space: nowrap; overflow-wrap: normal; }

.status { white-space: nowrap; font-weight: 600; }
.status svg { width: 1em; height: 1em; margin-right: .35em; vertical-align: -.125em; }
.passed, .within { color: var(--good); }
.failed, .aborted, .late, .missed { color: var(--bad); }
.early { color: var(--warn); }
.left_out, .unbounded { color: var(--muted); }
.icon { fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.slower, .stayed_away, .never, .worse { color: var(--bad); font-weight: 600; }
.faster, .came, .better { color: var(--good); font-weight: 600; }

.scenario { border-top: 1px solid var(--rule); padding-top: 1.5rem; }
.scenario header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .1rem .9rem; }
.scenario header h2 { flex: 1 1 12rem; }
.scenario h2 code { font-size: .8125rem; font-weight: 400; color: var(--muted); margin-left: .35em; }
.scenario header p { flex-basis: 100%; margin-top: .15rem; }
.scenario .problems {
  margin: .75rem 0 0; padding: .6rem .9rem .6rem 2rem; background: var(--bad-back); border-left: 3px solid var(--bad);
  border-radius: 0 6px 6px 0;
}
.problems li + li { margin-top: .2rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .75rem 1.5rem; margin: 1rem 0 0; }
.facts dt { font-size: .8125rem; color: var(--muted); }
.facts dd { margin: 0; }
figure { margin: 1rem 0 0; }
.plot { display: block; overflow: visible; }
.scenario table { margin-top: 1.1rem; }
.top { font-size: .875rem; margin-top: .75rem !important; }

.plot text { font-size: 12.5px; fill: var(--ink); }
.plot .name { font-weight: 600; }
.plot .detail, .plot .axis, .plot .caption { fill: var(--muted); font-weight: 400; }
.plot .axis, .plot .caption { font-size: 11.5px; }
.plot .value { text-anchor: end; }
.plot .narrow { display: none; }
.plot .value.late, .plot .value.missed { fill: var(--bad); font-weight: 600; }
.plot .value.early { fill: var(--warn); font-weight: 600; }
.plot .name, .plot .value, .plot .caption {
  paint-order: stroke; stroke: var(--page); stroke-width: 5px; stroke-linejoin: round;
}
.fault { fill: var(--fault); }
.restoring { fill: url(#hatch); }
.hatch { stroke: var(--rule); stroke-width: 2; }
.tick { stroke: var(--grid); }
.track { stroke: var(--rule); }
.band { fill: var(--band); stroke: var(--band-edge); }
.losing { fill: var(--bad-back); stroke: var(--bad); }
line.inject { stroke: var(--bad); stroke-width: 2; }
line.restore { stroke: var(--good); stroke-width: 2; stroke-dasharray: 5 3; }
.plot .caption.inject { fill: var(--bad); }
.plot .caption.restore { fill: var(--good); }
.beyond { stroke-width: 2; stroke-dasharray: 2 3; stroke: var(--bad); }
.beyond.early { stroke: var(--warn); }
.mark { stroke: var(--page); stroke-width: 1.5; }
.mark.within { fill: var(--good); }
.mark.late { fill: var(--bad); }
.mark.early { fill: var(--warn); }
.mark.missed { fill: none; stroke: var(--bad); stroke-width: 3; stroke-linecap: round; }
.mark.unbounded { fill: var(--page); stroke: var(--ink); stroke-width: 2; }

.legend {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .35rem 1.5rem; list-style: none;
  margin: 0; padding: 0; font-size: .875rem;
}
.legend li { display: flex; gap: .6rem; align-items: center; }
.legend svg { flex: none; overflow: visible; }
.legend .fault, .legend .restoring { stroke: var(--rule); }
.settings {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .25rem 1.5rem; margin: 0; font-size:
  .875rem;
}
.settings div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--rule); }
.settings dd { margin: 0; }
footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--rule); font-size: .875rem; }

/* On a telephone each row of a table is a card: its subject and verdict first, then the values with their names. */
@media screen and (max-width: 46rem) {
  .glance { grid-template-columns: 1fr 1fr; }
  .plot text { font-size: 12px; }
  .plot .narrow { display: inline; }
  .plot .roomy { display: none; }
  table, tbody, tr, th, td { display: block; }
  caption { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr {
    border-bottom: 1px solid var(--rule); padding: .65rem 0; display: grid; grid-template-columns: 11fr 9fr; gap: .15rem
    1rem;
  }
  th, td { border: 0; padding: 0; }
  tbody th { min-width: 0; grid-area: 1 / 1 / 2 / 3; padding-right: 6rem; font-weight: 600; }
  td.state { grid-area: 1 / 2; justify-self: end; }
  td.wide, td.since { grid-column: 1 / -1; }
  .scenario tbody tr { grid-template-columns: 9fr 11fr; }
  td.blank { display: none; }
  td[data-label]::before { content: attr(data-label) " "; font-size: .8125rem; color: var(--muted); }
  td.state::before, td.wide::before { content: none; }
  .times { white-space: normal; }
}
@page { margin: 14mm; }
@media print {
  html { font-size: 9.5pt; }
  th, td { padding-block: .3rem; }
  body { max-width: none; padding: 0; }
  a { color: inherit; text-decoration: none; }
  .top { display: none; }
  h1, h2, caption, .scenario header, .problems { break-after: avoid; }
  figure, tr, .scenario, .verdict, .facts, .attention > li, .problems, .legend { break-inside: avoid; }
  .verdict, .problems, .plot, .legend svg { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main > section, main > article { margin-top: 1.5rem; }
}
"""
