package hashagg

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sync"

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

// eachTable calls use with tables that hold all states of their keys, until use
// returns false.
func (a *Aggregator) eachTable(use func(*Table) bool) error {
	spilled := slices.ContainsFunc(a.tables, func(t *Table) bool { return t.spill != nil })
	for _, t := range a.tables {
		t.err = nil // they are used again
	}
	if !spilled && len(a.tables) > 1 {
		merged, err := a.exchange()
		if err != nil {
			return a.Fail(err)
		}
		spilled = !merged
	}
	if spilled {
		return a.mergePartitions(use)
	}
	for _, t := range a.tables {
		if !use(t) {
			return nil
		}
	}
	return nil
}

// exchange makes each table the owner of some of the keys, and gives it what the
// others know of them. It returns false if there is not the memory for all of it;
// what tables hold then has to be written out.
func (a *Aggregator) exchange() (bool, error) {
	if a.opts.NewStates != nil {
		return a.mergeStates()
	}
	n := len(a.tables)
	// Each reads entries that the others had before, of keys of its own, which
	// they do not change.
	used := make([]int, n)
	for i, t := range a.tables {
		used[i] = t.used
		t.taken, t.number = make([]int, n), i
	}
	errs, fits := make([]error, n), make([]bool, n)
	parallelDo(n, func(i int) { fits[i], errs[i] = a.tables[i].takeOwned(a.tables, used) })
	if err := errors.Join(errs...); err != nil || slices.Contains(fits, false) {
		return false, err
	}
	for _, t := range a.tables {
		t.owners = n
	}
	return true, nil
}

func parallelDo(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// owner returns the number of the table, of n, that owns a key with a hash.
func owner(hash uint64, n int) int { return int(hash >> 32 % uint64(n)) }

// takeOwned adds the entries of the others whose keys the table is to own. It
// returns false where there is no room for more.
func (t *Table) takeOwned(all []*Table, used []int) (bool, error) {
	var hashes [ahead]uint64
	var places [ahead]int
	var likely [ahead]uint32
	for i, o := range all {
		if o == t {
			continue
		}
		for at := 0; at < used[i]; {
			n := 0
			for ; at < used[i] && n < ahead; at += o.size(len(o.key(at))) {
				hash := maphash.Bytes(o.seed, o.key(at))
				if owner(hash, len(all)) == t.number {
					hashes[n], places[n] = hash, at
					n++
				}
			}
			t.prefetch(hashes[:n], &likely)
			for k, from := range places[:n] {
				if !t.take(hashes[k], o, from) {
					o.taken[t.number] = from
					return false, nil
				}
			}
			o.taken[t.number] = at
		}
		if t.a.Ctx.Err() != nil {
			return false, t.a.Why()
		}
	}
	return true, nil
}

// take adds an entry of another table, if there is room.
func (t *Table) take(hash uint64, o *Table, from int) bool {
	key := o.key(from)
	at := t.find(hash, key)
	isNew := at < 0
	if isNew {
		if !t.fits(t.size(len(key)), t.mustGrow()) {
			return false
		}
		var err error
		if at, err = t.insert(hash, key); err != nil {
			return false // it has ended everything
		}
	}
	t.addCount(at, o.count(from))
	t.mergeWords(at, isNew, o.state(from))
	return true
}

// mergeStates adds the states of all tables to the largest one, if there is the
// memory for it.
func (a *Aggregator) mergeStates() (bool, error) {
	slices.SortFunc(a.tables, func(x, y *Table) int { return y.used - x.used })
	t := a.tables[0]
	need, entries := int64(0), t.n
	for _, o := range a.tables {
		need += int64(o.used)*8 + o.states.Memory()
		entries += o.n
	}
	if need+int64(entries)*48 > t.budget {
		return false, nil
	}
	var data []byte
	for _, o := range a.tables[1:] {
		for at := 0; at < o.used; {
			key := o.key(at)
			var err error
			if data, err = o.encode(data[:0], at); err == nil {
				err = t.merge(key, o.count(at), data)
			}
			if err != nil {
				return false, err
			}
			at += o.size(len(key))
		}
		o.reset()
	}
	// A merge may have needed more memory than expected.
	return t.spill == nil, nil
}
