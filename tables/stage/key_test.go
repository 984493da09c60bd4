package stage

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// keyOf returns the key of a stage without ancestors.
func keyOf(t testing.TB, n *node) *stageKey {
	t.Helper()
	r := must.Get(Open(t.TempDir(), nil))(t)
	defer r.Close()
	n.name, n.version, n.result = "x", "1", tableType
	k := must.Get(r.hashStage(n))(t)
	k.setKey(nil)
	return k
}

// TestBuildSettings checks that a program's build settings are part of the key, and that its commit is not.
func TestBuildSettings(t *testing.T) {
	defer func() { readBuildInfo = debug.ReadBuildInfo }()
	hash := func(settings ...debug.BuildSetting) string {
		readBuildInfo = func() (*debug.BuildInfo, bool) {
			return &debug.BuildInfo{Deps: []*debug.Module{{Path: ownModule, Version: "v1", Sum: "s"}}, Settings: settings}, true
		}
		return must.Get(hashModules(nil))(t)
	}
	plain := hash(debug.BuildSetting{Key: "GOARCH", Value: "amd64"})
	for _, changed := range []string{
		hash(debug.BuildSetting{Key: "GOARCH", Value: "arm64"}),
		hash(debug.BuildSetting{Key: "-tags", Value: "fast"}, debug.BuildSetting{Key: "GOARCH", Value: "amd64"}),
	} {
		if changed == plain {
			t.Error("a different build has the same hash")
		}
	}
	if hash(debug.BuildSetting{Key: "GOARCH", Value: "amd64"}, debug.BuildSetting{Key: "vcs.revision", Value: "1"}) != plain {
		t.Error("a different commit changed the hash")
	}
}

// TestChangedWithSameStamp checks that a stage stores no result if its file changes while it runs,
// even if the file's times stay the same.
func TestChangedWithSameStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw")
	change := func(text string) {
		t.Helper()
		must.Do(t, os.WriteFile(path, []byte(text), 0o666))
	}
	change("1")
	k := keyOf(t, &node{patterns: []string{path}})
	must.Do(t, k.checkUnchanged())
	change("2")
	h, err := k.hashes[path], error(nil) // simulate a coarse clock, with which the stamp stays the same
	if h.Stamp, err = stampOf(path); err != nil {
		t.Fatal(err)
	}
	k.hashes[path] = h
	if err := k.checkUnchanged(); err == nil {
		t.Error("checkUnchanged returned nil although the file changed")
	}
}

// TestRepeatedClockTime checks that two times have different keys even if they have the same clock time, before
// and after clocks are set back.
func TestRepeatedClockTime(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	first := time.Date(2025, 10, 26, 0, 30, 0, 0, time.UTC).In(zone)
	key := func(p any) string { return keyOf(t, &node{params: []any{p}}).key }
	type wrapper struct{ T time.Time }
	if key(first) == key(first.Add(time.Hour)) || key(wrapper{first}) == key(wrapper{first.Add(time.Hour)}) {
		t.Error("two times have the same key")
	}
	if k := key(wrapper{first}); key(wrapper{first}) != k {
		t.Error("the same time has two keys")
	}
}

// TestLargeBytes checks that bytes are split into batches that are small enough for Arrow.
func TestLargeBytes(t *testing.T) {
	const n = 100*rowBytes + 1
	table := bytesTable(make([]byte, n))
	if chunks := table.Column(0).Data().Chunks(); len(chunks) != 2 || chunks[0].Len() != 64 {
		t.Errorf("bytesTable has %d batches, want 2, the first with 64 rows", len(chunks))
	}
	if b, err := tableBytes(table); len(b) != n || err != nil {
		t.Errorf("tableBytes returned %d bytes, %v, want %d", len(b), err, n)
	}
}

