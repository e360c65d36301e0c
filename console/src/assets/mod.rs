//! The style, the script and the icon: embedded, and named by the version, so that a new one is fetched.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::server::Shared;

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");
const ICON: &str = include_str!("icon.svg");

pub(crate) const STYLE_PATH: &str = concat!("/assets/", env!("CARGO_PKG_VERSION"), "/console.css");
pub(crate) const SCRIPT_PATH: &str = concat!("/assets/", env!("CARGO_PKG_VERSION"), "/console.js");
pub(crate) const ICON_PATH: &str = concat!("/assets/", env!("CARGO_PKG_VERSION"), "/icon.svg");

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route(STYLE_PATH, get(|| async { served("text/css; charset=utf-8", STYLE) }))
        .route(SCRIPT_PATH, get(|| async { served("text/javascript; charset=utf-8", SCRIPT) }))
        .route(ICON_PATH, get(|| async { served("image/svg+xml", ICON) }))
        .route("/favicon.ico", get(|| async { served("image/svg+xml", ICON) }))
}

fn served(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=3600")], text)
}
