-- Times are microseconds since 1970.
CREATE TABLE objects (
    id VARCHAR(64) PRIMARY KEY,
    class VARCHAR(64) NOT NULL,
    vault VARCHAR(64) NOT NULL,
    name VARCHAR(1024) NOT NULL,
    size BIGINT NOT NULL,
    etag VARCHAR(128) NOT NULL,
    message_id VARCHAR(64) NOT NULL,
    version_id VARCHAR(1024),
    kms_key VARCHAR(512) NOT NULL,
    stored_by VARCHAR(256) NOT NULL,
    state VARCHAR(16) NOT NULL,
    changed BIGINT NOT NULL
);
CREATE INDEX objects_by_class ON objects (class, changed);
CREATE INDEX objects_by_key ON objects (kms_key, changed);
CREATE INDEX objects_by_caller ON objects (stored_by, changed);
CREATE TABLE pending (
    object VARCHAR(64) NOT NULL,
    message_id VARCHAR(64) NOT NULL,
    before_id VARCHAR(64) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (object, message_id)
);
CREATE INDEX pending_since ON pending (since);
CREATE TABLE tokens (
    id VARCHAR(64) PRIMARY KEY,
    name_id VARCHAR(64) NOT NULL UNIQUE,
    record TEXT NOT NULL,
    used BIGINT
);
CREATE TABLE sealed (
    name VARCHAR(64) PRIMARY KEY,
    message TEXT NOT NULL
);
CREATE TABLE aliases (
    class VARCHAR(64) NOT NULL,
    arn VARCHAR(256) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (class, arn)
);
CREATE TABLE uploads (
    id VARCHAR(64) PRIMARY KEY,
    class VARCHAR(64) NOT NULL,
    name VARCHAR(1024) NOT NULL,
    upload VARCHAR(1024) NOT NULL,
    since BIGINT NOT NULL
);
CREATE INDEX uploads_by_class ON uploads (class, since);
CREATE TABLE leases (
    name VARCHAR(128) PRIMARY KEY,
    holder VARCHAR(64) NOT NULL,
    until BIGINT NOT NULL
);
CREATE TABLE spools (
    spool VARCHAR(64) PRIMARY KEY,
    upto BIGINT NOT NULL
);
