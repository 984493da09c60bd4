package output

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func write(t *testing.T, path string, replace bool, text string) error {
	t.Helper()
	f, err := Create(t.Context(), path, replace)
	if err != nil {
		return err
	}
	must.Get(f.Write([]byte(text)))(t)
	return f.Commit()
}

func readContent(t *testing.T, path string) string {
	t.Helper()
	data := must.Get(os.ReadFile(path))(t)
	return string(data)
}

func entryNames(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries := must.Get(os.ReadDir(dir))(t)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	f := must.Get(Create(t.Context(), path, false))(t)
	must.Get(f.Write([]byte("one")))(t)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the file exists before it is committed")
	}
	must.Do(t, f.Commit())
	if readContent(t, path) != "one" || len(entryNames(t, dir)) != 1 {
		t.Errorf("after Commit, the file contains %q and the directory %v, want one and only the file", readContent(t, path), entryNames(t, dir))
	}
	if err := errors.Join(f.Abort(), write(t, path, true, "two")); err != nil || readContent(t, path) != "two" {
		t.Errorf("replacing the file: %v", err)
	}
	if err := write(t, path, false, "three"); !errors.Is(err, ErrExists) {
		t.Errorf("creating an existing file: got %v, want %v", err, ErrExists)
	}
	f = must.Get(Create(t.Context(), path, true))(t)
	if err := f.Abort(); err != nil || readContent(t, path) != "two" || len(entryNames(t, dir)) != 1 {
		t.Errorf("Abort = %v, and the directory contains %v, want only the old file", err, entryNames(t, dir))
	}
	if err := f.Commit(); err == nil {
		t.Error("Commit after Abort returned no error")
	}
	if _, err := Create(t.Context(), dir, true); err == nil {
		t.Error("Create of a directory's path returned no error")
	}
	if _, err := Create(t.Context(), filepath.Join(dir, "none", "x"), true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a missing directory = %v, want %v", err, fs.ErrNotExist)
	}
	must.Do(t, write(t, os.DevNull, false, "x"))
}

// TestConcurrentlyCreatedFile checks that a file that another process has created in the meantime is not replaced.
func TestConcurrentlyCreatedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f := must.Get(Create(t.Context(), path, false))(t)
	must.Do(t, os.WriteFile(path, []byte("theirs"), 0o666))
	if err := f.Commit(); !errors.Is(err, ErrExists) || readContent(t, path) != "theirs" || len(entryNames(t, filepath.Dir(path))) != 1 {
		t.Errorf("Commit = %v, want %v; the directory contains %v", err, ErrExists, entryNames(t, filepath.Dir(path)))
	}
}

// TestLinkAndMode checks that a symbolic link remains a link, and its target keeps its mode.
func TestLinkAndMode(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	must.Do(t, errors.Join(os.WriteFile(real, nil, 0o640), os.Chmod(real, 0o606), os.Symlink("real", link), write(t, link, true, "new")))
	info, err := os.Lstat(real)
	if linkTarget, _ := os.Readlink(link); err != nil || linkTarget != "real" || info.Mode().Perm() != 0o606 || readContent(t, real) != "new" {
		t.Errorf("after replacing a linked file: error %v, mode %v, content %q; want an unchanged link and mode", err, info.Mode(), readContent(t, real))
	}
}

// failing is a writer whose writes fail after the first few.
type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errors.New("boom")
	}
	return len(p), nil
}

func TestWriter(t *testing.T) {
	var b, want bytes.Buffer
	w := NewWriter(t.Context(), &b)
	for i := range 3000 {
		p := bytes.Repeat([]byte{byte(i)}, i)
		want.Write(p)
		must.Get(w.Write(p))(t)
	}
	if err := w.Close(); err != nil || !bytes.Equal(b.Bytes(), want.Bytes()) || w.Bytes() != int64(want.Len()) {
		t.Errorf("Close = %v, and %d bytes were written, want %d", err, b.Len(), want.Len())
	}
	for after := range 3 {
		w := NewWriter(t.Context(), &failing{after})
		var err error
		for range 10 {
			if _, err = w.Write(make([]byte, bufferSize)); err != nil {
				break
			}
		}
		if cerr := w.Close(); err == nil || cerr == nil {
			t.Errorf("after a failed write, Write = %v and Close = %v, want errors", err, cerr)
		}
	}
}

