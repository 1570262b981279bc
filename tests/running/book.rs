//! The book: every command in it is run, every link in it leads somewhere, and no page is left out.
//! `tests/peers/book/` reads and runs; its head says what a page's blocks and comments mean.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    standin::{installed, script},
    support::sealward,
};

#[test]
fn every_command_of_every_page_runs_and_prints_what_is_shown() {
    let (well, words) = run(root(), &[]);
    assert!(well, "{words}");
    assert!(words.contains("README.md") && words.contains("docs/operate.md"), "{words}");
}

#[test]
fn every_page_is_in_the_book_and_no_command_is_hidden_from_the_run() {
    let (well, words) = reader(&["check".as_ref(), root()]);
    assert!(well, "{words}");
}

#[test]
fn the_book_is_built_and_whole_by_itself() {
    let built = tempfile::tempdir().expect("a folder");
    let output = Command::new(mdbook()).arg("build").arg("--dest-dir").arg(built.path()).arg(root()).output();
    let output = output.expect("mdbook starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert!(!words.contains("WARN") && !words.contains("ERROR"), "{words}");
    let (well, words) = reader(&["html".as_ref(), root(), built.path()]);
    assert!(well, "{words}");
}

#[test]
fn a_page_that_is_wrong_is_found() {
    let book = Book::new("[Page](page.md) [Other](other.md) [Gone](gone.md)");
    book.page(
        "page.md",
        "```console\nsystemctl start sealward\n```\n\
         ```bash\nls\n```\n\
         ```text\n$ sealward serve\n```\n\
         <!-- not run: there is no reason -->\n```sh\ntrue\n```\n\
         <!-- before: a miracle -->\n```sh\ntrue\n```\n\
         <!-- file: a -->\n\
         Words. [a](nowhere.md) [b](other.md#no-such-heading) [c](Makefile) `make miracles`\n\
         ```sh\ntrue\n",
    );
    book.page("other.md", "# A heading\n[well](#a-heading)\n");
    book.page("docs/left-out.md", "");
    book.page("Makefile", "");
    let (well, words) = reader(&["check".as_ref(), book.0.path()]);
    assert!(!well);
    for expected in [
        "page.md:1: a console block isn't run; say why",
        "page.md:4: `bash` isn't one of",
        "page.md:7: a command that nothing runs: $ sealward serve",
        "page.md:11: only a console block isn't run",
        "page.md:15: nothing is known of `a miracle`",
        "no block is below the comment `file`",
        "page.md:20: the block isn't closed",
        "page.md: nowhere.md isn't there",
        "page.md: other.md#no-such-heading names no heading",
        "page.md: Makefile isn't in the book",
        "page.md: the Makefile has no `make miracles`",
        "book/SUMMARY.md doesn't name docs/left-out.md",
        "book/SUMMARY.md: gone.md isn't there",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    assert!(!words.contains("other.md:"), "{words}");
}

#[test]
fn a_command_that_fails_or_prints_something_else_is_found() {
    let book = Book::new(
        "[Well](well.md) [Failing](failing.md) [Otherwise](otherwise.md) [Ending](ending.md) [Amid](amid.md)",
    );
    book.page("Makefile", "there:\n");
    book.page(
        "well.md",
        "<!-- file: a.json -->\n```json\n{\"a\": 1, \"etag\": \"4f5d\"}\n```\n\
         <!-- add: a.json -->\n```text\nlast words\n```\n\
         ```sh\ncat a.json\nmake there\n```\n\
         ```text\nlast …\n```\n\
         ```sh\necho '{\"a\": 1, \"etag\": \"0a7e\"}'\n```\n\
         ```json\n{\"a\": 1, \"etag\": \"4f5d\"}\n```\n\
         ```sh\ncargo run --release -- dev\ncurl -sSf -K .sealward/curl.conf https://127.0.0.1:8443/files/?list\n```\n",
    );
    book.page("failing.md", "```sh\ntrue\n```\n\n```sh\necho so far\nmake elsewhere\necho never\n```\n");
    book.page(
        "otherwise.md",
        "```sh\necho '{\"b\": 1}'\n```\n```json\n{\"a\": 1}\n```\n```sh\necho 1 done\n```\n```text\n2 done\n```\n",
    );
    book.page(
        "ending.md",
        "```sh\nsealward dev --bind 127.0.0.1:0 --admin 127.0.0.1:0\nkill -9 \"$(cat \"$BOOK/servers\")\"\n```\n",
    );
    book.page(
        "amid.md",
        "Ask `sealward health --live`, or `sealward check --config FILE\n--online` where sealward `says` so.\n\
         Not `sealward helth`, `sealward token mend`, nor `sealward check --onlin`.\n```sh\ntrue\n```\n",
    );

    let (well, words) = run(book.0.path(), &["well.md"]);
    assert!(well && words.contains("3 blocks were run"), "{words}");
    let (well, words) = run(book.0.path(), &[]);
    assert!(!well);
    for expected in [
        "failing.md:5: ended with 2:\nso far\n",
        "otherwise.md:4: that isn't what is printed:\n{\"b\": 1}",
        "otherwise.md:10: that isn't what is printed:\n1 done",
        "ending.md: a server ended with -9",
        "amid.md: `sealward helth`: there is no command helth",
        "amid.md: `sealward token mend`: there is no command mend",
        "amid.md: `sealward check --onlin`: there is no --onlin",
    ] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    assert!(!words.contains("never") && !words.contains("well.md:"), "{words}");
    assert_eq!(words.matches("amid.md:").count(), 3, "{words}");
}

/// A checkout with a book of its own.
struct Book(TempDir);

impl Book {
    /// `contents` are links to its pages.
    fn new(contents: &str) -> Self {
        let book = Self(tempfile::tempdir().expect("a folder"));
        for folder in ["book", "docs"] {
            fs::create_dir(book.0.path().join(folder)).expect("makes");
        }
        book.page("book/SUMMARY.md", contents);
        for page in ["page.md", "other.md"] {
            std::os::unix::fs::symlink(format!("../{page}"), book.0.path().join("book").join(page)).expect("links");
        }
        book
    }

    fn page(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("writes");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `pages` of the book in `root`, or all of them.
fn run(root: &Path, pages: &[&str]) -> (bool, String) {
    let sealward = PathBuf::from(sealward().get_program());
    let peers = installed("esdk/bin").join("../..");
    let pages = pages.iter().map(Path::new);
    let arguments: Vec<&Path> =
        [Path::new("run"), root, sealward.as_path(), peers.as_path()].into_iter().chain(pages).collect();
    reader(&arguments)
}

/// Whether it is content, and all that it says.
fn reader(arguments: &[&Path]) -> (bool, String) {
    let output = Command::new(installed("aws/bin/python")).arg(script("book/book.py")).args(arguments).output();
    let output = output.expect("starts");
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), words)
}

/// The one on PATH will do; otherwise that which `make test` has built.
fn mdbook() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("below the target folder");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([target.join("tools/bin")]);
    let found = folders.map(|folder| folder.join("mdbook")).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("there is no mdbook on PATH, nor below {}: run `make test`", target.display()))
}
