//! How a name becomes folders and a file, and back.
//!
//! Segments become folders, the last one the file. Bytes that a file system or
//! a shell could trip over are percent-encoded, and with them:
//!
//! - a segment's leading dot, so that no name is `.`, `..` or the store's own
//!   `.sealward`;
//! - the dot of a folder that would end in `.sealed` or `.meta`, so that no
//!   folder takes the place of a file;
//! - `+`, so that no name takes the place of a file system's `lost+found`.
//!
//! An empty segment is `%_`. A segment of more than [`PIECE`] encoded bytes
//! becomes several folder levels, each but the last ending in `%-`. Every name
//! has one place and every place at most one name.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::sidecar;
use crate::store::Failure;

/// The end of a message's file name.
pub(super) const SEALED: &str = ".sealed";
/// The end of a sidecar's file name.
pub(super) const META: &str = ".meta";
/// The most bytes a name may have.
pub(super) const LONGEST: usize = 1024;

/// The most encoded bytes of one piece. With its endings a piece stays below the
/// 255 bytes a file name may have: the longest, of a sidecar, has 218.
const PIECE: usize = 180;
/// What a piece ends in when another follows.
const CONTINUED: &str = "%-";
/// What stands for an empty segment.
const EMPTY: &str = "%_";

/// Where a name is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folders below the root, outermost first.
    pub(super) folders: Vec<String>,
    /// The file's name without its ending.
    pub(super) stem: String,
}

impl Place {
    /// The place of `name`, or [`Failure::Name`].
    pub(super) fn of(name: &str) -> Result<Self, Failure> {
        if name.is_empty() {
            return Err(Failure::Name("it is empty"));
        }
        if name.len() > LONGEST {
            return Err(Failure::Name("it has more than 1,024 bytes"));
        }
        let (above, last) = name.rsplit_once('/').map_or(("", name), |(above, _)| name.split_at(above.len() + 1));
        let mut folders = folders(above);
        let mut pieces = pieces(last.as_bytes());
        let stem = pieces.pop().unwrap_or_default();
        folders.append(&mut pieces);
        Ok(Self { folders, stem })
    }

    /// The folder the file is in.
    pub(super) fn folder(&self, root: &Path) -> PathBuf {
        below(root, &self.folders)
    }

    /// The message's file name.
    pub(super) fn message(&self) -> String {
        format!("{}{SEALED}", self.stem)
    }

    /// The file name of the sidecar of message `id`.
    pub(super) fn sidecar(&self, id: &[u8; 32]) -> String {
        format!("{}.{}{META}", self.stem, sidecar::half(id))
    }
}

/// The folders of `above`, which is empty or ends in a slash.
pub(super) fn folders(above: &str) -> Vec<String> {
    let Some(above) = above.strip_suffix('/') else { return Vec::new() };
    above.split('/').flat_map(|segment| encoded(segment.as_bytes(), true)).collect()
}

/// The path of `folders` below `root`.
pub(super) fn below(root: &Path, folders: &[String]) -> PathBuf {
    let mut path = root.to_owned();
    path.extend(folders);
    path
}

/// The pieces a segment is kept as; the last one as a folder's or a file's name.
pub(super) fn encoded(segment: &[u8], folder: bool) -> Vec<String> {
    let mut pieces = pieces(segment);
    if folder && let Some(last) = pieces.last_mut() {
        for ending in [SEALED, META] {
            if let Some(front) = last.strip_suffix(ending) {
                *last = format!("{front}%2E{}", &ending[1..]);
            }
        }
    }
    pieces
}

/// What one piece says: its bytes, and whether another follows. `None` for what
/// no name is kept as; some of what it takes, [`encoded`] would write otherwise.
pub(super) fn decoded(piece: &str) -> Option<(Vec<u8>, bool)> {
    if piece == EMPTY {
        return Some((Vec::new(), false));
    }
    let (body, continued) = piece.strip_suffix(CONTINUED).map_or((piece, false), |body| (body, true));
    // A piece is cut only where the next token, of three bytes at most, has no room.
    let least = if continued { PIECE - 2 } else { 1 };
    if !(least..=PIECE + 2).contains(&body.len()) || body.starts_with('.') {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => nibble(rest.next()?)? << 4 | nibble(rest.next()?)?,
            byte if kept(byte) => byte,
            _ => return None,
        });
    }
    Some((bytes, continued))
}

/// The stem and the half id of a sidecar's file name.
pub(super) fn parse_sidecar(file: &str) -> Option<(&str, &str)> {
    let (stem, half) = file.strip_suffix(META)?.rsplit_once('.')?;
    let hex = half.len() == 32 && half.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    hex.then_some((stem, half))
}

