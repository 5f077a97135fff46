use clap::Args;

use crate::app::Globals;
use crate::exit::Exit;

/// Print every setting with its default, as a file to start from.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {}

pub fn run(_args: &SettingsArgs, globals: &Globals) -> anyhow::Result<Exit> {
    // Whoever names a file wants it to be looked at, though the defaults are what is printed.
    crate::app::load_settings(globals)?;
    crate::ui::print(format_args!("{}", assay::settings::DEFAULTS))?;
    Ok(Exit::Done)
}
