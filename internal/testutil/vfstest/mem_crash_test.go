package vfstest

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// countOutcomes counts the contents of a file after many crashes. A missing file counts as "missing".
func countOutcomes(m *Mem, name string) map[string]int {
	seen := map[string]int{}
	for seed := range uint64(2000) {
		text, ok := read(m.Crash(rand.New(rand.NewPCG(seed, 7))), name)
		if !ok {
			text = "missing"
		}
		seen[text]++
	}
	return seen
}

// TestCrashLosesUnsynced checks that a crash keeps synced data and can lose unsynced data.
func TestCrashLosesUnsynced(t *testing.T) {
	m := NewMem()
	create(t, m, "/synced without name", "x", true)
	if got := list(t, m.Crash(nil), "/"); len(got) != 0 {
		t.Fatalf("the directory was not synced, but %q survived", got)
	}
	f := create(t, m, "/f", "one", true)
	must.Do(t, m.SyncDir("/"))
	must.Get(f.Write([]byte("two")))(t)
	if text, _ := read(m.Crash(nil), "/f"); text != "one" {
		t.Fatalf("after a crash: the file contains %q, want %q", text, "one")
	}
	if text, _ := read(m.KillClone(), "/f"); text != "onetwo" {
		t.Fatalf("after kill -9: the file contains %q, want %q", text, "onetwo")
	}
	if seen := countOutcomes(m.KillClone(), "/f"); seen["one"] == 0 || seen["onetwo"] == 0 {
		t.Fatalf("after kill -9 and a power failure: outcomes %v, want both %q and %q", seen, "one", "onetwo")
	}
	if text, _ := read(m.KillClone().Crash(nil), "/f"); text != "one" {
		t.Fatalf("after kill -9 and a power failure: the file contains %q, want %q", text, "one")
	}
	must.Do(t, f.Sync())
	if text, _ := read(m.Crash(nil), "/f"); text != "onetwo" {
		t.Fatalf("after Sync and a crash: the file contains %q, want %q", text, "onetwo")
	}
	if seen := countOutcomes(m, "/f"); len(seen) != 1 {
		t.Fatalf("synced data has the outcomes %v after a crash, want only one", seen)
	}
}

// TestCrashOfNames checks the outcomes of unsynced renames, removals and creations.
func TestCrashOfNames(t *testing.T) {
	m := NewMem()
	must.Do(t, m.Mkdir("/d", 0o777))
	must.Do(t, m.SyncDir("/"))
	create(t, m, "/d/old", "old", true)
	must.Do(t, m.SyncDir("/d"))
	create(t, m, "/d/tmp", "new", true)
	must.Do(t, m.Rename("/d/tmp", "/d/old"))
	seen := countOutcomes(m, "/d/old")
	if len(seen) != 2 || seen["old"] == 0 || seen["new"] == 0 {
		t.Fatalf("outcomes of an unsynced rename = %v, want old and new", seen)
	}
	must.Do(t, m.SyncDir("/d"))
	if seen := countOutcomes(m, "/d/old"); seen["new"] != 2000 {
		t.Fatalf("outcomes of a synced rename = %v, want only new", seen)
	}
	must.Do(t, m.Remove("/d/old"))
	if seen := countOutcomes(m, "/d/old"); len(seen) != 2 || seen["missing"] == 0 {
		t.Fatalf("outcomes of an unsynced removal = %v, want new and missing", seen)
	}
	create(t, m, "/d/other", "", true)
	reordered := 0
	for seed := range uint64(500) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 7)))
		_, old := read(c, "/d/old")
		if _, other := read(c, "/d/other"); old && other {
			reordered++ // the creation survived, but not the earlier removal
		}
	}
	if reordered == 0 {
		t.Fatal("no crash kept a later change of another name without the earlier change")
	}
}

// TestCrashKeepsTheOrderOfAName checks that if a file is renamed and another is created in its place, a crash never
// loses the old content.
func TestCrashKeepsTheOrderOfAName(t *testing.T) {
	m := NewMem()
	create(t, m, "/log", "old", true)
	must.Do(t, m.SyncDir("/"))
	must.Do(t, m.Rename("/log", "/log.1"))
	create(t, m, "/log", "new", true)
	for seed := range uint64(500) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 7)))
		log, _ := read(c, "/log")
		if log1, _ := read(c, "/log.1"); log != "old" && log1 != "old" {
			t.Fatalf("seed %d: the old content is lost: log is %q, log.1 is %q", seed, log, log1)
		}
	}
}

