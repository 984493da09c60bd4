package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// slowBucket is a bucket whose responses fail after their context ends, and, as with a real service,
// after a minute without a read. If hangingPrefixes is not nil, listings hang.
type slowBucket struct {
	Bucket
	hangingPrefixes chan string // receives the prefixes of hanging listings
}

func (b *slowBucket) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := b.Bucket.ReadRange(ctx, name, offset, length)
	return &slowBody{r, ctx, time.Now()}, err
}

func (b *slowBucket) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	if b.hangingPrefixes == nil {
		return b.Bucket.List(ctx, prefix, after)
	}
	return func(yield func(Object, error) bool) {
		b.hangingPrefixes <- prefix
		<-ctx.Done()
		yield(Object{}, ctx.Err())
	}
}

type slowBody struct {
	io.ReadCloser
	ctx      context.Context
	lastRead time.Time
}

func (r *slowBody) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, r.ctx.Err()
	}
	if time.Since(r.lastRead) > time.Minute {
		return 0, io.ErrUnexpectedEOF
	}
	r.lastRead = time.Now()
	return r.ReadCloser.Read(p)
}

// TestSlowReaders checks that a reader may take hours to read a long value.
func TestSlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowBucket{Bucket: new(Memory)}
		s := open(t, b, Options{hooks: hooks{maxInline: -1}})
		want := make([]byte, 3<<20)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: want}))
		r, err := s.Open(t.Context(), "k")
		must.Do(t, err)
		got, buf := []byte{}, make([]byte, 200<<10)
		for err == nil {
			var n int
			n, err = io.ReadFull(r, buf)
			got = append(got, buf[:n]...)
			time.Sleep(10 * time.Minute)
		}
		must.Check(t, errors.Join(r.Close(), s.Close()))
		if !bytes.Equal(got, want) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read %d bytes with error %v, want the %d appended bytes", len(got), err, len(want))
		}
	})
}

// TestCanceledReaders checks that a reader whose context ends does not wait for another reader of the log.
func TestCanceledReaders(t *testing.T) {
	b := &slowBucket{Bucket: new(Memory)}
	must.Do(t, open(t, b, Options{}).Close())
	s := open(t, b, Options{ReadOnly: true})
	b.hangingPrefixes = make(chan string)
	ctx, stop := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error, 1)
	go func() {
		_, err := s.Get(ctx, "k")
		first <- err
	}()
	if prefix := <-b.hangingPrefixes; !strings.HasPrefix(prefix, "log/") {
		t.Errorf("the first reader lists %q, want the log", prefix)
	}
	go func() {
		ctx, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer end()
		_, err := s.Get(ctx, "k")
		second <- err
	}()
	err := must.Receive(t, second, 5*time.Second, "the second reader notices the end of its context")
	must.Fail(t, err, context.DeadlineExceeded, "Get() of the second reader")
	stop()
	must.Fail(t, <-first, context.Canceled, "Get() of the first reader")
}

// TestPeakMemory checks that a process that writes a million keys and reads them grouped stays within
// the store's memory limit. It starts a separate process, because the peak covers the whole lifetime
// of a process.
func TestPeakMemory(t *testing.T) {
	const memory, keys, bytes = 128 << 20, 1_000_000, 300 << 20
	dir := os.Getenv("PARTD_PEAK_DIR")
	if dir == "" {
		if runtime.GOOS != "linux" || procs.RaceEnabled {
			t.Skip("needs /proc, and the race detector uses additional memory")
		}
		for _, disk := range []string{"", "disk"} {
			cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^TestPeakMemory$")
			cmd.Env = append(os.Environ(), "PARTD_PEAK_DIR="+t.TempDir(), "PARTD_PEAK_DISK="+disk)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "peak") {
				t.Errorf("the child process: %v\n%s", err, out)
			}
			t.Logf("%s", out)
		}
		return
	}
	d := must.Get(OpenDirectory(dir))(t)
	o := Options{Memory: memory}
	if os.Getenv("PARTD_PEAK_DISK") != "" {
		o.Disk, o.hooks.alwaysRegroup = 1<<30, true
	}
	s := open(t, d, o)
	random := rand.New(rand.NewPCG(1, 1))
	entries := make([]partd.Entry, 1000)
	value := make([]byte, 100)
	for range bytes / 100 / len(entries) {
		for i := range entries {
			entries[i] = partd.Entry{Key: fmt.Sprint("key ", random.IntN(keys)), Value: value}
		}
		must.Do(t, s.Append(t.Context(), entries...))
	}
	n := must.Get(countKeys(t.Context(), s))(t)
	if n < keys*9/10 {
		t.Errorf("the store has %d keys, want at least %d", n, keys*9/10)
	}
	used := s.MemoryUsed()
	must.Check(t, s.Close())
	_, peak, err := procs.Memory(os.Getpid())
	if err != nil || peak > memory {
		t.Errorf("the process's peak memory is %d MiB, but the limit of the store is %d MiB (error %v)", peak>>20, memory>>20, err)
	}
	t.Logf("%d keys, peak of %d MiB, limit %d; the store reports %d", n, peak>>20, memory>>20, used>>20)
}
