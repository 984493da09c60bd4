package partdtest

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-partd/partd"
	"pgregory.net/rapid"
)

// machineKeys returns a small pool of keys, so that random operations often use the same key.
func machineKeys(extra []string) []string {
	return append([]string{
		"a", "b", "key", "Key", "", ".", "..", ".lock", "a/b", "a/", "%41", "A", "ab", "a!b", "nul\x00", "\xff", "caf\u00e9", "cafe\u0301",
		repeat("long", 300), repeat("long", 299) + "!",
	}, extra...)
}

func (s *suite) runMachine(t tester) {
	keys := rapid.SampledFrom(machineKeys(s.opts.InternalNames))
	runs, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		// The limit does not apply after a failure, when rapid runs more sequences to shrink the
		// failing one.
		if s.opts.MachineRuns > 0 && runs >= s.opts.MachineRuns && !failed {
			return
		}
		runs++
		passed := false
		defer func() { failed = failed || !passed }()
		m := &machine{suite: s, ctx: context.Background(), t: t, keys: keys, want: model{}}
		m.store = s.open(t.testingT())
		rt.Cleanup(func() {
			if s.can[CanClose] {
				if err := partd.Close(m.ctx, m.store); err != nil {
					rt.Errorf("Close: %v", err)
				}
			}
		})
		rt.Repeat(m.actions())
		m.compare(rt)
		passed = true
	})
}

type machine struct {
	*suite
	ctx   context.Context
	t     tester
	store partd.Partd
	want  model
	keys  *rapid.Generator[string]
}

func (m *machine) must(rt *rapid.T, label string, err error) {
	if err != nil {
		rt.Fatalf("%s: %v", label, err)
	}
}

func (m *machine) key(rt *rapid.T) string { return m.keys.Draw(rt, "key") }

// value draws a value that rarely equals another one.
func (m *machine) value(rt *rapid.T) string {
	size := rapid.SampledFrom([]int{0, 1, 2, 5, 5, 5, 20, 100, 1000, 5000, 70_000}).Draw(rt, "size")
	return repeat(fmt.Sprintf("%d,", rapid.IntRange(0, 999).Draw(rt, "value")), size)
}

func (m *machine) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		// An action with several names is chosen more often.
		"append": m.append, "append-2": m.append, "append-3": m.append,
		"get": m.get, "get-2": m.get,
		"open":    m.open,
		"compare": m.compare,
		"drop":    m.drop,
	}
	if m.can[CanSet] {
		actions["set"], actions["set-once"] = m.set, m.setOnce
	}
	if m.can[CanDelete] {
		actions["delete"] = m.delete
	}
	if m.can[CanPop] {
		actions["pop"] = m.pop
	}
	if m.can[CanList] || m.can[CanScan] {
		actions["break"] = m.breakOut
	}
	if m.can[CanScan] {
		actions["parts"] = m.scanInParts
	}
	if m.can[CanFlush] {
		actions["flush"] = func(rt *rapid.T) { m.must(rt, "Flush", partd.Flush(m.ctx, m.store)) }
	}
	if m.can[CanSync] {
		actions["sync"] = func(rt *rapid.T) { m.must(rt, "Sync", partd.Sync(m.ctx, m.store)) }
	}
	if m.suite.opts.Reopen != nil {
		actions["reopen"] = m.reopen
	}
	return actions
}

func (m *machine) append(rt *rapid.T) {
	var batch []partd.Entry
	for range rapid.IntRange(0, 6).Draw(rt, "entries") {
		k, v := m.key(rt), m.value(rt)
		batch = append(batch, entry(k, v))
	}
	m.must(rt, "Append", m.store.Append(m.ctx, batch...))
	for _, b := range batch {
		if len(b.Value) > 0 {
			m.want[b.Key] += string(b.Value)
		}
	}
	for _, b := range batch { // overwrite the values, because the store must not keep the caller's memory
		clear(b.Value)
	}
	clear(batch)
}

func (m *machine) get(rt *rapid.T) {
	keys := rapid.SliceOfN(m.keys, 0, 4).Draw(rt, "keys")
	values, err := m.store.Get(m.ctx, keys...)
	m.must(rt, "Get", err)
	m.wantValues(rt, "Get", keys, values)
}

