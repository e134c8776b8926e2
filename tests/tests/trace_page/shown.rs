//! The page shows each step correctly.

use upcycle_bench::trace::{Trace, TraceStep};
use upcycle_tests::browser::{self, keys};

use crate::traces::{PROMPT, REAL, SYNTHETIC};
use crate::{assert_quiet, open, step, strings, texts};

/// What the tokens of a step are called.
fn emitted<'a>(trace: &'a Trace, step: &TraceStep) -> Vec<&'a str> {
    step.sampled[..step.emitted].iter().map(|token| trace.labels[token].as_str()).collect()
}

#[test]
fn the_lit_path_is_what_the_step_emitted_and_the_text_grows_by_it() {
    for trace in [&*REAL, &*SYNTHETIC] {
        browser::with(|browser| {
            let _page = open(browser, trace, "");
            let answer = "return [...document.querySelectorAll('#answer .token:not(.special)')]
                .map((token) => token.textContent).join('')";
            let mut text = trace.prompt.text.clone();
            assert_eq!(browser.run(answer, &[]).unwrap(), text.as_str());
            let mut accepted = 0;
            for (index, step) in trace.steps.iter().enumerate().take(30) {
                browser.press(keys::RIGHT).unwrap();
                text.push_str(&step.texts.concat());
                if index + 1 == trace.steps.len() {
                    text.push_str(&trace.rest);
                }
                assert_eq!(browser.run(answer, &[]).unwrap(), text.as_str(), "step {}", index + 1);
                let lit = texts(browser, "#tree .accepted .label, #tree .bonus .label");
                assert_eq!(strings(&lit), emitted(trace, step), "step {}", index + 1);
                let nodes =
                    browser.run("return document.querySelectorAll('#tree button').length", &[]).unwrap();
                assert_eq!(nodes, step.tokens.len() + 1, "every node, and the bonus token");
                let figures = texts(browser, "#figures dd");
                let expected = [step.tokens.len() - 1, step.accepted(), step.emitted].map(|n| n.to_string());
                assert_eq!(strings(&figures)[..3], expected);
                accepted += step.accepted();
            }
            assert!(accepted > 5, "or nothing was lit");
            // Forth and back.
            browser.press(keys::HOME).unwrap();
            assert_eq!(browser.run(answer, &[]).unwrap(), trace.prompt.text.as_str());
            browser.press(keys::END).unwrap();
            assert_eq!(browser.run(answer, &[]).unwrap(), trace.text());
            assert_quiet(browser);
        });
    }
}

#[test]
fn tokens_sampled_after_the_end_of_the_text_are_struck_out() {
    let mut trace = REAL.clone();
    let last = trace.steps.iter().position(|step| step.accepted() >= 2).expect("a step with two accepted");
    trace.steps.truncate(last + 1);
    let step = &mut trace.steps[last];
    step.emitted = 1;
    step.texts.truncate(1);
    let step = &trace.steps[last];
    browser::with(|browser| {
        let _page = open(browser, &trace, &format!("#step={}", last + 1));
        let lit = texts(browser, "#tree .accepted .label, #tree .bonus .label");
        assert_eq!(strings(&lit), emitted(&trace, step));
        let cut: Vec<&str> = step.sampled[1..].iter().map(|token| trace.labels[token].as_str()).collect();
        let struck = texts(browser, "#tree .cut .label");
        assert_eq!(strings(&struck), cut);
        assert_quiet(browser);
    });
}

#[test]
fn markup_is_text_wherever_it_stands() {
    const HARM: &str = "</script><img src=x onerror=alert(1)><!--<script>";
    let mut trace = REAL.clone();
    for text in [
        &mut trace.version,
        &mut trace.about.model,
        &mut trace.about.backend,
        &mut trace.about.drafter,
        &mut trace.prompt.texts[0],
        &mut trace.prompt.text,
        &mut trace.steps[0].texts[0],
        &mut trace.rest,
        &mut trace.finish,
    ] {
        HARM.clone_into(text);
    }
    trace.labels.values_mut().chain(&mut trace.sources).for_each(|text| HARM.clone_into(text));
    browser::with(|browser| {
        for (trace, prompt) in [(&*REAL, PROMPT), (&trace, HARM)] {
            let _page = open(browser, trace, "#step=3");
            assert!(browser.text("#prompt").unwrap().starts_with(prompt));
            assert!(browser.text("#text").unwrap().contains("<img src=x onerror=alert(1)>"));
            browser.click("#last").unwrap();
            let strangers = "return document.querySelectorAll('img, iframe, script').length";
            assert_eq!(browser.run(strangers, &[]).unwrap(), 2, "the data and the script of the page");
            assert_quiet(browser);
        }
    });
}

