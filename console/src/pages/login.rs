//! Where a browser gives its token.

use maud::{Markup, html};

use super::frame::{Frame, Place};
use crate::access::session::LOGIN;

pub(crate) fn login_page(next: &str, refused: bool) -> Markup {
    let frame = Frame { place: Place::Elsewhere, title: "Log in", caller: None, refresh: None, said: None };
    frame.whole(&html! {
        h1 { "Log in" }
        @if refused { p .wrong role="alert" { "That token isn't known here." } }
        form method="post" action=(LOGIN) {
            p {
                label for="token" { "Token" }
                input #token type="password" name="token" autocomplete="current-password" required autofocus size="44";
            }
            input type="hidden" name="next" value=(next);
            button .main { "Log in" }
        }
        p .soft { "It stands in the console's token file, behind your name." }
    })
}
