//! Who may do what: tokens and their scopes, sessions of browsers, requests of other sites, and headers.

pub(crate) mod guard;
pub(crate) mod headers;
pub(crate) mod session;
pub(crate) mod tokens;

pub(crate) use guard::Caller;