// TestWriterHangs checks that after the context has ended, no call waits for a hanging write.
func TestWriterHangs(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	b := NewWriter(ctx, w)
	time.AfterFunc(50*time.Millisecond, cancel)
	var err error
	for range 10 {
		if _, err = b.Write(make([]byte, bufferSize)); err != nil {
			break
		}
	}
	if _, secondErr := b.Write([]byte("x")); err == nil || secondErr == nil || !errors.Is(b.Close(), context.Canceled) {
		t.Errorf("after the context ended, Write = %v, then %v, want errors", err, secondErr)
	}
}

var unusualFields = []string{"", "a", "a b", "a,b", "a\tb", "\"q\"", "line\nend", "cr\r", "é<&>\\", "\x00\x1f\x7f", strings.Repeat("long, ", 10), strings.Repeat("plain", 10)}

func TestRowsCSV(t *testing.T) {
	r, err := NewRows(records.Layout{Format: records.CSV}, nil)
	must.Do(t, err)
	for n := 1; n < 4; n++ {
		var out []byte
		var want [][]string
		for i := range unusualFields {
			var row []Value
			var texts []string
			for k := range n {
				text := unusualFields[(i+k)%len(unusualFields)]
				row, texts = append(row, Value{Text: []byte(text)}), append(texts, text)
			}
			if out, err = r.Append(out, row); err != nil {
				t.Fatal(err)
			}
			want = append(want, texts)
		}
		got, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
		if err != nil || !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("reading the rows: error %v\n got %q\nwant %q", err, got, want)
		}
	}
}

func TestRowsJSON(t *testing.T) {
	r := must.Get(NewRows(records.Layout{Format: records.JSONL}, []string{"a \"b\"", "n", "m"}))(t)
	for _, text := range unusualFields {
		out := must.Get(r.Append(nil, []Value{{Text: []byte(text)}, {Text: []byte("1.5"), JSON: true}, {Missing: true}}))(t)
		var got map[string]any
		if err := json.Unmarshal(out, &got); err != nil || got["a \"b\""] != text || got["n"] != 1.5 || got["m"] != nil || len(got) != 3 {
			t.Errorf("Append of %q = %s; decoding it: %v", text, out, err)
		}
	}
	if _, err := r.Append(nil, []Value{{Text: []byte("\xff")}}); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("Append of invalid UTF-8 = %v, want an error", err)
	}
	if _, err := NewRows(records.Layout{Format: records.JSONL}, []string{"a", "a"}); err == nil {
		t.Error("NewRows accepted two columns with the same name")
	}
	if _, err := NewRows(records.Layout{Format: records.JSONL}, nil); err == nil {
		t.Error("NewRows accepted missing column names")
	}
}

// TestRowsReject checks that TSV and text reject fields that they cannot represent.
func TestRowsReject(t *testing.T) {
	for _, c := range []struct {
		layout records.Layout
		bad    []string
		good   []string
		joined string
	}{
		{records.Layout{Format: records.TSV}, []string{"a\tb", "a\nb", "a\r"}, []string{"", "a b", "\"q\""}, "\ta b\t\"q\"\n"},
		{records.Layout{Format: records.Text}, []string{"", "a b", "a\tb", "a\nb"}, []string{"x", "\"q\"", "é"}, "x \"q\" é\n"},
		{records.Layout{Format: records.Text, Sep: "::"}, []string{"a::b", "\n"}, []string{"", "a b", ":"}, "::a b:::\n"},
	} {
		r := must.Get(NewRows(c.layout, nil))(t)
		for _, bad := range c.bad {
			if _, err := r.Append(nil, []Value{{Text: []byte(bad)}}); err == nil || !strings.Contains(err.Error(), "field 1 cannot be written as "+c.layout.Format.String()) {
				t.Errorf("%s: Append of %q = %v, want an error", c.layout.Format, bad, err)
			}
		}
		var row []Value
		for _, good := range c.good {
			row = append(row, Value{Text: []byte(good)})
		}
		if out, err := r.Append(nil, row); err != nil || string(out) != c.joined {
			t.Errorf("%s: Append = %q, %v, want %q", c.layout.Format, out, err, c.joined)
		}
	}
}

