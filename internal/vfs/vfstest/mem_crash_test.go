package vfstest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// outcomes counts the contents of a file after many crashes. A missing file counts as "missing".
func outcomes(m *Mem, name string) map[string]int {
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

func TestCrashLosesUnsynced(t *testing.T) {
	m := NewMem()
	create(t, m, "/synced without name", "x", true)
	if got := list(t, m.Crash(nil), "/"); len(got) != 0 {
		t.Fatalf("the directory was not synced, but %q survived", got)
	}
	f := create(t, m, "/f", "one", true)
	must(t, m.SyncDir("/"))
	if _, err := f.Write([]byte("two")); err != nil {
		t.Fatal(err)
	}
	if text, _ := read(m.Crash(nil), "/f"); text != "one" {
		t.Fatalf("%q", text)
	}
	if text, _ := read(m.KillClone(), "/f"); text != "onetwo" {
		t.Fatalf("after kill -9: %q", text)
	}
	if seen := outcomes(m.KillClone(), "/f"); seen["one"] == 0 || seen["onetwo"] == 0 {
		t.Fatalf("after kill -9 and loss of power: %v", seen)
	}
	if text, _ := read(m.KillClone().Crash(nil), "/f"); text != "one" {
		t.Fatalf("after kill -9 and loss of power: %q", text)
	}
	must(t, f.Sync())
	if text, _ := read(m.Crash(nil), "/f"); text != "onetwo" {
		t.Fatalf("%q", text)
	}
	if len(outcomes(m, "/f")) != 1 {
		t.Fatal("synced data has several outcomes")
	}
}

func TestCrashOfNames(t *testing.T) {
	m := NewMem()
	must(t, m.Mkdir("/d", 0o777))
	must(t, m.SyncDir("/"))
	create(t, m, "/d/old", "old", true)
	must(t, m.SyncDir("/d"))
	create(t, m, "/d/tmp", "new", true)
	must(t, m.Rename("/d/tmp", "/d/old"))
	seen := outcomes(m, "/d/old")
	if len(seen) != 2 || seen["old"] == 0 || seen["new"] == 0 {
		t.Fatalf("a rename gave %v", seen)
	}
	must(t, m.SyncDir("/d"))
	if seen := outcomes(m, "/d/old"); seen["new"] != 2000 {
		t.Fatalf("a synced rename gave %v", seen)
	}
	must(t, m.Remove("/d/old"))
	if seen := outcomes(m, "/d/old"); len(seen) != 2 || seen["missing"] == 0 {
		t.Fatalf("a removal gave %v", seen)
	}
	create(t, m, "/d/other", "", true)
	bothKept := 0
	for seed := range uint64(500) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 7)))
		_, old := read(c, "/d/old")
		if _, other := read(c, "/d/other"); old && other {
			bothKept++ // the later change survived, the earlier did not
		}
	}
	if bothKept == 0 {
		t.Fatal("changes of different names always keep their order")
	}
}

// TestCrashKeepsTheOrderOfAName renames a file and creates another in its place: the old content must
// never be lost.
func TestCrashKeepsTheOrderOfAName(t *testing.T) {
	m := NewMem()
	create(t, m, "/log", "old", true)
	must(t, m.SyncDir("/"))
	must(t, m.Rename("/log", "/log.1"))
	create(t, m, "/log", "new", true)
	for seed := range uint64(500) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 7)))
		log, _ := read(c, "/log")
		if log1, _ := read(c, "/log.1"); log != "old" && log1 != "old" {
			t.Fatalf("log is %q, log.1 %q", log, log1)
		}
	}
}

func TestCrashOfARenameBetweenDirectories(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("/a", 0o777))
	must(t, m.MkdirAll("/b", 0o777))
	must(t, m.SyncDir("/"))
	create(t, m, "/a/f", "text", true)
	must(t, m.Rename("/a/f", "/b/g"))
	for seed := range uint64(500) {
		c := m.Crash(rand.New(rand.NewPCG(seed, 7)))
		_, a := read(c, "/a/f")
		if _, b := read(c, "/b/g"); a && b {
			t.Fatal("a file has both its old and its new name")
		}
	}
	must(t, m.SyncDir("/b"))
	// /a was never synced, but the rename is durable, so the file must be gone from it.
	for seed := range uint64(500) {
		if _, a := read(m.Crash(rand.New(rand.NewPCG(seed, 7))), "/a/f"); a {
			t.Fatal("a file whose new name is synced still has its old name")
		}
	}
	if got := list(t, m.Crash(nil), "/"); strings.Join(got, " ") != `/a/ /b/ /b/g="text"` {
		t.Fatalf("%q", got)
	}
}

