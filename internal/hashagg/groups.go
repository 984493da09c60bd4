package hashagg

import (
	"fmt"
	"hash/maphash"
	"iter"

	"github.com/go-partd/partd/internal/ledger"
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
		a.Mu.Lock()
		err := a.StartReading()
		a.Mu.Unlock()
		if err != nil {
			yield(Group{}, err)
			return
		}
		more := true
		err = a.eachTable(func(t *Table) bool {
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

// verify compares what came out with what went in.
func (a *Aggregator) verify() error {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	in := proof{records: a.stats.Records, keySum: a.stats.KeySum}
	switch err := a.Failure(); {
	case err != nil:
		return err
	case in.records != a.out.records:
		return fmt.Errorf("%w: the groups are of %d records, not %d", ledger.ErrNotVerified, a.out.records, in.records)
	case in.keySum != a.out.keySum:
		return fmt.Errorf("%w: the keys of %d records have the sum %016x, not %016x", ledger.ErrNotVerified, in.records, a.out.keySum, in.keySum)
	}
	return nil
}

// yieldAll yields the groups of a table, or those that it owns where each table
// owns a part of the keys.
func (t *Table) yieldAll(yield func(Group, error) bool) bool {
	var p proof
	defer func() {
		t.a.Mu.Lock()
		t.a.out.add(p)
		t.a.Mu.Unlock()
	}()
	for at := 0; at < t.used; {
		key := t.key(at)
		hash := maphash.Bytes(t.seed, key)
		if t.owners == 0 || owner(hash, t.owners) == t.number {
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
