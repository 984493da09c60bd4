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
	"github.com/go-partd/partd/internal/base/canceled"
)

// unreliableBucket may lose, delay, duplicate or truncate requests and responses, in a synctest bubble.
type unreliableBucket struct {
	Bucket
	mu           sync.Mutex
	random       *rand.Rand
	lateRequests sync.WaitGroup
}

func (b *unreliableBucket) randomInt(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.random.IntN(n)
}

func (b *unreliableBucket) waitLatency(ctx context.Context) error {
	return canceled.Wait(ctx, time.After(time.Duration(10+b.randomInt(60))*time.Millisecond))
}

func (b *unreliableBucket) Create(ctx context.Context, name string, data []byte) error {
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
		b.lateRequests.Go(func() {
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

func (b *unreliableBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
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

func (b *unreliableBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
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
			duplicated := slices.Concat(all, all)
			slices.SortFunc(duplicated, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
			all = duplicated
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

// appendedPiece is a piece that one append added to a key.
type appendedPiece struct {
	writer               string
	flushStart, flushEnd time.Time // flushEnd is zero if the flush was not acknowledged
}

// history records the appends of writers, to check what readers see.
type history struct {
	mu     sync.Mutex
	pieces map[string]*appendedPiece // indexed by the piece's text
}

// checkValue returns an error if a value that was read at the given time contradicts the history.
func (h *history) checkValue(value string, read time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	last := map[string]string{} // last piece by writer
	var start time.Time         // latest flushStart of the pieces before this one in the value
	for piece := range strings.SplitSeq(strings.TrimSuffix(value, ";"), ";") {
		a := h.pieces[piece]
		switch {
		case value == "":
			continue
		case a == nil:
			return fmt.Errorf("piece %q was never appended", piece)
		case seen[piece]:
			return fmt.Errorf("piece %q exists twice", piece)
		case last[a.writer] >= piece:
			return fmt.Errorf("piece %q follows %q", piece, last[a.writer])
		case !a.flushEnd.IsZero() && a.flushEnd.Before(start):
			return fmt.Errorf("piece %q, flushed at %v, follows a piece whose flush began at %v", piece, a.flushEnd, start)
		}
		seen[piece], last[a.writer] = true, piece
		if a.flushStart.After(start) {
			start = a.flushStart
		}
	}
	for piece, a := range h.pieces {
		if !a.flushEnd.IsZero() && a.flushEnd.Before(read) && !seen[piece] {
			return fmt.Errorf("piece %q, flushed at %v, was missing at %v", piece, a.flushEnd, read)
		}
	}
	return nil
}

// faultCounts counts what happened to the flushes and writers of runUnreliable. waited is the number of waiting records
// (created by writers that lost a race for a log number); committedByOthers is the number of them that the log
// contains.
type faultCounts struct{ acknowledged, failed, killed, waited, committedByOthers int }

// runUnreliable makes writers append to an unreliable bucket. Some of them die at random moments, and
// readers check the content. It returns the first error.
func runUnreliable(t *testing.T, seed uint64) (w faultCounts, err error) {
	synctest.Test(t, func(t *testing.T) {
		const writers, rounds = 8, 12
		b := &unreliableBucket{Bucket: new(Memory), random: rand.New(rand.NewPCG(seed, 2))}
		log := &history{pieces: map[string]*appendedPiece{}}
		opts := Options{Memory: MinMemory, SegmentSize: 1, RetryFor: 3 * time.Second}
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
					var pending []*appendedPiece
					for ; round < rounds && ctx.Err() == nil; round++ {
						a := &appendedPiece{writer: name, flushStart: time.Now()}
						piece := fmt.Sprintf("%s.%02d", name, round)
						log.mu.Lock()
						log.pieces[piece] = a
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
							continue
						}
						log.mu.Lock()
						for _, a := range pending {
							a.flushEnd = time.Now()
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
					s.closeBroken() // the writer dies without a flush
				}
			})
		}
		wg.Wait()
		b.lateRequests.Wait()
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
				t.Errorf("unexpected object %s below %s", o.Name, waitPrefix)
			}
			if w.waited++; s.catalog.hasRecord(m.writer, m.seq) {
				w.committedByOthers++
			}
		}
	})
	return w, err
}

// TestUnreliableBucket loses, delays, duplicates and truncates requests, and kills writers. Every read
// that starts after an acknowledgment must return the acknowledged data once, and in order.
func TestUnreliableBucket(t *testing.T) {
	var total faultCounts
	for seed := range uint64(20) {
		w, err := runUnreliable(t, seed)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		total.acknowledged += w.acknowledged
		total.failed += w.failed
		total.killed += w.killed
		total.waited += w.waited
		total.committedByOthers += w.committedByOthers
	}
	t.Logf("counts of all seeds: %+v", total)
	if total.acknowledged < 500 || min(total.failed, total.killed, total.waited) < 100 {
		t.Errorf("counts of all seeds: %+v, want at least 500 acknowledged, and at least 100 each of failed, killed and waited", total)
	}
}
