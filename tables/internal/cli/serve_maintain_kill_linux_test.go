//go:build cgo

package cli

import (
	"context"
	"fmt"
	"io/fs"
	"math/bits"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/internal/testutil/vfstest"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// careLoad is writers and readers of two tables. Readers compare each answer with a model.
type careLoad struct {
	*testing.T
	address string
	ended   atomic.Bool
	trouble atomic.Int64 // odd while the server is down or its disk is full, when calls may fail
	next    atomic.Int64 // number of the next batch of ten rows; batch i is for table i%2

	mu             sync.Mutex // guards the fields below
	added          [2][]int64 // acknowledged batches of each table
	reads, retries int
}

// call runs f with a client, which is a new one after a failure. It reports whether f succeeded. A failure needs an
// excuse.
func (l *careLoad) call(c **flightclient.Client, f func(context.Context, *flightclient.Client) error) bool {
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	before := l.trouble.Load()
	if *c == nil {
		var err error
		*c, err = flightclient.Dial("grpc://"+l.address, nil)
		mustSucceed(l, err)
		l.Cleanup(func() { _ = (*c).Close() })
	}
	err := f(ctx, *c)
	if err == nil {
		return true
	}
	_ = (*c).Close()
	*c = nil
	l.mu.Lock()
	l.retries++
	l.mu.Unlock()
	if before%2 == 0 && l.trouble.Load() == before {
		l.Errorf("without a kill or a full disk: %v", err)
	}
	return false
}

// write appends batches of ten rows. It repeats each one, with its ID, until the server acknowledges it.
func (l *careLoad) write() {
	var client *flightclient.Client
	for !l.ended.Load() {
		i := l.next.Add(1) - 1
		for !l.call(&client, func(ctx context.Context, c *flightclient.Client) error {
			_, err := c.Put(ctx, "", fmt.Sprint("t", i%2), tabletest.Rows(tabletest.Sequence(10*i, 10)...), tables.PutAppend, &tables.PutOptions{ID: fmt.Sprint(i)})
			return err
		}) {
			time.Sleep(20 * time.Millisecond)
		}
		l.mu.Lock()
		l.added[i%2] = append(l.added[i%2], i)
		l.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

// read reads a table again and again. Each time, it must find all acknowledged batches, and no half or doubled ones.
func (l *careLoad) read(table int64) {
	var client *flightclient.Client
	for isLast := false; !isLast; time.Sleep(5 * time.Millisecond) {
		isLast = l.ended.Load()
		l.mu.Lock()
		must := l.added[table]
		l.mu.Unlock()
		var seen map[int64]uint16
		isRead := l.call(&client, func(ctx context.Context, c *flightclient.Client) error {
			r, err := c.Scan(ctx, "", fmt.Sprint("t", table), nil, &tables.ScanOptions{Columns: []string{"n"}})
			if err != nil {
				return err
			}
			defer r.Release()
			for seen = map[int64]uint16{}; r.Next(); {
				for _, n := range r.RecordBatch().Column(0).(*array.Int64).Int64Values() {
					if seen[n/10]&(1<<(n%10)) != 0 {
						l.Errorf("table t%d: row %d is doubled", table, n)
					}
					seen[n/10] |= 1 << (n % 10)
				}
			}
			return r.Err()
		})
		if !isRead {
			continue
		}
		for i, rows := range seen {
			if bits.OnesCount16(rows) != 10 || i%2 != table || i >= l.next.Load() {
				l.Errorf("table t%d has the rows %010b of batch %d", table, rows, i)
			}
		}
		for _, i := range must {
			if seen[i] == 0 {
				l.Errorf("table t%d lacks batch %d", table, i)
			}
		}
		l.mu.Lock()
		l.reads++
		l.mu.Unlock()
	}
}

// fold moves rows from the tail to files more often than a server does.
func (l *careLoad) fold() {
	var client *flightclient.Client
	for !l.ended.Load() {
		l.call(&client, func(ctx context.Context, c *flightclient.Client) error { _, err := c.Fold(ctx, nil); return err })
		time.Sleep(30 * time.Millisecond)
	}
}

// TestServeMaintainsKilled kills a server PARTD_KILLS times within PARTD_MAINTAIN seconds, and fills its disk in between,
// while PARTD_WRITERS writers append and readers compare the rows with a model. No row may be lost or doubled, no call
// may fail without cause, and few files may remain.
func TestServeMaintainsKilled(t *testing.T) {
	for _, flag := range []string{"--no-tail", "--no-tail=false"} {
		t.Run(flag, func(t *testing.T) { maintainKilled(t, flag) })
	}
}

func maintainKilled(t *testing.T, flag string) {
	writers, kills := tabletest.Rounds(t, "PARTD_WRITERS", 10), procs.Kills(t, 2)
	life := time.Duration(tabletest.Rounds(t, "PARTD_MAINTAIN", 1)) * time.Second / time.Duration(kills+2)
	if flag == "--no-tail" {
		writers = max(2, writers/10) // each put writes the table's metadata
	}
	disk := vfstest.Mount(t, "tmpfs", int64(512+16*writers)<<20)
	dir := filepath.Join(disk, "house")
	l := &careLoad{T: t, address: "localhost:" + freePort(t)}
	const memory = 256 << 20
	start := func() *exec.Cmd {
		cmd, _ := startServer(t, "--listen", "grpc://"+l.address, "--dir", dir, "--memory", fmt.Sprint(memory), "--maintain-every", "100ms", "--keep-versions", "3", flag)
		return cmd
	}
	cmd := start()
	var work sync.WaitGroup
	for range writers {
		work.Go(l.write)
	}
	waitUntil(t, "no writer succeeded", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return min(len(l.added[0]), len(l.added[1])) > 0 })
	for table := range int64(2) {
		work.Go(func() { l.read(table) })
	}
	work.Go(l.fold)
	var peak int64
	for i := range kills {
		time.Sleep(life)
		_, used, err := procs.Memory(cmd.Process.Pid)
		mustSucceed(t, err)
		peak = max(peak, used)
		l.trouble.Add(1)
		free := func() {}
		if i == kills/2 {
			free = vfstest.Fill(t, disk)
			time.Sleep(life)
		}
		mustSucceed(t, cmd.Process.Kill())
		_ = cmd.Wait()
		if life < time.Second { // as if the lease of the killed server had ended
			tabletest.ExecInCatalog(t, dir, `DELETE FROM partd_info WHERE key='lease maintenance'`)
		}
		free()
		cmd = start()
		time.Sleep(50 * time.Millisecond) // until calls that met the trouble have failed
		l.trouble.Add(1)
	}
	time.Sleep(life)
	l.ended.Store(true)
	work.Wait()
	var client *flightclient.Client
	count := func() (files, live int64) {
		for table := range 2 {
			l.call(&client, func(ctx context.Context, c *flightclient.Client) error {
				info, _, err := c.Describe(ctx, "", fmt.Sprint("t", table), nil)
				files, live = max(files, info.Files), live+info.Bytes
				return err
			})
		}
		return files, live
	}
	waitUntil(t, "more than 20 files remain", func() bool { files, _ := count(); return files <= 20 })
	_, used, err := procs.Memory(cmd.Process.Pid)
	mustSucceed(t, err)
	if peak = max(peak, used); peak > 2*memory {
		t.Errorf("the server used %d bytes of memory, want at most twice --memory", peak)
	}
	files, live := count()
	mustSucceed(t, cmd.Process.Signal(syscall.SIGTERM))
	mustSucceed(t, cmd.Wait())
	data := filepath.Join(dir, "data")
	before := sizeOf(t, data)
	store := tabletest.Open(t, dir, &tables.Options{NoTail: true})
	for range 2 { // as if the files had waited long enough
		_, err = store.Maintain(t.Context(), &tables.MaintainOptions{Keep: 3, Grace: -1})
		mustSucceed(t, err)
	}
	after := sizeOf(t, data)
	if after > 2*live+1<<20 { // plus metadata
		t.Errorf("the files have %d bytes, want at most twice the %d live bytes", after, live)
	}
	t.Logf("%d batches, %d reads, %d retries; %d MiB of memory; %d files of %d bytes; data/ had %d bytes, and later %d; catalog and tail have %d",
		l.next.Load(), l.reads, l.retries, peak>>20, files, live, before, after, sizeOf(t, dir)-after)
}

// sizeOf returns the total size of a directory's files, in bytes.
func sizeOf(t *testing.T, dir string) (size int64) {
	mustSucceed(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size += info.Size()
		return err
	}))
	return size
}
