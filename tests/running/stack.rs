//! The AWS side, `config/aws`: cfn-lint has nothing to say of the templates, no policy of theirs
//! allows everything, and what moto makes of them takes uploads.
//!
//! moto can't judge conditions, so the bucket's policy is off there. It and the roles' policies are
//! judged by their text in `tests/aws_faults/template.rs`. What moto's `CloudFormation` leaves out,
//! `tests/peers/stack.py` makes up for; its head says how.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};

use crate::{
    standin::{environment, installed, moto, script, text},
    support::{Site, pattern},
};

const BUCKET: &str = "stack-vault";
/// An identity provider as EKS has one.
const ISSUER: &str = "oidc.eks.example/id/ABC";
/// Beyond what is put in one request: three parts.
const LARGE: usize = (20 << 20) + 4711;
const ROLE: &str = "arn:aws:iam::123456789012:role/backup";
const OTHER_KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// What `stack.py deploy` said of each template.
struct Made {
    vault: Value,
    database: Value,
}

/// Both stacks in moto, made once.
fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let name = format!("BucketName={BUCKET}");
        let issuer = format!("OidcIssuer={ISSUER}");
        let vault = deploy("vault", "sealward.yaml", &[&name, &issuer, "BucketPolicy=off"]);
        let role = format!("ServerRoleName={}", text(&vault["outputs"]["ServerRoleName"]));
        let database = deploy("database", "database.yaml", &[&role]);
        Made { vault, database }
    })
}

fn deploy(stack: &str, name: &str, given: &[&str]) -> Value {
    let path = template(name);
    let args = ["deploy".as_ref(), moto().endpoint.as_ref(), stack.as_ref(), path.as_os_str()];
    peer(args.into_iter().chain(given.iter().map(OsStr::new)))
}

/// How what a stack made is set, as the services say it.
fn look(stack: &str) -> Value {
    made();
    peer(["look", &moto().endpoint, stack])
}

/// The resources of a template, with what is given.
fn resolved(name: &str, given: &[&str]) -> Value {
    let path = template(name);
    peer(["resolve".as_ref(), path.as_os_str()].into_iter().chain(given.iter().map(OsStr::new)))
}

/// The same of the vault's, with what has to be given.
fn vault(given: &[&str]) -> Value {
    resolved("sealward.yaml", &[&["BucketName=vault"], given].concat())
}

fn peer<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Value {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let output = Command::new(installed("aws/bin/python"))
        .arg(script("stack.py"))
        .args(&args)
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .envs(environment())
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn template(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/aws").join(name)
}

/// A configuration with what the stack tells of the class, and `rest`.
fn configured(rest: &str) -> String {
    let usual = Site::config("", rest);
    let (listener, others) = usual.split_once("[keys]").expect("keys");
    let (_, route) = others.split_once("[[route]]").expect("a route");
    format!("{listener}{}\n[[route]]{route}", text(&made().vault["outputs"]["ClassSection"]))
}

/// `check --online` of `config`, which must find nothing that fails.
fn checked(site: &Site, config: &str) -> String {
    let path = site.path("check.toml");
    std::fs::write(&path, config).expect("writes");
    let output = site.command().args(["check", "--online", "--config"]).arg(&path).output().expect("starts");
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && !words.contains("FAIL"), "{words}");
    words
}

#[test]
fn cfn_lint_has_nothing_to_say() {
    let output = Command::new(installed("aws/bin/cfn-lint"))
        .args(["sealward.yaml", "database.yaml"].map(template))
        // Nobody's own settings.
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && words.is_empty(), "{words}");
}

