package hashagg

import (
	"hash/maphash"
	"slices"
	"sync"
)

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
// others know of them. It returns false, and changes nothing, if there is
// not the memory for it.
func (a *Aggregator) exchange() (bool, error) {
	if a.opts.NewStates != nil {
		return a.mergeStates()
	}
	n := len(a.tables)
	fits := make([]bool, n)
	parallelDo(n, func(i int) { fits[i] = a.tables[i].fitsOwned(a.tables, i) })
	if slices.Contains(fits, false) {
		return false, nil
	}
	// Each reads entries that the others had before, of keys of its own, which
	// they do not change.
	used := make([]int, n)
	for i, t := range a.tables {
		used[i] = t.used
	}
	errs := make([]error, n)
	parallelDo(n, func(i int) { errs[i] = a.tables[i].takeOwned(a.tables, used, i) })
	for i, t := range a.tables {
		if errs[i] != nil {
			return false, errs[i]
		}
		t.owners, t.number = n, i
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

// fitsOwned reports whether a table has room for the entries of the others whose
// keys it is to own.
func (t *Table) fitsOwned(all []*Table, number int) bool {
	words, entries := 0, 0
	for _, o := range all {
		if o == t {
			continue
		}
		for at := 0; at < o.used; {
			key := o.key(at)
			size := o.size(len(key))
			if owner(maphash.Bytes(o.seed, key), len(all)) == number {
				words += size
				entries++
			}
			at += size
		}
	}
	slots := len(t.slots)
	for (t.n+entries+1)*2 > slots {
		slots *= 2
	}
	if slots > len(t.slots) {
		slots += slots / 2 // the old ones, while they grow
	}
	return int64(t.used+words+slots)*8 <= t.budget && t.used+words <= len(t.words)
}

// takeOwned adds the entries of the others whose keys the table is to own.
func (t *Table) takeOwned(all []*Table, used []int, number int) error {
	for i, o := range all {
		if o == t {
			continue
		}
		for at := 0; at < used[i]; {
			key := o.key(at)
			if hash := maphash.Bytes(o.seed, key); owner(hash, len(all)) == number {
				own, isNew, err := t.entry(hash, key)
				if err != nil {
					return err
				}
				t.addCount(own, o.count(at))
				t.mergeWords(own, isNew, o.state(at))
			}
			at += o.size(len(key))
		}
		if err := t.a.Ctx.Err(); err != nil {
			return t.a.Why()
		}
	}
	return nil
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
