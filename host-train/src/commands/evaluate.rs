use anyhow::Result;
use edge_runtime::progress::Reporter;
#[derive(clap::Args)]
pub struct Args {}
pub fn run(_: Args, _: &Reporter) -> Result<()> { Ok(()) }
