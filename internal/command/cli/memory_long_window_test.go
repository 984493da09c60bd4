package cli

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestLongWindow checks that a file written with zstd --long does not make a command exceed its memory. The command
// fails with advice about --memory, whichever frame has the large window. With enough memory, it reads the file.
func TestLongWindow(t *testing.T) {
	dir := t.TempDir()
	pack := func(w io.Writer, window, rows int) error {
		z, err := zstd.NewWriter(w, zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		row := []byte(strings.Repeat("x", 1000) + "\n")
		for range rows {
			if _, err := z.Write(row); err != nil {
				return err
			}
		}
		return z.Close()
	}
	writeFrames := func(name string, frames ...int) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		for i, window := range frames {
			rows := 180_000 // longer than the window
			if i < len(frames)-1 {
				rows = 1000 // shuffle writes these to the disk
			}
			if err == nil {
				err = pack(f, window, rows)
			}
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	long, second, usual := writeFrames("long.zst", 128<<20), writeFrames("second.zst", 1<<20, 128<<20), writeFrames("usual.zst", 8<<20)
	distinct, top, shuffle := []string{"distinct"}, []string{"top", "--frequent", "1"}, []string{"shuffle", "--by", "1", "--replace"}
	for path, commands := range map[string][][]string{long: {distinct}, second: {distinct, top, shuffle}, usual: {distinct}} {
		for _, args := range commands {
			cmd := program(t, append(args[:len(args):len(args)], "--format", "text", "--memory", "16MiB", path)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			peak, err := startMeasured(t, cmd)()
			if path == usual && err != nil || path != usual && (exitCode(t, err) != cliutil.ExitFailed || !strings.Contains(stderr.String(), path) || !strings.Contains(stderr.String(), "--memory")) {
				t.Errorf("%s of %s: %v, stderr %s; want success only for %s, and otherwise an error with the path and --memory", args, path, err, stderr.String(), usual)
			}
			if limit := int64(16<<20)*11/10 + 30<<20; peak > limit && !procs.RaceEnabled {
				t.Errorf("%s of %s used %d bytes of memory, want at most %d", args, path, peak, limit)
			}
		}
	}
	if out, err := program(t, "distinct", "--memory", "1GiB", "--format", "text", second).CombinedOutput(); err != nil {
		t.Errorf("partd distinct: %v\n%s", err, out)
	}
}