#[test]
fn what_the_templates_make_takes_uploads_and_gives_them_back() {
    let (aws, site) = (moto(), moto().site());
    let config = configured("");
    let key = text(&made().vault["outputs"]["KeyArn"]);
    let words = checked(&site, &config);
    for expected in [
        format!("alias/sealward-records is {key}: enabled"),
        format!("aws:kms under {key}"),
        "all four kinds are blocked".to_owned(),
        "aborts them after 7 days".to_owned(),
    ] {
        assert!(words.contains(&expected), "{expected}: {words}");
    }
    let server = site.serve_text(&config);
    for (name, bytes) in [("small", pattern(1000)), ("large", pattern(LARGE))] {
        assert_eq!(site.put(&server, name, &bytes).status, 201);
        assert!(site.get(&server, name).body == bytes, "{name}: other bytes");
        let head = aws.head(BUCKET, name);
        assert_eq!(head["ServerSideEncryption"], "aws:kms", "{name}: {head}");
        assert_eq!(head["SSEKMSKeyId"], *key, "{name}: {head}");
        assert!(head["VersionId"].is_string(), "{name}: {head}");
        assert_eq!(text(&head["ETag"]).contains('-'), name == "large", "in parts: {head}");
    }
    assert_eq!(aws.uploads(BUCKET), json!([]));
}

#[test]
fn key_bucket_role_and_trail_are_set_as_the_readme_has_it() {
    let (outputs, found) = (&made().vault["outputs"], look("vault"));
    for key in ["SealingKey", "TrailKey"] {
        assert_eq!(found[key]["rotates"], true, "{key}");
    }
    let sse = json!({"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": outputs["KeyArn"]});
    let encryption = json!([{"ApplyServerSideEncryptionByDefault": sse, "BucketKeyEnabled": true}]);
    assert_eq!(found["Bucket"]["encryption"], encryption);
    for bucket in ["Bucket", "TrailBucket"] {
        let found = &found[bucket];
        assert_eq!(found["versioning"], "Enabled", "{bucket}");
        assert_eq!(found["ownership"], json!([{"ObjectOwnership": "BucketOwnerEnforced"}]), "{bucket}");
        let blocked = found["public"].as_object().expect("a block");
        assert!(blocked.len() == 4 && blocked.values().all(|one| *one == true), "{bucket}: {blocked:?}");
    }
    let rules = found["Bucket"]["lifecycle"].as_array().expect("rules");
    let ends = rules.iter().find(|rule| rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7);
    let ends = ends.unwrap_or_else(|| panic!("nothing ends unfinished uploads: {rules:?}"));
    assert_eq!((&ends["Status"], &ends["Filter"]), (&json!("Enabled"), &json!({"Prefix": ""})));

    let attached = found["ServerRole"]["attached"].as_array().expect("policies");
    for policy in ["WriterPolicyArn", "ReaderPolicyArn"] {
        assert!(attached.contains(&outputs[policy]), "{policy}: {attached:?}");
    }
    for policy in ["AuditorPolicyArn", "OperatorPolicyArn"] {
        assert!(outputs[policy].is_string() && !attached.contains(&outputs[policy]), "{policy}: {attached:?}");
    }

    let trails = found["trails"].as_array().expect("trails");
    let trail = trails.iter().find(|trail| trail["TrailARN"] == outputs["TrailArn"]).expect("the trail");
    assert_eq!((&trail["LogFileValidationEnabled"], &trail["IsLogging"]), (&json!(true), &json!(true)));
    assert_eq!(trail["KmsKeyId"], found["TrailKey"]["about"]["Arn"]);
    let objects = json!([{"Type": "AWS::S3::Object", "Values": [format!("arn:aws:s3:::{BUCKET}/")]}]);
    let events = &trail["EventSelectors"][0];
    assert_eq!((&events["DataResources"], &events["IncludeManagementEvents"]), (&objects, &json!(true)));
}

