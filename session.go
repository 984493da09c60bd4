package partd

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"

	"github.com/go-partd/partd/internal/base/sessiontab"
)

// Tag identifies an operation in a session, so that a store can recognize retries.
type Tag struct {
	Session uint64 // number of the session, from NewSession
	Number  uint64 // number of the operation in the session, from 1
	CRC     uint32 // checksum of the operation, to detect two operations with the same number
}

// Change is the kind of an [Operation].
type Change uint8

const (
	ChangeAppend  Change = iota // append Entries
	ChangeSet                   // set the only entry
	ChangeSetOnce               // set the only entry unless its key exists
	ChangeDelete                // delete Keys
	ChangeDrop                  // drop everything
)

// Operation is a change and its arguments.
type Operation struct {
	Change  Change
	Entries []Entry
	Keys    []string
}

// Do applies the operation to a store, without a tag.
func (op Operation) Do(ctx context.Context, store Partd) error {
	if err := op.check(); err != nil {
		return err
	}
	switch op.Change {
	case ChangeAppend:
		return store.Append(ctx, op.Entries...)
	case ChangeSet:
		return Set(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case ChangeSetOnce:
		return SetOnce(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case ChangeDelete:
		return Delete(ctx, store, op.Keys...)
	default: // ChangeDrop
		return store.Drop(ctx)
	}
}

// Check returns an error if the operation or its tag is invalid.
func (op Operation) Check(tag Tag) error {
	if tag.Session == 0 || tag.Number == 0 {
		return &Error{Op: "apply", Err: fmt.Errorf("session %d, operation %d: both must be at least 1", tag.Session, tag.Number)}
	}
	return op.check()
}

func (op Operation) check() error {
	switch op.Change {
	case ChangeAppend:
		_, err := checkEntries("append", op.Entries)
		return err
	case ChangeSet, ChangeSetOnce:
		if len(op.Entries) != 1 {
			return &Error{Op: "apply", Err: fmt.Errorf("a set must have exactly one entry, but this one has %d", len(op.Entries))}
		}
		_, err := checkEntries("set", op.Entries)
		return err
	case ChangeDelete:
		return checkKeys("delete", op.Keys)
	case ChangeDrop:
		return nil
	}
	return errUnknownChange
}

var errUnknownChange = &Error{Op: "apply", Err: errors.New("the kind of change is unknown")}

// Applier is a store that applies numbered operations exactly once, despite retries and crashes.
//
// The store issues the sessions. If clients chose the session numbers, a forgotten session would
// look new, and a late retry would be applied twice. A store forgets sessions that were ended, and
// the oldest ones when there are too many. Drop keeps sessions, so that later retries are still
// recognized.
//
// The sessions of a [Dict] last as long as the Dict. Sessions of [File] and logstore last as long
// as their directories. [Buffer] is not an Applier, because after a crash, it could have an
// operation's number without the operation's data. A server with a Buffer recognizes retries until
// it stops.
type Applier interface {
	// NewSession issues a session. Its operations are numbered from 1.
	NewSession(ctx context.Context) (session uint64, err error)
	// EndSession forgets a session.
	EndSession(ctx context.Context, session uint64) error
	// Apply atomically applies an operation and records its tag. If the tag was applied before,
	// Apply changes nothing and returns false. If the tag is invalid, Apply changes nothing and
	// returns an error that wraps ErrSessionExpired, ErrSessionGap or ErrSessionReused.
	Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error)
}

// Apply applies a numbered operation exactly once; see [Applier].
func Apply(ctx context.Context, store Partd, tag Tag, op Operation) (applied bool, err error) {
	if s, ok := store.(Applier); ok {
		return s.Apply(ctx, tag, op)
	}
	return false, unsupportedError("apply", store)
}

// SessionToken proves that its holder may use a session. The session's number proves nothing,
// because it can be guessed.
type SessionToken [16]byte

// SessionGuard is an [Applier] that protects its sessions with tokens, such as [Dict],
// [File] and logstore. A session's token stays the same as long as the store exists. If a
// store is not a SessionGuard, its sessions end when its server restarts.
type SessionGuard interface {
	// SessionToken returns the token of one of this store's sessions.
	SessionToken(ctx context.Context, session uint64) (SessionToken, error)
	// CheckSession returns an error that wraps ErrSessionExpired unless token is
	// the session's token.
	CheckSession(ctx context.Context, session uint64, token SessionToken) error
}

// Check returns an error that wraps ErrSessionExpired if the tokens differ. It takes
// constant time.
func (t SessionToken) Check(session uint64, other SessionToken) error {
	if !hmac.Equal(t[:], other[:]) {
		return &Error{Op: "check session", Err: sessiontab.ExpiredError(session)}
	}
	return nil
}
