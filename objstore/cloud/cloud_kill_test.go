package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

func TestMain(m *testing.M) { procs.Roles{"worker": runWorker}.Main(m) }

const (
	batches, perBatch = 12, 20
	firstUnkilled     = 1000 // attempts with lower numbers are killed
)

// runWorker writes one attempt at a task. Its arguments are the store's URL, the task and the attempt.
func runWorker(args []string) (err error) {
	ctx, url, task, attempt := context.Background(), args[0], args[1], args[2]
	store, err := stores.NewSet(Schemes()...).Open(ctx, url, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partd.Close(ctx, store)) }()
	w, err := shuffle.Begin(ctx, store, task, attempt)
	if err != nil {
		return err
	}
	for b := range batches {
		var entries []partd.Entry
		for i := range perBatch {
			n := b*perBatch + i
			entries = append(entries, partd.Entry{Key: fmt.Sprint("key ", n%7), Value: fmt.Appendf(nil, "%s %d %s", task, n, strings.Repeat("x", n*n%4000))})
		}
		if err := w.Append(ctx, entries...); err != nil {
			return err
		}
		if err := partd.Flush(ctx, store); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n, err := strconv.Atoi(attempt); err != nil || n < firstUnkilled {
		time.Sleep(time.Minute) // wait until the test kills this process
	}
	return w.Commit(ctx)
}

func startWorker(t *testing.T, url string, task, attempt int) *procs.Process {
	return procs.Start(t, procs.Command("worker", url, strconv.Itoa(task), strconv.Itoa(attempt)))
}

// TestKills kills writers and the gateway repeatedly. Then two attempts at each task run at the same
// time. No committed data may be lost, duplicated or out of order, although the store contains the
// data of several attempts.
func TestKills(t *testing.T) {
	g := startGateway(t)
	wantKills := procs.Kills(t, 6)
	const tasks = 3
	url := g.url("kills", "&retry=30s")
	ctx, stop := context.WithCancel(t.Context())
	var gatewayKills atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(150+rand.IntN(400)) * time.Millisecond):
			}
			g.Kill()
			time.Sleep(50 * time.Millisecond)
			g.Restart(t)
			gatewayKills.Add(1)
		}
	})
	var mu sync.Mutex
	killed := 0
	must.Concurrently(tasks, func(task int) {
		for attempt := 0; attempt < firstUnkilled && (attempt*tasks < wantKills || gatewayKills.Load() < int64(wantKills)); attempt++ {
			p := startWorker(t, url, task, attempt)
			time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
			p.Kill()
			if p.WasKilled() {
				mu.Lock()
				killed++
				mu.Unlock()
			}
		}
		// Two concurrent attempts: one of them commits.
		concurrent := []*procs.Process{startWorker(t, url, task, firstUnkilled), startWorker(t, url, task, firstUnkilled+1)}
		for _, p := range concurrent {
			if err := p.Wait(); err != nil {
				t.Errorf("an attempt at task %d that was not killed: %v", task, err)
			}
		}
	})
	stop()
	wg.Wait()
	if killed < wantKills || gatewayKills.Load() < int64(wantKills) {
		t.Errorf("only %d writers and %d gateways were killed, want %d of each", killed, gatewayKills.Load(), wantKills)
	}
	store := openURL(t, url)
	defer partd.Close(context.Background(), store)
	c := must.Get(shuffle.WaitCommitted(t.Context(), store, &shuffle.WaitOptions{Count: tasks}))(t)
	var share shuffle.Checksum
	last := map[string]int{} // number of the last piece, by key and task
	seen := map[string]int{}
	for e, err := range c.ScanPart(t.Context(), 0, 1, &share) {
		must.Do(t, err)
		task, rest, _ := strings.Cut(string(e.Value), " ")
		number, _, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		if previous, exists := last[e.Key+task]; err != nil || exists && previous >= n {
			t.Errorf("%s: piece %d of task %s follows %d (%v)", e.Key, n, task, previous, err)
		}
		last[e.Key+task] = n
		seen[task+" "+number]++
	}
	must.Check(t, c.Verify(share))
	if len(seen) != tasks*batches*perBatch || slices.Max(slices.Collect(maps.Values(seen))) != 1 {
		t.Errorf("read %d different pieces, want %d; the most frequent piece occurs %d times, want 1", len(seen), tasks*batches*perBatch, slices.Max(slices.Collect(maps.Values(seen))))
	}
	must.Get(store.(partd.Checker).Check(t.Context()))(t)
	// The store itself contains the data of both concurrent attempts.
	raw := 0
	for chunk, err := range partd.Scan(t.Context(), store) {
		must.Do(t, err)
		raw += len(chunk.Data)
	}
	if int64(raw) < share.Bytes*3/2 {
		t.Errorf("the store contains %d bytes, of which %d are committed; want at least 1.5 times as many", raw, share.Bytes)
	}
	t.Logf("%d writers and %d gateways killed; %d bytes stored, %d committed; %v", killed, gatewayKills.Load(), raw, share.Bytes, store.(*Store).Requests())
}
