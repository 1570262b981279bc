use super::*;

fn file() -> (tempfile::TempDir, TokenFile) {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = TokenFile::open(&folder.path().join("tokens.json"), true).expect("opens");
    (folder, tokens)
}

async fn present(tokens: &TokenFile, token: &str) -> Result<Caller, Fault> {
    authenticate(tokens, Some(format!("Bearer {token}").as_bytes())).await
}

fn again(folder: &tempfile::TempDir) -> TokenFile {
    TokenFile::open(&folder.path().join("tokens.json"), false).expect("opens")
}

#[tokio::test]
async fn a_token_is_known_until_it_is_revoked() {
    let (folder, tokens) = file();
    let grant = Grant { classes: BTreeSet::from(["c".into()]), actions: BTreeSet::from([Action::Read]) };
    let token = tokens.issue("robot", grant, None).expect("issues");
    let kept = std::fs::read_to_string(folder.path().join("tokens.json")).expect("reads");
    // The last 43 characters, among which there may be a `_`.
    let secret = token.expose()[token.expose().len() - 43..].to_owned();
    assert!(!kept.contains(&secret), "only a hash is kept");

    let caller = present(&again(&folder), token.expose()).await.expect("is known");
    assert!(caller.may(Action::Read, "c") && !caller.may(Action::Write, "c") && !caller.may(Action::Read, "d"));
    assert!(matches!(tokens.issue("robot", Grant::default(), None), Err(TokenFileError::Taken(_))));

    tokens.revoke("robot").expect("revokes");
    assert_eq!(present(&again(&folder), token.expose()).await.expect_err("is gone").status(), 401);
    assert!(matches!(tokens.revoke("robot"), Err(TokenFileError::Unknown(_))));
}

#[tokio::test]
async fn nothing_else_is_a_token() {
    let (folder, tokens) = file();
    let good = tokens.issue("a", Grant::default(), None).expect("issues").expose().to_owned();
    let ended = tokens.issue("b", Grant::default(), Some(Duration::ZERO)).expect("issues").expose().to_owned();
    let tokens = again(&folder);
    let last = if good.ends_with('A') { 'B' } else { 'A' };
    let forged = format!("{}{last}", &good[..good.len() - 1]);
    for bad in ["", "swd_", "swd__", &good[1..], &forged, &ended, &format!("{good}A"), "swd_zzzzzzzzzzzz_x"] {
        let fault = present(&tokens, bad).await.expect_err(bad);
        assert_eq!(fault.status(), 401, "{bad}");
        assert_eq!(fault.words(), "a valid access token is needed", "every reason looks the same");
    }
    for header in [None, Some(&b"Basic abc"[..]), Some(good.as_bytes())] {
        assert_eq!(authenticate(&tokens, header).await.expect_err("no bearer").status(), 401);
    }
    assert!(authenticate(&tokens, Some(format!("bearer  {good}").as_bytes())).await.is_ok());
}

#[tokio::test]
async fn a_link_is_good_for_one_object_until_its_time_or_its_signer_ends() {
    let (folder, tokens) = file();
    let token = tokens.issue("a", Grant::default(), None).expect("issues");
    let tokens_again = again(&folder);
    let caller = present(&tokens_again, token.expose()).await.expect("known");
    let sign = |age| Link::sign(tokens_again.key(), &caller, "c", "k", Duration::from_secs(age));
    assert_eq!(sign(0).expect_err("nothing").status(), 400);
    assert_eq!(sign(8 * 24 * 3600).expect_err("too long").status(), 400);
    let link = sign(60).expect("signs");
    let guest = follow(&tokens_again, &link, "c", "k").await.expect("follows");
    assert!(guest.may(Action::Read, "c") && !guest.may(Action::Write, "c"));
    for (class, key) in [("c", "l"), ("d", "k"), ("ck", "")] {
        assert_eq!(follow(&tokens_again, &link, class, key).await.expect_err("another object").status(), 401);
    }
    let longer = Link { expires: link.expires + 1, ..link.clone() };
    assert_eq!(follow(&tokens_again, &longer, "c", "k").await.expect_err("stretched").status(), 401);
    let past = unix_now() - 1;
    let signature = tokens_again.key().signature(&Link::message("c", "k", &link.by, past));
    let over = Link { expires: past, signature, ..link.clone() };
    assert_eq!(follow(&tokens_again, &over, "c", "k").await.expect_err("over").status(), 401);
    tokens.revoke("a").expect("revokes");
    assert_eq!(follow(&again(&folder), &link, "c", "k").await.expect_err("signer gone").status(), 401);
}
