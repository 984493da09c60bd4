package stage

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"
)

// How a program is built is a part of the key, and what it was built from is not.
func TestBuild(t *testing.T) {
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
	for _, other := range []string{
		hash(debug.BuildSetting{Key: "GOARCH", Value: "arm64"}),
		hash(debug.BuildSetting{Key: "-tags", Value: "fast"}, debug.BuildSetting{Key: "GOARCH", Value: "amd64"}),
	} {
		if other == plain {
			t.Error("another build has the same hash")
		}
	}
	if hash(debug.BuildSetting{Key: "GOARCH", Value: "amd64"}, debug.BuildSetting{Key: "vcs.revision", Value: "1"}) != plain {
		t.Error("another commit has another hash")
	}
}

// A file that is changed while its stage runs, so soon that its times are the same, makes
// no result.
func TestChangedAtTheSameTime(t *testing.T) {
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
	if err := k.unchanged(); err != nil {
		t.Error(err)
	}
	change("2")
	h := k.hashed[path] // with the times that a coarse clock gives
	if h.Stamp, err = stampOf(path); err != nil {
		t.Fatal(err)
	}
	k.hashed[path] = h
	if err := k.unchanged(); err == nil {
		t.Error("nobody noticed")
	}
}

// Times that a clock shows alike, since it was set back in between, have two keys.
func TestTimesOfAClock(t *testing.T) {
	place, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	first := time.Date(2025, 10, 26, 0, 30, 0, 0, time.UTC).In(place)
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
	type at struct{ T time.Time }
	if key(first) == key(first.Add(time.Hour)) || key(at{first}) == key(at{first.Add(time.Hour)}) {
		t.Error("two times have one key")
	}
	if was := key(at{first}); key(at{first}) != was {
		t.Error("a time has two keys")
	}
}

// Bytes are in batches that Arrow has room for.
func TestLargeBytes(t *testing.T) {
	const n = 100*piece + 1
	table := bytesTable(make([]byte, n))
	if chunks := table.Column(0).Data().Chunks(); len(chunks) != 2 || chunks[0].Len() != 64 {
		t.Errorf("%d batches", len(chunks))
	}
	if b, err := bytesOf(table); len(b) != n || err != nil {
		t.Error(len(b), err)
	}
}
