//! The rows as a page tells them.

use std::fmt::Write as _;

use super::table::{Comes, Peer, Row, groups};

/// What stands before the rows.
pub(super) const MARK: &str = "<!-- What follows is written by tests/proxy/heads: SEALWARD_WRITE_DOCS=1 -->\n";

/// A table for each group of rows.
pub(super) fn tables() -> String {
    let mut text = String::new();
    for (title, rows) in groups() {
        let _ = write!(
            text,
            "\n### {title}\n\n| what is sent | class | reason | Sealward | nginx | haproxy |\n|---|---|---|---|---|---|\n"
        );
        for row in rows {
            let class = format!("{:?}", row.class).to_lowercase();
            let Row { name, reason, .. } = row;
            let (nginx, haproxy) = (words(row.nginx), words(row.haproxy));
            let _ = writeln!(text, "| {name} | {class} | `{reason}` | {} | {nginx} | {haproxy} |", ours(row));
        }
    }
    text
}

/// What happens where nothing is said of a listener's ways.
fn ours(row: &Row) -> String {
    match row.comes {
        Comes::Nothing => row.status.to_string(),
        Comes::Broken => format!("{}, broken off", row.status),
        Comes::Whole => "passes".to_owned(),
    }
}

fn words(peer: Peer) -> String {
    match peer {
        Peer::Refuses(status) => status.to_string(),
        Peer::Passes => "passes".to_owned(),
        Peer::PassesChanged => "passes, changed".to_owned(),
        Peer::BreaksOff(status) => format!("{status}, broken off"),
        Peer::PassesBoth => "passes, and `/smuggled`".to_owned(),
        Peer::Closes => "closes".to_owned(),
        Peer::Varies => "varies".to_owned(),
    }
}
