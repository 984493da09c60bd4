package parted_test

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables/internal/parted"
)

// TestFullDisk checks that the first cut and later cuts return the error of a full disk, and leave no files.
func TestFullDisk(t *testing.T) {
	data := randomRows(t, rand.New(rand.NewPCG(1, 1)), classes[2:3], false, 40_000)
	failures := 0
	for size := int64(64 << 10); ; size += 256 << 10 {
		dir := vfstest.Mount(t, "tmpfs", size)
		err := parted.Each(t.Context(), []parted.Input{data.input(t, "in", "n")}, &parted.Options{Memory: 256 << 10, PartBytes: 2 << 10, Temp: dir}, func(context.Context, *parted.Part) error { return nil })
		checkEmpty(t, dir)
		if err == nil {
			break
		}
		failures++
		if !must.Fail(t, err, syscall.ENOSPC, "with %d KiB", size>>10) {
			break
		}
	}
	if failures < 2 {
		t.Errorf("%d failures", failures)
	}
	t.Logf("%d failures", failures)
}