// TestFileOrder checks that the order of a stage's files is part of its key, that Plan says so, and that a file that
// matches two patterns counts once.
func TestFileOrder(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, path := range []string{a, b} {
		must.Do(t, os.WriteFile(path, []byte("x"), 0o666))
	}
	key := func(patterns ...string) *stageKey { return keyOf(t, &node{patterns: patterns}) }
	forward, backward := key(a, b), key(b, a)
	if forward.key == backward.key {
		t.Error("two orders of the files have the same key")
	}
	if got := describeChanges(forward.parts, backward.parts); got != "the order of the files changed" {
		t.Errorf("Plan says %q of the order of the files", got)
	}
	if k := key(a, filepath.Join(dir, "*"), b); k.key != forward.key || len(k.files) != 2 {
		t.Errorf("with patterns that match files twice, the files are %q, want a and b", k.files)
	}
}

// TestParamTypes checks that equal values of different types in an interface have different keys.
func TestParamTypes(t *testing.T) {
	t.Parallel()
	type count int
	keys := map[string]any{}
	for _, p := range []any{1, 1.0, int64(1), count(1)} {
		for _, v := range []any{[]any{p}, map[string]any{"n": p, "m": "x"}} {
			key := keyOf(t, &node{params: []any{v}}).key
			if keyOf(t, &node{params: []any{v}}).key != key {
				t.Errorf("keyOf returned two different keys for %#v", v)
			}
			if other, ok := keys[key]; ok {
				t.Errorf("%#v, which contains a %T, has the same key as %v", v, p, other)
			}
			keys[key] = v
		}
	}
}

// TestTypesInMap checks that a map of values of several types always has the same key, although Go visits maps in
// random order.
func TestTypesInMap(t *testing.T) {
	keys := map[string]bool{}
	for range 20 {
		param := map[string]any{"a": 1, "b": "1", "c": 1.0, "d": int8(1), "e": true, "f": uint(1)}
		keys[keyOf(t, &node{params: []any{param}}).key] = true
	}
	if len(keys) != 1 {
		t.Errorf("keyOf returned %d keys for one map", len(keys))
	}
}

// TestUnfinishedHashFile checks that GC removes the unfinished hash file of a killed process immediately, but
// not the file that a running process is writing.
func TestUnfinishedHashFile(t *testing.T) {
	r := must.Get(Open(t.TempDir(), nil))(t)
	defer r.Close()
	unfinished := r.path(tmpDir, "hashes.1")
	collect := func(want int) {
		t.Helper()
		must.Do(t, os.WriteFile(unfinished, nil, 0o666))
		if _, err := r.GC(t.Context(), nil); err != nil {
			t.Errorf("GC failed: %v", err)
		}
		if files, err := filepath.Glob(r.path(tmpDir, "*")); err != nil || len(files) != want {
			t.Errorf("after GC, tmp contains %q, %v, want %d files", files, err, want)
		}
	}
	collect(0)
	whileWriting := func() error {
		collect(1)
		return nil
	}
	must.Do(t, r.ifUnused(t.Context(), "hashes", whileWriting))
	r.hashes.isDirty = true
	// ifUnused calls saveWhileLocked with the lock held, like another process that writes the cache file.
	saveWhileLocked := func() error { return r.hashes.save(r) }
	if err := r.ifUnused(t.Context(), "hashes", saveWhileLocked); err != nil || !r.hashes.isDirty {
		t.Error("save marked the cache as saved although it was locked:", err)
	}
	if err := r.hashes.save(r); err != nil || r.hashes.isDirty {
		t.Error("save did not save the cache:", err)
	}
	collect(0)
	if files, err := filepath.Glob(r.path(locksDir, "*")); err != nil || len(files) > 0 {
		t.Errorf("the lock files %q remain, want none; error: %v", files, err)
	}
}

// TestRecentHashIsNotCached checks that the hash of a file that just changed is not cached, because a further change
// may leave the file's stamp the same.
func TestRecentHashIsNotCached(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw")
	must.Do(t, os.WriteFile(path, []byte("1"), 0o666))
	h := openHashes(filepath.Join(t.TempDir(), "hashes.json"))
	if _, err := h.sum(path); err != nil || len(h.byPath) > 0 || h.isDirty {
		t.Errorf("sum of a new file: %v, and the cache contains %v, want nothing", err, h.byPath)
	}
}
