package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/canceled"
)

// storm is a bucket in a synctest bubble. Its requests and responses may be lost,
// delayed, duplicated or truncated.
type storm struct {
	Bucket
	mu     sync.Mutex
	random *rand.Rand
	late   sync.WaitGroup
}

func (b *storm) randomInt(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.random.IntN(n)
}

func (b *storm) waitLatency(ctx context.Context) error {
	return canceled.Wait(ctx, time.After(time.Duration(10+b.randomInt(60))*time.Millisecond))
}

func (b *storm) Create(ctx context.Context, name string, data []byte) error {
	if err := b.waitLatency(ctx); err != nil {
		return err
	}
	switch b.randomInt(16) {
	case 0:
		return errServer
	case 1:
		_ = b.Bucket.Create(ctx, name, data)
		return errServer
	case 2:
		d := time.Duration(b.randomInt(4000)) * time.Millisecond
		b.late.Go(func() {
			time.Sleep(d)
			_ = b.Bucket.Create(context.Background(), name, data)
		})
		return context.DeadlineExceeded
	case 3:
		_ = b.Bucket.Create(ctx, name, data) // the request arrives a second time
	case 4:
		return errConflict
	}
	err := b.Bucket.Create(ctx, name, data)
	return errors.Join(err, b.waitLatency(ctx))
}

func (b *storm) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := b.waitLatency(ctx); err != nil {
		return nil, err
	}
	r, err := b.Bucket.ReadRange(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	switch b.randomInt(12) {
	case 0:
		return nil, errServer
	case 1:
		data = data[:b.randomInt(len(data)+1)]
	case 2:
		data, err = data[:len(data)/2], io.ErrUnexpectedEOF
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(data), errorReader{err})), nil
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	return 0, io.EOF
}

func (b *storm) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := b.waitLatency(ctx); err != nil {
			yield(Object{}, err)
			return
		}
		var all []Object
		for o, err := range b.Bucket.List(ctx, prefix, after) {
			if err != nil {
				yield(o, err)
				return
			}
			all = append(all, o)
		}
		var err error
		switch b.randomInt(10) {
		case 0:
			err = errServer
		case 1: // a stale listing
			all = all[:b.randomInt(len(all)+1)]
		case 2:
			twice := slices.Concat(all, all)
			slices.SortFunc(twice, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
			all = twice
		}
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
		if err != nil {
			yield(Object{}, err)
		}
	}
}

// appended is a piece that one append added to a key.
type appended struct {
	writer       string
	start, ended time.Time // of the flush; ended is zero if it was not acknowledged
}

// history records the appends of writers, to check what readers see.
type history struct {
	mu  sync.Mutex
	all map[string]*appended // by piece
}

// checkValue returns what is wrong with a value that was read at a time, or nil.
func (h *history) checkValue(value string, read time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	last := map[string]string{} // last piece by writer
	var start time.Time         // latest start of all earlier pieces
	for piece := range strings.SplitSeq(strings.TrimSuffix(value, ";"), ";") {
		a := h.all[piece]
		switch {
		case value == "":
			continue
		case a == nil:
			return fmt.Errorf("piece %q was never appended", piece)
		case seen[piece]:
			return fmt.Errorf("piece %q exists twice", piece)
		case last[a.writer] >= piece:
			return fmt.Errorf("piece %q follows %q", piece, last[a.writer])
		case !a.ended.IsZero() && a.ended.Before(start):
			return fmt.Errorf("piece %q, flushed at %v, follows a piece whose flush began at %v", piece, a.ended, start)
		}
		seen[piece], last[a.writer] = true, piece
		if a.start.After(start) {
			start = a.start
		}
	}
	for piece, a := range h.all {
		if !a.ended.IsZero() && a.ended.Before(read) && !seen[piece] {
			return fmt.Errorf("piece %q, flushed at %v, was missing at %v", piece, a.ended, read)
		}
	}
	return nil
}

// weather counts the faults of a storm.
type weather struct{ acknowledged, failed, killed, waited, byOthers int }

