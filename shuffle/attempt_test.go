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
	"sync"
	"sync/atomic"
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
	write(t, second, "k", "x", "k", "x", "", "") // twice under one key; an empty piece under the empty key
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
		t.Errorf("beginning what is done: %v", err)
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

	var shares []Share
	parts := map[string]string{}
	for part := range 3 {
		var s Share
		one, err := gather(c.ScanPart(t.Context(), part, 3, &s))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(parts, one)
		shares = append(shares, s)
	}
	if err := c.Verify(shares...); err != nil || !maps.Equal(parts, want) {
		t.Errorf("in parts: %q, %v", parts, err)
	}
	slices.SortFunc(shares, func(a, b Share) int { return cmp.Compare(b.Records, a.Records) }) // a part may be empty
	for _, wrong := range [][]Share{shares[1:], append(shares[:3:3], shares[0])} {
		if err := c.Verify(wrong...); !errors.Is(err, ErrNotVerified) {
			t.Errorf("without a part: %v", err)
		}
	}
	var byKey Share
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
		break // a reader that stops has read nothing
	}
	if err := c.Verify(byKey); err != nil {
		t.Error(err)
	}
	if _, err := gather(c.ScanPart(t.Context(), 0, 2, nil)); err == nil {
		t.Error("a part without a share")
	}
}

// uncertain is a store that takes each append, and says of some that it does not
// know; a copy of those arrives again, later.
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

func TestBatchesThatArriveTwice(t *testing.T) {
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
		c.without.batches = true
		if _, err := gather(c.Scan(t.Context())); !errors.Is(err, ErrNotVerified) {
			t.Errorf("with doubles: %v", err)
		}

		store.always = true
		w = begin(t, store, "other", "1")
		for range 2 {
			if err := w.Append(t.Context(), entries("k0", "x")...); !errors.Is(err, partd.ErrUnknownOutcome) {
				t.Errorf("a batch of which nothing is known: %v", err)
			}
			store.always, store.every = false, 1000 // for the batch after it that would do
		}
		if err := w.Commit(t.Context()); !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("committing it: %v", err)
		}
		if n := store.appends; n > 67+75+maxTries*2 {
			t.Errorf("%d appends", n)
		}
	})
}

func TestAnAppendThatFailsIsNoBatch(t *testing.T) {
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
			t.Errorf("a task with a name of %d bytes", len(name))
		}
	}
}

// A process that is thought dead, and whose name another has taken, goes on after
// that one has committed.
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

// Each process has a buffer of its own before a store that it shares.
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

func TestPiecesThatAreDamagedOrMissing(t *testing.T) {
	fill := func() *partd.Dict {
		store := partd.NewDict()
		w := begin(t, store, "t", "1")
		write(t, w, "a", "1", "b", "2")
		commit(t, w)
		return store
	}
	store := fill()
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	c := committed(t, store)
	if _, err := gather(c.Scan(t.Context())); !errors.Is(err, ErrNotVerified) || !strings.Contains(err.Error(), `task "t"`) {
		t.Errorf("a key is gone: %v", err)
	}
	c.without.totals = true
	if got, err := gather(c.Scan(t.Context())); err != nil || len(got) != 1 {
		t.Errorf("without the check: %v, %v", got, err)
	}
	for name, value := range map[string]string{
		"text": "hello", "cut": "\x09\x01\x01t", "empty frame": "\x00", "commit elsewhere": string(appendCommit(nil, Commit{Task: "t"})),
		"long": "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "no number": strings.Repeat("\xff", 11), "kind": "\x01\x09",
	} {
		store := fill()
		if err := store.Append(t.Context(), entries("a", value)...); err != nil {
			t.Fatal(err)
		}
		var e *partd.Error
		if _, err := gather(committed(t, store).Scan(t.Context())); !errors.Is(err, errFrame) || !errors.As(err, &e) || e.Key != "a" {
			t.Errorf("%s: %v", name, err)
		}
		store = fill()
		if err := store.Append(t.Context(), entries(ControlKey, value)...); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCommitted(t.Context(), store); !errors.Is(err, errFrame) && name != "commit elsewhere" {
			t.Errorf("%s in the control key: %v", name, err)
		}
	}
}

