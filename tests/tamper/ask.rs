//! What a client asks for, and what it ended up with.

use crate::{
    lab::Lab,
    support::{Answer, Sealward},
};

/// One request of curl's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Whole(Http),
    /// What curl's `--range` takes.
    Range(Http, &'static str),
    Head(Http),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Http {
    One,
    Two,
}

/// What a client ended up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// 502 and a problem; nothing of the object.
    Refused,
    /// A success's head, then true bytes, but fewer than were due, and no clean end.
    Broken { got: usize },
    /// What was asked for, all of it, and true. For a HEAD: 200.
    True,
    /// 416 with the true length.
    Unsatisfiable,
}

/// Asks for the object, and judges the answer against its `truth`.
///
/// # Panics
/// On any byte that isn't the truth's, and on any clean end that isn't the whole of it.
pub(crate) fn ask(lab: &Lab, class: &str, key: &str, ask: Ask, truth: &[u8]) -> End {
    let mut args: Vec<String> = Vec::new();
    let (Ask::Whole(http) | Ask::Range(http, _) | Ask::Head(http)) = ask;
    args.push(match http {
        Http::One => "--http1.1".into(),
        Http::Two => "--http2".into(),
    });
    match ask {
        Ask::Whole(_) => {}
        Ask::Range(_, range) => args.extend(["--range".into(), range.into()]),
        Ask::Head(_) => args.push("--head".into()),
    }
    args.push(lab.url(class, key));
    judge(ask, &lab.site.curl(args), truth)
}

fn judge(ask: Ask, answer: &Answer, truth: &[u8]) -> End {
    match (ask, answer.status) {
        (_, 502) => {
            assert_eq!(answer.exit, 0, "a refusal is an answer: {answer:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
            assert_eq!(answer.header("etag"), "", "nothing is said of it: {answer:?}");
            if !matches!(ask, Ask::Head(_)) {
                assert_eq!(answer.json()["status"], 502, "{answer:?}");
            }
            End::Refused
        }
        (Ask::Range(..), 416) => {
            assert_eq!(answer.header("content-range"), format!("bytes */{}", truth.len()), "{answer:?}");
            End::Unsatisfiable
        }
        // Computed, and documented as such: what it says isn't held against it.
        (Ask::Head(_), 200) => End::True,
        (Ask::Whole(_), 200) => bytes(answer, truth),
        (Ask::Range(..), 206) => {
            let of = answer.header("content-range").strip_prefix("bytes ").and_then(|range| range.split_once('/'));
            let (range, total) = of.unwrap_or_else(|| panic!("no Content-Range: {answer:?}"));
            assert_eq!(total, truth.len().to_string(), "a length that was never sealed: {answer:?}");
            let (first, last) = range.split_once('-').expect("first and last");
            let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
            bytes(answer, &truth[first..=last])
        }
        _ => panic!("{ask:?} came to {answer:?}"),
    }
}

fn bytes(answer: &Answer, due: &[u8]) -> End {
    let got = answer.body.len();
    assert!(got <= due.len() && answer.body == due[..got], "bytes that were never sealed: {answer:?}");
    if answer.exit == 0 {
        assert_eq!(got, due.len(), "a clean end short of the whole: {answer:?}");
        return End::True;
    }
    // 18: short of the length; 56: the connection broke; 92: the stream was reset.
    assert!(matches!(answer.exit, 18 | 56 | 92), "{answer:?}");
    let said: usize = answer.header("content-length").parse().expect("a length was said");
    assert!(got < due.len() && got < said, "all of it, and yet no clean end: {answer:?}");
    End::Broken { got }
}

/// Every series of `sealward_tamper_total` that isn't zero, by reason.
pub(crate) fn tampers(server: &Sealward) -> Vec<(String, u64)> {
    let text = server.metrics();
    let series = text.lines().filter_map(|line| line.strip_prefix("sealward_tamper_total{reason=\""));
    let counts = series.filter_map(|line| line.split_once("\"} "));
    counts.map(|(reason, count)| (reason.to_owned(), count.parse().expect("a count"))).collect()
}
