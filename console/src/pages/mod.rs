//! Pages.
use crate::server::Shared;
use axum::Router;
use std::sync::Arc;
pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
}
pub(crate) fn login_page(_next: &str, _refused: bool) -> maud::Markup {
    maud::html! {}
}
