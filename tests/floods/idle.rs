//! Connections that nobody uses.

use crate::{
    attackers::Attacker,
    lab::{Lab, MEMORY, say},
    support::eventually,
};

/// As many as are opened in some seconds where nothing is optimised, and as a usual limit on
/// open files lets a client have; ten thousand are the benchmark's. Each costs the same.
const MANY: u32 = 4000;

#[test]
fn thousands_of_idle_connections_leave_the_others_served() {
    let lab = Lab::new("idle_timeout = \"10m\"");
    let before = lab.server.peak();
    let toll = lab.flooded("idle connections", || {
        let mut idle = Attacker::start(&lab, "idle", &[&MANY.to_string()]);
        assert_eq!(idle.line(), format!("open {MANY}"));
        eventually("all are open", || lab.serving() >= f64::from(MANY));
        let each = (lab.server.peak() - before) * 1024 / u64::from(MANY);
        say(&format!("idle connections: {each} KiB resident for each"));
        assert!(each < 40, "{each} KiB");
        idle.toll()
    });
    // Some of them have asked in the end.
    assert_eq!(toll.ended.get("200"), Some(&toll.sent), "{toll:?}");
    lab.calm(MEMORY);
}