// runStorm lets writers append in a storm. Some of them die at random moments, and readers
// check the content. It returns the first error.
func runStorm(t *testing.T, seed uint64, h hooks) (w weather, err error) {
	synctest.Test(t, func(t *testing.T) {
		const writers, rounds = 8, 12
		b := &storm{Bucket: new(Memory), random: rand.New(rand.NewPCG(seed, 2))}
		log := &history{all: map[string]*appended{}}
		opts := Options{Memory: MinMemory, SegmentSize: 1, RetryFor: 3 * time.Second, hooks: h}
		var mu sync.Mutex
		fail := func(e error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = e
			}
		}
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for life, round := 0, 0; round < rounds; life++ {
					name := fmt.Sprintf("%d.%02d", i, life)
					s, openErr := Open(t.Context(), b.Bucket, &opts)
					if openErr != nil {
						t.Error(openErr)
						return
					}
					s.bucket = b
					ctx, kill := context.WithCancel(t.Context())
					if b.randomInt(2) == 0 {
						d := time.Duration(b.randomInt(8000)) * time.Millisecond
						time.AfterFunc(d, kill)
					}
					var pending []*appended
					for ; round < rounds && ctx.Err() == nil; round++ {
						a := &appended{writer: name, start: time.Now()}
						piece := fmt.Sprintf("%s.%02d", name, round)
						log.mu.Lock()
						log.all[piece] = a
						log.mu.Unlock()
						if s.Append(ctx, partd.Entry{Key: "all", Value: []byte(piece + ";")}) != nil {
							break
						}
						pending = append(pending, a)
						flushCtx, stop := context.WithTimeout(ctx, time.Duration(b.randomInt(6000))*time.Millisecond)
						flushErr := s.Flush(flushCtx)
						stop()
						mu.Lock()
						if flushErr == nil {
							w.acknowledged++
						} else {
							w.failed++
						}
						mu.Unlock()
						if flushErr != nil {
							continue // continue with the next piece
						}
						log.mu.Lock()
						for _, a := range pending {
							a.ended = time.Now()
						}
						log.mu.Unlock()
						pending = nil
						start := time.Now()
						if v, err := s.Get(ctx, "all"); err == nil {
							if err := log.checkValue(string(v[0]), start); err != nil {
								fail(err)
							}
						}
					}
					if ctx.Err() != nil {
						mu.Lock()
						w.killed++
						mu.Unlock()
					}
					kill()
					s.closeBroken() // it dies without a flush
				}
			})
		}
		wg.Wait()
		b.late.Wait()
		time.Sleep(time.Minute)
		s, openErr := Open(t.Context(), b.Bucket, &Options{Memory: MinMemory, ReadOnly: true})
		if openErr != nil {
			t.Fatal(openErr)
		}
		v, readErr := s.Get(t.Context(), "all")
		if readErr != nil {
			fail(readErr)
		} else if wrong := log.checkValue(string(v[0]), time.Now()); wrong != nil {
			fail(wrong)
		}
		for o := range b.Bucket.List(t.Context(), waitPrefix, "") {
			m, ok := parseMember(o)
			if !ok {
				t.Error(o.Name)
			}
			if w.waited++; s.catalog.hasRecord(m.writer, m.seq) {
				w.byOthers++
			}
		}
	})
	return w, err
}

// Requests are lost, delayed, duplicated or truncated, and processes die. Everything
// acknowledged must exist once, in order, for every read that starts later.
func TestStorm(t *testing.T) {
	var total weather
	for seed := range uint64(20) {
		w, err := runStorm(t, seed, hooks{})
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		total.acknowledged += w.acknowledged
		total.failed += w.failed
		total.killed += w.killed
		total.waited += w.waited
		total.byOthers += w.byOthers
	}
	t.Logf("%+v", total)
	if total.acknowledged < 500 || min(total.failed, total.killed, total.waited) < 100 {
		t.Errorf("too few faults happened: %+v", total)
	}
	for name, h := range map[string]hooks{
		"waiting records are forgotten":       {forgetWaiting: true},
		"an existing record is not read back": {noReadBack: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40) {
				if _, err := runStorm(t, seed, h); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("the missing protection was not detected")
		})
	}
}
