-- renewd's whole memory. Times are milliseconds since 1970 UTC, money is fen.
-- The CHECKs and triggers repeat the state machines of domain/run.rs and domain/order.rs; the unique
-- indexes hold promise 2: at most one open order an instance, at most one order a cycle that stands.

-- `rnwd`: tells this file from a database of another program.
PRAGMA application_id = 1919842148;

CREATE TABLE daemon (
    id                 INTEGER PRIMARY KEY CHECK (id = 1),
    -- One life of one daemon: claims and intents of an older epoch cannot be written.
    epoch              INTEGER NOT NULL CHECK (epoch >= 0),
    pid                INTEGER,
    version            TEXT,
    started_at_ms      INTEGER,
    stopped_at_ms      INTEGER,
    set_digest         TEXT,
    set_accepted_at_ms INTEGER,
    refused_at_ms      INTEGER,
    refused_digest     TEXT,
    refused_text       TEXT,
    -- The renewd.toml in force, and what in it only a restart would take.
    settings_digest         TEXT,
    settings_accepted_at_ms INTEGER,
    needs_restart           TEXT CHECK (needs_restart IS NULL OR json_valid(needs_restart))
) STRICT;
INSERT INTO daemon (id, epoch) VALUES (1, 0);

CREATE TABLE schedules (
    id           INTEGER PRIMARY KEY,
    expression   TEXT NOT NULL,
    zone         TEXT NOT NULL,
    -- Every due instant at or before it is accounted for.
    watermark_ms INTEGER NOT NULL,
    -- NULL while no live policy uses the schedule.
    next_due_ms  INTEGER,
    UNIQUE (expression, zone)
) STRICT;
CREATE INDEX schedules_due ON schedules (next_due_ms) WHERE next_due_ms IS NOT NULL;

-- Accepted policy files: one with the same digest is not parsed again, its policies stay as they are.
CREATE TABLE policy_files (
    id     INTEGER PRIMARY KEY,
    path   TEXT NOT NULL UNIQUE,
    -- Over its path and contents, and over all else that its verdict follows from.
    digest TEXT NOT NULL
) STRICT;

