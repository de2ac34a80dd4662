"""The style of a report: light and dark, wide and narrow, on a screen and on paper."""

from __future__ import annotations

from patchclamp.engine.figures.themes import DARK, LIGHT, css

STYLE = (
    ":root{color-scheme:light dark;"
    + css(LIGHT)
    + "--card:#f6f7f8;--good:#00694d;--bad:#a3320b}"
    + "@media (prefers-color-scheme:dark){:root{"
    + css(DARK)
    + "--card:#1c2026;--good:#5fd6ac;--bad:#ff9d6b}}"
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.5rem clamp(.9rem,3vw,2.5rem) 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:2.6rem 0 .5rem;padding-top:.9rem;border-top:1px solid var(--grid);
 overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.6rem 0 .3rem}
p{margin:.4rem 0;max-width:46rem}
.muted,.sub{color:var(--muted)}
.sub{font-size:.9rem;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr));gap:.8rem;
 margin:1.2rem 0}
.card{background:var(--card);border:1px solid var(--grid);border-radius:.5rem;padding:.8rem 1rem;
 min-width:0}
.card h3{margin:0 0 .3rem;font-size:.8rem;text-transform:uppercase;letter-spacing:.05em;
 color:var(--muted)}
.card .big{font-size:1.15rem;font-weight:600}
.card ul{margin:.3rem 0 0;padding:0;list-style:none;font-size:.9rem}
.card li{margin:.2rem 0;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad)}
figure{margin:1rem 0 1.6rem;break-inside:avoid}
figure .body.single{display:flex;flex-wrap:wrap;gap:.3rem 1.6rem;align-items:flex-start}
.body.single figcaption{flex:1 1 20rem;padding-top:.6rem}
.panels{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:flex-start}
.panel{max-width:100%;overflow-x:auto}
.panel svg{display:block;max-width:100%;height:auto}
.panel.wide svg{min-width:34rem}
figcaption{font-size:.92rem;max-width:52rem}
figcaption b{font-weight:600}
.body.single dl.facts{flex-direction:column}
dl.facts{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;margin:.3rem 0;font-size:.84rem}
dl.facts div{display:flex;gap:.35rem;min-width:0}
dl.facts dt{color:var(--muted)}
dl.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .8rem .22rem 0;text-align:right;border-bottom:1px solid var(--grid);
 white-space:nowrap}
th{color:var(--muted);font-weight:500}
th.text,td.text{text-align:left;vertical-align:top}
td.text{white-space:pre-wrap;overflow-wrap:break-word;max-width:34rem}
td.text:nth-child(2){min-width:14rem}
pre{background:var(--card);border:1px solid var(--grid);border-radius:.4rem;padding:.6rem .8rem;
 overflow-x:auto;font:.82rem/1.45 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace;
 margin:.4rem 0}
pre .no{color:var(--muted);user-select:none}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--muted);font-size:.9rem}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.92rem;margin:1rem 0}
a{color:var(--series-0)}
footer{margin-top:3rem;border-top:1px solid var(--grid);padding-top:.8rem;font-size:.85rem;
 color:var(--muted)}
@media print{
 :root{"""
    + css(LIGHT)
    + """--card:#fff;--good:#00694d;--bad:#a3320b}
 body{font-size:10.5pt}main{max-width:none;padding:0}nav{display:none}
 h2,h3,summary{break-after:avoid}pre{white-space:pre-wrap}tr{break-inside:avoid}
 .scroll,.panel{overflow:visible}th,td{white-space:normal;padding-right:.5rem}
 th{overflow-wrap:anywhere}
 .body:not(.single) .panel{max-width:48%}.body .panel.wide{max-width:100%}
 .panel.wide svg{min-width:0}
}
"""
)
"""One style sheet, which asks for nothing from outside."""
