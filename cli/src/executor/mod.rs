//! tmp
pub(crate) mod child {
    pub(crate) fn run_if_asked() -> Option<std::process::ExitCode> {
        use std::os::unix::process::CommandExt;
        let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
        if args.get(1)? != "__child" {
            return None;
        }
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        let e = std::process::Command::new(&args[3]).args(&args[4..]).exec();
        eprintln!("{e}");
        Some(std::process::ExitCode::FAILURE)
    }
}
#[allow(dead_code)]
pub(crate) struct BuiltinOptions {
    pub(crate) queues: Vec<model::name::QueueId>,
    pub(crate) allow_exec: bool,
    pub(crate) concurrency: usize,
}
pub(crate) async fn run(
    _bus: std::sync::Arc<bus::nats::NatsBus>,
    _o: BuiltinOptions,
    _c: ambient::Clock,
    s: ambient::Shutdown,
) -> Result<(), anyhow::Error> {
    s.stopped().await;
    Ok(())
}
