package tables

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestFoldGivesRoomBack checks that a fold frees the tail's space.
func TestFoldGivesRoomBack(t *testing.T) {
	for _, background := range []bool{false, true} {
		t.Run(fmt.Sprintf("background=%t", background), func(t *testing.T) { foldGivesRoomBack(t, background) })
	}
}

func foldGivesRoomBack(t *testing.T, background bool) {
	dir := t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: -1})
	tail := func() (sum int64) {
		t.Helper()
		err := fs.WalkDir(os.DirFS(filepath.Join(dir, "tail")), ".", func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, err := d.Info()
				sum += info.Size()
				return err
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	row := 0
	for range 5 {
		rows := make([]tick, 40_000)
		for i := range rows {
			rows[i], row = tick{int64(row), "a", int64(row * 7919), 0}, row+1
		}
		if _, err := s.Bucket("b").Put(t.Context(), "t", ticksOf(rows, len(rows)), PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := tail(); n < 5<<20 {
		t.Fatalf("the tail takes %d bytes before the fold: too few to show anything", n)
	}
	if background {
		if _, err := s.maintain(t.Context(), "fold", nil, fold); err != nil { // folds like the background does
			t.Fatal(err)
		}
	}
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := tail(); n > 3<<20 { // two files for small appends have 1 MiB each
		t.Errorf("the tail takes %d bytes after the fold", n)
	}
}
