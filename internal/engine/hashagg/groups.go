package hashagg

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sync"

	"github.com/go-partd/partd/internal/base/ledger"
)

// Group is a key with its state. It is valid until the next iteration.
type Group struct {
	Key     []byte
	Records uint64   // number of calls to Get for the key
	State   []uint64 // words of the state
	States  States   // holds the other parts of the state; nil without NewStates
}

// Groups yields every key once, in no particular order. All tables must be closed. Groups can be
// ranged over only once. After the last group, it yields an error if the record count or the sum of key
// hashes of the groups differs from that of the input.
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

func (a *Aggregator) verify() error {
	a.Mu.Lock()
	defer a.Mu.Unlock()
	input := Totals{Records: a.stats.Records, KeySum: a.stats.KeySum}
	err := a.ErrLocked()
	switch {
	case err != nil:
		return err
	case input.Records != a.output.Records:
		return fmt.Errorf("%w: the groups have %d records instead of %d", ledger.ErrNotVerified, a.output.Records, input.Records)
	case input.KeySum != a.output.KeySum:
		return fmt.Errorf("%w: the hashes of the keys of %d records add up to %016x instead of %016x", ledger.ErrNotVerified, input.Records, a.output.KeySum, input.KeySum)
	}
	return nil
}

// yieldAll yields the groups of a table. After an exchange (see exchange), it yields only groups whose
// keys the table owns. It returns false if yield does.
func (t *Table) yieldAll(yield func(Group, error) bool) bool {
	var yielded Totals
	defer func() {
		t.a.Mu.Lock()
		t.a.output.Add(yielded)
		t.a.Mu.Unlock()
	}()
	for pos := 0; pos < t.usedWords; {
		key := t.key(pos)
		hash := maphash.Bytes(t.seed, key)
		if t.ownerCount == 0 || ownerOf(hash, t.ownerCount) == t.tableIndex {
			count := t.count(pos)
			yielded.Add(Totals{Groups: 1, Records: int64(count), KeySum: count * hash})
			if !yield(Group{key, count, t.state(pos), t.states}, nil) {
				return false
			}
		}
		pos += t.entryWords(len(key))
	}
	return true
}

// eachTable calls handle with tables of complete states until handle returns false.
func (a *Aggregator) eachTable(handle func(*Table) bool) error {
	spilled := slices.ContainsFunc(a.tables, func(t *Table) bool { return t.spill != nil })
	for _, t := range a.tables {
		t.err = nil // Table.Close has set err, but the merge still inserts entries
	}
	if !spilled && len(a.tables) > 1 {
		merged, err := a.exchange()
		if err != nil {
			return a.Fail(err)
		}
		spilled = !merged
	}
	if spilled {
		return a.mergePartitions(handle)
	}
	for _, t := range a.tables {
		if !handle(t) {
			return nil
		}
	}
	return nil
}

// exchange makes each table the owner of some keys. It merges all tables' states of a key into the
// table that owns the key. If memory does not suffice, it returns false, and the tables must be
// written to files.
func (a *Aggregator) exchange() (bool, error) {
	if a.opts.NewStates != nil {
		return a.mergeStates()
	}
	n := len(a.tables)
	// The tables can read each other's entries without locks, because a table reads only entries
	// whose keys it owns, and no other table changes these entries.
	used := make([]int, n)
	for i, t := range a.tables {
		used[i] = t.usedWords
		t.mergedUpTo, t.tableIndex = make([]int, n), i
	}
	errs, complete := make([]error, n), make([]bool, n)
	parallelDo(n, func(i int) { complete[i], errs[i] = a.tables[i].takeOwned(a.tables, used) })
	if err := errors.Join(errs...); err != nil || slices.Contains(complete, false) {
		return false, err
	}
	for _, t := range a.tables {
		t.ownerCount = n
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

// ownerOf returns the index of the table, among n, that owns the keys with a hash.
func ownerOf(hash uint64, n int) int { return int(hash >> 32 % uint64(n)) }

// takeOwned merges the other tables' entries whose keys t owns into t. It returns false if t is
// full.
func (t *Table) takeOwned(tables []*Table, used []int) (bool, error) {
	var hashes [batchSize]uint64
	var positions [batchSize]int
	var candidates [batchSize]uint32
	for i, o := range tables {
		if o == t {
			continue
		}
		for pos := 0; pos < used[i]; {
			n := 0
			for ; pos < used[i] && n < batchSize; pos += o.entryWords(len(o.key(pos))) {
				hash := maphash.Bytes(o.seed, o.key(pos))
				if ownerOf(hash, len(tables)) == t.tableIndex {
					hashes[n], positions[n] = hash, pos
					n++
				}
			}
			t.prefetchSlots(hashes[:n], &candidates)
			for k, from := range positions[:n] {
				if !t.addEntry(hashes[k], o, from) {
					o.mergedUpTo[t.tableIndex] = from
					return false, nil
				}
			}
			o.mergedUpTo[t.tableIndex] = pos
		}
		if t.a.Ctx.Err() != nil {
			return false, t.a.Err()
		}
	}
	return true, nil
}

// addEntry merges an entry from another table into t. It returns false if t is full.
func (t *Table) addEntry(hash uint64, o *Table, from int) bool {
	key := o.key(from)
	pos := t.find(hash, key)
	isNew := pos < 0
	if isNew {
		if !t.hasRoom(t.entryWords(len(key)), t.mustGrow()) {
			return false
		}
		var err error
		pos, err = t.insert(hash, key)
		if err != nil {
			return false // insert has called Aggregator.Fail
		}
	}
	t.addCount(pos, o.count(from))
	t.mergeWords(pos, isNew, o.state(from))
	return true
}

// mergeStates merges the states of all tables into the largest table. It returns false if memory
// does not suffice.
func (a *Aggregator) mergeStates() (bool, error) {
	slices.SortFunc(a.tables, func(x, y *Table) int { return y.usedWords - x.usedWords })
	t := a.tables[0]
	need, entries := int64(0), t.entryCount
	for _, o := range a.tables {
		need += int64(o.usedWords)*8 + o.states.Memory()
		entries += o.entryCount
	}
	// While the number of slots is doubled, they need up to 48 bytes for each entry; see hasRoom.
	if need+int64(entries)*48 > t.budget {
		return false, nil
	}
	var data []byte
	for _, o := range a.tables[1:] {
		for pos := 0; pos < o.usedWords; {
			key := o.key(pos)
			var err error
			data, err = o.encode(data[:0], pos)
			if err == nil {
				err = t.merge(key, o.count(pos), data)
			}
			if err != nil {
				return false, err
			}
			pos += o.entryWords(len(key))
		}
		o.reset()
	}
	// If merging needed more memory than expected, the table was written to a file.
	return t.spill == nil, nil
}
