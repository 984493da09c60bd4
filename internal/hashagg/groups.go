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

// Group is a key with its state. It is valid until the next iteration.
type Group struct {
	Key     []byte
	Records uint64   // number of calls of Get for the key
	State   []uint64 // its words
	States  States   // the result of NewStates for the key's table
}

// Groups yields every key once, in no particular order. All tables must be closed, and
// only one loop is possible. After the last group, a difference between input and output
// is an error. A caller that stops earlier has verified nothing.
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

// verify compares the output with the input.
func (a *Aggregator) verify() error {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	in := proof{records: a.stats.Records, keySum: a.stats.KeySum}
	switch err := a.ErrLocked(); {
	case err != nil:
		return err
	case in.records != a.out.records:
		return fmt.Errorf("%w: the groups have %d records, want %d", ledger.ErrNotVerified, a.out.records, in.records)
	case in.keySum != a.out.keySum:
		return fmt.Errorf("%w: the hashes of the keys of %d records add up to %016x, want %016x", ledger.ErrNotVerified, in.records, a.out.keySum, in.keySum)
	}
	return nil
}

// yieldAll yields the groups of a table. If each table owns a part of the keys, it yields
// only the owned groups.
func (t *Table) yieldAll(yield func(Group, error) bool) bool {
	var p proof
	defer func() {
		t.a.Mu.Lock()
		t.a.out.add(p)
		t.a.Mu.Unlock()
	}()
	for pos := 0; pos < t.used; {
		key := t.key(pos)
		hash := maphash.Bytes(t.seed, key)
		if t.owners == 0 || ownerOf(hash, t.owners) == t.index {
			count := t.count(pos)
			p.add(proof{records: int64(count), keySum: count * hash, groups: 1})
			if !yield(Group{key, count, t.state(pos), t.states}, nil) {
				return false
			}
		}
		pos += t.size(len(key))
	}
	return true
}

// eachTable calls use with tables that each hold complete states of their keys, until use
// returns false.
func (a *Aggregator) eachTable(use func(*Table) bool) error {
	spilled := slices.ContainsFunc(a.tables, func(t *Table) bool { return t.spill != nil })
	for _, t := range a.tables {
		t.err = nil // the tables are used again
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

// exchange makes each table the owner of a part of the keys, and adds the states of the
// other tables to it. It returns false if memory does not suffice; then the tables must be
// written to files.
func (a *Aggregator) exchange() (bool, error) {
	if a.opts.NewStates != nil {
		return a.mergeStates()
	}
	n := len(a.tables)
	// Each table reads the entries that the others had before. These entries have keys of
	// the reading table, so the others do not change them.
	used := make([]int, n)
	for i, t := range a.tables {
		used[i] = t.used
		t.takenUpTo, t.index = make([]int, n), i
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

// parallelDo calls do with 0 to n-1, concurrently, and waits for all calls.
func parallelDo(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// ownerOf returns the index of the table, of n tables, that owns a key with a hash.
func ownerOf(hash uint64, n int) int { return int(hash >> 32 % uint64(n)) }

// takeOwned adds the other tables' entries with keys that t owns. It returns false if there
// is no room for more.
func (t *Table) takeOwned(tables []*Table, used []int) (bool, error) {
	var hashes [batchSize]uint64
	var places [batchSize]int
	var likely [batchSize]uint32
	for i, o := range tables {
		if o == t {
			continue
		}
		for pos := 0; pos < used[i]; {
			n := 0
			for ; pos < used[i] && n < batchSize; pos += o.size(len(o.key(pos))) {
				hash := maphash.Bytes(o.seed, o.key(pos))
				if ownerOf(hash, len(tables)) == t.index {
					hashes[n], places[n] = hash, pos
					n++
				}
			}
			t.prefetchSlots(hashes[:n], &likely)
			for k, from := range places[:n] {
				if !t.addEntry(hashes[k], o, from) {
					o.takenUpTo[t.index] = from
					return false, nil
				}
			}
			o.takenUpTo[t.index] = pos
		}
		if t.a.Ctx.Err() != nil {
			return false, t.a.Err()
		}
	}
	return true, nil
}

// addEntry adds an entry of another table, if there is room.
func (t *Table) addEntry(hash uint64, o *Table, from int) bool {
	key := o.key(from)
	pos := t.find(hash, key)
	isNew := pos < 0
	if isNew {
		if !t.hasRoom(t.size(len(key)), t.mustGrow()) {
			return false
		}
		var err error
		if pos, err = t.insert(hash, key); err != nil {
			return false // insert has already failed the aggregator
		}
	}
	t.addCount(pos, o.count(from))
	t.mergeWords(pos, isNew, o.state(from))
	return true
}

// mergeStates adds the states of all tables to the largest table. It returns false if memory
// does not suffice.
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
		for pos := 0; pos < o.used; {
			key := o.key(pos)
			var err error
			if data, err = o.encode(data[:0], pos); err == nil {
				err = t.merge(key, o.count(pos), data)
			}
			if err != nil {
				return false, err
			}
			pos += o.size(len(key))
		}
		o.reset()
	}
	// A merge may have needed more memory than expected.
	return t.spill == nil, nil
}
