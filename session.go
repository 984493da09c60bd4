package partd

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/go-partd/partd/internal/sessiontab"
)

// Tag numbers an operation within a session, so that a retry is known for one.
type Tag struct {
	Session uint64 // as NewSession returned it
	Number  uint64 // 1 for the first operation of the session, then 2, …
	CRC     uint32 // of the request, so that a number used for two requests is noticed
}

// Change is what an [Operation] does.
type Change uint8

// The changes that Apply makes.
const (
	ChangeAppend  Change = iota // append Entries
	ChangeSet                   // set the one entry
	ChangeSetOnce               // set the one entry unless its key exists
	ChangeDelete                // delete Keys
	ChangeDrop                  // drop everything
)

// Operation is a change with all that it takes.
type Operation struct {
	Change  Change
	Entries []Entry
	Keys    []string
}

// Do makes the change on a store, without a tag.
func (op Operation) Do(ctx context.Context, store Partd) error {
	switch op.Change {
	case ChangeAppend:
		return store.Append(ctx, op.Entries...)
	case ChangeSet:
		return Set(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case ChangeSetOnce:
		return SetOnce(ctx, store, op.Entries[0].Key, op.Entries[0].Value)
	case ChangeDelete:
		return Delete(ctx, store, op.Keys...)
	case ChangeDrop:
		return store.Drop(ctx)
	}
	return errUnknownChange
}

var errUnknownChange = &Error{Op: "apply", Err: errors.New("an unknown change")}

// Applier is a store that applies numbered operations exactly once, however
// often they are sent and whatever crashes in between.
//
// The store issues the sessions: an id that a client chose would look new again
// once it was forgotten, and a late retry would double. Sessions are forgotten
// when they are ended or when there are too many, the oldest first; Drop keeps
// them, so that a retry after it is still known.
//
// [Dict] has it for its life, [File] and logstore for that of their directories.
// [Buffer] has not: what it acknowledged may still be in memory, and so be lost,
// when the store beneath already knows of the number, or the other way round. A
// server over a Buffer recognises retries as long as it lives.
type Applier interface {
	// NewSession issues a session. Its operations are numbered from 1.
	NewSession(ctx context.Context) (session uint64, err error)
	// EndSession forgets a session.
	EndSession(ctx context.Context, session uint64) error
	// Apply applies an operation together with its tag, as one step. It returns
	// false, and changes nothing, where the tag says that it was applied before.
	// Its error wraps ErrSessionExpired, ErrSessionGap or ErrSessionReused where
	// the tag is wrong; nothing was applied then.
	Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error)
}

// Apply applies a numbered operation exactly once; see [Applier].
func Apply(ctx context.Context, store Partd, tag Tag, op Operation) (applied bool, err error) {
	if s, ok := store.(Applier); ok {
		return s.Apply(ctx, tag, op)
	}
	return false, unsupported("apply", store)
}

// SessionToken proves that who bears it was given a session: the numbers of
// sessions can be guessed.
type SessionToken [16]byte

// SessionGuard is an [Applier] whose sessions cannot be guessed. The token of a
// session is the same as long as the store lives: [Dict], [File] and logstore have
// it. The sessions of a store without it are over when its server is started again.
type SessionGuard interface {
	// SessionToken returns the token of a session that the store issued.
	SessionToken(ctx context.Context, session uint64) (SessionToken, error)
	// CheckSession returns an error that wraps ErrSessionExpired unless the token
	// is that of the session.
	CheckSession(ctx context.Context, session uint64, token SessionToken) error
}

// NewSessionToken makes the token of a session from a secret of its store.
func NewSessionToken(secret []byte, session uint64) SessionToken {
	h := hmac.New(sha256.New, secret)
	h.Write(binary.LittleEndian.AppendUint64(nil, session))
	return SessionToken(h.Sum(nil)[:16])
}

// Check returns an error that wraps ErrSessionExpired unless another token is
// the same. How long it takes tells nothing.
func (t SessionToken) Check(session uint64, other SessionToken) error {
	if !hmac.Equal(t[:], other[:]) {
		return &Error{Op: "check session", Err: sessiontab.Expired(session)}
	}
	return nil
}
