//! A handler of the queue `billing/reports`: `ECRON_NATS_URL=nats://127.0.0.1:17601 cargo run --example report_handler`.

use ecron_executor_sdk::{Context, Executor, HandlerError};

#[derive(serde::Deserialize)]
struct Report {
    region: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let nats_url = std::env::var("ECRON_NATS_URL").unwrap_or("nats://127.0.0.1:17601".into());
    Executor::connect(&nats_url)
        .await?
        .queue("billing/reports")?
        .concurrency(8)
        .handle(|ctx: Context, report: Report| async move {
            println!("{} {} attempt {}", ctx.run_id(), report.region, ctx.attempt());
            Ok::<_, HandlerError>(())
        })
        .run()
        .await?; // until SIGINT or SIGTERM, then drains
    Ok(())
}