#[test]
fn the_database_takes_tls_alone_and_sealward_reads_the_secret_that_rds_rotates() {
    let (outputs, found) = (&made().database["outputs"], look("database"));
    assert_eq!(found["DatabaseParameters"]["rds.force_ssl"], "1");
    let (database, key) = (&found["Database"], &found["DatabaseKey"]["about"]["Arn"]);
    assert_eq!(found["DatabaseKey"]["rotates"], true);
    for (name, expected) in [
        ("StorageEncrypted", json!(true)),
        ("KmsKeyId", key.clone()),
        ("PubliclyAccessible", json!(false)),
        ("DeletionProtection", json!(true)),
        ("BackupRetentionPeriod", json!(14)),
        ("MultiAZ", json!(true)),
    ] {
        assert_eq!(database[name], expected, "{name}: {database}");
    }
    let group = text(&database["DBParameterGroups"][0]["DBParameterGroupName"]);
    assert!(!group.starts_with("default."), "{group}");
    // One that RDS owns, it rotates.
    let secret = &database["Secret"];
    assert_eq!((&secret["OwningService"], &secret["KmsKeyId"]), (&json!("rds"), key), "{secret}");
    assert_eq!(secret["ARN"], outputs["SecretArn"]);

    let section = text(&outputs["CatalogSection"]);
    let (of_secret, catalog) = section.split_once("[catalog]").expect("both sections");
    assert!(catalog.contains(&format!("host = \"{}\"", text(&database["Endpoint"]["Address"]))), "{catalog}");
    // There is no such database here, but its secret.
    let words = checked(&moto().site(), &configured(of_secret));
    let fetched = words.lines().any(|line| line.starts_with("ok") && line.contains("secret `database`"));
    assert!(fetched, "{words}");
}

