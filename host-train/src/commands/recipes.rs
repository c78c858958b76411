//! `host-train recipes`.

use super::train::recipe;
use crate::recipe::RECIPES;
use anyhow::Result;
use edge_runtime::process::output;

#[derive(clap::Args)]
pub struct Args {
    /// Print this recipe instead of the list
    name: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(name) = &args.name {
        let (_, text) = recipe(name)?;
        return Ok(output::line(text.trim_end())?);
    }
    let width = RECIPES.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    // The first sentence of a recipe's comment.
    let about = |text: &str| {
        let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let comment = comment.join(" ");
        comment.split_inclusive(". ").next().unwrap_or_default().trim_end().to_owned()
    };
    let lines: Vec<String> = RECIPES.iter().map(|(name, text)| format!("{name:<width$}  {}", about(text))).collect();
    Ok(output::line(lines.join("\n"))?)
}
