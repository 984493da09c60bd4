package tables

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/postgres"
)

// besideEnv holds, one on each line, what a process beside this one does, the directory, the
// catalog and whether there is no tail.
const besideEnv = "PARTD_TABLES_BESIDE"

// besideChild appends or reads rows until it is killed, and prints the number of rows each time.
func besideChild(text string) error {
	ctx := context.Background()
	of := strings.Split(text, "\n")
	o := &Options{Catalog: of[2], NoTail: of[3] == "true", FoldAge: 20 * time.Millisecond}
	if of[0] == "read" {
		o.ReadOnly = true
		for {
			s, err := Open(ctx, of[1], o)
			if err != nil {
				return err
			}
			rows, _, err := read(ctx, s.Bucket(""), "t")
			if err = errors.Join(err, s.Close()); err != nil {
				return err
			}
			fmt.Println(len(rows))
		}
	}
	s, err := Open(ctx, of[1], o)
	if err != nil {
		return err
	}
	for n := int64(0); ; n++ {
		if _, err := s.Bucket("").Put(ctx, "t", rowsOf(n), PutAppend, nil); err != nil {
			return err
		}
		fmt.Println(n + 1)
	}
}

// startBeside starts a child process. It returns the last number of rows that the child printed,
// and a function that kills the child.
func startBeside(t *testing.T, what, dir string, o *Options) (said *atomic.Int64, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), besideEnv+"="+strings.Join([]string{what, dir, o.Catalog, fmt.Sprint(o.NoTail)}, "\n"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said = &atomic.Int64{}
	ended, first := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			rows, _ := strconv.ParseInt(lines.Text(), 10, 64)
			if said.Store(rows); n == 0 {
				close(first)
			}
		}
	}()
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait() // it was killed
		if stderr.Len() > 0 {
			t.Error(what, stderr.String())
		}
	}
	t.Cleanup(kill)
	select {
	case <-first:
	case <-ended:
		kill()
		t.Fatal("the process ended")
	}
	return said, kill
}

// numbersBeside returns the number of rows that a read-only Store reads, which must be
// consecutive, and whether it sees rows in the tail.
func numbersBeside(t *testing.T, dir string, o Options) (rows int64, seesTail bool) {
	t.Helper()
	o.ReadOnly = true
	s, err := Open(t.Context(), dir, &o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // it was only read
	got, _, err := read(t.Context(), s.Bucket(""), "t")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, from(0, int64(len(got)))) {
		t.Fatalf("%d rows with gaps or twice: %v", len(got), got)
	}
	return int64(len(got)), s.SeesTail()
}

// A read-only Store opens next to a process that appends all the time, and after that process
// was killed. It sees each acknowledged row, and changes nothing.
func TestReadOnlyBesideWriter(t *testing.T) {
	for name, o := range map[string]Options{
		"directory": {}, "no tail": {NoTail: true}, "postgres": {Catalog: "start"},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Catalog != "" {
				o.Catalog = postgres.Start(t).URL()
			}
			t.Setenv("TMPDIR", t.TempDir())
			dir := t.TempDir()
			said, kill := startBeside(t, "write", dir, &o)
			for range 12 {
				acknowledged := said.Load()
				if got, seesTail := numbersBeside(t, dir, o); got < acknowledged || seesTail == o.NoTail {
					t.Fatalf("%d rows of %d (sees the tail: %v)", got, acknowledged, seesTail)
				}
			}
			before := said.Load()
			for end := time.Now().Add(time.Minute); said.Load() == before && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			if said.Load() == before {
				t.Fatal("the writer does not go on")
			}
			kill()
			was := listed(t, dir)
			got, _ := numbersBeside(t, dir, o)
			if got < said.Load() {
				t.Fatalf("%d rows of %d", got, said.Load())
			}
			if !slices.Equal(listed(t, dir), was) {
				t.Error("the directory was changed")
			}
			if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
				t.Error(left, err)
			}
			wantRows(t, mustOpen(t, dir, &o).Bucket(""), "t", from(0, got)...)
		})
	}
}

