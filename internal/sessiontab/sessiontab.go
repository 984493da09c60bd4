// Package sessiontab keeps the sessions of a store. Without a search it finds the session to
// forget next: an unused session, or else the least recently used.
package sessiontab

import (
	"container/list"
	crand "crypto/rand"
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/go-partd/partd/internal/storeerror"
)

// Table maps sessions to values. The zero value is empty.
type Table[V any] struct {
	byID   map[uint64]*list.Element // of *entry[V]
	unused list.List                // in the order of Add
	used   list.List                // the most recently used at the end
}

type entry[V any] struct {
	id    uint64
	value V
	list  *list.List
}

// minUnused is the number of unused sessions that are kept while others can be forgotten,
// because their owners are about to use them.
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

// Use sets the value of a session and marks it as just used.
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

// Oldest returns the session to forget next. The table must not be empty. limit is its
// maximum number of sessions.
func (t *Table[V]) Oldest(limit int) uint64 {
	from := &t.unused
	if t.used.Len() > 0 && from.Len() <= min(minUnused, limit/128) {
		from = &t.used
	}
	if from.Len() == 0 {
		from = &t.used
	}
	return from.Front().Value.(*entry[V]).id
}

// All yields the sessions: first the unused ones, then the others from the least to the most
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

// MaxSessions is the maximum number of sessions of a Dict or a File.
const MaxSessions = 1 << 13

// Operation identifies the last applied operation of a session. Its number is 0 in a new
// session.
type Operation struct {
	Number uint64
	CRC    uint32 // of the request
}

// IsNext reports whether op is the session's next operation. If op was already applied, it
// returns false and no error.
func (last Operation) IsNext(session uint64, op Operation) (bool, error) {
	switch {
	case op.Number == last.Number+1:
		return true, nil
	case op.Number > last.Number:
		return false, fmt.Errorf("session %d: operation %d came after %d: %w", session, op.Number, last.Number, storeerror.ErrSessionGap)
	case op.Number == last.Number && op.CRC != last.CRC:
		return false, fmt.Errorf("session %d, operation %d: %w", session, op.Number, storeerror.ErrSessionReused)
	}
	return false, nil
}

// ExpiredError returns the error for a session that is unknown.
func ExpiredError(session uint64) error {
	return fmt.Errorf("session %d: %w", session, storeerror.ErrSessionExpired)
}

// NewIncarnation returns the number that precedes a table's first session. Its upper half is
// random, so that two tables hardly ever issue the same session.
func NewIncarnation() uint64 { return (1 + uint64(rand.Uint32N(1<<32-1))) << 32 }

// SecretLen is the length of a secret in bytes.
const SecretLen = 16

// NewSecret returns a random secret for session tokens.
func NewSecret() []byte {
	secret := make([]byte, SecretLen)
	_, _ = crand.Read(secret) // never fails: the program exits if the system has no randomness
	return secret
}
