package hashagg

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
)

// Group is a key with its state, valid until the next step of the iteration.
type Group struct {
	Key     []byte
	Records uint64   // how often Get was called for it
	State   []uint64 // its words
	States  States   // those that NewStates made for the table that it is in
}

// Groups yields every key once, in no particular order. All tables must be
// closed. It can be ranged over once; after the last group everything was
// compared with what went in, and a difference is an error. Who stops before
// that has verified nothing.
func (a *Aggregator) Groups() iter.Seq2[Group, error] {
	return func(yield func(Group, error) bool) {
		if err := a.begin(); err != nil {
			yield(Group{}, err)
			return
		}
		more := true
		err := a.eachTable(func(t *Table) bool {
			more = t.yieldAll(yield)
			return more
		})
		if !more {
			return
		}
		if err == nil {
			err = a.verify()
		}
		if err != nil {
			yield(Group{}, err)
		}
	}
}

func (a *Aggregator) begin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.err != nil:
		return a.err
	case a.ctx.Err() != nil:
		return context.Cause(a.ctx)
	case a.reading:
		return errors.New("groups can be read once only")
	case a.open > 0:
		return fmt.Errorf("%d tables are not closed yet", a.open)
	}
	a.reading = true
	return nil
}

// verify compares what came out with what went in.
func (a *Aggregator) verify() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	in := proof{records: a.stats.Records, keySum: a.stats.KeySum}
	switch {
	case a.err != nil:
		return a.err
	case in.records != a.out.records:
		return fmt.Errorf("%w: they are of %d records, not %d", ErrNotVerified, a.out.records, in.records)
	case in.keySum != a.out.keySum:
		return fmt.Errorf("%w: the keys of %d records have the sum %016x, not %016x", ErrNotVerified, in.records, a.out.keySum, in.keySum)
	}
	return nil
}

// yieldAll yields the groups of a table, or those of its part where a part is
// all that it has in full.
func (t *Table) yieldAll(yield func(Group, error) bool) bool {
	var p proof
	defer func() {
		t.a.mu.Lock()
		t.a.out.add(p)
		t.a.mu.Unlock()
	}()
	for at := 0; at < t.used; {
		key := t.key(at)
		hash := maphash.Bytes(t.seed, key)
		if t.parts == 0 || part(hash, t.parts) == t.part {
			count := t.count(at)
			p.add(proof{records: int64(count), keySum: count * hash, groups: 1})
			if !yield(Group{key, count, t.state(at), t.states}, nil) {
				return false
			}
		}
		at += t.size(len(key))
	}
	return true
}
