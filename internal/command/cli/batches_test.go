package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestFewSegmentsWithLittleMemory checks that even with little memory, a log store receives batches that fit in its
// memtables. If each batch became a segment, merging them would take twenty times the work.
func TestFewSegmentsWithLittleMemory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "numbers.csv")
	var data bytes.Buffer
	data.WriteString("id,k\n")
	for i := range 300_000 {
		fmt.Fprintf(&data, "%d,%d\n", i, i*7919%100_003)
	}
	if err := os.WriteFile(file, data.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	check := func(store string) {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(store, "seg-*"))
		if err != nil {
			t.Fatal(err)
		}
		segments := 0
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			segments += bytes.Count(b, []byte("partdSEG"))
		}
		if segments == 0 || segments > 8 {
			t.Errorf("%s has %d segments for 12 MB of entries, want at most 8", filepath.Base(store), segments)
		}
	}
	source, target := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if out, err := program(t, "shuffle", "--by", "k", "--memory", "16MiB", "--store", "log:"+source, file).CombinedOutput(); err != nil {
		t.Fatalf("partd shuffle: %v\n%s", err, out)
	}
	check(source)
	if out, err := program(t, "copy", "--memory", "16MiB", "--from", "log:"+source, "--to", "log:"+target).CombinedOutput(); err != nil {
		t.Fatalf("partd copy: %v\n%s", err, out)
	}
	check(target)
}
