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
    changed BIGINT NOT NULL,
    INDEX objects_by_class (class, changed),
    INDEX objects_by_key (kms_key(191), changed),
    INDEX objects_by_caller (stored_by, changed)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE pending (
    object VARCHAR(64) NOT NULL,
    message_id VARCHAR(64) NOT NULL,
    before_id VARCHAR(64) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (object, message_id),
    INDEX pending_since (since)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE tokens (
    id VARCHAR(64) PRIMARY KEY,
    name_id VARCHAR(64) NOT NULL UNIQUE,
    record MEDIUMTEXT NOT NULL,
    used BIGINT
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE sealed (
    name VARCHAR(64) PRIMARY KEY,
    message MEDIUMTEXT NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE aliases (
    class VARCHAR(64) NOT NULL,
    arn VARCHAR(256) NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (class, arn)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE uploads (
    id VARCHAR(64) PRIMARY KEY,
    class VARCHAR(64) NOT NULL,
    name VARCHAR(1024) NOT NULL,
    upload VARCHAR(1024) NOT NULL,
    since BIGINT NOT NULL,
    INDEX uploads_by_class (class, since)
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE leases (
    name VARCHAR(128) PRIMARY KEY,
    holder VARCHAR(64) NOT NULL,
    until BIGINT NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE spools (
    spool VARCHAR(64) PRIMARY KEY,
    upto BIGINT NOT NULL
) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
