package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/shuffle"
	"github.com/go-partd/partd/stores"
)

// TestMain can make the test program a worker, which writes one attempt at a task to a store.
func TestMain(m *testing.M) {
	if url := os.Getenv("PARTD_CLOUD_WORKER"); url != "" {
		if err := runWorker(url, os.Getenv("PARTD_TASK"), os.Getenv("PARTD_ATTEMPT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const (
	batches, perBatch = 12, 20
	firstUnkilled     = 1000 // attempts with lower numbers are killed
)

func runWorker(url, task, attempt string) (err error) {
	ctx := context.Background()
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

func startWorker(t *testing.T, url string, task, attempt int) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PARTD_CLOUD_WORKER="+url, "PARTD_TASK="+strconv.Itoa(task), "PARTD_ATTEMPT="+strconv.Itoa(attempt))
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestKills kills writers and the gateway repeatedly. Then two attempts at each task run at the same
// time. No committed data may be lost, duplicated or out of order, although the store contains the
// data of several attempts.
func TestKills(t *testing.T) {
	g := startGateway(t)
	wantKills := 6
	if n, err := strconv.Atoi(os.Getenv("PARTD_KILLS")); err == nil {
		wantKills = n
	}
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
	var workers sync.WaitGroup
	var mu sync.Mutex
	killed := 0
	for task := range tasks {
		workers.Go(func() {
			for attempt := 0; attempt < firstUnkilled && (attempt*tasks < wantKills || gatewayKills.Load() < int64(wantKills)); attempt++ {
				cmd := startWorker(t, url, task, attempt)
				time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
				if cmd.Process.Kill() == nil {
					mu.Lock()
					killed++
					mu.Unlock()
				}
				_ = cmd.Wait()
			}
			// Two concurrent attempts: one of them commits.
			concurrent := []*exec.Cmd{startWorker(t, url, task, firstUnkilled), startWorker(t, url, task, firstUnkilled+1)}
			for _, cmd := range concurrent {
				if err := cmd.Wait(); err != nil {
					t.Errorf("an attempt at task %d that was not killed: %v", task, err)
				}
			}
		})
	}
	workers.Wait()
	stop()
	wg.Wait()
	if killed < wantKills || gatewayKills.Load() < int64(wantKills) {
		t.Errorf("only %d writers and %d gateways were killed, want %d of each", killed, gatewayKills.Load(), wantKills)
	}
	store := openURL(t, url)
	defer partd.Close(context.Background(), store)
	c, err := shuffle.WaitCommitted(t.Context(), store, &shuffle.WaitOptions{Count: tasks})
	if err != nil {
		t.Fatal(err)
	}
	var share shuffle.Checksum
	last := map[string]int{} // number of the last piece, by key and task
	seen := map[string]int{}
	for e, err := range c.ScanPart(t.Context(), 0, 1, &share) {
		if err != nil {
			t.Fatal(err)
		}
		task, rest, _ := strings.Cut(string(e.Value), " ")
		number, _, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		if previous, exists := last[e.Key+task]; err != nil || exists && previous >= n {
			t.Errorf("%s: piece %d of task %s follows %d (%v)", e.Key, n, task, previous, err)
		}
		last[e.Key+task] = n
		seen[task+" "+number]++
	}
	if err := c.Verify(share); err != nil {
		t.Error(err)
	}
	if len(seen) != tasks*batches*perBatch || slices.Max(slices.Collect(maps.Values(seen))) != 1 {
		t.Errorf("read %d different pieces, want %d; the most frequent piece occurs %d times, want 1", len(seen), tasks*batches*perBatch, slices.Max(slices.Collect(maps.Values(seen))))
	}
	if _, err := store.(partd.Checker).Check(t.Context()); err != nil {
		t.Error(err)
	}
	// The store itself contains the data of both concurrent attempts.
	raw := 0
	for chunk, err := range partd.Scan(t.Context(), store) {
		if err != nil {
			t.Fatal(err)
		}
		raw += len(chunk.Data)
	}
	if int64(raw) < share.Bytes*3/2 {
		t.Errorf("the store contains %d bytes, of which %d are committed; want at least 1.5 times as many", raw, share.Bytes)
	}
	t.Logf("%d writers and %d gateways killed; %d bytes stored, %d committed; %v", killed, gatewayKills.Load(), raw, share.Bytes, store.(*Store).Requests())
}