// Killing a process that reads does not disturb the process that writes.
func TestReadersKilledBesideWriter(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: time.Millisecond})
	n := int64(0)
	for range 5 {
		mustPut(t, s.Bucket(""), "t", PutAppend, n)
		n++
		said, kill := startBeside(t, "read", dir, &Options{})
		for end := n + 20; n < end; n++ {
			mustPut(t, s.Bucket(""), "t", PutAppend, n)
		}
		kill()
		if said.Load() == 0 {
			t.Error("nothing was read")
		}
	}
	wantRows(t, s.Bucket(""), "t", from(0, n)...)
	numbersBeside(t, dir, Options{}) // opening also removes the files of killed readers
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// With its catalog in PostgreSQL, a read-only Store sees commits as they happen, and the rows
// that were in the tail when it was opened. It changes nothing.
func TestReadOnlyOnPostgres(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	o := Options{Catalog: postgres.Start(t).URL(), FoldAge: -1}
	forReading := o
	forReading.ReadOnly = true
	if _, err := Open(ctx, t.TempDir(), &forReading); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("where nothing was written: %v", err)
	}
	s := mustOpen(t, dir, &o)
	for n := range int64(2) { // two files, which Compact would merge
		mustPut(t, s.Bucket(""), "t", PutAppend, n)
		foldAll(t, s)
	}
	mustPut(t, s.Bucket(""), "t", PutAppend, 2)
	before := listed(t, dir)
	r := mustOpen(t, dir, &forReading)
	wantRows(t, r.Bucket(""), "t", 0, 1, 2)
	for what, err := range changes(ctx, r) {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !slices.Equal(listed(t, dir), before) {
		t.Error("the directory was changed")
	}
	mustPut(t, s.Bucket(""), "t", PutAppend, 3)
	wantRows(t, r.Bucket(""), "t", 0, 1, 2)
	now := time.Now().Add(time.Second)
	if _, err := r.Bucket("").Table(ctx, "t", AtTime(now)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("rows in the tail have no version: %v", err) // the rows may still change, so they are the state of no time
	}
	foldAll(t, s)
	wantRows(t, r.Bucket(""), "t", 0, 1, 2, 3)
}

// changes tries every operation that changes something, and returns the errors.
func changes(ctx context.Context, s *Store) map[string]error {
	b, all := s.Bucket(""), map[string]error{}
	_, all["put"] = b.Put(ctx, "t", rowsOf(1), PutAppend, nil)
	_, all["snapshot"] = b.Snapshot(ctx, "s")
	_, all["expire"] = s.Expire(ctx, &MaintainOptions{Grace: -1})
	_, all["compact"] = s.Compact(ctx, nil)
	_, all["lock"] = b.Lock(ctx, "t")
	all["delete"] = b.Delete(ctx, "t")
	all["delete bucket"] = s.DeleteBucket(ctx, "", true)
	all["rules"] = b.EditRules(ctx, "", RuleEdit{})
	return all
}

// A read-only Store also reads a tail passed in Options, and does not write to it.
func TestReadOnlyGivenTail(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	tail := partd.NewDict()
	s := mustOpen(t, dir, &Options{Tail: tail, FoldAge: -1})
	mustPut(t, s.Bucket(""), "t", PutAppend, 0, 1)
	before, err := partd.Stat(ctx, tail)
	if err != nil {
		t.Fatal(err)
	}
	r := mustOpen(t, dir, &Options{Tail: tail, ReadOnly: true})
	wantRows(t, r.Bucket(""), "t", 0, 1)
	if _, err := s.Fold(ctx, nil); err != nil {
		t.Fatal(err)
	}
	wantRows(t, r.Bucket(""), "t", 0, 1)
	if alone := mustOpen(t, dir, &Options{NoTail: true, ReadOnly: true}); alone.SeesTail() || !r.SeesTail() {
		t.Error("SeesTail is wrong")
	}
	if after, err := partd.Stat(ctx, tail); err != nil || after.Keys >= before.Keys {
		t.Error(before, after, err)
	}
}

// If a metadata file is lost, a read-only Store reads the metadata from the catalog and does not
// write the file again.
func TestReadOnlyHealsNothing(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, &Options{FoldAge: -1})
	mustPut(t, s.Bucket(""), "t", PutAppend, 0)
	for _, file := range listed(t, dir) {
		if path, _, _ := strings.Cut(file, ".metadata.json"); path != file {
			if err := os.Remove(path + ".metadata.json"); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := listed(t, dir)
	wantRows(t, mustOpen(t, dir, &Options{ReadOnly: true}).Bucket(""), "t", 0)
	if !slices.Equal(listed(t, dir), before) {
		t.Error("the directory was changed")
	}
}

func foldAll(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Fold(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