// The bytes are those of docs/format.md.
func TestFramesOfAttempts(t *testing.T) {
	store := partd.NewDict()
	if err := AddTasks(t.Context(), store, "t", "uu"); err != nil {
		t.Fatal(err)
	}
	if err := CloseTasks(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	w := begin(t, store, "t", "a1")
	write(t, w, "k", "piece", "k", "")
	commit(t, w)
	values, err := store.Get(t.Context(), "k", ControlKey)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"0d 01 0174 026131 01 00 7069656365" + "08 01 0174 026131 01 01",
		"06 03 0174 027575" + "01 04" + "19 02 0174 026131 01 02 05" + sumOf("k", "piece", "k", ""),
	} {
		if want = strings.ReplaceAll(want, " ", ""); hex.EncodeToString(values[i]) != want {
			t.Errorf("%x, want %s", values[i], want)
		}
	}
}

func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &polled{Dict: partd.NewDict()}
		finish := func(task string) {
			w := begin(t, store, task, "1")
			write(t, w, "k", task)
			commit(t, w)
		}
		finish("a")
		if err := AddTasks(t.Context(), store, "a", "b"); err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		start := time.Now()
		store.gets.Store(0)
		_, err := WaitCommitted(t.Context(), store, &WaitOptions{Timeout: time.Minute})
		if !errors.As(err, &missing) || !slices.Equal(missing.Missing, []string{"b"}) || !missing.Open || missing.Committed != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("b is missing: %v", err)
		}
		if took := time.Since(start); took != time.Minute || store.gets.Load() > 70 {
			t.Errorf("waited %v, and looked %d times", took, store.gets.Load())
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Count: 3, Timeout: time.Second}); !errors.As(err, &missing) || missing.Expected != 3 {
			t.Errorf("3 tasks: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			finish("b")
			time.Sleep(time.Second)
			_ = AddTasks(t.Context(), store, "c")
			_ = CloseTasks(t.Context(), store)
			time.Sleep(time.Hour)
			finish("c")
		}()
		start = time.Now()
		c, err := WaitCommitted(t.Context(), store, nil)
		if err != nil || len(c.Commits()) != 3 {
			t.Fatal(err)
		}
		if took := time.Since(start) - time.Hour; took < 2*time.Second || took > 4*time.Second {
			t.Errorf("noticed it %v late", took)
		}
		if got, err := gather(c.Scan(t.Context())); err != nil || got["k"] != "a;b;c;" {
			t.Errorf("%q, %v", got, err)
		}
		if err := AddTasks(t.Context(), store, "b", "late"); !errors.Is(err, ErrTasksClosed) || !strings.Contains(err.Error(), "late") {
			t.Errorf("a late task: %v", err)
		}
		for _, o := range []*WaitOptions{{Count: 2}, {Tasks: []string{"a", "b"}}, {Tasks: []string{"a"}, Count: 1}, {Count: -1}} {
			if c, err := WaitCommitted(t.Context(), store, o); err == nil {
				t.Errorf("%+v: %d tasks", o, len(c.Commits()))
			}
		}
		if _, err := WaitCommitted(t.Context(), store, &WaitOptions{Tasks: []string{"c", "a", "b", "b"}}); err != nil {
			t.Error(err)
		}
	})
}

// polled counts how often it is looked at.
type polled struct {
	*partd.Dict
	gets atomic.Int64
}

func (p *polled) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	p.gets.Add(1)
	return p.Dict.Get(ctx, keys...)
}

func sumOf(pairs ...string) string {
	var s Share
	for i := 0; i < len(pairs); i += 2 {
		c := s.count()
		countPiece(&c, appendHashed(nil, pairs[i], []byte(pairs[i+1])), len(pairs[i+1]))
		s = shareOf(c)
	}
	var b []byte
	for _, half := range []uint64{s.Sum[1], s.Sum[0]} {
		for i := range 8 {
			b = append(b, byte(half>>(8*i)))
		}
	}
	return hex.EncodeToString(b)
}