// shortWriter writes fewer bytes than requested, without an error.
type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) - 1, nil }

// TestShortWrite checks that a short write is an error even if the underlying writer returns none.
func TestShortWrite(t *testing.T) {
	w := NewWriter(t.Context(), shortWriter{})
	must.Get(w.Write([]byte("abc")))(t)
	if err := w.Close(); err == nil || err.Error() != "2 of 3 bytes were written" {
		t.Errorf("Close = %v, want an error about the missing byte", err)
	}
}

// TestSweep checks that Create removes the temporary files of dead processes, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	alive := must.Get(Create(t.Context(), path, false))(t)
	must.Get(alive.Write([]byte("begun")))(t)
	for name, text := range map[string]string{".out.partd-A.tmp": "begun", ".out.partd-B.tmp": "", ".other.partd-D.tmp": "x", ".out.partd-E": "x"} {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666))
	}
	next := must.Get(Create(t.Context(), path, false))(t)
	got := entryNames(t, dir)
	for _, name := range []string{".other.partd-D.tmp", ".out.partd-E", filepath.Base(alive.temp), filepath.Base(next.temp)} {
		if !slices.Contains(got, name) {
			t.Errorf("%s was removed", name)
		}
	}
	if len(got) != 4 {
		t.Errorf("the directory contains %v, want 4 files", got)
	}
	must.Do(t, errors.Join(alive.Abort(), next.Abort()))
}

// TestSweepDuringCreate checks that Create never removes a temporary file that another process has just created.
func TestSweepDuringCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				f, err := Create(t.Context(), path, true)
				if err != nil {
					t.Error(err)
					return
				}
				if err := f.Commit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := entryNames(t, dir); len(got) != 1 {
		t.Errorf("the directory contains %v, want only the file", got)
	}
}

// TestLocksNobody checks that Create neither writes a file nor removes another process's temporary file if flock
// succeeds but locks nothing. A child process has such locks.
func TestLocksNobody(t *testing.T) {
	dir := os.Getenv("PARTD_TEST_CREATE_IN")
	if dir != "" {
		if f, err := Create(t.Context(), filepath.Join(dir, "a"), false); f != nil || !errors.Is(err, vfs.ErrLocksNobody) {
			t.Errorf("Create = %v, %v, want ErrLocksNobody", f, err)
		}
		return
	}
	dir = t.TempDir()
	other := must.Get(Create(t.Context(), filepath.Join(dir, "a"), false))(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLocksNobody$", "-test.v")
	cmd.Env = append(os.Environ(), "PARTD_TEST_CREATE_IN="+dir)
	cmd = procs.Strace(t, cmd, filepath.Join(t.TempDir(), "log"), "-e", "trace=flock", "-e", "inject=flock:retval=0")
	out, err := cmd.CombinedOutput()
	procs.SkipUntraced(t, string(out))
	if err != nil || !strings.Contains(string(out), "PASS: TestLocksNobody") {
		t.Errorf("the child: %v: %s", err, out)
	}
	must.Do(t, other.Commit())
}

// TestNoModes checks that a file is replaced on a file system that does not store modes. A child process has such a file
// system.
func TestNoModes(t *testing.T) {
	if path := os.Getenv("PARTD_TEST_REPLACE"); path != "" {
		f := must.Get(Create(t.Context(), path, true))(t)
		must.Get(f.Write([]byte("new")))(t)
		must.Do(t, f.Commit())
		return
	}
	path := filepath.Join(t.TempDir(), "a")
	must.Do(t, os.WriteFile(path, []byte("old"), 0o600))
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoModes$", "-test.v")
	cmd.Env = append(os.Environ(), "PARTD_TEST_REPLACE="+path)
	log := filepath.Join(t.TempDir(), "log")
	out, err := procs.Strace(t, cmd, log, "-e", "trace=fchmod", "-e", "inject=fchmod:error=EPERM").CombinedOutput()
	procs.SkipUntraced(t, string(out))
	if calls := must.Get(os.ReadFile(log))(t); err != nil || !strings.Contains(string(calls), "INJECTED") {
		t.Errorf("the child: %v: %s; its calls are %s", err, out, calls)
	}
	if got := must.Get(os.ReadFile(path))(t); string(got) != "new" {
		t.Errorf("the file contains %q, want the new text", got)
	}
}
