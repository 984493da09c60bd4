package sorted

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
)

// TestDamagedRun checks that reading a temporary file of sorted rows fails if a bit of it was flipped, and that
// the error names the position.
func TestDamagedRun(t *testing.T) {
	temporary := t.TempDir()
	id := int64(0)
	f := must.Get(batches.Spill(temporary, batchesOf(randomRows(rand.New(rand.NewPCG(1, 2)), 100_000, &id), 1000), schema.Convert))(t)
	defer f.Close()
	const offset = 1_000_000 // within the second mebibyte of rows
	flip(t, temporary, offset)
	for b, err := range f.Rows {
		if err == nil {
			b.Release()
			continue
		}
		damaged := new(partd.CorruptError)
		if !errors.As(err, &damaged) || !errors.Is(err, spill.ErrDamaged) || damaged.Offset > offset || damaged.Offset < offset-2<<20 || !strings.HasPrefix(damaged.Path, temporary) {
			t.Errorf("reading the damaged file: got error %v, want ErrDamaged with the position", err)
		}
		return
	}
	t.Error("all rows of a damaged file were read")
}

// flip changes a bit of the only open, unnamed file in a directory.
func flip(t *testing.T, dir string, offset int64) {
	t.Helper()
	fds := must.Get(filepath.Glob("/proc/self/fd/*"))(t)
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err != nil || !strings.HasPrefix(name, dir) {
			continue
		}
		f, err := os.OpenFile(fd, os.O_RDWR, 0)
		must.Do(t, err)
		b := make([]byte, 1)
		must.Get(f.ReadAt(b, offset))(t)
		b[0] ^= 4
		_, err = f.WriteAt(b, offset)
		must.Do(t, errors.Join(err, f.Close()))
		return
	}
	t.Fatal(fmt.Errorf("no unnamed file in %s is open", dir))
}
