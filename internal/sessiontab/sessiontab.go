// Package sessiontab is the table of the sessions that a store remembers. It
// knows which one to forget next without a search: one that was never used, and
// after those the one that was used longest ago.
package sessiontab

import (
	"container/list"
	crand "crypto/rand"
	"fmt"
	"iter"
	"math/rand/v2"

	"github.com/go-partd/partd/internal/storeerror"
)

// Table has a value for each session. Its zero value is empty.
type Table[V any] struct {
	byID   map[uint64]*list.Element // of *entry[V]
	unused list.List                // in the order in which they were added
	used   list.List                // the one used last at the end
}

type entry[V any] struct {
	id    uint64
	value V
	in    *list.List
}

// fresh is how many of those never used are kept while there are others to
// forget: who has just got one is about to use it.
const fresh = 64

func (t *Table[V]) Len() int { return len(t.byID) }

func (t *Table[V]) Get(id uint64) (v V, ok bool) {
	e := t.byID[id]
	if e == nil {
		return v, false
	}
	return e.Value.(*entry[V]).value, true
}

// Add adds a session that was not used yet.
func (t *Table[V]) Add(id uint64, v V) { t.put(id, v, &t.unused) }

// Use gives a session a value, as it was used now.
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
		e.Value.(*entry[V]).in.Remove(e)
		delete(t.byID, id)
	}
}

// Oldest returns the session to be forgotten next, of a table that has one. limit
// is how many there may be.
func (t *Table[V]) Oldest(limit int) uint64 {
	from := &t.unused
	if t.used.Len() > 0 && from.Len() <= min(fresh, limit/128) {
		from = &t.used
	}
	if from.Len() == 0 {
		from = &t.used
	}
	return from.Front().Value.(*entry[V]).id
}

// All yields the sessions in the order in which they were used, those first that
// were not.
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

// MaxSessions is how many sessions a Dict or a File remembers. One more, and
// another is forgotten.
const MaxSessions = 1 << 13

// Operation is what is remembered of a session: the last operation that was
// applied. Its number is 0 in a new session.
type Operation struct {
	Number uint64
	CRC    uint32 // of the request
}

// IsNext reports whether an operation is the next one of its session. It is not if
// it was applied before.
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

// Expired is the cause of an error for a session that is not known, if it ever was.
func Expired(session uint64) error {
	return fmt.Errorf("session %d: %w", session, storeerror.ErrSessionExpired)
}

// NewIncarnation returns the number before that of a table's first session. Two
// tables hardly ever give the same number to a session, and so a session that
// another one issued is not taken for one of this.
func NewIncarnation() uint64 { return (1 + uint64(rand.Uint32N(1<<32-1))) << 32 }

// SecretLen is the length of what tokens are made with, in bytes.
const SecretLen = 16

// NewSecret returns what the tokens of a table's sessions are made with.
func NewSecret() []byte {
	secret := make([]byte, SecretLen)
	_, _ = crand.Read(secret) // it never fails: the program ends where there is no randomness
	return secret
}