CREATE TABLE policies (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    revision        INTEGER NOT NULL CHECK (revision >= 1),
    digest          TEXT NOT NULL,
    account         TEXT NOT NULL,
    provider        TEXT NOT NULL,
    product         TEXT NOT NULL,
    region          TEXT NOT NULL,
    action          TEXT NOT NULL CHECK (action IN ('renew', 'upgrade')),
    every_fire      INTEGER NOT NULL CHECK (every_fire IN (0, 1)),
    terms           TEXT NOT NULL CHECK (json_valid(terms)),
    schedule_id     INTEGER NOT NULL REFERENCES schedules (id),
    source          TEXT NOT NULL,
    enabled         INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    -- Only due instants later than this fire.
    active_since_ms INTEGER NOT NULL,
    accepted_at_ms  INTEGER NOT NULL,
    -- Disabled or gone from the files since then; its unsent runs are cancelled after a grace.
    stopped_at_ms   INTEGER,
    retired_at_ms   INTEGER,
    -- NULL of a file that is parsed anew each time, such as one with warnings.
    file_id         INTEGER REFERENCES policy_files (id) ON DELETE SET NULL,
    CHECK (retired_at_ms IS NULL OR stopped_at_ms IS NOT NULL),
    CHECK (retired_at_ms IS NULL OR file_id IS NULL),
    CHECK (enabled = 1 OR stopped_at_ms IS NOT NULL)
) STRICT;
CREATE INDEX policies_schedule ON policies (schedule_id) WHERE stopped_at_ms IS NULL;
CREATE INDEX policies_file ON policies (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX policies_newest ON policies (accepted_at_ms DESC, name);

CREATE TABLE policy_revisions (
    policy_id      INTEGER NOT NULL REFERENCES policies (id),
    revision       INTEGER NOT NULL,
    body           TEXT NOT NULL CHECK (json_valid(body)),
    accepted_at_ms INTEGER NOT NULL,
    PRIMARY KEY (policy_id, revision)
) STRICT, WITHOUT ROWID;

-- An identity: provider, region in its long form, instance. Accounts and product spellings do not make it another.
CREATE TABLE instances (
    id                  INTEGER PRIMARY KEY,
    provider            TEXT NOT NULL,
    region              TEXT NOT NULL,
    instance            TEXT NOT NULL,
    -- Promise 2's counter, advanced only by an expiry at least 20 days past the one that opened the cycle.
    cycle               INTEGER NOT NULL DEFAULT 1,
    cycle_expiry_ms     INTEGER,
    -- The latest observation.
    observed_at_ms      INTEGER,
    visible             INTEGER CHECK (visible IN (0, 1)),
    expires_at_ms       INTEGER,
    state               TEXT,
    charge_type         TEXT,
    auto_renew          TEXT CHECK (auto_renew IN ('on', 'off', 'unreadable')),
    mem_size_mb         INTEGER,
    shards              INTEGER,
    replicas            INTEGER,
    renew_flag          TEXT,
    latest_operation    TEXT CHECK (latest_operation IS NULL OR json_valid(latest_operation)),
    -- The latest expiry ever seen; an earlier one is acted on only after repeated looks.
    expiry_high_ms      INTEGER,
    lower_since_ms      INTEGER,
    lower_looks         INTEGER NOT NULL DEFAULT 0,
    invisible_looks     INTEGER NOT NULL DEFAULT 0,
    known_since_ms      INTEGER NOT NULL,
    risk_logged_at_ms   INTEGER,
    UNIQUE (provider, region, instance),
    CHECK ((observed_at_ms IS NULL) = (visible IS NULL)),
    CHECK ((lower_since_ms IS NULL) = (lower_looks = 0))
) STRICT;
CREATE INDEX instances_expiry ON instances (expires_at_ms);
-- People ask by the id alone.
CREATE INDEX instances_id ON instances (instance);

CREATE TABLE policy_instances (
    id            INTEGER PRIMARY KEY,
    policy_id     INTEGER NOT NULL REFERENCES policies (id),
    instance_id   INTEGER NOT NULL REFERENCES instances (id),
    removed_at_ms INTEGER,
    UNIQUE (policy_id, instance_id)
) STRICT;
CREATE INDEX policy_instances_instance ON policy_instances (instance_id);

-- Firings whose runs are not all queued yet: inserted with the watermark's move, deleted with their last chunk.
CREATE TABLE firings (
    id                INTEGER PRIMARY KEY,
    schedule_id       INTEGER NOT NULL REFERENCES schedules (id),
    policy_id         INTEGER REFERENCES policies (id),
    origin            TEXT NOT NULL CHECK (origin IN ('schedule', 'catch_up')),
    due_at_ms         INTEGER NOT NULL,
    missed_count      INTEGER NOT NULL CHECK (missed_count >= 0),
    -- Which policies of the schedule it is for: every_fire or not, active since after … through …
    every_fire        INTEGER CHECK (every_fire IN (0, 1)),
    active_after_ms   INTEGER NOT NULL,
    active_through_ms INTEGER NOT NULL,
    -- How far the queueing has come, in the order of policies and instances.
    queued_policy_id   INTEGER NOT NULL DEFAULT 0,
    queued_instance_id INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The retry queue.
CREATE TABLE runs (
    id                 INTEGER PRIMARY KEY,
    policy_id          INTEGER NOT NULL REFERENCES policies (id),
    policy_revision    INTEGER NOT NULL,
    instance_id        INTEGER NOT NULL REFERENCES instances (id),
    account            TEXT NOT NULL,
    action             TEXT NOT NULL CHECK (action IN ('renew', 'upgrade')),
    origin             TEXT NOT NULL CHECK (origin IN ('schedule', 'catch_up', 'trigger', 'retry')),
    due_at_ms          INTEGER NOT NULL,
    missed_count       INTEGER NOT NULL DEFAULT 0 CHECK (missed_count >= 0),
    -- Fired by a person's trigger, or the retry of such a run; again: although its instance was just ordered.
    by_hand            INTEGER NOT NULL DEFAULT 0 CHECK (by_hand IN (0, 1)),
    again              INTEGER NOT NULL DEFAULT 0 CHECK (again = 0 OR (again = 1 AND by_hand = 1)),
    -- A trigger that no daemon has taken by then is over.
    lapses_at_ms       INTEGER,
    state              TEXT NOT NULL DEFAULT 'queued' CHECK (state IN
        ('queued', 'running', 'waiting', 'unknown', 'succeeded', 'skipped', 'failed', 'cancelled')),
    epoch              INTEGER,
    hold               TEXT CHECK (hold IN ('backoff', 'pause', 'open_order', 'confirmation')),
    attempts           INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at_ms INTEGER,
    -- The instance's expiry when the run was queued: what expires soonest is claimed first.
    priority_ms        INTEGER NOT NULL,
    reason             TEXT,
    verdict            TEXT CHECK (verdict IS NULL OR json_valid(verdict)),
    error              TEXT CHECK (error IS NULL OR json_valid(error)),
    created_at_ms      INTEGER NOT NULL,
    finished_at_ms     INTEGER,
    CONSTRAINT running_has_epoch CHECK ((state = 'running') = (epoch IS NOT NULL)),
    CONSTRAINT only_the_untaken_lapse CHECK (lapses_at_ms IS NULL OR state = 'queued'),
    CONSTRAINT waiting_has_hold CHECK ((state = 'waiting') = (hold IS NOT NULL)),
    CONSTRAINT waiting_has_time CHECK (state <> 'waiting' OR hold = 'confirmation' OR next_attempt_at_ms IS NOT NULL),
    CONSTRAINT ended_has_time_and_reason CHECK (
        (state IN ('succeeded', 'skipped', 'failed', 'cancelled')) = (finished_at_ms IS NOT NULL)
        AND (finished_at_ms IS NULL OR reason IS NOT NULL))
) STRICT;
-- Each due instant of each policy and instance is accounted for once.
CREATE UNIQUE INDEX runs_once ON runs (policy_id, instance_id, due_at_ms, origin)
    WHERE origin IN ('schedule', 'catch_up');
-- However often it is asked for, a failed run is retried by one run at a time.
CREATE UNIQUE INDEX runs_one_retry ON runs (policy_id, instance_id, due_at_ms)
    WHERE origin = 'retry' AND finished_at_ms IS NULL;
CREATE INDEX runs_lapse ON runs (lapses_at_ms) WHERE lapses_at_ms IS NOT NULL;
CREATE INDEX runs_claim ON runs (account, priority_ms, id) WHERE state = 'queued';
CREATE INDEX runs_wake ON runs (next_attempt_at_ms) WHERE state = 'waiting' AND hold <> 'confirmation';
CREATE INDEX runs_unfinished ON runs (instance_id, policy_id, id) WHERE finished_at_ms IS NULL;
CREATE INDEX runs_instance ON runs (instance_id, id);

CREATE TRIGGER runs_never_leave_their_end BEFORE UPDATE OF state ON runs
WHEN OLD.finished_at_ms IS NOT NULL AND NEW.state <> OLD.state
BEGIN
    SELECT RAISE(ABORT, 'a run that has ended never leaves its end');
END;

CREATE TRIGGER runs_are_claimed_from_the_queue BEFORE UPDATE OF state ON runs
WHEN NEW.state = 'running' AND OLD.state <> 'queued'
BEGIN
    SELECT RAISE(ABORT, 'only a queued run is claimed');
END;

-- Unsent work is paid for by the account that its policy names by then, whichever had it in hand meanwhile.
CREATE TRIGGER runs_unsent_are_their_policys_accounts AFTER UPDATE OF state ON runs
WHEN NEW.state = 'queued' AND NEW.account <> (SELECT account FROM policies WHERE id = NEW.policy_id)
BEGIN
    UPDATE runs SET account = (SELECT account FROM policies WHERE id = NEW.policy_id) WHERE id = NEW.id;
END;

-- The money. Rows are kept for ever.
CREATE TABLE orders (
    id                INTEGER PRIMARY KEY,
    run_id            INTEGER NOT NULL REFERENCES runs (id),
    policy_id         INTEGER NOT NULL REFERENCES policies (id),
    policy_revision   INTEGER NOT NULL,
    instance_id       INTEGER NOT NULL REFERENCES instances (id),
    account           TEXT NOT NULL,
    product           TEXT NOT NULL,
    region            TEXT NOT NULL,
    action            TEXT NOT NULL CHECK (action IN ('renew', 'upgrade')),
    cycle             TEXT NOT NULL,
    state             TEXT NOT NULL CHECK (state IN ('intended', 'placed', 'confirmed', 'refused', 'unknown')),
    epoch             INTEGER NOT NULL,
    order_id          TEXT,
    request_id        TEXT,
    client_token      TEXT,
    -- How often its request was sent again with that token.
    repeats           INTEGER NOT NULL DEFAULT 0 CHECK (repeats = 0 OR client_token IS NOT NULL),
    -- The life of the service that has just sent it again and has not written down the answer yet.
    repeat_epoch      INTEGER,
    months            INTEGER,
    amount_fen        INTEGER,
    expiry_before_ms  INTEGER,
    expiry_after_ms   INTEGER,
    intended_at_ms    INTEGER NOT NULL,
    sent_at_ms        INTEGER,
    settled_at_ms     INTEGER,
    settled_by        TEXT,
    error             TEXT CHECK (error IS NULL OR json_valid(error)),
    -- When the next evidence is due, and when a person was first asked.
    next_look_at_ms   INTEGER,
    person_asked_ms   INTEGER,
    -- When the order list is asked next for the number of a settled order that has none.
    number_wanted_at_ms INTEGER,
    -- An upgrade open longer than the settling time: it no longer holds a renewal of its instance back.
    stands_aside      INTEGER NOT NULL DEFAULT 0 CHECK (stands_aside = 0 OR (stands_aside = 1 AND action = 'upgrade')),
    CONSTRAINT settled_has_time CHECK ((state IN ('confirmed', 'refused')) = (settled_at_ms IS NOT NULL)),
    CONSTRAINT refused_has_error CHECK (state <> 'refused' OR error IS NOT NULL),
    CONSTRAINT renewal_has_months CHECK (action <> 'renew' OR coalesce(months, 0) >= 1),
    CONSTRAINT settled_without_number CHECK (number_wanted_at_ms IS NULL OR (settled_at_ms IS NOT NULL AND order_id IS NULL)),
    CONSTRAINT open_is_looked_at CHECK (state NOT IN ('placed', 'unknown') OR next_look_at_ms IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX orders_one_open ON orders (instance_id)
    WHERE state IN ('intended', 'placed', 'unknown') AND stands_aside = 0;
CREATE UNIQUE INDEX orders_one_a_cycle ON orders (instance_id, action, cycle) WHERE state <> 'refused';
CREATE INDEX orders_run ON orders (run_id);
CREATE INDEX orders_open ON orders (state) WHERE settled_at_ms IS NULL;
CREATE INDEX orders_instance ON orders (instance_id, action);
CREATE INDEX orders_day ON orders (account, intended_at_ms);
CREATE INDEX orders_number ON orders (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX orders_look ON orders (next_look_at_ms) WHERE state IN ('placed', 'unknown');
CREATE INDEX orders_without_number ON orders (number_wanted_at_ms) WHERE number_wanted_at_ms IS NOT NULL;

-- A list that lags behind names orders after they were settled without it: confirmed by the expiry alone, or called
-- not to have happened. It is asked for an hour later first.
CREATE TRIGGER orders_settled_without_number AFTER UPDATE OF settled_at_ms ON orders
WHEN OLD.settled_at_ms IS NULL AND NEW.settled_at_ms IS NOT NULL AND NEW.order_id IS NULL
    AND (NEW.state = 'confirmed' OR NEW.error ->> 'code' IN ('NotOrdered', 'ResolvedNotPaid', 'RenewedElsewhere'))
BEGIN
    UPDATE orders SET number_wanted_at_ms = NEW.settled_at_ms + 3600000 WHERE id = NEW.id;
END;

CREATE TRIGGER orders_never_leave_their_end BEFORE UPDATE OF state ON orders
WHEN OLD.settled_at_ms IS NOT NULL AND NEW.state <> OLD.state
BEGIN
    SELECT RAISE(ABORT, 'an order that is settled never leaves its end');
END;

CREATE TRIGGER orders_are_never_intended_again BEFORE UPDATE OF state ON orders
WHEN NEW.state = 'intended' AND OLD.state <> 'intended'
BEGIN
    SELECT RAISE(ABORT, 'an order is intended once');
END;

CREATE TRIGGER orders_are_kept BEFORE DELETE ON orders
BEGIN
    SELECT RAISE(ABORT, 'orders are kept for ever');
END;

-- Each API call.
CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    account     TEXT NOT NULL,
    api         TEXT NOT NULL,
    region      TEXT NOT NULL,
    order_row   INTEGER REFERENCES orders (id),
    run_id      INTEGER,
    instances   INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    class       TEXT NOT NULL,
    code        TEXT,
    http_status INTEGER,
    request_id  TEXT
) STRICT;
CREATE INDEX attempts_order ON attempts (order_row) WHERE order_row IS NOT NULL;

-- Evidence about an open order: who said what when.
CREATE TABLE looks (
    id           INTEGER PRIMARY KEY,
    order_row    INTEGER NOT NULL REFERENCES orders (id),
    epoch        INTEGER NOT NULL,
    at_ms        INTEGER NOT NULL,
    monotonic_ms INTEGER NOT NULL,
    -- What the look saw, as verdict.rs reads it.
    evidence     TEXT NOT NULL CHECK (json_valid(evidence)),
    finding      TEXT NOT NULL
) STRICT;
CREATE INDEX looks_order ON looks (order_row, id);

CREATE TABLE pauses (
    id           INTEGER PRIMARY KEY,
    scope        TEXT NOT NULL CHECK (scope IN ('all', 'account', 'policy')),
    name         TEXT,
    -- Of a copy made by `renewd backup`: until a person says that it is the one in use.
    kind         TEXT NOT NULL CHECK (kind IN ('person', 'balance', 'credential', 'copy')),
    since_ms     INTEGER NOT NULL,
    -- A person's pause ends then; a pause of ours lets one order through then, as a test.
    until_ms     INTEGER,
    note         TEXT,
    set_by       TEXT NOT NULL,
    lifted_at_ms INTEGER,
    lifted_by    TEXT,
    CHECK ((scope = 'all') = (name IS NULL)),
    CHECK ((lifted_at_ms IS NULL) = (lifted_by IS NULL)),
    CHECK (kind NOT IN ('balance', 'credential') OR (scope = 'account' AND until_ms IS NOT NULL)),
    CHECK (kind <> 'copy' OR (scope = 'all' AND until_ms IS NULL))
) STRICT;
CREATE INDEX pauses_in_force ON pauses (scope, name) WHERE lifted_at_ms IS NULL;
CREATE UNIQUE INDEX pauses_one_of_ours ON pauses (name, kind) WHERE lifted_at_ms IS NULL AND kind <> 'person';

-- What people did through commands, for the record and for the daemon to log.
CREATE TABLE acts (
    id           INTEGER PRIMARY KEY,
    at_ms        INTEGER NOT NULL,
    person       TEXT NOT NULL,
    event        TEXT NOT NULL,
    subject      TEXT NOT NULL,
    -- What came of it, in words; the note is the person's own.
    said         TEXT,
    note         TEXT,
    logged_at_ms INTEGER
) STRICT;
CREATE INDEX acts_unlogged ON acts (id) WHERE logged_at_ms IS NULL;

-- What has been, in totals: counted with the change itself, whoever makes it, so that a restart, a crash or the folding
-- of history takes nothing back, and read without walking a single row of what is counted.

-- Runs that are in each state now.
CREATE TABLE run_counts (
    state TEXT NOT NULL PRIMARY KEY,
    runs  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO run_counts (state) VALUES
    ('queued'), ('running'), ('waiting'), ('unknown'), ('succeeded'), ('skipped'), ('failed'), ('cancelled');

-- Runs that ever came to each end.
CREATE TABLE run_ends (
    account TEXT NOT NULL,
    product TEXT NOT NULL,
    state   TEXT NOT NULL,
    runs    INTEGER NOT NULL,
    PRIMARY KEY (account, product, state)
) STRICT, WITHOUT ROWID;

-- Orders that ever came into each state; one order passes through several.
CREATE TABLE order_entries (
    account TEXT NOT NULL,
    product TEXT NOT NULL,
    action  TEXT NOT NULL,
    state   TEXT NOT NULL,
    orders  INTEGER NOT NULL,
    PRIMARY KEY (account, product, action, state)
) STRICT, WITHOUT ROWID;

-- What confirmed orders cost, as far as it is known.
CREATE TABLE spending (
    account TEXT NOT NULL PRIMARY KEY,
    fen     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Firings of policies by their schedules: those that queued runs, and instants that passed without one, by what became
-- of them.
CREATE TABLE firing_counts (
    kind    TEXT NOT NULL PRIMARY KEY CHECK (kind IN ('fired', 'caught_up', 'too_old')),
    firings INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO firing_counts (kind) VALUES ('fired'), ('caught_up'), ('too_old');

CREATE TRIGGER runs_are_counted_in AFTER INSERT ON runs
BEGIN
    UPDATE run_counts SET runs = runs + 1 WHERE state = NEW.state;
END;

CREATE TRIGGER runs_are_counted_out AFTER DELETE ON runs
BEGIN
    UPDATE run_counts SET runs = runs - 1 WHERE state = OLD.state;
END;

CREATE TRIGGER runs_are_counted_over AFTER UPDATE OF state ON runs WHEN NEW.state <> OLD.state
BEGIN
    UPDATE run_counts SET runs = runs + (state = NEW.state) - (state = OLD.state) WHERE state IN (OLD.state, NEW.state);
END;

CREATE TRIGGER runs_are_counted_at_their_end AFTER UPDATE OF state ON runs
WHEN OLD.finished_at_ms IS NULL AND NEW.finished_at_ms IS NOT NULL
BEGIN
    INSERT INTO run_ends (account, product, state, runs)
    SELECT NEW.account, p.product, NEW.state, 1 FROM policies p WHERE p.id = NEW.policy_id
    ON CONFLICT DO UPDATE SET runs = runs + 1;
END;

CREATE TRIGGER orders_are_counted_in AFTER INSERT ON orders
BEGIN
    INSERT INTO order_entries (account, product, action, state, orders)
    VALUES (NEW.account, NEW.product, NEW.action, NEW.state, 1)
    ON CONFLICT DO UPDATE SET orders = orders + 1;
END;

CREATE TRIGGER orders_are_counted_over AFTER UPDATE OF state ON orders WHEN NEW.state <> OLD.state
BEGIN
    INSERT INTO order_entries (account, product, action, state, orders)
    VALUES (NEW.account, NEW.product, NEW.action, NEW.state, 1)
    ON CONFLICT DO UPDATE SET orders = orders + 1;
END;

-- An amount that is learnt after the confirmation counts from then on.
CREATE TRIGGER orders_are_added_up AFTER UPDATE OF state, amount_fen ON orders
WHEN NEW.state = 'confirmed' AND (OLD.state <> 'confirmed' OR NEW.amount_fen IS NOT OLD.amount_fen)
BEGIN
    INSERT INTO spending (account, fen)
    VALUES (NEW.account, coalesce(NEW.amount_fen, 0) - iif(OLD.state = 'confirmed', coalesce(OLD.amount_fen, 0), 0))
    ON CONFLICT DO UPDATE SET fen = fen + excluded.fen;
END;

CREATE VIEW orders_v AS
SELECT o.id AS id, o.run_id AS run_id, p.name AS policy, o.policy_revision AS policy_revision,
       o.account AS account, i.provider AS provider, o.product AS product, o.region AS region,
       i.instance AS instance, o.action AS action, o.state AS state, o.order_id AS order_id,
       o.request_id AS request_id, o.client_token AS client_token, o.months AS months,
       o.amount_fen / 100.0 AS amount_cny,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.expiry_before_ms / 1000.0, 'unixepoch') AS expiry_before,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.expiry_after_ms / 1000.0, 'unixepoch') AS expiry_after,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.sent_at_ms / 1000.0, 'unixepoch') AS sent_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', o.settled_at_ms / 1000.0, 'unixepoch') AS settled_at,
       o.error AS error
FROM orders o JOIN policies p ON p.id = o.policy_id JOIN instances i ON i.id = o.instance_id;

CREATE VIEW runs_v AS
SELECT r.id AS id, p.name AS policy, r.policy_revision AS policy_revision, r.account AS account,
       p.product AS product, p.region AS region, i.instance AS instance, r.action AS action,
       r.origin AS origin, strftime('%Y-%m-%dT%H:%M:%fZ', r.due_at_ms / 1000.0, 'unixepoch') AS due_at,
       r.missed_count AS missed_count, r.state AS state, r.attempts AS attempts,
       CASE WHEN r.finished_at_ms IS NULL
            THEN strftime('%Y-%m-%dT%H:%M:%fZ', r.next_attempt_at_ms / 1000.0, 'unixepoch') END AS next_attempt_at,
       r.reason AS reason, r.error AS error,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.created_at_ms / 1000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.finished_at_ms / 1000.0, 'unixepoch') AS finished_at
FROM runs r JOIN policies p ON p.id = r.policy_id JOIN instances i ON i.id = r.instance_id;

CREATE VIEW failures_v AS
SELECT id, policy, policy_revision, account, product, region, instance, action, origin, due_at,
       missed_count, state, attempts, next_attempt_at, reason, error, created_at, finished_at
FROM runs_v WHERE state IN ('failed', 'unknown') OR error IS NOT NULL;

-- At risk: expiry within 3 days, past or never observed, and no order on its way to being confirmed.
CREATE VIEW instance_rows AS
SELECT pi.id AS id, i.id AS instance_id, i.expires_at_ms AS expires_at_ms,
       p.account AS account, p.product AS product, p.region AS region, i.instance AS instance, p.name AS policy,
       CASE WHEN i.visible = 0 THEN 'not_visible' ELSE i.state END AS state,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.expires_at_ms / 1000.0, 'unixepoch') AS expires_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.observed_at_ms / 1000.0, 'unixepoch') AS observed_at,
       i.auto_renew AS auto_renew, i.charge_type AS charge_type,
       -- An upgrade keeps nothing alive, and neither does its order.
       p.action = 'renew' AND (i.observed_at_ms IS NULL OR i.visible = 0
            OR coalesce(i.expires_at_ms < (julianday('now') - 2440587.5 + 3) * 86400000, i.charge_type = 'prepaid'))
           AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.instance_id = i.id AND o.action = 'renew' AND o.state <> 'refused'
                           AND (o.state = 'intended' OR (o.state = 'placed' AND o.person_asked_ms IS NULL)))
           AS at_risk
FROM policy_instances pi JOIN policies p ON p.id = pi.policy_id JOIN instances i ON i.id = pi.instance_id
WHERE pi.removed_at_ms IS NULL AND p.retired_at_ms IS NULL;

CREATE VIEW instances_v AS
SELECT account, product, region, instance, policy, state, expires_at, observed_at, auto_renew, charge_type, at_risk
FROM instance_rows;
