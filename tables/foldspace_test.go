package tables_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

func TestFoldFreesTailSpace(t *testing.T) {
	for _, background := range []bool{false, true} {
		t.Run(fmt.Sprintf("background=%t", background), func(t *testing.T) { foldFreesTailSpace(t, background) })
	}
}

func foldFreesTailSpace(t *testing.T, background bool) {
	dir := t.TempDir()
	s := tabletest.Open(t, dir, &tables.Options{FoldAge: -1})
	tailSize := func() (sum int64) {
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
		if _, err := s.Bucket("b").Table("t").Put(t.Context(), ticksOf(rows, len(rows)), tables.PutAppend, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := tailSize(); n < 5<<20 {
		t.Fatalf("before the fold, the tail has %d bytes, want at least 5 MiB for this test", n)
	}
	if background {
		if _, err := s.Maintain(t.Context(), "fold", nil, tables.Fold); err != nil { // like a fold in the background, which does not free space
			t.Fatal(err)
		}
	}
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := tailSize(); n > 3<<20 { // the two write-ahead files have 1 MiB each
		t.Errorf("after the fold, the tail has %d bytes, want at most 3 MiB", n)
	}
}
