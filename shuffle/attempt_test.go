package shuffle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func mustBegin(t *testing.T, store partd.Partd, task, attempt string) *Writer {
	t.Helper()
	return must.Get(Begin(t.Context(), store, task, attempt))(t)
}

func entries(pairs ...string) (all []partd.Entry) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, partd.Entry{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return all
}

func mustAppend(t *testing.T, w *Writer, pairs ...string) {
	t.Helper()
	must.Do(t, w.Append(t.Context(), entries(pairs...)...))
}

func mustCommit(t *testing.T, w *Writer) {
	t.Helper()
	must.Do(t, w.Commit(t.Context()))
}

func mustReadCommitted(t *testing.T, store partd.Partd) *Committed {
	t.Helper()
	return must.Get(ReadCommitted(t.Context(), store))(t)
}

// collectPieces returns the pieces of each key, each followed by a semicolon.
func collectPieces(seq iter.Seq2[partd.Entry, error]) (map[string]string, error) {
	all := map[string]string{}
	for e, err := range seq {
		if err != nil {
			return all, err
		}
		all[e.Key] += string(e.Value) + ";"
	}
	return all, nil
}

// wantPieces checks the committed pieces of all keys.
func wantPieces(t *testing.T, c *Committed, want map[string]string) {
	t.Helper()
	if got, err := collectPieces(c.Scan(t.Context())); err != nil || !maps.Equal(got, want) {
		t.Errorf("read %.1000q with error %v, want %.1000q", got, err, want)
	}
}

func TestOnlyTheFirstCommitCounts(t *testing.T) {
	store := partd.NewDict()
	dead := mustBegin(t, store, "a", "1")
	mustAppend(t, dead, "k", "lost", "l", "lost")
	second, third := mustBegin(t, store, "a", "2"), mustBegin(t, store, "a", "3")
	mustAppend(t, second, "k", "x", "k", "x", "", "") // two pieces for one key; an empty piece for the empty key
	mustAppend(t, third, "k", "other")
	mustAppend(t, second, "k", "y", controlKey, "mine")
	wantPieces(t, mustReadCommitted(t, store), nil) // nothing is committed
	mustCommit(t, second)
	mustCommit(t, third) // has no effect, because the attempt second has already committed
	must.Fail(t, second.Append(t.Context(), entries("k", "late")...), ErrClosed, "Append() after the commit")
	must.Fail(t, second.Commit(t.Context()), ErrClosed, "second Commit()")
	must.Fail(t, must.Err(Begin(t.Context(), store, "a", "4")), ErrCommitted, "Begin() of a committed task")
	b := mustBegin(t, store, "b", "")
	mustAppend(t, b, "k", "b")
	mustCommit(t, b)
	c := mustReadCommitted(t, store)
	want := map[string]string{"k": "x;x;y;b;", "": ";", controlKey: "mine;"}
	wantPieces(t, c, want)
	if commits := c.Commits(); len(commits) != 2 || commits[0].Attempt != "2" || commits[0].Batches != 2 || commits[0].Records != 5 || commits[0].Bytes != 7 {
		t.Errorf("Commits() = %+v, want 2 commits, the first of attempt 2", commits)
	}

	var sums []Checksum
	parts := map[string]string{}
	for part := range 3 {
		var s Checksum
		entriesOfPart := must.Get(collectPieces(c.ScanPart(t.Context(), part, 3, &s)))(t)
		maps.Copy(parts, entriesOfPart)
		sums = append(sums, s)
	}
	if err := c.Verify(sums...); err != nil || !maps.Equal(parts, want) {
		t.Errorf("reading in parts: got %q, Verify() error = %v, want %q", parts, err, want)
	}
	slices.SortFunc(sums, func(a, b Checksum) int { return cmp.Compare(b.Records, a.Records) }) // largest first, so that sums[1:] lacks records even if a part is empty
	for _, wrong := range [][]Checksum{sums[1:], append(sums[:3:3], sums[0])} {
		must.Fail(t, c.Verify(wrong...), ErrNotVerified, "Verify() of wrong checksums")
	}
	var byKey Checksum
	for key := range want {
		text := ""
		for v, err := range c.Values(t.Context(), key, &byKey) {
			must.Do(t, err)
			text += string(v) + ";"
		}
		if text != want[key] {
			t.Errorf("Values(%q) yields %q, want %q", key, text, want[key])
		}
	}
	must.Do(t, c.Verify(byKey))
	for range c.ScanPart(t.Context(), 0, 1, &byKey) {
		break // a reader that stops early adds nothing to the sum
	}
	must.Do(t, c.Verify(byKey))
	if _, err := collectPieces(c.ScanPart(t.Context(), 0, 2, nil)); err == nil {
		t.Error("ScanPart() without a checksum returned no error")
	}
}

// uncertainStore applies each append. For some appends, it returns ErrUnknownOutcome, and later applies them again.
type uncertainStore struct {
	*partd.Dict
	appends       int
	unknownEvery  int
	delayed       []partd.Entry
	alwaysUnknown bool
}

