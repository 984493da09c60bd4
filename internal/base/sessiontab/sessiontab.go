// Package sessiontab keeps a store's sessions, in which clients number their operations so that
// retries are recognized. It finds the session to forget next in constant time.
package sessiontab

import (
	"container/list"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/go-partd/partd/internal/base/storeerror"
)

// Table maps sessions to values. The zero value is empty.
type Table[V any] struct {
	byID   map[uint64]*list.Element // values are *entry[V]
	unused list.List                // unused sessions, in the order in which they were added
	used   list.List                // other sessions, the most recently used last
}

type entry[V any] struct {
	id    uint64
	value V
	list  *list.List // the list that contains the entry: unused or used
}

// minUnused is the number of unused sessions to keep, even if used sessions must be forgotten
// instead. Unused sessions are probably new and will be used soon.
const minUnused = 64

func (t *Table[V]) Len() int { return len(t.byID) }

func (t *Table[V]) Get(id uint64) (v V, ok bool) {
	e := t.byID[id]
	if e == nil {
		return v, false
	}
	return e.Value.(*entry[V]).value, true
}

// Add adds an unused session.
func (t *Table[V]) Add(id uint64, v V) { t.put(id, v, &t.unused) }

// Use sets the value of a session and marks it as the most recently used.
func (t *Table[V]) Use(id uint64, v V) { t.put(id, v, &t.used) }

func (t *Table[V]) put(id uint64, v V, to *list.List) {
	t.Remove(id)
	if t.byID == nil {
		t.byID = map[uint64]*list.Element{}
	}
	t.byID[id] = to.PushBack(&entry[V]{id, v, to})
}

func (t *Table[V]) Remove(id uint64) {
	if e := t.byID[id]; e != nil {
		e.Value.(*entry[V]).list.Remove(e)
		delete(t.byID, id)
	}
}

// Oldest returns the session to forget next: an unused session or, if few of these are left, the
// least recently used session. The table must not be empty. limit is the table's maximum size.
func (t *Table[V]) Oldest(limit int) uint64 {
	from := &t.unused
	if t.used.Len() > 0 && from.Len() <= min(minUnused, limit/128) {
		from = &t.used
	}
	return from.Front().Value.(*entry[V]).id
}

// All yields all sessions: first the unused sessions, then the others, from the least to the most
// recently used.
func (t *Table[V]) All() iter.Seq2[uint64, V] {
	return func(yield func(uint64, V) bool) {
		for _, l := range []*list.List{&t.unused, &t.used} {
			for e := l.Front(); e != nil; e = e.Next() {
				if x := e.Value.(*entry[V]); !yield(x.id, x.value) {
					return
				}
			}
		}
	}
}

// MaxSessions is the maximum number of sessions that a Dict or a File keeps.
const MaxSessions = 1 << 13

// Operation identifies an operation in a session. The zero value stands for no operation.
type Operation struct {
	Number uint64
	CRC    uint32 // checksum of the request
}

// IsNext reports whether op is the session's next operation. If op was already applied, it
// returns false and no error.
func (last Operation) IsNext(session uint64, op Operation) (bool, error) {
	switch {
	case op.Number == last.Number+1:
		return true, nil
	case op.Number > last.Number:
		return false, fmt.Errorf("session %d: got operation %d, but operation %d is next: %w", session, op.Number, last.Number+1, storeerror.ErrSessionGap)
	case op.Number == last.Number && op.CRC != last.CRC:
		return false, fmt.Errorf("session %d, operation %d: %w", session, op.Number, storeerror.ErrSessionReused)
	}
	return false, nil
}

// ExpiredError returns the error for an unknown session.
func ExpiredError(session uint64) error {
	return fmt.Errorf("session %d: %w", session, storeerror.ErrSessionExpired)
}

// NewIncarnation returns the base of a new store's session numbers: the first session is this number
// plus one. The upper half is random, so that two stores are unlikely to issue the same session number.
func NewIncarnation() uint64 { return (1 + uint64(rand.Uint32N(1<<32-1))) << 32 }

// SecretLen is the length of a secret in bytes.
const SecretLen = 16

// NewSecret returns a random secret for session tokens.
func NewSecret() []byte {
	secret := make([]byte, SecretLen)
	_, _ = crand.Read(secret) // never returns an error
	return secret
}

// NewToken derives a session's token from a secret of its store.
func NewToken(secret []byte, session uint64) [16]byte {
	h := hmac.New(sha256.New, secret)
	h.Write(binary.LittleEndian.AppendUint64(nil, session))
	return [16]byte(h.Sum(nil))
}
