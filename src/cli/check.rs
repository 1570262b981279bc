//! `check`: would it start?

use std::path::Path;

use super::{Failure, output, run};
use crate::{app::App, config::Config};

/// Reads and validates; with `online`, builds everything and serves nothing.
pub(super) fn run(path: &Path, online: bool) -> Result<(), Failure> {
    let mut config = Config::load(path)?;
    let counts = [
        (config.listeners.len(), "listener", "listeners"),
        (config.classes.len(), "class", "classes"),
        (config.routes.len(), "route", "routes"),
    ];
    if online {
        // Any free port: the real one may be in use by the server that this
        // configuration is to replace.
        for listener in &mut config.listeners {
            listener.bind.set_port(0);
        }
        config.admin.bind.set_port(0);
        let app = run::runtime()?.block_on(App::build(config)).map_err(Failure::input)?;
        for (name, announced, unannounced) in app.largest_objects() {
            output::say(&format!(
                "class {name}: objects of up to {announced} bytes, and of {unannounced} when their length isn't sent"
            ));
        }
    }
    let how = if online { "reads well; certificates, keys, stores and tokens are proved" } else { "reads well" };
    let counts = counts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
    output::say(&format!("{} {how}: {}", path.display(), counts.join(", ")));
    Ok(())
}