func (u *uncertainStore) Append(ctx context.Context, entries ...partd.Entry) error {
	u.appends++
	if err := u.Dict.Append(ctx, entries...); err != nil {
		return err
	}
	if u.appends%u.unknownEvery == 0 || u.alwaysUnknown {
		for _, e := range entries {
			u.delayed = append(u.delayed, partd.Entry{Key: e.Key, Value: bytes.Clone(e.Value)})
		}
		return partd.ErrUnknownOutcome
	}
	if len(u.delayed) > 6 {
		copies := u.delayed
		u.delayed = nil
		return u.Dict.Append(ctx, copies...)
	}
	return nil
}

func TestDuplicateBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &uncertainStore{Dict: partd.NewDict(), unknownEvery: 3}
		w := mustBegin(t, store, "task", "1")
		want := map[string]string{}
		for i := range 50 {
			k, v := fmt.Sprint("k", i%3), fmt.Sprint(i)
			mustAppend(t, w, k, v, "all", v, "all", v)
			want[k] += v + ";"
			want["all"] += v + ";" + v + ";"
		}
		mustCommit(t, w)
		wantPieces(t, mustReadCommitted(t, store), want)

		store.alwaysUnknown = true
		w = mustBegin(t, store, "other", "1")
		for range 2 {
			must.Fail(t, w.Append(t.Context(), entries("k0", "x")...), partd.ErrUnknownOutcome, "Append()")
			store.alwaysUnknown, store.unknownEvery = false, 1000 // the next batch would succeed
		}
		must.Fail(t, w.Commit(t.Context()), partd.ErrUnknownOutcome, "Commit() after an unknown outcome")
		if n := store.appends; n > 67+75+maxTries*2 {
			t.Errorf("the writers made %d appends, more than with the expected retries", n)
		}
	})
}

func TestFailedAppendUsesNoNumber(t *testing.T) {
	store := partd.NewDict()
	w := mustBegin(t, store, "t", "1")
	if err := w.Append(t.Context(), partd.Entry{Key: strings.Repeat("k", partd.MaxKeyLen+1)}); !errors.Is(err, partd.ErrTooLarge) {
		t.Errorf("Append() of a key that is too long: error = %v, want %v", err, partd.ErrTooLarge)
	}
	long := strings.Repeat("k", partd.MaxKeyLen)
	mustAppend(t, w, long, "v")
	must.Do(t, w.Append(t.Context()))
	mustCommit(t, w)
	wantPieces(t, mustReadCommitted(t, store), map[string]string{long: "v;"})
	for _, name := range []string{"", strings.Repeat("x", maxTaskName+1)} {
		if _, err := Begin(t.Context(), store, name, "1"); err == nil {
			t.Errorf("Begin() with a task name of %d bytes returned no error", len(name))
		}
	}
}

// scriptedStore records its calls. Its appends return the errors of results, one after another, and then nil.
type scriptedStore struct {
	*partd.Dict
	calls   []string
	results []error
}

func (s *scriptedStore) Append(ctx context.Context, e ...partd.Entry) error {
	s.calls = append(s.calls, "append")
	if len(s.results) > 0 {
		err := s.results[0]
		s.results = s.results[1:]
		return err
	}
	return s.Dict.Append(ctx, e...)
}

func (s *scriptedStore) Flush(context.Context) error {
	s.calls = append(s.calls, "flush")
	return nil
}

// TestCommitFlushes checks that a commit makes its pieces visible to other processes before it announces them.
func TestCommitFlushes(t *testing.T) {
	store := &scriptedStore{Dict: partd.NewDict()}
	w := mustBegin(t, store, "t", "1")
	mustAppend(t, w, "k", "v")
	mustCommit(t, w)
	if want := []string{"append", "flush", "append", "flush"}; !slices.Equal(store.calls, want) {
		t.Errorf("the store received the calls %v, want %v", store.calls, want)
	}
}

// TestAppendFailsAfterUnknownOutcome checks that the outcome of a batch stays unknown if its retry fails.
func TestAppendFailsAfterUnknownOutcome(t *testing.T) {
	errFull := errors.New("the disk is full")
	store := &scriptedStore{Dict: partd.NewDict(), results: []error{partd.ErrUnknownOutcome, errFull}}
	w := mustBegin(t, store, "t", "1")
	if err := w.Append(t.Context(), entries("k", "v")...); !errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, errFull) {
		t.Errorf("Append whose retry fails: error %v, want ErrUnknownOutcome and the error of the retry", err)
	}
	must.Fail(t, w.Append(t.Context(), entries("k", "w")...), partd.ErrUnknownOutcome, "Append after an unknown outcome")
}

// TestBatchesAfterTheCommit checks that after an attempt has committed, batches of another process with the same
// attempt name do not count.
func TestBatchesAfterTheCommit(t *testing.T) {
	store := partd.NewDict()
	w, revived := mustBegin(t, store, "t", "1"), mustBegin(t, store, "t", "1")
	for i := range 4 {
		if i < 2 {
			mustAppend(t, w, "k", fmt.Sprint(i))
		}
		if i == 2 {
			mustCommit(t, w)
		}
		mustAppend(t, revived, "k", fmt.Sprint(i))
	}
	wantPieces(t, mustReadCommitted(t, store), map[string]string{"k": "0;1;"})
}

