use clap::Args;

use crate::exit::Exit;

/// Print every setting with its default, as a file to start from.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {}

pub fn run(_args: &SettingsArgs) -> anyhow::Result<Exit> {
    print!("{}", assay::settings::DEFAULTS);
    Ok(Exit::Done)
}
