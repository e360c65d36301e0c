//! The frame of every page: head, navigation, what was just done, and the page of a problem.

use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;

use super::parts::wrong;
use crate::access::Caller;
use crate::assets::{ICON_PATH, SCRIPT_PATH, STYLE_PATH};
use crate::problem::Problem;

/// Where one is, for the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Now,
    Jobs,
    Plan,
    Queues,
    Letters,
    Backfills,
    Buckets,
    Audit,
    Elsewhere,
}

const PLACES: [(Place, &str, &str); 8] = [
    (Place::Now, "/", "Now"),
    (Place::Jobs, "/jobs", "Jobs"),
    (Place::Plan, "/plan", "Plan"),
    (Place::Queues, "/queues", "Queues"),
    (Place::Letters, "/letters", "Dead letters"),
    (Place::Backfills, "/backfills", "Backfills"),
    (Place::Buckets, "/buckets", "Buckets"),
    (Place::Audit, "/audit", "Audit"),
];

/// What was just done, by the address that one was sent on to.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said {
    pub(super) said: Option<String>,
}

/// A page before it is put together.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) place: Place,
    pub(super) title: &'a str,
    pub(super) caller: Option<&'a Caller>,
    /// Seconds after which it is fetched again.
    pub(super) refresh: Option<u32>,
    /// What was just done.
    pub(super) said: Option<&'a str>,
}

impl<'a> Frame<'a> {
    pub(super) fn new(place: Place, title: &'a str, caller: &'a Caller) -> Self {
        Self { place, title, caller: Some(caller), refresh: None, said: None }
    }

    pub(super) fn refreshed(self, seconds: u32) -> Self {
        Self { refresh: Some(seconds), ..self }
    }

    pub(super) fn said(self, said: Option<&'a str>) -> Self {
        Self { said, ..self }
    }

    pub(super) fn page(&self, body: &Markup) -> Response {
        self.whole(body).into_response()
    }

    pub(super) fn whole(&self, body: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title) " · ecron" }
                    link rel="icon" href=(ICON_PATH) type="image/svg+xml";
                    link rel="stylesheet" href=(STYLE_PATH);
                    script src=(SCRIPT_PATH) {}
                }
                body data-refresh=[self.refresh] {
                    a .skip href="#main" { "Skip to the contents" }
                    header .top {
                        div {
                            a .brand href="/" { img src=(ICON_PATH) alt="" width="20" height="20"; "ecron" }
                            @if self.caller.is_some() { (self.navigation()) }
                            button .quiet .needs-js type="button" data-theme-turn title="light or dark (t)" { "Theme" }
                            @if self.caller.is_some_and(|caller| caller.logged_in) {
                                form method="post" action="/logout" { button .quiet { "Log out" } }
                            }
                        }
                    }
                    main #main tabindex="-1" {
                        @if let Some(said) = self.said { p .said role="status" { (said) } }
                        (body)
                    }
                    footer { "ecron " (env!("CARGO_PKG_VERSION")) " · times are UTC · " a href="/api/v1/openapi.json" { "API" } }
                }
            }
        }
    }

    fn navigation(&self) -> Markup {
        html! {
            nav aria-label="Pages" {
                @for (place, href, name) in PLACES {
                    a href=(href) aria-current=[(place == self.place).then_some("page")] { (name) }
                }
            }
        }
    }
}

/// The page of a problem.
pub(super) fn problem_page(problem: &Problem) -> Markup {
    let caller = Caller { by: None, scope: crate::access::tokens::Scope::Read, logged_in: false };
    let frame = Frame::new(Place::Elsewhere, &problem.title, &caller);
    let hint = match problem.status {
        404 => Some("It may have been deleted, or its history forgotten."),
        412 => Some("Go back, load the page again, and look what is different."),
        503 => Some("Is a planner running? `ecron up` runs everything on one machine."),
        _ => None,
    };
    frame.whole(&html! {
        h1 { (problem.title) }
        (wrong(problem))
        @if let Some(hint) = hint { p .soft { (hint) } }
        p { a href="/" { "Now" } " · " a href="/jobs" { "Jobs" } }
    })
}

/// A number that is drawn, without a fraction that nobody sees.
pub(super) fn drawn(number: f64) -> PreEscaped<String> {
    let text = format!("{number:.1}");
    PreEscaped(text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned))
}
