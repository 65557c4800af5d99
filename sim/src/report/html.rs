//! One page, nothing loaded from anywhere: what was broken in words, and a space-time diagram to step through.
//!
//! The words are in the page itself and need no script. The picture is drawn by `page.js` from data in the page; it sets
//! texts as texts and never as markup, the data cannot end its element early, and the page's policy forbids it to load
//! anything.

use std::fmt::Write;

use serde_json::json;

use super::lanes::{Lanes, millis, witnesses};
use super::{Report, escape};
use crate::checkers::Verdict;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Frames that are drawn at most: an hour of heartbeats would only be a grey area. Those nearest to the end stay.
const FRAMES_MAX: usize = 20_000;

/// The page.
pub fn html(report: &Report<'_>) -> String {
    let title = escape(report.name);
    let (words, data) = (words(report), data(report));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}: seed {seed}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{words}\
         <section id=\"picture\" aria-label=\"space-time diagram\">\n\
         <nav><button id=\"first\">⇤</button><button id=\"back\" title=\"left arrow\">◀ step</button>\
         <button id=\"forward\" title=\"right arrow\">step ▶</button><button id=\"last\">⇥</button>\
         <button id=\"witness\" title=\"w\">next of the counter-example</button>\
         <button id=\"closer\" title=\"+\">closer</button><button id=\"wider\" title=\"-\">wider</button>\
         <button id=\"all\">all</button><label><input type=\"checkbox\" id=\"frames\" checked> frames</label></nav>\n\
         <p id=\"now\" aria-live=\"polite\"></p>\n<div id=\"drawing\"></div>\n</section>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        seed = report.plan.seed,
    )
}

fn words(report: &Report<'_>) -> String {
    let mut page = String::new();
    let (name, seed) = (escape(report.name), report.plan.seed);
    match report.judgement.first() {
        None => {
            let _ = writeln!(page, "<h1 class=\"held\">{name}: held with seed {seed}</h1>");
        }
        Some(violation) => {
            let signature = escape(&violation.signature.to_string());
            let promise = report.judgement.judged.iter().find(|judged| violation.signature.checker == judged.checker);
            let promise = escape(promise.map_or("", |judged| judged.promise));
            let _ = writeln!(page, "<h1 class=\"broken\">{name}: broken with seed {seed}</h1>");
            let _ = writeln!(page, "<p class=\"promise\"><code>{signature}</code> Promised: {promise}.</p>");
            let _ = writeln!(page, "<p class=\"but\" id=\"broken-promise\">{}</p>", escape(&violation.sentence));
            let _ = writeln!(page, "<ol class=\"chain\">");
            for line in &violation.chain {
                let _ = writeln!(page, "<li>{}</li>", escape(line));
            }
            let _ = writeln!(page, "</ol>");
        }
    }
    let _ = writeln!(page, "<p>Again: <code>{}</code></p>", escape(report.replay));
    let _ = writeln!(page, "<details><summary>All promises</summary>\n<table>");
    for judged in &report.judgement.judged {
        let (class, verdict) = match &judged.verdict {
            Verdict::Held => ("held", "held".to_owned()),
            Verdict::Unchecked(missing) => ("unchecked", format!("not checked: {}", missing.missing())),
            Verdict::Broken(violations) => {
                let sentences: Vec<&str> = violations.iter().map(|violation| &*violation.sentence).collect();
                ("broken", sentences.join("; "))
            }
        };
        let (checker, promise, verdict) = (escape(judged.checker), escape(judged.promise), escape(&verdict));
        let _ = writeln!(page, "<tr class=\"{class}\"><th>{checker}</th><td>{promise}</td><td>{verdict}</td></tr>");
    }
    let _ = writeln!(page, "</table>\n</details>");
    let _ = writeln!(
        page,
        "<details><summary>The plan</summary>\n<pre>{}</pre>\n</details>",
        escape(&report.plan.to_string())
    );
    page
}

fn data(report: &Report<'_>) -> String {
    let history = report.history;
    let events: Vec<_> = history
        .events()
        .iter()
        .map(|event| json!({ "t": millis(event.at), "node": &*event.node, "text": event.to_string() }))
        .collect();
    let skipped = history.frames.len().saturating_sub(FRAMES_MAX);
    let frames: Vec<_> = history
        .frames
        .iter()
        .skip(skipped)
        .map(|frame| {
            json!({
                "from": &*frame.from, "to": &*frame.to, "sent": millis(frame.sent),
                "received": frame.received.map(millis), "what": &*frame.what,
            })
        })
        .collect();
    let data = json!({
        "end": millis(history.end()),
        "events": events,
        "frames": frames,
        "witnesses": witnesses(report),
        "lanes": Lanes::of(report),
    });
    // In a script element only `<` could end it or begin a comment; in JSON it can be written otherwise.
    data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
