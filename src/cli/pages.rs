//! `pages`: man pages and shell completions, out of the arguments themselves.

use std::fs;
use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

#[derive(clap::Args)]
pub struct Arguments {
    /// Folder that gets share/man and so on: /usr/local, ~/.local
    prefix: PathBuf,
}

const NAME: &str = "unweight-gguf";
/// Where shells look, under a prefix.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions"),
    (Shell::Zsh, "share/zsh/site-functions"),
    (Shell::Fish, "share/fish/vendor_completions.d"),
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = |under: &str| -> Result<PathBuf> {
        let folder = arguments.prefix.join(under);
        fs::create_dir_all(&folder).map_err(|error| anyhow!("{}: {error}", folder.display()))?;
        Ok(folder)
    };
    let mut command = super::Arguments::command();
    let pages = folder("share/man/man1")?;
    clap_mangen::generate_to(command.clone(), &pages)
        .map_err(|error| anyhow!("{}: {error}", pages.display()))?;
    for (shell, under) in COMPLETIONS {
        let folder = folder(under)?;
        let path = generate_to(shell, &mut command, NAME, &folder)
            .map_err(|error| anyhow!("{}: {error}", folder.display()))?;
        // Bash looks for the name of the program.
        if shell == Shell::Bash {
            fs::rename(&path, folder.join(NAME)).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        }
    }
    writeln!(stdout(), "{}: man pages, and completions for bash, zsh and fish", arguments.prefix.display())?;
    Ok(())
}
