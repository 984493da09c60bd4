// Package sessiontab is the table of the sessions that a store remembers. It
// knows which one to forget next without a search: one that was never used, and
// after those the one that was used longest ago.
package sessiontab

import (
	"container/list"
	"iter"
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
