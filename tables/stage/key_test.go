package stage

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"
)

// TestBuildSettings checks that a program's build settings are part of the key, and that its commit is not.
func TestBuildSettings(t *testing.T) {
	defer func() { readBuildInfo = debug.ReadBuildInfo }()
	hash := func(settings ...debug.BuildSetting) string {
		readBuildInfo = func() (*debug.BuildInfo, bool) {
			return &debug.BuildInfo{Deps: []*debug.Module{{Path: ownModule, Version: "v1", Sum: "s"}}, Settings: settings}, true
		}
		sum, err := hashModules(nil)
		if err != nil {
			t.Fatal(err)
		}
		return sum
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
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	change("1")
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	k, err := r.keyOf(&node{name: "x", version: "1", patterns: []string{path}, result: tableType}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.checkUnchanged(); err != nil {
		t.Error(err)
	}
	change("2")
	h := k.hashes[path] // simulate a coarse clock, with which the stamp stays the same
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
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	key := func(p any) string {
		k, err := r.keyOf(&node{name: "x", version: "1", params: []any{p}, result: tableType}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return k.key
	}
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

// TestFileOrder checks that the order of a stage's files is part of its key, that Plan says so, and that a file that matches
// two patterns counts once.
func TestFileOrder(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	key := func(patterns ...string) *stageKey {
		k, err := r.keyOf(&node{name: "x", version: "1", patterns: patterns, result: tableType}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
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

// TestRecentHashIsNotCached checks that the hash of a file that just changed is not cached, because a further change may
// leave the file's stamp the same.
func TestRecentHashIsNotCached(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(path, []byte("1"), 0o666); err != nil {
		t.Fatal(err)
	}
	h := openHashes(filepath.Join(t.TempDir(), "hashes.json"))
	if _, err := h.sum(path); err != nil || len(h.byPath) > 0 || h.isDirty {
		t.Errorf("sum of a new file: %v, and the cache contains %v, want nothing", err, h.byPath)
	}
}
