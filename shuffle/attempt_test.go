package shuffle

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
)

func begin(t *testing.T, store partd.Partd, task, attempt string) *Writer {
	t.Helper()
	w, err := Begin(t.Context(), store, task, attempt)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func entries(pairs ...string) (all []partd.Entry) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, partd.Entry{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return all
}

func write(t *testing.T, w *Writer, pairs ...string) {
	t.Helper()
	if err := w.Append(t.Context(), entries(pairs...)...); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func committed(t *testing.T, store partd.Partd) *Committed {
	t.Helper()
	c, err := ReadCommitted(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// gather returns the pieces of each key.
func gather(seq iter.Seq2[partd.Entry, error]) (map[string]string, error) {
	all := map[string]string{}
	for e, err := range seq {
		if err != nil {
			return all, err
		}
		all[e.Key] += string(e.Value) + ";"
	}
	return all, nil
}

func TestOnlyTheFirstCommitCounts(t *testing.T) {
	store := partd.NewDict()
	dead := begin(t, store, "a", "1")
	write(t, dead, "k", "lost", "l", "lost")
	second, third := begin(t, store, "a", "2"), begin(t, store, "a", "3")
	write(t, second, "k", "x", "k", "x", "", "") // two pieces for one key; an empty piece for the empty key
	write(t, third, "k", "other")
	write(t, second, "k", "y", ControlKey, "mine")
	if got, err := gather(committed(t, store).Scan(t.Context())); err != nil || len(got) > 0 {
		t.Errorf("before any commit: %v, %v", got, err)
	}
	commit(t, second)
	commit(t, third) // loses
	if err := second.Append(t.Context(), entries("k", "late")...); !errors.Is(err, ErrClosed) {
		t.Errorf("appending after the commit: %v", err)
	}
	if err := second.Commit(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("committing twice: %v", err)
	}
	if _, err := Begin(t.Context(), store, "a", "4"); !errors.Is(err, ErrCommitted) {
		t.Errorf("beginning a committed task: %v", err)
	}
	b := begin(t, store, "b", "")
	write(t, b, "k", "b")
	commit(t, b)
	c := committed(t, store)
	want := map[string]string{"k": "x;x;y;b;", "": ";", ControlKey: "mine;"}
	got, err := gather(c.Scan(t.Context()))
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
	if commits := c.Commits(); len(commits) != 2 || commits[0].Attempt != "2" || commits[0].Batches != 2 || commits[0].Records != 5 || commits[0].Bytes != 7 {
		t.Errorf("commits %+v", commits)
	}

	var sums []Checksum
	parts := map[string]string{}
	for part := range 3 {
		var s Checksum
		one, err := gather(c.ScanPart(t.Context(), part, 3, &s))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(parts, one)
		sums = append(sums, s)
	}
	if err := c.Verify(sums...); err != nil || !maps.Equal(parts, want) {
		t.Errorf("in parts: %q, %v", parts, err)
	}
	slices.SortFunc(sums, func(a, b Checksum) int { return cmp.Compare(b.Records, a.Records) }) // a part may be empty
	for _, wrong := range [][]Checksum{sums[1:], append(sums[:3:3], sums[0])} {
		if err := c.Verify(wrong...); !errors.Is(err, ErrNotVerified) {
			t.Errorf("wrong checksums: %v", err)
		}
	}
	var byKey Checksum
	for key := range want {
		text := ""
		for v, err := range c.Values(t.Context(), key, &byKey) {
			if err != nil {
				t.Fatal(err)
			}
			text += string(v) + ";"
		}
		if text != want[key] {
			t.Errorf("values of %q: %q", key, text)
		}
	}
	if err := c.Verify(byKey); err != nil {
		t.Error(err)
	}
	for range c.ScanPart(t.Context(), 0, 1, &byKey) {
		break // a reader that stops early adds nothing to the sum
	}
	if err := c.Verify(byKey); err != nil {
		t.Error(err)
	}
	if _, err := gather(c.ScanPart(t.Context(), 0, 2, nil)); err == nil {
		t.Error("a part can be read without a checksum")
	}
}

// uncertain is a store that applies each append, and reports some as unknown. A copy of
// the unknown ones arrives again later.
type uncertain struct {
	*partd.Dict
	appends int
	every   int
	held    []partd.Entry
	always  bool
}

func (u *uncertain) Append(ctx context.Context, entries ...partd.Entry) error {
	u.appends++
	if err := u.Dict.Append(ctx, entries...); err != nil {
		return err
	}
	if u.appends%u.every == 0 || u.always {
		for _, e := range entries {
			u.held = append(u.held, partd.Entry{Key: e.Key, Value: bytes.Clone(e.Value)})
		}
		return partd.ErrUnknownOutcome
	}
	if len(u.held) > 6 {
		held := u.held
		u.held = nil
		return u.Dict.Append(ctx, held...)
	}
	return nil
}

func TestDuplicateBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &uncertain{Dict: partd.NewDict(), every: 3}
		w := begin(t, store, "task", "1")
		want := map[string]string{}
		for i := range 50 {
			k, v := fmt.Sprint("k", i%3), fmt.Sprint(i)
			write(t, w, k, v, "all", v, "all", v)
			want[k] += v + ";"
			want["all"] += v + ";" + v + ";"
		}
		commit(t, w)
		c := committed(t, store)
		got, err := gather(c.Scan(t.Context()))
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("read %q, %v", got, err)
		}
		c.disabled.batches = true
		if _, err := gather(c.Scan(t.Context())); !errors.Is(err, ErrNotVerified) {
			t.Errorf("with duplicates: %v", err)
		}

		store.always = true
		w = begin(t, store, "other", "1")
		for range 2 {
			if err := w.Append(t.Context(), entries("k0", "x")...); !errors.Is(err, partd.ErrUnknownOutcome) {
				t.Errorf("a batch with an unknown outcome: %v", err)
			}
			store.always, store.every = false, 1000 // the next batch would succeed
		}
		if err := w.Commit(t.Context()); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("committing after an unknown outcome: %v", err)
		}
		if n := store.appends; n > 67+75+maxTries*2 {
			t.Errorf("%d appends", n)
		}
	})
}