func TestCrashTearsAtBlocks(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/f", strings.Repeat("o", 10000), true)
	must(t, m.SyncDir("/"))
	if _, err := f.WriteAt(bytes.Repeat([]byte("n"), 10000), 0); err != nil {
		t.Fatal(err)
	}
	torn := 0
	for text := range outcomes(m, "/f") {
		for at := 1; at < len(text); at++ {
			if text[at] != text[at-1] {
				torn++
				if at%512 != 0 {
					t.Fatalf("torn at %d", at)
				}
			}
		}
		if len(text) != 10000 {
			t.Fatalf("%d bytes", len(text))
		}
	}
	if torn == 0 {
		t.Fatal("no overwrite was torn")
	}
}

func TestCrashOfAppends(t *testing.T) {
	for _, zeros := range []bool{false, true} {
		m := NewMem()
		m.ZeroLostPages = zeros
		f := create(t, m, "/f", strings.Repeat("o", 700), true)
		must(t, m.SyncDir("/"))
		for range 20 {
			if _, err := f.Write(bytes.Repeat([]byte("n"), 700)); err != nil {
				t.Fatal(err)
			}
		}
		sizes, holes := map[int]bool{}, false
		for text := range outcomes(m, "/f") {
			rest := strings.TrimLeft(strings.TrimPrefix(text, strings.Repeat("o", 700)), "n")
			holes = holes || rest != ""
			if strings.Trim(rest, "n\x00") != "" {
				t.Fatalf("%q", text)
			}
			sizes[len(text)] = true
		}
		if holes != zeros {
			t.Fatalf("ZeroLostPages %v: found holes: %v", zeros, holes)
		}
		if len(sizes) < 20 {
			t.Fatalf("only %d sizes", len(sizes))
		}
	}
}

func TestCrashOfTruncate(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/f", strings.Repeat("o", 3000), true)
	must(t, m.SyncDir("/"))
	must(t, f.Truncate(1000))
	if _, err := f.WriteAt(bytes.Repeat([]byte("n"), 2500), 1000); err != nil {
		t.Fatal(err)
	}
	for text := range outcomes(m, "/f") {
		switch rest := strings.TrimPrefix(text, strings.Repeat("o", 1000)); {
		case strings.Trim(rest, "o") == "" && len(text) == 3000:
		case strings.Trim(rest, "n") == "" && len(text) <= 3500:
		default:
			t.Fatalf("truncated data survives next to its replacement: %q", text)
		}
	}
}

// TestCrashClonesAreIndependent checks that clones and the original do not affect each other.
func TestCrashClonesAreIndependent(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/f", "", true)
	must(t, m.SyncDir("/"))
	rnd := rand.New(rand.NewPCG(1, 2))
	want := ""
	kept := map[*Mem]string{}
	for i := range 300 {
		clone := func() *Mem { return m.Crash(rnd) }
		if i%2 == 0 {
			clone = m.KillClone
		}
		k := clone()
		kept[k], _ = read(k, "/f")
		c := clone()
		g, err := c.OpenFile("/f", os.O_RDWR, 0)
		must(t, err)
		if _, err := g.WriteAt([]byte("disturbed"), 0); err != nil {
			t.Fatal(err)
		}
		must(t, c.Rename("/f", "/g"))
		must(t, c.SyncDir("/"))
		if i%7 == 0 {
			must(t, f.Sync())
		}
		want += "line\n"
		if _, err := f.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := read(m, "/f"); got != want {
		t.Fatalf("%q", got)
	}
	for c, want := range kept {
		if got, _ := read(c, "/f"); got != want {
			t.Fatalf("a clone has data that was written later: %q, want %q", got, want)
		}
	}
}

func BenchmarkCrash(b *testing.B) {
	m := NewMem()
	if err := m.Mkdir("/d", 0o777); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"/d/1", "/d/2", "/d/3", "/d/4", "/d/5"} {
		f, err := m.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			b.Fatal(err)
		}
		for range 20 {
			if _, err := f.Write(make([]byte, 300)); err != nil {
				b.Fatal(err)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		m.Crash(rnd)
	}
}