// Whatever a value holds, reading it ends with pieces or with an error, in whatever
// chunks it comes.
func FuzzFrames(f *testing.F) {
	store := partd.NewDict()
	c := Commit{Task: "t", Attempt: "a", Batches: 2}
	good := appendPiece(appendPiece(nil, "t", "a", 1, 0, []byte("piece")), "t", "a", 2, 0, nil)
	f.Add(good, 3)
	f.Add(appendCommit(good, c), 100)
	f.Add([]byte("\xff\xff\xff\xff\x07\x01"), 1)
	f.Fuzz(func(t *testing.T, value []byte, size int) {
		read := func(size int) (pieces []string, failed bool) {
			r := (&Committed{store: store, winners: []Commit{c}, index: map[string]int{"t": 0}}).newReading(1)
			for at := 0; ; at += size {
				end := min(at+size, len(value))
				chunk := partd.Chunk{Key: "k", Offset: int64(at), Data: value[at:end], Last: end == len(value)}
				err := r.chunk(chunk, func(e partd.Entry, _ error) bool { pieces = append(pieces, string(e.Value)); return true })
				if err != nil || chunk.Last {
					return pieces, err != nil
				}
			}
		}
		all, failed := read(len(value) + 1)
		some, failedToo := read(1 + abs(size)%64)
		if !slices.Equal(all, some) || failed != failedToo {
			t.Errorf("%q %v in one chunk, %q %v in many", all, failed, some, failedToo)
		}
		control := &control{index: map[string]int{}, listed: map[string]bool{}}
		var fr frames
		_ = fr.feed(ControlKey, value, true, control.frame) // must not panic
	})
}

func abs(n int) int {
	if n < 0 {
		return -(n + 1)
	}
	return n
}

// A piece that comes in very many chunks takes time in proportion to its length.
func TestAPieceInManyChunks(t *testing.T) {
	const size, chunk = 16 << 20, 1 << 10
	data := appendPiece(nil, "t", "a", 1, 0, make([]byte, size))
	var f frames
	began, n := time.Now(), 0
	for len(data) > 0 {
		now := data[:min(chunk, len(data))]
		data = data[len(now):]
		if err := f.feed("k", now, len(data) == 0, func(_ byte, rest []byte) error { n += len(rest); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); n < size || took > 5*time.Second {
		t.Errorf("%d bytes in %v", n, took)
	}
}

// Reading key by key costs no memory for each task each time.
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
	var all Share
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
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 300<<10 { // 64 KiB are its buffer
		t.Errorf("%d bytes for each key", each)
	}
}

// However long names are, an error is short.
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

// What AddTasks has accepted is waited for, however it races with CloseTasks; and a
// store that could not be asked is seen in the error.
func TestAddingWhileClosing(t *testing.T) {
	for range 50 {
		store := partd.NewDict()
		accepted := make(chan string, 20)
		var adders sync.WaitGroup
		for a := range 4 {
			adders.Go(func() {
				for i := range 5 {
					name := fmt.Sprint(a, "/", i)
					if err := AddTasks(t.Context(), store, name); err == nil {
						accepted <- name
					} else if !errors.Is(err, ErrTasksClosed) {
						t.Error(err)
					}
				}
			})
		}
		if err := CloseTasks(t.Context(), store); err != nil {
			t.Error(err)
		}
		adders.Wait()
		close(accepted)
		for name := range accepted {
			commit(t, begin(t, store, name, ""))
		}
		if _, err := WaitCommitted(t.Context(), store, nil); err != nil {
			t.Fatal(err)
		}
		c, err := readControl(t.Context(), store)
		if err != nil || len(c.winners) != len(c.tasks) {
			t.Fatalf("%d accepted, %d listed, %v", len(c.winners), len(c.tasks), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var missing *MissingError
	_, err := WaitCommitted(ctx, partd.NewDict(), nil)
	if !errors.As(err, &missing) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "partd: get") {
		t.Error(err)
	}
}