func TestFailedAppendUsesNoNumber(t *testing.T) {
	store := partd.NewDict()
	w := begin(t, store, "t", "1")
	if err := w.Append(t.Context(), partd.Entry{Key: strings.Repeat("k", partd.MaxKeyLen+1)}); !errors.Is(err, partd.ErrTooLarge) {
		t.Error(err)
	}
	long := strings.Repeat("k", partd.MaxKeyLen)
	write(t, w, long, "v")
	if err := w.Append(t.Context()); err != nil {
		t.Error(err)
	}
	commit(t, w)
	got, err := gather(committed(t, store).Scan(t.Context()))
	if err != nil || got[long] != "v;" {
		t.Errorf("%d keys, %v", len(got), err)
	}
	for _, name := range []string{"", strings.Repeat("x", MaxTaskName+1)} {
		if _, err := Begin(t.Context(), store, name, "1"); err == nil {
			t.Errorf("a task name of %d bytes is accepted", len(name))
		}
	}
}

// A process that was thought dead, and whose attempt name another process has reused,
// continues after that process has committed.
func TestBatchesAfterTheCommit(t *testing.T) {
	store := partd.NewDict()
	w, late := begin(t, store, "t", "1"), begin(t, store, "t", "1")
	for i := range 4 {
		if i < 2 {
			write(t, w, "k", fmt.Sprint(i))
		}
		if i == 2 {
			commit(t, w)
		}
		write(t, late, "k", fmt.Sprint(i))
	}
	if got, err := gather(committed(t, store).Scan(t.Context())); err != nil || got["k"] != "0;1;" {
		t.Errorf("read %q, %v", got, err)
	}
}

// Each process has its own buffer in front of a shared store.
func TestAttemptsThroughBuffers(t *testing.T) {
	slow := partd.NewDict()
	for i := range 3 {
		b, err := partd.NewBuffer(partd.NewDict(), slow, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := begin(t, b, fmt.Sprint("task", i), "1")
		write(t, w, "k", fmt.Sprint(i))
		commit(t, w)
	}
	got, err := gather(committed(t, slow).Scan(t.Context()))
	if err != nil || got["k"] != "0;1;2;" {
		t.Errorf("read %q, %v", got, err)
	}
}

func sumOf(pairs ...string) string {
	var s Checksum
	for i := 0; i < len(pairs); i += 2 {
		c := s.count()
		countPiece(&c, appendHashed(nil, pairs[i], []byte(pairs[i+1])), len(pairs[i+1]))
		s = checksumOf(c)
	}
	var b []byte
	for _, half := range []uint64{s.Sum[1], s.Sum[0]} {
		for i := range 8 {
			b = append(b, byte(half>>(8*i)))
		}
	}
	return hex.EncodeToString(b)
}

// Values must not allocate memory for each task in every call.
func TestValuesOfManyTasks(t *testing.T) {
	store := partd.NewDict()
	const tasks = 20_000
	for i := range tasks {
		w := &Writer{Task: fmt.Sprint(i), Attempt: "a", store: store}
		if i%1000 == 0 {
			write(t, w, fmt.Sprint("k", i), "piece")
			write(t, w, "all", "piece")
		}
		commit(t, w)
	}
	if _, err := Begin(t.Context(), store, "19999", "b"); !errors.Is(err, ErrCommitted) {
		t.Error(err)
	}
	c := committed(t, store)
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
		t.Errorf("%d pieces", n)
	}
	const rounds = 40
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range rounds {
		if n := read(fmt.Sprint("k", i%20*1000)); n != 1 {
			t.Fatalf("%d pieces", n)
		}
		if i == 19 {
			if err := c.Verify(all); err != nil {
				t.Error(err)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 300<<10 { // including a buffer of 64 KiB
		t.Errorf("%d bytes for each key", each)
	}
}

// Errors are short even if names are long.
func TestLongNamesInErrors(t *testing.T) {
	store, long := partd.NewDict(), strings.Repeat("\x00", MaxTaskName)
	w := begin(t, store, long, long)
	commit(t, w)
	_, begun := Begin(t.Context(), store, long, long)
	var missing []string
	for i := range 100 {
		missing = append(missing, fmt.Sprint(i, long[:MaxTaskName-2]))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, waited := WaitCommitted(ctx, store, &WaitOptions{Tasks: missing})
	_, unexpected := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: []string{}, Timeout: time.Millisecond})
	for _, err := range []error{begun, w.Commit(t.Context()), w.Append(t.Context(), entries("k", "v")...), waited, unexpected} {
		if err == nil || len(err.Error()) > 5000 {
			t.Errorf("%.100v", err)
		}
	}
}