#[test]
fn a_node_tells_what_the_model_ranked_and_where_that_leads() {
    let trace = &*REAL;
    let index = trace.steps.iter().position(|step| step.tokens.len() > 6).expect("a step with a draft");
    let step = &trace.steps[index];
    let width = step.ranked.width;
    browser::with(|browser| {
        let _page = open(browser, trace, &format!("#step={}", index + 1));
        for node in 0..step.tokens.len() {
            let selector = format!("#tree [data-node='{node}']");
            match node % 3 {
                0 => browser.hover(&selector).unwrap(),
                1 => browser.click(&selector).unwrap(),
                _ => drop(
                    browser
                        .run("document.querySelector(arguments[0]).focus()", &[selector.as_str().into()])
                        .unwrap(),
                ),
            }
            assert_eq!(browser.text("#node h3").unwrap(), trace.labels[&step.tokens[node]]);
            let ranked = texts(browser, "#node li .label");
            let expected: Vec<&str> = step.ranked.ids[node * width..][..width]
                .iter()
                .map(|token| trace.labels[token].as_str())
                .collect();
            assert_eq!(strings(&ranked), expected, "node {node}");
            let logits = texts(browser, "#node li .logit");
            let best: f32 = strings(&logits)[0].parse().unwrap();
            assert!((best - step.ranked.logits[node * width]).abs() < 0.01);
            let text = browser.text("#node").unwrap();
            let way =
                if step.path.contains(&node) { "the model went on: " } else { "the model would go on: " };
            assert!(
                text.contains(way) && text.contains(&format!("{way}{}", expected[0])),
                "node {node}: {text}"
            );
            let state = browser.attribute(&selector, "aria-label").unwrap().unwrap();
            let rejected = node > 0 && !step.path.contains(&node);
            assert_eq!(rejected, state.contains("rejected"), "{state}");
            assert_eq!(rejected, text.contains("Rejected: ") || text.contains("Never reached: "), "{text}");
        }
        assert_quiet(browser);
    });
}

#[test]
fn the_rows_of_a_matrix_are_those_that_stay() {
    let trace = &*SYNTHETIC;
    browser::with(|browser| {
        let _page = open(browser, trace, "#step=1");
        let step = &trace.steps[0];
        let shown = browser
            .run(
                "return [...document.querySelectorAll('#rows li')].map((row) => [
                    row.querySelector('.of').firstChild.textContent,
                    ...[...row.querySelectorAll('.row span')].map((one) => one.textContent)])",
                &[],
            )
            .unwrap();
        let mut matrix = std::collections::BTreeMap::new();
        for node in (0..step.tokens.len()).chain(step.path.iter().copied()) {
            let width = step.ranked.width;
            matrix.insert(step.tokens[node], &step.ranked.ids[node * width..][..trace.k]);
        }
        let label = |token: &u32| trace.labels[token].clone();
        let mut expected: Vec<Vec<String>> = matrix
            .iter()
            .map(|(token, row)| std::iter::once(token).chain(row.iter()).map(label).collect())
            .collect();
        let mut shown: Vec<Vec<String>> = serde_json::from_value(shown).unwrap();
        expected.sort();
        shown.sort();
        assert_eq!(shown, expected);
        assert_quiet(browser);
    });
}

#[test]
fn a_trace_that_ended_early_is_shown_too() {
    let mut nothing = REAL.clone();
    nothing.steps.clear();
    nothing.finish = "cancelled".to_owned();
    let mut unread = nothing.clone();
    (unread.prompt.sampled, unread.prompt.text) = (None, String::new());
    unread.prompt.scored.pop();
    let width = unread.prompt.ranked.width;
    let rows = unread.prompt.scored.len() * width;
    unread.prompt.ranked.ids.truncate(rows);
    unread.prompt.ranked.logits.truncate(rows);
    let mut asleep = unread.clone();
    asleep.prompt.scored.clear();
    asleep.prompt.ranked = Default::default();
    for trace in [&nothing, &unread, &asleep] {
        browser::with(|browser| {
            let _page = open(browser, trace, "#step=7");
            assert_eq!(step(browser), 0);
            for button in ["#next", "#last", "#play", "#first"] {
                browser.click(button).unwrap();
                assert_eq!(step(browser), 0);
            }
            browser.hover("#tree button").unwrap();
            assert_eq!(browser.text("#answer").unwrap(), trace.text());
            assert!(browser.text("#about").unwrap().contains("ended by cancelled"));
            assert_quiet(browser);
        });
    }
}

#[test]
fn what_comes_under_a_still_pointer_does_not_take_the_panel() {
    let trace = &*SYNTHETIC;
    let step = &trace.steps[0];
    let (focused, last) = (2, step.tokens.len() - 1);
    assert!(last > focused);
    browser::with(|browser| {
        let _page = open(browser, trace, "#step=1");
        browser.hover("#tree [data-node='0']").unwrap();
        let shift = "const [pointed, focused, last] = [...arguments].map((at) => document.querySelector(at));
            focused.focus({ preventScroll: true });
            const [from, to] = [last, pointed].map((node) => node.getBoundingClientRect());
            document.getElementById('tree').style.translate = `${to.x - from.x + 4}px ${to.y - from.y + 4}px`;
            return new Promise((done) => setTimeout(done, 300));";
        let selectors = [0, focused, last].map(|node| format!("#tree [data-node='{node}']").into());
        browser.run(shift, &selectors).unwrap();
        let under = "return document.querySelector('#tree button:hover')?.dataset.node";
        assert_eq!(browser.run(under, &[]).unwrap(), last.to_string());
        assert_eq!(browser.text("#node h3").unwrap(), trace.labels[&step.tokens[focused]]);
        assert_quiet(browser);
    });
}