#[test]
fn no_policy_allows_everything() {
    let all = [
        vault(&[&format!("OtherKeyArn={OTHER_KEY}"), &format!("MoreRoleArns={ROLE}"), "Removal=versions"]),
        resolved(
            "database.yaml",
            &["VpcId=vpc-1", "SubnetIds=subnet-1,subnet-2", "ClientSecurityGroupId=sg-1", "ServerRoleName=server"],
        ),
    ];
    let mut seen = 0;
    for (name, resource) in all.iter().flat_map(|resources| resources.as_object().expect("resources")) {
        for document in ["PolicyDocument", "KeyPolicy"] {
            let Some(statements) = resource["Properties"][document]["Statement"].as_array() else { continue };
            for statement in statements.iter().filter(|statement| statement["Effect"] == "Allow") {
                seen += 1;
                let place = format!("{name}: {statement}");
                let principal = &statement["Principal"];
                assert!(*principal != "*" && principal["AWS"] != "*", "{place}");
                let actions = several(&statement["Action"]);
                assert!(!actions.is_empty(), "{place}");
                assert!(actions.iter().all(|action| *action != "*" && !action.ends_with(":*")), "{place}");
                // Whoever uses a key does so in a context, or through a service, that is named.
                let uses = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncrypt", "kms:CreateGrant"];
                if actions.iter().any(|action| uses.iter().any(|of| action.starts_with(of))) {
                    assert!(statement["Condition"].is_object(), "{place}");
                }
                // Whoever could disable the trail's key could blind the trail.
                if document == "PolicyDocument" && actions.contains(&"kms:DisableKey") {
                    let keys = several(&statement["Resource"]);
                    assert!(keys.len() == 1 && keys[0].ends_with(":key/SealingKey"), "{place}");
                }
                // In a key's policy that is the key. Otherwise what knows no narrower one.
                let broad = [
                    "cloudtrail:DescribeTrails",
                    "cloudtrail:ListPublicKeys",
                    "cloudtrail:LookupEvents",
                    "kms:ListAliases",
                ];
                if document == "PolicyDocument" && several(&statement["Resource"]).contains(&"*") {
                    assert!(actions.iter().all(|action| broad.contains(action)), "{place}");
                }
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

/// What docs/runbook.md and docs/drills send them to.
#[test]
fn operators_may_do_what_the_runbook_asks_of_them() {
    let made = vault(&[]);
    let statements = made["OperatorPolicy"]["Properties"]["PolicyDocument"]["Statement"].as_array();
    let may = |action: &str, resource: &str| {
        statements.expect("statements").iter().any(|statement| {
            statement["Effect"] == "Allow"
                && several(&statement["Action"]).contains(&action)
                && several(&statement["Resource"]).iter().any(|one| one.ends_with(resource))
        })
    };
    for action in ["CancelKeyDeletion", "CreateAlias", "DisableKey", "EnableKey", "UpdateAlias"] {
        assert!(may(&format!("kms:{action}"), ":key/SealingKey"), "{action}");
    }
    for (action, resource) in [
        ("kms:CreateAlias", ":alias/sealward-records"),
        ("kms:UpdateAlias", ":alias/sealward-records"),
        ("kms:EnableKey", ":key/TrailKey"),
        ("kms:ListAliases", "*"),
        ("cloudtrail:LookupEvents", "*"),
    ] {
        assert!(may(action, resource), "{action} on {resource}");
    }
}

#[test]
fn a_service_account_or_a_service_has_the_role_and_nobody_else() {
    let irsa = vault(&[&format!("OidcIssuer={ISSUER}"), "ServiceAccount=files:sealward"]);
    let trust = text(&irsa["ServerRole"]["Properties"]["AssumeRolePolicyDocument"]);
    let trust: Value = serde_json::from_str(&trust).expect("JSON");
    let account = json!({
        format!("{ISSUER}:aud"): "sts.amazonaws.com",
        format!("{ISSUER}:sub"): "system:serviceaccount:files:sealward",
    });
    let allowed = &trust["Statement"];
    assert_eq!(allowed.as_array().map(Vec::len), Some(1));
    assert_eq!(allowed[0]["Action"], "sts:AssumeRoleWithWebIdentity");
    assert_eq!(allowed[0]["Condition"], json!({"StringEquals": account}));
    assert_eq!(look("vault")["ServerRole"]["trust"]["Statement"][0]["Action"], allowed[0]["Action"], "moto's reading");

    let ours = json!({"StringEquals": {"aws:SourceAccount": "123456789012"}});
    for (service, actions, condition) in [
        ("ecs-tasks", json!("sts:AssumeRole"), &ours),
        ("pods.eks", json!(["sts:AssumeRole", "sts:TagSession"]), &ours),
        ("ec2", json!("sts:AssumeRole"), &Value::Null),
    ] {
        let made = vault(&[&format!("ServicePrincipal={service}.amazonaws.com")]);
        let allowed = &made["ServerRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
        assert_eq!(allowed["Principal"], json!({"Service": format!("{service}.amazonaws.com")}));
        assert_eq!((&allowed["Action"], &allowed["Condition"]), (&actions, condition), "{service}");
        assert_eq!(made["ServerInstanceProfile"].is_object(), service == "ec2", "{service}");
    }
}

#[test]
fn a_further_class_and_further_roles_are_let_in_by_name() {
    let users = |made: &Value| {
        let statements = made["SealingKey"]["Properties"]["KeyPolicy"]["Statement"].as_array().cloned();
        let statements = statements.expect("statements").into_iter();
        let conditions =
            statements.filter_map(|one| one["Condition"]["ArnLike"]["aws:PrincipalArn"].as_array().cloned());
        let conditions: Vec<_> = conditions.collect();
        assert_eq!(conditions.len(), 3, "each use is for named roles");
        assert!(conditions.windows(2).all(|two| two[0] == two[1]), "{conditions:?}");
        conditions[0].clone()
    };
    let own = "arn:aws:iam::123456789012:role/ServerRole";
    assert_eq!(users(&vault(&[])), [own]);
    assert_eq!(users(&vault(&[&format!("MoreRoleArns={ROLE},{ROLE}-2")])), [own, ROLE, &format!("{ROLE}-2")]);

    // The role of another class's stack.
    let second = vault(&["ServerRoleName=files", "Vault=scans"]);
    assert!(second["ServerRole"].is_null(), "no second role");
    assert_eq!(users(&second), ["arn:aws:iam::123456789012:role/files"]);
    for policy in ["WriterPolicy", "ReaderPolicy", "CataloguePolicy"] {
        assert_eq!(second[policy]["Properties"]["Roles"], json!(["files"]), "{policy}");
    }
}

#[test]
fn versions_are_kept_as_long_as_is_said() {
    let rules = |given: &str| {
        vault(&[given])["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"].as_array().cloned().expect("rules")
    };
    let days = |given: &str| {
        let found = rules(given)
            .iter()
            .find_map(|rule| Some(rule["NoncurrentVersionExpiration"]["NoncurrentDays"].as_str()?.to_owned()));
        found.unwrap_or_default()
    };
    assert_eq!((days("NoncurrentDays=30"), days("NoncurrentDays=0")), ("30".to_owned(), String::new()));
    let ends = |rule: &Value| rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == "3";
    assert!(rules("OrphanDays=3").iter().any(ends));
}

/// One or several, as policies write both.
fn several(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect(),
    }
}
