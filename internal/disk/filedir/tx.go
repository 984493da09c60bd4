package filedir

import (
	"context"
	"errors"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/sessiontab"
)

// Apply does nothing unless op is the session's next operation. Otherwise it calls change and marks
// op as applied. Both take effect or neither does, even after a crash or, with Sync, a power loss.
func (d Tx) Apply(session uint64, op sessiontab.Operation, change func() error) (applied bool, err error) {
	isNext, err := d.sessions.beginTag(session, op)
	if err != nil || !isNext {
		return false, err
	}
	defer func() { d.sessions.tag = nil }()
	err = change()
	return err == nil, err
}

// commit ends a Delete, Drop or Set. hasRecord means that the journal has a record to clear.
func (d Tx) commit(hasRecord bool) error {
	if err := d.sessions.commitTag(); err != nil {
		d.journal.needsReplay = true
		return unknownOutcome(err)
	}
	if !hasRecord {
		return nil
	}
	return unknownOutcome(d.journal.clear())
}

// commitNothing records that an operation without changes was applied. It writes an undo record
// first, because a partly written slot would end the session.
func (d Tx) commitNothing(ctx context.Context) error {
	if d.sessions.tag == nil {
		return nil
	}
	return d.Append(ctx, Entries{})
}

// NewSession issues a session.
func (d Tx) NewSession() (uint64, error) { return d.sessions.issue() }

// EndSession forgets a session. Ending an unknown session is not an error.
func (d Tx) EndSession(session uint64) error { return d.sessions.end(session) }

// SessionSecret returns the secret from which session tokens are derived. All processes that use
// the directory have the same secret.
func (d Tx) SessionSecret(session uint64) ([]byte, error) { return d.sessions.secretOf(session) }

// Sync waits until all completed operations of this Dir are durable. It does not cover other
// processes' writes.
func (d Tx) Sync(ctx context.Context) error {
	if d.sync {
		return nil // each operation synced its own changes
	}
	err := d.syncAll(ctx)
	if err == nil || errors.Is(err, canceled.Err(ctx)) {
		return err
	}
	return unknownOutcome(d.refuseWrites(err))
}

func (d Tx) syncAll(ctx context.Context) error {
	if d.cache.dirty.overflowed {
		if err := d.tree.syncFiles(ctx); err != nil {
			return err
		}
		d.cache.markSynced()
	}
	if err := d.cache.syncDirty(ctx); err != nil {
		return err
	}
	// Sync the journal too. Otherwise, a cleared record could reappear after a power loss, and be
	// replayed.
	if d.journal.file != nil {
		if err := d.journal.file.Sync(); err != nil {
			return err
		}
	}
	return d.tree.syncDirs()
}
