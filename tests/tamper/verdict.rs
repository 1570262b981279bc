//! A row of the table, and what must come of it.

use crate::{
    ask::{Ask, End, Http, ask, tampers},
    lab::{LENGTH, Lab},
    object::Object,
    support::pattern,
};

/// Damages an object, which is stored under the key that is given.
type Make = Box<dyn Fn(&Lab, &str, &mut Object)>;

/// One damaged object.
pub(crate) struct Row {
    pub(crate) name: String,
    class: &'static str,
    make: Make,
    reasons: &'static [&'static str],
    shows: Shows,
    length: usize,
}

/// How far one must read to find the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// Nothing of it is served, not even a HEAD.
    AtOnce,
    /// In the final frame: a HEAD, which reads no frame, is answered; nothing else is.
    AtTheEnd,
    /// In a regular frame: ranges that don't touch it are true.
    InAFrame,
    /// As `InAFrame`, and so far in that a whole read has begun: it breaks off
    /// before the damaged frame, whose plaintext would begin here.
    From(usize),
    /// In the final frame, so far in that a whole read has begun: it breaks off.
    FromTheLastChunk,
}

/// A row of class `records` that shows at once.
pub(crate) fn row(
    name: impl Into<String>,
    reasons: &'static [&'static str],
    make: impl Fn(&Lab, &str, &mut Object) + 'static,
) -> Row {
    Row { name: name.into(), class: "records", make: Box::new(make), reasons, shows: Shows::AtOnce, length: LENGTH }
}

impl Row {
    pub(crate) fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    pub(crate) fn shows(self, shows: Shows) -> Self {
        Self { shows, ..self }
    }

    pub(crate) fn length(self, length: usize) -> Self {
        Self { length, ..self }
    }

    /// Stores the object, damages it, asks for it in every way, and judges.
    fn judge(&self, lab: &Lab, number: usize) {
        let key = format!("row-{number}.bin");
        let truth = pattern(self.length);
        let mut object = lab.stored(self.class, &key, self.length);
        (self.make)(lab, &key, &mut object);
        object.lay(&lab.stem(self.class, &key));

        let before = tampers(&lab.server);
        let ends: Vec<(Ask, End)> =
            ASKS.iter().map(|asked| (*asked, ask(lab, self.class, &key, *asked, &truth))).collect();
        for (asked, end) in &ends {
            assert!(self.may(*asked, *end), "{asked:?} came to {end:?}");
        }
        // Each was told as it should be, and counted once under a reason it may have.
        let caught = ends.iter().filter(|(_, end)| matches!(end, End::Refused | End::Broken { .. })).count();
        let mut counted = 0;
        for ((reason, now), (_, then)) in tampers(&lab.server).iter().zip(before) {
            assert!(*now == then || self.reasons.contains(&reason.as_str()), "counted as {reason}");
            counted += now - then;
        }
        assert_eq!(counted, caught as u64, "each of {ends:?} is counted once");
        assert!(caught >= 3, "{ends:?}");
    }

    /// Whether the damage may come to that `end`.
    fn may(&self, asked: Ask, end: End) -> bool {
        let begins = matches!(self.shows, Shows::From(_) | Shows::FromTheLastChunk);
        match asked {
            Ask::Head(_) if self.shows == Shows::AtOnce => end == End::Refused,
            Ask::Head(_) => end == End::True,
            Ask::Whole(_) => match (self.shows, end) {
                (Shows::From(first), End::Broken { got }) => got > 0 && got <= first,
                (Shows::FromTheLastChunk, End::Broken { got }) => got > 0,
                _ => !begins && end == End::Refused,
            },
            // Only where the final frame is good is any range proved.
            Ask::Range(..) => match end {
                End::Refused => true,
                End::True | End::Unsatisfiable => matches!(self.shows, Shows::InAFrame | Shows::From(_)),
                End::Broken { .. } => matches!(self.shows, Shows::From(_)),
            },
        }
    }
}

const ASKS: [Ask; 9] = [
    Ask::Head(Http::One),
    Ask::Whole(Http::One),
    Ask::Whole(Http::Two),
    Ask::Range(Http::One, "0-0"),
    Ask::Range(Http::Two, "4000-9000"),
    Ask::Range(Http::Two, "8192-"),
    Ask::Range(Http::One, "-1"),
    Ask::Range(Http::One, "99999999-"),
    Ask::Head(Http::Two),
];

/// Judges every row on one server, and names all that don't hold.
pub(crate) fn all(rows: &[Row]) {
    let lab = Lab::new();
    let wrong: Vec<String> = rows
        .iter()
        .enumerate()
        .filter_map(|(number, row)| {
            let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| row.judge(&lab, number)));
            let why = judged.err()?;
            let why = why.downcast_ref::<String>().map(String::as_str).or(why.downcast_ref::<&str>().copied());
            Some(format!("{}: {}", row.name, why.unwrap_or("panicked")))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
