package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// startMeasured starts a command and measures its memory. The returned function waits until the command ends, and
// returns its peak memory in bytes, or 0 on systems other than Linux. Its error has the command's messages, unless the
// caller has set cmd.Stderr. startMeasured does not use the resource usage of the ended process, which includes memory
// of its parent from before exec.
func startMeasured(t *testing.T, cmd *exec.Cmd) func() (peak int64, err error) {
	t.Helper()
	var stderr bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	must.Do(t, cmd.Start())
	ended, done := make(chan error, 1), make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	peak := int64(0)
	go func() {
		for len(ended) == 0 {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if _, after, ok := bytes.Cut(status, []byte("VmHWM:")); ok && err == nil {
				var kB int64
				if _, err := fmt.Sscan(string(after[:min(len(after), 30)]), &kB); err == nil {
					peak = max(peak, kB<<10)
				}
			}
			time.Sleep(time.Millisecond)
		}
		done <- <-ended
	}()
	return func() (int64, error) {
		err := <-done
		if err != nil && stderr.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, &stderr)
		}
		return peak, err
	}
}

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
		must.Do(t, errors.Join(err, f.Close()))
		return path
	}
	long, second, usual := writeFrames("long.zst", 128<<20), writeFrames("second.zst", 1<<20, 128<<20), writeFrames("usual.zst", 8<<20)
	distinct, top, shuffle := []string{"distinct"}, []string{"top", "--frequent", "1"}, []string{"shuffle", "--by", "1", "--replace"}
	for path, commands := range map[string][][]string{long: {distinct}, second: {distinct, top, shuffle}, usual: {distinct}} {
		for _, args := range commands {
			cmd, stderr := programErrs(t, append(args[:len(args):len(args)], "--format", "text", "--memory", "16MiB", path)...)
			peak, err := startMeasured(t, cmd)()
			if path == usual && err != nil || path != usual && (exitCode(t, err) != cliutil.ExitFailed || !strings.Contains(stderr.String(), path) || !strings.Contains(stderr.String(), "--memory")) {
				t.Errorf("%s of %s: %v, stderr %s; want success only for %s, and otherwise an error with the path and --memory", args, path, err, stderr.String(), usual)
			}
			if limit := int64(16<<20)*11/10 + 30<<20; peak > limit && !procs.RaceEnabled {
				t.Errorf("%s of %s used %d bytes of memory, want at most %d", args, path, peak, limit)
			}
		}
	}
	succeed(t, "distinct", "--memory", "1GiB", "--format", "text", second)
}

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
	must.Do(t, os.WriteFile(file, data.Bytes(), 0o666))
	check := func(store string) {
		t.Helper()
		names := must.Get(filepath.Glob(filepath.Join(store, "seg-*")))(t)
		segments := 0
		for _, name := range names {
			b := must.Get(os.ReadFile(name))(t)
			segments += bytes.Count(b, []byte("partdSEG"))
		}
		if segments == 0 || segments > 8 {
			t.Errorf("%s has %d segments for 12 MB of entries, want at most 8", filepath.Base(store), segments)
		}
	}
	source, target := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	succeed(t, "shuffle", "--by", "k", "--memory", "16MiB", "--store", "log:"+source, file)
	check(source)
	succeed(t, "copy", "--memory", "16MiB", "--from", "log:"+source, "--to", "log:"+target)
	check(target)
}