/// Never empty; only the last piece lacks the mark that another follows.
fn pieces(segment: &[u8]) -> Vec<String> {
    if segment.is_empty() {
        return vec![EMPTY.to_owned()];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for &byte in segment {
        let bare = kept(byte) && !(byte == b'.' && piece.is_empty());
        if piece.len() + if bare { 1 } else { 3 } > PIECE {
            piece.push_str(CONTINUED);
            pieces.push(std::mem::take(&mut piece));
        }
        // Asked again, because a cut makes this byte the first of its piece.
        if kept(byte) && !(byte == b'.' && piece.is_empty()) {
            piece.push(char::from(byte));
        } else {
            // Writing to a string doesn't fail.
            let _ = write!(piece, "%{byte:02X}");
        }
    }
    pieces.push(piece);
    pieces
}

/// Whether a byte stands for itself.
fn kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._- ,=@()".contains(&byte)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// The name of a place, read from its file names alone.
    fn name_of(place: &Place) -> String {
        let mut name = Vec::new();
        for folder in &place.folders {
            let (bytes, continued) = decoded(folder).expect("a folder of ours");
            name.extend(bytes);
            if !continued {
                name.push(b'/');
            }
        }
        let (bytes, continued) = decoded(&place.stem).expect("a stem of ours");
        assert!(!continued);
        name.extend(bytes);
        String::from_utf8(name).expect("text")
    }

    fn path(name: &str) -> String {
        let place = Place::of(name).expect("a name");
        let file = format!("{}/{}", place.folder(Path::new("")).display(), place.message());
        file.trim_start_matches('/').to_owned()
    }

    #[test]
    fn tricky_names_have_safe_places() {
        for (name, expected) in [
            ("a", "a.sealed"),
            ("a/", "a/%_.sealed"),
            ("/a", "%_/a.sealed"),
            ("a//b", "a/%_/b.sealed"),
            ("a.sealed/x", "a%2Esealed/x.sealed"),
            ("x.meta/y", "x%2Emeta/y.sealed"),
            (".meta/y", "%2Emeta/y.sealed"),
            ("x.meta", "x.meta.sealed"),
            (".sealward/lock", "%2Esealward/lock.sealed"),
            ("../etc", "%2E./etc.sealed"),
            (".", "%2E.sealed"),
            ("lost+found/x", "lost%2Bfound/x.sealed"),
            ("%2F", "%252F.sealed"),
            ("%_", "%25_.sealed"),
            ("é\0", "%C3%A9%00.sealed"),
            ("a b,c=d@e(f)", "a b,c=d@e(f).sealed"),
        ] {
            assert_eq!(path(name), expected, "{name:?}");
        }
        assert_eq!(path(&"a".repeat(180)), format!("{}.sealed", "a".repeat(180)));
        assert_eq!(path(&"a".repeat(181)), format!("{}%-/a.sealed", "a".repeat(180)));
        let dotted = format!("{}..", "a".repeat(180));
        assert_eq!(path(&dotted), format!("{}%-/%2E..sealed", "a".repeat(180)));
        assert!(matches!(Place::of(""), Err(Failure::Name(_))));
        assert!(matches!(Place::of(&"a".repeat(1025)), Err(Failure::Name(_))));
    }

    #[test]
    fn foreign_pieces_are_seen() {
        for piece in ["", ".git", "lost+found", "a%2", "a%2f", "a%-", "é", "%-", "a~"] {
            assert_eq!(decoded(piece), None, "{piece:?}");
        }
        assert_eq!(
            parse_sidecar("a.b.0123456789abcdef0123456789abcdef.meta"),
            Some(("a.b", "0123456789abcdef0123456789abcdef"))
        );
        assert_eq!(parse_sidecar("a.0123.meta"), None);
    }

    fn names() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            3 => "[a.%/+_ -]{0,6}",
            2 => "(a|é|\\.|\\.sealed|\\.meta|%-|%_){0,8}",
            1 => "[a.é]{170,190}",
            1 => "\\PC{0,80}",
        ];
        proptest::collection::vec(segment, 1..5)
            .prop_map(|segments| segments.join("/"))
            .prop_filter("a name", |name| !name.is_empty() && name.len() <= LONGEST)
    }

    proptest! {
        #[test]
        fn places_are_read_back(name in names()) {
            let place = Place::of(&name).expect("a name");
            prop_assert_eq!(name_of(&place), name);
            for folder in &place.folders {
                prop_assert!(!folder.is_empty() && folder.len() <= 184 && !folder.starts_with('.'));
                prop_assert!(!folder.ends_with(SEALED) && !folder.ends_with(META));
            }
            prop_assert!(place.stem.len() <= 180 && !place.stem.starts_with('.') && !place.stem.is_empty());
        }

        #[test]
        fn no_two_names_share_a_path(all in proptest::collection::vec(names(), 2..40)) {
            let mut seen: HashMap<String, String> = HashMap::new();
            for name in all {
                let place = Place::of(&name).expect("a name");
                for depth in 1..=place.folders.len() {
                    let folder = place.folders[..depth].join("/");
                    prop_assert_eq!(seen.entry(folder).or_insert_with(|| "folder".into()).as_str(), "folder");
                }
                let file = path(&name);
                let owner = format!("file of {name}");
                prop_assert_eq!(seen.entry(file).or_insert_with(|| owner.clone()), &owner);
            }
        }
    }
}