// TestAttemptsThroughBuffers checks that no piece is lost if each attempt has its own buffer over a shared store.
func TestAttemptsThroughBuffers(t *testing.T) {
	slow := partd.NewDict()
	for i := range 3 {
		b := must.Get(partd.NewBuffer(partd.NewDict(), slow, nil))(t)
		w := mustBegin(t, b, fmt.Sprint("task", i), "1")
		mustAppend(t, w, "k", fmt.Sprint(i))
		mustCommit(t, w)
	}
	wantPieces(t, mustReadCommitted(t, slow), map[string]string{"k": "0;1;2;"})
}

func sumOf(pairs ...string) string {
	var s Checksum
	for i := 0; i < len(pairs); i += 2 {
		c := s.count()
		countPiece(&c, appendHashed(nil, pairs[i], []byte(pairs[i+1])), len(pairs[i+1]))
		s = checksumOf(c)
	}
	var b []byte
	for _, half := range []uint64{s.Sum.Lo, s.Sum.Hi} {
		for i := range 8 {
			b = append(b, byte(half>>(8*i)))
		}
	}
	return hex.EncodeToString(b)
}

// openingStore is a Dict that counts readers.
type openingStore struct {
	*partd.Dict
	opened, closed int
	closeErr       error
}

type countedReader struct {
	io.ReadCloser
	store *openingStore
}

func (s *openingStore) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	r, err := partd.Open(ctx, s.Dict, key)
	s.opened++
	return countedReader{r, s}, err
}

func (r countedReader) Close() error {
	r.store.closed++
	return errors.Join(r.ReadCloser.Close(), r.store.closeErr)
}

// TestReadersAreClosed checks that every reader of a store is closed, and that an error from Close is returned.
func TestReadersAreClosed(t *testing.T) {
	s := &openingStore{Dict: partd.NewDict()}
	w := mustBegin(t, s, "task", "1")
	mustAppend(t, w, "a", "1")
	mustCommit(t, w)
	must.Fail(t, must.Err(Begin(t.Context(), s, "task", "2")), ErrCommitted, "Begin after a commit")
	wantPieces(t, mustReadCommitted(t, s), map[string]string{"a": "1;"})
	if s.opened == 0 || s.closed != s.opened {
		t.Errorf("%d readers were opened and %d closed", s.opened, s.closed)
	}
	s.closeErr = errors.New("the reader cannot be closed")
	must.Fail(t, must.Err(ReadCommitted(t.Context(), s)), s.closeErr, "ReadCommitted of a reader that cannot be closed")
}

// TestValuesOfManyTasks checks that Values does not allocate memory for each task in every call.
func TestValuesOfManyTasks(t *testing.T) {
	store := partd.NewDict()
	const tasks = 20_000
	for i := range tasks {
		w := &Writer{Task: fmt.Sprint(i), Attempt: "a", store: store}
		if i%1000 == 0 {
			mustAppend(t, w, fmt.Sprint("k", i), "piece")
			mustAppend(t, w, "all", "piece")
		}
		mustCommit(t, w)
	}
	must.Fail(t, must.Err(Begin(t.Context(), store, "19999", "b")), ErrCommitted, "Begin() of the last task")
	c := mustReadCommitted(t, store)
	var all Checksum
	read := func(key string) (n int) {
		for _, err := range c.Values(t.Context(), key, &all) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if n := read("all"); n != tasks/1000 {
		t.Errorf("read %d pieces, want %d", n, tasks/1000)
	}
	const rounds = 40
	allocated := procs.Allocated(func() {
		for i := range rounds {
			if n := read(fmt.Sprint("k", i%20*1000)); n != 1 {
				t.Fatalf("read %d pieces, want 1", n)
			}
			if i == 19 {
				must.Do(t, c.Verify(all))
			}
		}
	})
	if perKey := allocated / rounds; perKey > 300<<10 { // including a buffer of 64 KiB
		t.Errorf("Values() allocates %d bytes per call, want at most 300 KiB", perKey)
	}
}

// TestLongNamesInErrors checks that error messages are short even if names are long.
func TestLongNamesInErrors(t *testing.T) {
	store, long := partd.NewDict(), strings.Repeat("\x00", maxTaskName)
	w := mustBegin(t, store, long, long)
	mustCommit(t, w)
	_, beginErr := Begin(t.Context(), store, long, long)
	var missing []string
	for i := range 100 {
		missing = append(missing, fmt.Sprint(i, long[:maxTaskName-2]))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, waitErr := WaitCommitted(ctx, store, &WaitOptions{Tasks: missing})
	_, unexpectedErr := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: []string{"x"}, Timeout: time.Millisecond})
	for _, err := range []error{beginErr, w.Commit(t.Context()), w.Append(t.Context(), entries("k", "v")...), waitErr, unexpectedErr} {
		if err == nil || len(err.Error()) > 5000 {
			t.Errorf("want an error of at most 5000 bytes, got %.100v", err)
		}
	}
}
