package partdtest

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/storekit"
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
		m := &machine{s.newEnv(context.Background(), rapidTester{rt, t}), rt, keys}
		rt.Cleanup(m.close)
		rt.Repeat(m.actions())
		m.check("the whole store")
		passed = true
	})
}

// machine makes random changes to a store.
type machine struct {
	*env
	rt   *rapid.T
	keys *rapid.Generator[string]
}

// rapidTester fails the current sequence of operations, so that rapid can shrink it.
type rapidTester struct {
	*rapid.T
	outer tester
}

func (r rapidTester) testingT() *testing.T { return r.outer.testingT() }

func (r rapidTester) Run(name string, f func(t tester)) bool { return r.outer.Run(name, f) }

func (m *machine) drawKey() string { return m.keys.Draw(m.rt, "key") }

func (m *machine) drawKeys() []string { return rapid.SliceOfN(m.keys, 0, 4).Draw(m.rt, "keys") }

// drawValue draws a value that rarely equals another one.
func (m *machine) drawValue() string {
	size := rapid.SampledFrom([]int{0, 1, 2, 5, 5, 5, 20, 100, 1000, 5000, 70_000}).Draw(m.rt, "size")
	return repeat(fmt.Sprintf("%d,", rapid.IntRange(0, 999).Draw(m.rt, "value")), size)
}

func (m *machine) actions() map[string]func(*rapid.T) {
	can := m.suite.can
	actions := map[string]func(*rapid.T){}
	for _, a := range []struct {
		name      string
		available bool
		run       func()
	}{
		// An action with several names is chosen more often.
		{"append", true, m.appendBatch},
		{"append-2", true, m.appendBatch},
		{"append-3", true, m.appendBatch},
		{"get", true, m.getValues},
		{"get-2", true, m.getValues},
		{"open", true, m.open},
		{"compare", true, func() { m.check("the whole store") }},
		{"drop", true, m.dropRarely},
		{"set", can[CanSet], func() { m.set(m.drawKey(), m.drawValue()) }},
		{"set-once", can[CanSet], func() { m.setOnce(m.drawKey(), m.drawValue()) }},
		{"delete", can[CanDelete], func() { m.delete(m.drawKeys()...) }},
		{"pop", can[CanPop], func() { overwriteAll(m.pop(m.drawKeys()...)) }},
		{"break-keys", can[CanList], m.breakOutOfKeys},
		{"break-scan", can[CanScan], m.breakOutOfScan},
		{"parts", can[CanScan], func() { m.checkParts("ScanPart", rapid.SampledFrom([]int{1, 2, 3, 16}).Draw(m.rt, "parts")) }},
		{"flush", can[CanFlush], func() { m.must("Flush", partd.Flush(m.ctx, m.store)) }},
		{"sync", can[CanSync], func() { m.must("Sync", partd.Sync(m.ctx, m.store)) }},
		{"reopen", m.suite.opts.Reopen != nil, m.checkReopened},
	} {
		if a.available {
			actions[a.name] = func(*rapid.T) { a.run() }
		}
	}
	return actions
}

func (m *machine) appendBatch() {
	var batch []partd.Entry
	for range rapid.IntRange(0, 6).Draw(m.rt, "entries") {
		batch = append(batch, entry(m.drawKey(), m.drawValue()))
	}
	m.append(batch...)
	for _, b := range batch { // the store must not keep the caller's memory
		clear(b.Value)
	}
	clear(batch)
}

func (m *machine) getValues() { overwriteAll(m.checkGet(m.drawKeys()...)) }

// overwriteAll overwrites values that a store returned. If the store still used their memory, a later check would fail.
func overwriteAll(values [][]byte) {
	for _, v := range values {
		overwrite(v)
	}
}

func (m *machine) open() {
	k := m.drawKey()
	want := m.model[k]
	r, err := partd.Open(m.ctx, m.store, k)
	m.must("Open", err)
	if rapid.Bool().Draw(m.rt, "append before reading") {
		m.append(entry(k, m.drawValue()))
	}
	got, err := io.ReadAll(r)
	m.must("Read", err)
	m.must("closing a reader", r.Close())
	m.must("Open", differenceError("key "+storekit.QuoteKey(k), got, want))
}

func (m *machine) dropRarely() {
	if rapid.IntRange(0, 3).Draw(m.rt, "really") != 0 {
		m.rt.Skip("no Drop this time, so that the store does not stay empty")
	}
	m.drop()
}

func (m *machine) breakOutOfKeys() {
	limit := rapid.IntRange(1, 5).Draw(m.rt, "after")
	m.must("Keys", breakOut(partd.Keys(m.ctx, m.store), func(n int, info partd.KeyInfo) bool {
		return m.isLast("Keys", info.Key, n, limit)
	}))
}

func (m *machine) breakOutOfScan() {
	limit := rapid.IntRange(1, 5).Draw(m.rt, "after")
	m.must("Scan", breakOut(partd.Scan(m.ctx, m.store), func(n int, c partd.Chunk) bool {
		return m.isLast("Scan", c.Key, n, limit)
	}))
}

func (m *machine) isLast(name, key string, n, limit int) bool {
	if _, exists := m.model[key]; !exists {
		m.Fatalf("%s yields key %s, which should not exist", name, storekit.QuoteKey(key))
	}
	return n == limit
}