// TestCrashOfARenameBetweenDirectories checks that a rename is atomic, and that syncing either directory makes both the
// new name and the removal of the old name durable.
func TestCrashOfARenameBetweenDirectories(t *testing.T) {
	m := NewMem()
	must.Do(t, m.MkdirAll("/a", 0o777))
	must.Do(t, m.MkdirAll("/b", 0o777))
	must.Do(t, m.SyncDir("/"))
	create(t, m, "/a/f", "text", true)
	must.Do(t, m.Rename("/a/f", "/b/g"))
	for seed := range uint64(500) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 7)))
		_, a := read(c, "/a/f")
		if _, b := read(c, "/b/g"); a && b {
			t.Fatalf("seed %d: after a crash, the file has both its old and its new name", seed)
		}
	}
	must.Do(t, m.SyncDir("/b"))
	// /a was never synced, but the rename is durable, so /a/f must not exist.
	for seed := range uint64(500) {
		if _, a := read(m.Crash(rand.New(rand.NewPCG(seed, 7))), "/a/f"); a {
			t.Fatalf("seed %d: the new name is synced, but the file still has its old name", seed)
		}
	}
	if got := list(t, m.Crash(nil), "/"); strings.Join(got, " ") != `/a/ /b/ /b/g="text"` {
		t.Fatalf("after a crash, the file system contains %q", got)
	}
}

// TestCrashTearsAtBlocks checks that an overwrite is torn only at multiples of 512 bytes.
func TestCrashTearsAtBlocks(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/f", strings.Repeat("o", 10000), true)
	must.Do(t, m.SyncDir("/"))
	must.Get(f.WriteAt(bytes.Repeat([]byte("n"), 10000), 0))(t)
	torn := 0
	for text := range countOutcomes(m, "/f") {
		for offset := 1; offset < len(text); offset++ {
			if text[offset] != text[offset-1] {
				torn++
				if offset%512 != 0 {
					t.Fatalf("the overwrite is torn at offset %d, want a multiple of 512", offset)
				}
			}
		}
		if len(text) != 10000 {
			t.Fatalf("the file has %d bytes, want 10000", len(text))
		}
	}
	if torn == 0 {
		t.Fatal("no overwrite was torn")
	}
}

// TestCrashOfAppends checks that appends survive in part, with holes only if ZeroLostPages is set.
func TestCrashOfAppends(t *testing.T) {
	for _, zeros := range []bool{false, true} {
		m := NewMem()
		m.ZeroLostPages = zeros
		f := create(t, m, "/f", strings.Repeat("o", 700), true)
		must.Do(t, m.SyncDir("/"))
		for range 20 {
			must.Get(f.Write(bytes.Repeat([]byte("n"), 700)))(t)
		}
		sizes, holes := map[int]bool{}, false
		for text := range countOutcomes(m, "/f") {
			rest := strings.TrimLeft(strings.TrimPrefix(text, strings.Repeat("o", 700)), "n")
			holes = holes || rest != ""
			if strings.Trim(rest, "n\x00") != "" {
				t.Fatalf("the file contains bytes that were never written: %q", text)
			}
			sizes[len(text)] = true
		}
		if holes != zeros {
			t.Fatalf("ZeroLostPages %v: some files have holes: %v, want holes only if ZeroLostPages is set", zeros, holes)
		}
		if len(sizes) < 20 {
			t.Fatalf("crashes left files of only %d different sizes, want at least 20", len(sizes))
		}
	}
}

// TestCrashOfTruncate checks that if a write after a truncation survives, so does the truncation.
func TestCrashOfTruncate(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/f", strings.Repeat("o", 3000), true)
	must.Do(t, m.SyncDir("/"))
	must.Do(t, f.Truncate(1000))
	must.Get(f.WriteAt(bytes.Repeat([]byte("n"), 2500), 1000))(t)
	for text := range countOutcomes(m, "/f") {
		switch rest := strings.TrimPrefix(text, strings.Repeat("o", 1000)); {
		case strings.Trim(rest, "o") == "" && len(text) == 3000:
		case strings.Trim(rest, "n") == "" && len(text) <= 3500:
		default:
			t.Fatalf("truncated data survived together with its replacement: %q", text)
		}
	}
}