// wantValues compares the values that Get or Pop returned with the model. It then overwrites the
// values, because they must not share memory with the store.
func (m *machine) wantValues(rt *rapid.T, label string, keys []string, values [][]byte) {
	if len(values) != len(keys) {
		rt.Fatalf("%s of %d keys returned %d values", label, len(keys), len(values))
	}
	for i, k := range keys {
		m.must(rt, label, differenceError("key "+partd.QuoteKey(k), values[i], m.want[k]))
	}
	for _, v := range values {
		clear(v)
		_ = append(v, "what follows in memory"...)
	}
}

func (m *machine) open(rt *rapid.T) {
	k := m.key(rt)
	r, err := partd.Open(m.ctx, m.store, k)
	m.must(rt, "Open", err)
	want, appended := m.want[k], ""
	if rapid.Bool().Draw(rt, "append before reading") {
		appended = m.value(rt)
		m.must(rt, "Append", m.store.Append(m.ctx, entry(k, appended)))
	}
	got, err := io.ReadAll(r)
	m.must(rt, "Read", err)
	m.must(rt, "Close of a reader", r.Close())
	m.must(rt, "Open", differenceError("key "+partd.QuoteKey(k), got, want))
	if appended != "" {
		m.want[k] += appended
	}
}

func (m *machine) compare(rt *rapid.T) {
	m.must(rt, "the whole store", compare(m.ctx, m.store, m.can, m.want))
}

func (m *machine) scanInParts(rt *rapid.T) {
	n := rapid.SampledFrom([]int{1, 2, 3, 16}).Draw(rt, "parts")
	values, err := scanParts(m.ctx, m.store, n, allParts(n))
	m.must(rt, "ScanPart", err)
	m.must(rt, "ScanPart", sameKeys(fmt.Sprintf("the %d parts together", n), values, m.want))
	for k, v := range values {
		m.must(rt, "ScanPart", differenceError("part scan, key "+partd.QuoteKey(k), v, m.want[k]))
	}
}

func (m *machine) drop(rt *rapid.T) {
	// Drop rarely, so that the store does not stay empty.
	if rapid.IntRange(0, 3).Draw(rt, "really") != 0 {
		rt.Skip("no Drop this time")
	}
	m.must(rt, "Drop", m.store.Drop(m.ctx))
	clear(m.want)
}

func (m *machine) set(rt *rapid.T) {
	k, v := m.key(rt), m.value(rt)
	m.must(rt, "Set", partd.Set(m.ctx, m.store, k, []byte(v)))
	m.want[k] = v
}

func (m *machine) setOnce(rt *rapid.T) {
	k, v := m.key(rt), m.value(rt)
	m.must(rt, "SetOnce", partd.SetOnce(m.ctx, m.store, k, []byte(v)))
	if _, ok := m.want[k]; !ok {
		m.want[k] = v
	}
}

func (m *machine) delete(rt *rapid.T) {
	keys := rapid.SliceOfN(m.keys, 0, 3).Draw(rt, "keys")
	m.must(rt, "Delete", partd.Delete(m.ctx, m.store, keys...))
	for _, k := range keys {
		delete(m.want, k)
	}
}

func (m *machine) pop(rt *rapid.T) {
	keys := rapid.SliceOfN(m.keys, 0, 3).Draw(rt, "keys")
	values, err := partd.Pop(m.ctx, m.store, keys...)
	m.must(rt, "Pop", err)
	m.wantValues(rt, "Pop", keys, values)
	for _, k := range keys {
		delete(m.want, k)
	}
}

func (m *machine) breakOut(rt *rapid.T) {
	limit := rapid.IntRange(1, 5).Draw(rt, "after")
	existing := slices.Collect(maps.Keys(m.want))
	n := 0
	if m.can[CanList] {
		for info, err := range partd.Keys(m.ctx, m.store) {
			m.must(rt, "Keys", err)
			if !slices.Contains(existing, info.Key) {
				rt.Fatalf("Keys yields key %s, which should not exist", partd.QuoteKey(info.Key))
			}
			if n++; n == limit {
				break
			}
		}
	}
	n = 0
	if m.can[CanScan] {
		for c, err := range partd.Scan(m.ctx, m.store) {
			m.must(rt, "Scan", err)
			if !slices.Contains(existing, c.Key) {
				rt.Fatalf("Scan yields key %s, which should not exist", partd.QuoteKey(c.Key))
			}
			if n++; n == limit {
				break
			}
		}
	}
}

func (m *machine) reopen(rt *rapid.T) {
	m.store = m.suite.opts.Reopen(m.t.testingT(), m.store)
	if m.store == nil {
		rt.Fatalf("Reopen returned a nil store")
	}
	m.compare(rt)
}
